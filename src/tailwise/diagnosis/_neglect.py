"""Which items are shown less than they are wanted, and what weighs on them."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tailwise.errors import DataError
from tailwise.schema import ITEM_INDEX
from tailwise.segments import Segments

__all__ = ["count_slots", "neglected_items"]

_UPPER = 0.975  # of the two-sided 95 % interval


def count_slots(lists: Sequence[Sequence[int]] | pl.Series, n_items: int, k: int) -> NDArray[np.int64]:
    """Count how many of the lists show each item in their first k slots: ``[n_items]`` int64.

    Example:
        >>> count_slots(pl.Series([[0, 2], [2]], dtype=pl.List(pl.Int32)), n_items=4, k=1).tolist()
        [1, 0, 1, 0]
    """
    column = lists if isinstance(lists, pl.Series) else pl.Series(lists, dtype=pl.List(pl.Int64))
    shown = column.list.head(k).explode(empty_as_null=False).to_numpy()
    return np.bincount(shown, minlength=n_items).astype(np.int64)


def neglected_items(segments: Segments, n_slots: ArrayLike) -> pl.DataFrame:
    """Rank items by how surely they are shown less often than their share of the interactions.

    An item that holds one in a thousand training interactions would get one in a thousand
    slots if lists followed what people chose: its *expected* slots. ``shown_ratio`` is
    what it got over that, ``shown_ratio_high`` the same with the upper end of the Poisson
    95 % interval of what it got. Items are ranked by the latter: "surely shown at most a
    tenth of its share" comes before "never shown, but hardly expected either". What people
    chose was itself shown to them, so for items that were always hidden the expectation is
    too low, and the ranking is lenient.

    Args:
        segments: Items' training interactions and segments.
        n_slots: ``[n_items]``; lists that show the item, each >= 0. Means over training
            seeds are welcome.

    Returns:
        A row per item with at least one training interaction, the most neglected first:
        ``item_index``, ``segment``, ``n_interactions``, ``popularity_rank`` (1 = most popular),
        ``n_slots``, ``expected_slots``, ``shown_ratio``, ``shown_ratio_high``.

    Raises:
        ValueError: ``n_slots`` has another length or a negative entry.
        DataError: no slot is filled.

    Example:
        >>> from tailwise.segments import segment_items
        >>> neglected_items(segment_items([60, 30, 10]), [95, 0, 5])["item_index"].to_list()
        [1, 2, 0]
    """
    slots = np.asarray(n_slots, dtype=np.float64)
    if slots.shape != (segments.n_items,) or slots.min() < 0:
        raise ValueError(
            f"n_slots must hold one number >= 0 for each of {segments.n_items:,} items; got shape "
            f"{slots.shape}{f' with {slots.min():g}' if slots.size else ''}.\n  count_slots() counts them."
        )
    if not slots.sum():
        raise DataError("lists must fill at least one slot; got none.\n  The lists are all empty.")
    counts = np.asarray(segments.counts, dtype=np.float64)
    expected = slots.sum() * counts / counts.sum()
    high = stats.chi2.ppf(_UPPER, 2 * (slots + 1)) / 2  # Garwood's exact upper limit
    wanted = np.flatnonzero(counts > 0)
    return pl.DataFrame(
        {
            ITEM_INDEX: wanted,
            "segment": [segments.names[label] for label in segments.labels[wanted]],
            "n_interactions": segments.counts[wanted],
            "popularity_rank": stats.rankdata(-counts, method="min")[wanted].astype(np.int64),
            "n_slots": slots[wanted],
            "expected_slots": expected[wanted],
            "shown_ratio": slots[wanted] / expected[wanted],
            "shown_ratio_high": high[wanted] / expected[wanted],
        }
    ).sort("shown_ratio_high", "shown_ratio", ITEM_INDEX)
