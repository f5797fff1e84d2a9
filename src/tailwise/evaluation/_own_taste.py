"""How much tail each user has in the own history, whole and in halves, and in the list."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.evaluation._rankings import Rankings
from tailwise.schema import ITEM_INDEX, USER_INDEX
from tailwise.segments import Segments

__all__ = ["TASTE_GROUPS", "OwnTaste", "TasteRows", "shown_slots"]

TASTE_GROUPS = ("niche", "mixed", "mainstream")  # thirds of the users, the fondest of the tail first

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TasteRows:
    """Training rows of listed users, by user and item.

    Attributes:
        position: ``[n_rows]`` of the user among the listed ones, ascending.
        is_tail: ``[n_rows]`` bool.
        n_of_user: ``[n_users]`` rows of each listed user.
    """

    position: Ints
    is_tail: NDArray[np.bool_]
    n_of_user: Ints

    @classmethod
    def of(cls, training: pl.DataFrame, users: Ints, segments: Segments) -> "TasteRows":
        """Take the rows of these users (ascending ``user_index``) from a training table."""
        rows = training.select(pl.col(USER_INDEX).cast(pl.Int64), pl.col(ITEM_INDEX).cast(pl.Int64))
        rows = rows.join(pl.DataFrame({USER_INDEX: users}), on=USER_INDEX, how="semi")
        rows = rows.sort(USER_INDEX, ITEM_INDEX)
        items = rows[ITEM_INDEX].to_numpy()
        outside = items[(items < 0) | (items >= segments.n_items)]
        if outside.size:
            raise DataError(
                f"item_index of training must lie in 0..{segments.n_items - 1}; got {outside.size:,} others "
                f"(first: {int(outside[0])}).\n  Encode rows and segments with one catalogue."
            )
        position = np.searchsorted(users, rows[USER_INDEX].to_numpy())
        is_tail = segments.labels[items] == len(segments.names) - 2
        return cls(position, is_tail, np.bincount(position, minlength=users.size))


@dataclass(frozen=True, eq=False)
class OwnTaste:
    """Tail items in the histories of ``n`` users.

    Attributes:
        tail: ``[n]`` tail rows of the history.
        size: ``[n]`` rows of the history, >= 1.
        first: ``[n]`` tail share of a random half; 0 where there is none.
        second: ``[n]`` tail share of the other half.
        is_grouped: ``[n]`` bool; there are two halves.
        group: ``[n]`` position in TASTE_GROUPS by the first half, -1 for the others.
    """

    tail: Ints
    size: Ints
    first: Floats
    second: Floats
    is_grouped: NDArray[np.bool_]
    group: Ints

    @classmethod
    def of(cls, rows: TasteRows, kept: NDArray[np.bool_], seed: int) -> "OwnTaste":
        """Count for the users of ``kept`` (``[n_users]`` bool); ``seed`` draws the halves."""
        size, n = rows.n_of_user, kept.size
        order = np.lexsort((np.random.default_rng(seed).random(rows.position.size), rows.position))
        place = np.arange(order.size) - np.repeat(np.cumsum(size) - size, size)  # in the shuffled history
        position, is_tail = rows.position[order], rows.is_tail[order]
        in_first = place < (size // 2)[position]
        tail = np.bincount(position[is_tail], minlength=n)
        tail_first = np.bincount(position[is_tail & in_first], minlength=n)
        first = tail_first / np.maximum(size // 2, 1)
        second = (tail - tail_first) / np.maximum(size - size // 2, 1)
        is_grouped = (size >= 2)[kept]
        group = np.full(int(kept.sum()), -1)
        group[is_grouped] = _thirds(first[kept][is_grouped])
        return cls(tail[kept], size[kept], first[kept], second[kept], is_grouped, group)


def _thirds(shares: Floats) -> Ints:
    """0 for the largest third, 2 for the smallest; equal shares stay together, at their mean place."""
    ascending = np.sort(shares)
    ends = np.searchsorted(ascending, shares, "left") + np.searchsorted(ascending, shares, "right")
    return np.asarray(2 - np.minimum(3 * ends // (2 * max(shares.size, 1)), 2), dtype=np.int64)


def shown_slots(rankings: Rankings, segments: Segments, k: int) -> Ints:
    """Tail, cold and all slots of each user's first k: ``[n_users, 3]``."""
    slots = rankings.lists.with_row_index("row").select("row", pl.col("items").list.head(k))
    slots = slots.explode("items", empty_as_null=False)
    row, label = slots["row"].to_numpy(), segments.labels[slots["items"].to_numpy()]
    last = len(segments.names) - 1
    masks = (label == last - 1, label == last, np.ones(label.size, dtype=np.bool_))
    return np.stack([np.bincount(row[mask], minlength=rankings.n_users) for mask in masks], axis=1)
