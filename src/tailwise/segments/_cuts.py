"""Cut trained items into groups by count so that equal counts never straddle a cut."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.errors import DataError

__all__: list[str] = []


def checked_counts(
    counts: ArrayLike, trained: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return counts as int64 and which items are trained, or say what is wrong with them."""
    given = np.asarray(counts)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"counts must be [n_items] whole numbers; got shape {given.shape} of {given.dtype}.\n"
            "  popularity() returns them."
        )
    checked = given.astype(np.int64)
    negative = np.flatnonzero(checked < 0)
    if negative.size:
        raise ValueError(
            f"counts must be >= 0; got {int(checked[negative[0]])} for item {int(negative[0])} "
            f"({negative.size:,} in all).\n  Count interactions with popularity()."
        )
    if trained is None:
        is_trained: NDArray[np.bool_] = checked > 0
    else:
        is_trained = np.asarray(trained, dtype=np.bool_)
        if is_trained.shape != checked.shape:
            raise ValueError(
                f"trained must have one value per item, {checked.size:,}; got shape {is_trained.shape}.\n"
                "  It is popularity(training, n_items) > 0 over the whole training part."
            )
        wrong = np.flatnonzero((checked > 0) & ~is_trained)
        if wrong.size:
            raise ValueError(
                f"trained must be True for every item with a positive count; got False for {wrong.size:,} "
                f"(first: {int(wrong[0])}).\n  Count the window and the whole of training on the same rows."
            )
    if not is_trained.any():
        raise DataError(
            f"counts must hold a trained item; got {checked.size:,} items without an interaction.\n"
            "  Check that the training part is not empty and that its item_index fits the catalogue."
        )
    return checked, is_trained


def label_by_positions(counts: NDArray[np.int64], positions: Sequence[int]) -> NDArray[np.int64]:
    """Label each count 0..len(positions) by cutting the descending order at those positions.

    A cut at ``p`` leaves the ``p`` largest counts above it, except those that equal the
    first count below it: the tied group goes tailwards. ``[n] -> [n]`` int64.
    """
    descending = np.sort(counts)[::-1]
    labels = np.zeros(counts.size, dtype=np.int64)
    for position in positions:
        if position < counts.size:
            labels += counts <= descending[position]
    return labels


def equal_positions(n: int, n_groups: int) -> list[int]:
    """Positions that cut ``n`` ordered items into groups of (nearly) equal size."""
    return [n * i // n_groups for i in range(1, n_groups)]
