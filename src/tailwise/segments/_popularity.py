"""Count the training interactions of each item, over all of training or a time window."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.schema import ITEM_INDEX, TIMESTAMP

__all__ = ["PopularityWindow", "popularity"]

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class PopularityWindow:
    """The stretch of time whose interactions count: ``start <= timestamp < end``.

    Give either ``last_days``, or ``start`` and/or ``end``. ``last_days`` may be
    combined with ``end``; without it the window ends just after the last training
    interaction, so that this one counts.

    Attributes:
        last_days: Length in days, > 0; 30 means exactly 30 · 86,400 seconds.
        start: Unix seconds, the first that counts. None: from the beginning.
        end: Unix seconds, the first that no longer counts. None: to the last interaction.

    Raises:
        ValueError: nothing is given, ``last_days`` <= 0 or contradicts ``start``, or
            the window is empty.

    Example:
        >>> PopularityWindow(last_days=30).resolve(last_timestamp=2_592_000)
        PopularityWindow(last_days=30, start=1, end=2592001)
    """

    last_days: float | None = None
    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        if self.last_days is None and self.start is None and self.end is None:
            raise ValueError(
                "PopularityWindow must have last_days, start or end; got none of them.\n"
                "  To count the whole training part, pass window=None."
            )
        if self.last_days is not None and not self.last_days > 0:
            raise ValueError(
                f"last_days must be a positive number of days; got {self.last_days}.\n"
                "  To count the whole training part, pass window=None."
            )
        if self.last_days is not None and self.start is not None:
            days = None if self.end is None else (self.end - self.start) / _SECONDS_PER_DAY
            if days is None or not math.isclose(days, self.last_days, abs_tol=1 / _SECONDS_PER_DAY):
                raise ValueError(
                    f"start must follow from last_days and end; got start={self.start}, "
                    f"last_days={self.last_days} and end={self.end}.\n  Drop start or last_days."
                )
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(
                f"start must lie before end; got start={self.start} and end={self.end}.\n"
                "  Both are unix seconds; the end itself does not count."
            )

    def resolve(self, last_timestamp: int) -> "PopularityWindow":
        """Fill in ``start`` and ``end`` in unix seconds; ``last_days`` stays as a record."""
        end = last_timestamp + 1 if self.end is None else self.end
        start = self.start
        if self.last_days is not None:
            start = end - round(self.last_days * _SECONDS_PER_DAY)
        return PopularityWindow(last_days=self.last_days, start=start, end=end)

    def as_dict(self) -> dict[str, Any]:
        """Give the ``segments.popularity_window`` object of docs/metrics-schema.md."""
        return {"last_days": self.last_days, "start": self.start, "end": self.end}


def popularity(
    interactions: pl.DataFrame, n_items: int, *, window: PopularityWindow | None = None
) -> NDArray[np.int64]:
    """Count the training interactions of each item.

    Pass the *training* rows only: a count over held-out rows would leak them into
    the segments.

    Args:
        interactions: Encoded training rows with ``item_index`` (int) and, when a
            window is given, ``timestamp`` (unix seconds).
        n_items: Size of the catalogue; indices run 0..n_items-1.
        window: Time that counts. None: the whole training part.

    Returns:
        ``[n_items]`` int64; 0 for an item without an interaction (in the window).

    Raises:
        DataError: a column is missing, an index is null or outside the catalogue, or
            a timestamp is null while a window is given.

    Example:
        >>> log = pl.DataFrame({"item_index": [0, 2, 2], "timestamp": [0, 10, 20]})
        >>> popularity(log, 4)
        array([1, 0, 2, 0])
        >>> popularity(log, 4, window=PopularityWindow(start=15))
        array([0, 0, 1, 0])
    """
    for column in (ITEM_INDEX,) if window is None else (ITEM_INDEX, TIMESTAMP):
        if column not in interactions.columns:
            raise DataError(
                f"interactions must have the column {column!r}; got {interactions.columns}.\n"
                "  Encode the table first; a popularity window also needs timestamps."
            )
        n_null = interactions[column].null_count()
        if n_null:
            raise DataError(
                f"{column} must not be null; got {n_null:,} nulls in {interactions.height:,} interactions.\n"
                "  Drop those rows or fill the column."
            )
    if window is not None and interactions.height:
        last = interactions.select(pl.col(TIMESTAMP).max()).item()
        resolved = window.resolve(int(last))
        interactions = interactions.filter(pl.col(TIMESTAMP) < resolved.end)
        if resolved.start is not None:
            interactions = interactions.filter(pl.col(TIMESTAMP) >= resolved.start)
    items = interactions[ITEM_INDEX].cast(pl.Int64).to_numpy()
    outside = items[(items < 0) | (items >= n_items)]
    if outside.size:
        raise DataError(
            f"item_index must lie in 0..{n_items - 1}; got {outside.size:,} others "
            f"(first: {', '.join(map(str, outside[:3].tolist()))}).\n"
            "  Encode interactions and catalogue together."
        )
    return np.bincount(items, minlength=n_items).astype(np.int64)
