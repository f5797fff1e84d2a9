"""The most popular items that a query allows: what is shown where no model can answer."""

from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["PopularItems"]

_FIRST_LOOK = 256  # most queries allow most popular items, so the first few decide


class PopularItems:
    """Items by training interactions, most first, equal counts by index; sorted once.

    Args:
        counts: ``[n_items]`` training interactions.
    """

    def __init__(self, counts: ArrayLike) -> None:
        self._order: NDArray[np.int64] = np.argsort(-np.asarray(counts, dtype=np.int64), kind="stable")

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self._order)

    def best(
        self, k: int, *, without: AbstractSet[int] = frozenset(), mask: NDArray[np.bool_] | None = None
    ) -> list[int]:
        """Return the ``k`` most popular items that may be listed; fewer where fewer may.

        Args:
            k: >= 1.
            without: Item indices that may not be listed.
            mask: ``[n_items]`` bool; items that may. None: all.
        """
        found: list[int] = []
        begin, size = 0, max(_FIRST_LOOK, 2 * k)
        while begin < len(self._order) and len(found) < k:
            some = self._order[begin : begin + size]
            allowed = some if mask is None else some[mask[some]]
            found += [item for item in allowed.tolist() if item not in without]
            begin, size = begin + size, 4 * size
        return found[:k]
