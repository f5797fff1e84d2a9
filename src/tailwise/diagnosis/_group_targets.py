"""Training targets by popularity group, and equal numbers of them drawn from two halves of the users."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.errors import DataError

__all__ = ["GroupTargets", "Halves", "draw_halves"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GroupTargets:
    """What is known of each training target without its loss.

    Attributes:
        names: Of the groups, most popular first.
        groups: ``[n_targets]`` int64; position in ``names``, -1 for a target of no group.
        users: ``[n_targets]`` int64; whose target it is. Intervals are clustered by it, and no user is
            in both halves of a split.
        rows: ``[n_targets]`` int64; targets of one row share a forward pass, and are of one user.
    """

    names: tuple[str, ...]
    groups: Ints
    users: Ints
    rows: Ints

    def __init__(
        self,
        names: tuple[str, ...],
        groups: ArrayLike,
        users: ArrayLike,
        rows: ArrayLike | None = None,
    ) -> None:
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "groups", np.asarray(groups, dtype=np.int64))
        object.__setattr__(self, "users", np.asarray(users, dtype=np.int64))
        object.__setattr__(self, "rows", self.users if rows is None else np.asarray(rows, dtype=np.int64))
        shapes = [a.shape for a in (self.groups, self.users, self.rows)]
        if len(set(shapes)) != 1 or self.groups.ndim != 1:
            raise ValueError(
                f"groups, users and rows must all be [n_targets]; got shapes {shapes}.\n"
                "  Give one of each per training target."
            )
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"names must be distinct, at least one; got {self.names}.")
        low, high = (int(f(self.groups)) if self.groups.size else -1 for f in (np.min, np.max))
        if low < -1 or high >= len(self.names):
            raise ValueError(
                f"groups must lie in -1..{len(self.names) - 1}; got {low}..{high}.\n"
                "  They are positions in names; -1 leaves a target out."
            )
        order = np.lexsort((self.users, self.rows))
        rows_in_order, users_in_order = self.rows[order], self.users[order]
        split = (rows_in_order[1:] == rows_in_order[:-1]) & (users_in_order[1:] != users_in_order[:-1])
        if split.any():
            raise ValueError(
                f"rows must each be of one user; got row {int(rows_in_order[1:][split][0])} of several.\n"
                "  Number the rows over all users."
            )

    @property
    def n_targets(self) -> int:
        """Number of targets, those of no group included."""
        return int(self.groups.size)

    @property
    def n_in_groups(self) -> tuple[int, ...]:
        """Number of targets of each group."""
        return tuple(int(np.count_nonzero(self.groups == g)) for g in range(len(self.names)))


@dataclass(frozen=True, eq=False)
class Halves:
    """Equal numbers of targets for every group in both halves of every split.

    Attributes:
        targets: ``[n_splits, 2, n_groups, n]`` int64; positions of targets.
        fingerprint: Of the table and the draw; equal for two models measured on the same targets.
    """

    targets: Ints
    fingerprint: str

    @property
    def n_per_group(self) -> int:
        """Targets of each group in each half."""
        return int(self.targets.shape[3])


def draw_halves(targets: GroupTargets, *, at_most: int | None, n_splits: int, seed: int) -> Halves:
    """Split the users in two, several times, and draw equally many targets of each group from each half.

    The number is the largest that every group has in every half of every split, and no more than
    ``at_most``. Whole rows are taken in random order until the rarest group has enough of them; from
    their targets that many are drawn for every group. So few rows serve many targets, and popular
    groups are spread over more rows than they would need.

    Raises:
        DataError: a group has no target in one of the halves.
    """
    kept = np.flatnonzero(targets.groups >= 0)
    users, user = np.unique(targets.users[kept], return_inverse=True)
    _, row = np.unique(targets.rows[kept], return_inverse=True)
    group = targets.groups[kept]
    rng = np.random.default_rng([seed, 0])
    n_groups = len(targets.names)
    halves = []  # of every split, one after the other: positions in `kept`
    for _ in range(n_splits):
        in_first = rng.permutation(users.size) < users.size // 2
        halves += [np.flatnonzero(in_first[user]), np.flatnonzero(~in_first[user])]
    available = np.array([np.bincount(group[half], minlength=n_groups) for half in halves])
    scarcest = available.min(axis=0)  # [n_groups]
    if scarcest.min() < 1:
        name = targets.names[int(scarcest.argmin())]
        raise DataError(
            f"group must have targets in both halves of the users; got none in one half for {name!r}, "
            f"of {targets.n_in_groups[int(scarcest.argmin())]} in all.\n"
            "  Give more histories, or cut the segments differently."
        )
    n = int(scarcest.min()) if at_most is None else min(at_most, int(scarcest.min()))
    order_of_row = [rng.permutation(int(row.max()) + 1) for _ in halves]
    drawn = [
        _draw(half[np.argsort(order[row[half]], kind="stable")], group, n, n_groups, rng)
        for half, order in zip(halves, order_of_row, strict=True)
    ]
    chosen = kept[np.array(drawn)].reshape(n_splits, 2, n_groups, n)
    digest = hashlib.sha256()
    for array in (targets.groups, targets.users, targets.rows, chosen):
        digest.update(np.ascontiguousarray(array).tobytes())
    return Halves(chosen, digest.hexdigest()[:16])


def _draw(half: Ints, group: Ints, n: int, n_groups: int, rng: np.random.Generator) -> Ints:
    """Draw ``n`` targets of each group from the first rows of one half: ``[n_groups, n]``, sorted."""
    of_group = [np.flatnonzero(group[half] == g) for g in range(n_groups)]
    end = max(int(places[n - 1]) for places in of_group) + 1  # where the scarcest group has enough
    return np.array(
        [np.sort(half[rng.choice(places[places < end], n, replace=False)]) for places in of_group]
    )
