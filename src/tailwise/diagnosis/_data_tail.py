"""The data side of a diagnosis in one call: skew, power law, drift, and who lives in the tail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from tailwise.diagnosis._column import ColumnTail, segments_by_column
from tailwise.diagnosis._drift import Drift, WindowCut, check_times, measure_drift
from tailwise.diagnosis._power_law import PowerLaw, fit_power_law
from tailwise.diagnosis._skew import Skew, bootstrap_skew, measure_skew
from tailwise.errors import DataError
from tailwise.schema import BRAND, CATEGORY
from tailwise.segments import Segments, popularity, segment_items

__all__ = ["DataTail", "diagnose_data"]


@dataclass(frozen=True, eq=False)
class DataTail:
    """How long the tail of a log is, who lives in it, and whether the head drifts.

    Attributes:
        skew: Gini, top shares, rare items.
        power_law: Fit to the counts; None where they do not allow one.
        drift: Of the head over time; None where the times do not allow windows.
        columns: Segments by each column of the catalogue that was asked for.
        omitted: Part -> why it is None.
    """

    skew: Skew
    power_law: PowerLaw | None
    drift: Drift | None
    columns: tuple[ColumnTail, ...] = ()
    omitted: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "skew": self.skew.as_dict(),
            "power_law": None if self.power_law is None else self.power_law.as_dict(),
            "drift": None if self.drift is None else self.drift.as_dict(),
            "columns": [column.as_dict() for column in self.columns],
            "omitted": dict(self.omitted),
        }


def diagnose_data(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    *,
    segments: Segments | None = None,
    columns: Sequence[str] | None = None,
    separators: Mapping[str, str] | None = None,
    n_windows: int = 4,
    cut: WindowCut = "equal-counts",
    head_share: float = 0.2,
    n_resamples: int = 100,
    n_shuffles: int = 10,
    n_user_resamples: int = 0,
    seed: int = 0,
) -> DataTail:
    """Diagnose the data side of a log.

    Args:
        interactions: Encoded training rows: ``item_index``, ``timestamp``, and ``user_index``
            with ``n_user_resamples``.
        items: The catalogue's table, in the order of ``item_index``; join further columns
            (seller, supplier) as you like.
        segments: Of these items. None: the default rule on these rows.
        columns: Of ``items``, for :func:`segments_by_column`. None: category and brand,
            where they have values.
        separators: Column -> what separates several values of one item.
        n_windows: For :func:`measure_drift`.
        cut: Likewise.
        head_share: Likewise.
        n_resamples: For :func:`fit_power_law`.
        n_shuffles: For :func:`measure_drift`.
        n_user_resamples: For :func:`bootstrap_skew`; 0 = no intervals around Gini and top shares.
        seed: Of all draws.

    Raises:
        ValueError: an argument is out of range, or a column is not in ``items``.
        DataError: there is no interaction, or a row lacks item, time or user. That
            counts or times are too few for one part is no error: ``omitted`` says so.

    Example:
        >>> log = pl.DataFrame({"item_index": [0, 0, 1, 0, 1, 2], "timestamp": [1, 2, 3, 4, 5, 6]})
        >>> items = pl.DataFrame({"item_id": ["a", "b", "c"], "brand": ["X", "X", "Y"]})
        >>> found = diagnose_data(log, items, n_windows=2)
        >>> round(found.skew.concentration.gini, 3), sorted(found.omitted)
        (0.222, ['power_law'])
    """
    names = columns
    if names is None:
        names = [c for c in (CATEGORY, BRAND) if c in items.columns and items[c].null_count() < items.height]
    for name in (*names, *(separators or {})):
        if name not in items.columns:
            raise ValueError(
                f"columns must be among those of items, {', '.join(items.columns)}; got {name!r}.\n"
                "  Join it to the catalogue's table first."
            )
    check_times(interactions)
    counts = popularity(interactions, items.height)
    skew = measure_skew(counts)
    if n_user_resamples:
        intervals = bootstrap_skew(interactions, items.height, n_resamples=n_user_resamples, seed=seed)
        skew = replace(skew, intervals=intervals)
    omitted: dict[str, str] = {}
    power_law = drift = None
    try:
        power_law = fit_power_law(counts, n_resamples=n_resamples, seed=seed)
    except DataError as error:
        omitted["power_law"] = str(error)
    try:
        drift = measure_drift(
            interactions,
            items.height,
            n_windows=n_windows,
            cut=cut,
            head_share=head_share,
            n_shuffles=n_shuffles,
            seed=seed,
        )
    except DataError as error:
        omitted["drift"] = str(error)
    if segments is None:
        segments = segment_items(counts)
    tails = tuple(
        segments_by_column(items[name], segments, column=name, separator=(separators or {}).get(name))
        for name in names
    )
    return DataTail(skew, power_law, drift, tails, omitted)
