"""What a recommender sees of each user, and what it should have said.

One history per user and part. Validation: the user's training rows. Test: training and
validation rows. Targets: all of the user's rows in the part, in time order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from tailwise.interactions._splits import Split
from tailwise.schema import ITEM_INDEX, USER_INDEX

__all__ = ["HeldOut", "Part", "histories", "training_histories"]

Part = Literal["validation", "test"]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Users to evaluate in one part, with histories and targets; the same position, the same user.

    Targets are stored like a sparse matrix by rows: those of user number ``i`` are
    ``target_items[target_offsets[i]:target_offsets[i + 1]]``, never empty.
    """

    part: Part
    users: _Ints
    """``[n_users]`` ``user_index``, ascending; users without history or without target are absent."""
    histories: list[_Ints]
    """Per user: ``item_index`` in time order, at least one."""
    target_items: _Ints
    """``[n_targets]`` ``item_index``, user after user, each in time order."""
    target_offsets: _Ints
    """``[n_users + 1]``, from 0 to ``n_targets``."""

    @property
    def n_users(self) -> int:
        """Number of evaluated users."""
        return len(self.users)

    @property
    def n_targets(self) -> int:
        """Number of evaluated held-out rows."""
        return len(self.target_items)

    @property
    def target_rows(self) -> _Ints:
        """``[n_targets]``: position in ``users`` and ``histories`` of each target."""
        return np.repeat(np.arange(self.n_users, dtype=np.int64), np.diff(self.target_offsets))

    def targets(self, row: int) -> _Ints:
        """Targets of the user at position ``row``."""
        return self.target_items[self.target_offsets[row] : self.target_offsets[row + 1]]


def histories(split: Split, part: Part) -> HeldOut:
    """Collect histories and targets of the users that ``part`` can evaluate.

    A user whose first row lies in ``part`` has no history and is left out; the split counted
    those rows as excluded. If repeats were dropped, no target is in its own history.

    Args:
        split: From :func:`split_by_time` or :func:`split_leave_last_out`.
        part: ``"validation"`` or ``"test"``.

    Raises:
        ValueError: ``part`` is neither.

    Example:
        >>> held_out = histories(split, "test")  # doctest: +SKIP
        >>> held_out.histories[0], held_out.targets(0)  # doctest: +SKIP
        (array([4, 17, 3]), array([8]))
    """
    if part == "validation":
        past, future = split.train, split.validation
    elif part == "test":
        past, future = pl.concat([split.train, split.validation]), split.test
    else:
        raise ValueError(f"part must be 'validation' or 'test'; got {part!r}")
    past_users, past_items = _by_user(past)
    future_users, future_items = _by_user(future)
    users = np.intersect1d(past_users, future_users)
    keep = np.isin(future_users, users)
    n_targets = np.bincount(np.searchsorted(users, future_users[keep]), minlength=len(users))
    return HeldOut(
        part=part,
        users=users,
        histories=_slices(users, past_users, past_items),
        target_items=future_items[keep],
        target_offsets=np.concatenate(([0], np.cumsum(n_targets))).astype(np.int64),
    )


def training_histories(split: Split) -> tuple[_Ints, list[_Ints]]:
    """Return the users of the training part, ascending, and their items in time order.

    Users with a single row are included: what to do with a sequence of one is the trainer's choice.

    Returns:
        ``user_index`` ``[n_training_users]``, and per user the ``item_index`` array.
    """
    users, items = _by_user(split.train)
    distinct = np.unique(users)
    return distinct, _slices(distinct, users, items)


def _by_user(rows: pl.DataFrame) -> tuple[_Ints, _Ints]:
    """Return users and items, users ascending; time order within a user stays (stable sort)."""
    users, items = rows[USER_INDEX].to_numpy(), rows[ITEM_INDEX].to_numpy()
    order = np.argsort(users, kind="stable")
    return users[order], items[order]


def _slices(users: _Ints, row_users: _Ints, row_items: _Ints) -> list[_Ints]:
    starts = np.searchsorted(row_users, users, side="left")
    ends = np.searchsorted(row_users, users, side="right")
    return [row_items[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
