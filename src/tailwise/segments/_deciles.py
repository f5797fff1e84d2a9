"""Ten groups of trained items by popularity, for the exposure-by-decile chart."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.segments._cuts import checked_counts, equal_positions, label_by_positions

__all__ = ["COLD_DECILE", "popularity_deciles"]

COLD_DECILE = 11


def popularity_deciles(counts: ArrayLike, *, trained: ArrayLike | None = None) -> NDArray[np.int8]:
    """Give each item its popularity decile: 1 = most popular tenth of trained items, 11 = cold.

    Tenths of *items*, not of interactions. Equal counts never straddle a cut, and the
    tied group goes to the less popular decile; where many items share a count (often
    1) some deciles are therefore larger than a tenth and others smaller, or empty.

    Args:
        counts: ``[n_items]`` int; training interactions, each >= 0.
        trained: ``[n_items]`` bool; which items training saw. None: those with a
            positive count. Needed when ``counts`` cover a window only.

    Returns:
        ``[n_items]`` int8 in 1..11.

    Raises:
        ValueError: a count is negative or not whole.
        DataError: no item is trained.

    Example:
        >>> popularity_deciles(np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
        array([11, 10,  9,  8,  7,  6,  5,  4,  3,  2,  1], dtype=int8)
    """
    checked, is_trained = checked_counts(counts, trained)
    deciles = np.full(checked.size, COLD_DECILE, dtype=np.int8)
    known = checked[is_trained]
    deciles[is_trained] = 1 + label_by_positions(known, equal_positions(known.size, 10))
    return deciles
