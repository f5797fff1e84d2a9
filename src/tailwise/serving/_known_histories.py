"""Histories of a million users in few bytes each."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.errors import DataError

__all__ = ["KnownHistories"]


class KnownHistories:
    """What was known of each user when the model was made; read-only, found by ``user_id``.

    Three flat arrays hold everything: the ids' bytes in sorted order, items, and where each user's begin.
    A user costs 20 bytes, the bytes of the id and 4 per item; a look-up is a binary search.

    Args:
        user_ids: ``[n_users]`` distinct.
        offsets: ``[n_users + 1]``; the items of user number ``i`` are ``items[offsets[i]:offsets[i + 1]]``.
        items: ``item_index``, user after user, oldest first.

    Raises:
        DataError: a user occurs twice, or ``offsets`` does not fit.

    Example:
        >>> KnownHistories(["ann", "bob"], [0, 2, 3], [7, 1, 4]).of("ann")
        array([7, 1], dtype=int32)
    """

    def __init__(self, user_ids: Sequence[str], offsets: ArrayLike, items: ArrayLike) -> None:
        encoded = [user_id.encode(errors="surrogatepass") for user_id in user_ids]
        self._offsets: NDArray[np.int64] = np.asarray(offsets, dtype=np.int64)
        self._items: NDArray[np.int32] = np.asarray(items, dtype=np.int32)
        if (
            self._offsets.shape != (len(encoded) + 1,)
            or self._offsets[0] != 0
            or self._offsets[-1] != len(self._items)
            or bool((np.diff(self._offsets) < 0).any())
        ):
            raise DataError(
                f"offsets must be [n_users + 1], rising from 0 to the number of items "
                f"({len(self._items):,}); got {len(self._offsets):,} for {len(encoded):,} users.\n"
                "  They say where each user's items begin."
            )
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        self._users: NDArray[np.int32] = np.asarray(order, dtype=np.int32)  # of each place in sorted order
        in_order = [encoded[user] for user in order]
        repeats = sum(a == b for a, b in pairwise(in_order))
        if repeats:
            raise DataError(
                f"user_ids must be distinct; got {repeats:,} repeats among {len(encoded):,}.\n"
                "  Join the histories of one user."
            )
        self._ids = b"".join(in_order)
        self._ends = np.cumsum([len(name) for name in in_order], dtype=np.int64)

    @classmethod
    def from_histories(
        cls, user_ids: Sequence[str], histories: Sequence[Sequence[int] | NDArray[np.int64]]
    ) -> "KnownHistories":
        """Build from one history of item indices per user."""
        lengths = [len(history) for history in histories]
        items = np.concatenate([np.empty(0, np.int32), *(np.asarray(h, dtype=np.int32) for h in histories)])
        return cls(user_ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), items)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self._users)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        arrays = (self._offsets, self._items, self._users, self._ends)
        return len(self._ids) + sum(array.nbytes for array in arrays)

    def of(self, user_id: str) -> NDArray[np.int32] | None:
        """Return a user's item indices, oldest first; None for an unknown user."""
        wanted = user_id.encode(errors="surrogatepass")
        low, high = 0, len(self._users)
        while low < high:
            middle = (low + high) // 2
            if self._id(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self._users) or self._id(low) != wanted:
            return None
        user = int(self._users[low])
        return self._items[self._offsets[user] : self._offsets[user + 1]]

    def _id(self, place: int) -> bytes:
        begin = int(self._ends[place - 1]) if place else 0
        return self._ids[begin : int(self._ends[place])]
