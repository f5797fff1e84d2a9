"""Metrics as ratios of sums over users, so that one bootstrap over users serves them all.

Each column is ``Σ_u numerator_u / Σ_u denominator_u``: for tail NDCG the summed gains
of a user's tail targets over their number; for a mean over users the user's value
over 1. Resampling users then only re-weights rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.evaluation._accuracy import target_values
from tailwise.evaluation._rankings import Rankings
from tailwise.schema import ITEM_INDEX, USER_INDEX
from tailwise.segments import OVERALL, Segments

__all__ = ["Key", "UserSums", "accuracy_sums", "bootstrap", "join_columns", "mean_over_seeds"]

Key = tuple[str, int, str | None]  # metric, k, segment

_MAX_DRAWS = 4_000_000  # users drawn at once; some 100 MB with their counts


@dataclass(frozen=True, eq=False)
class UserSums:
    """Per-user numerators and denominators of many ratios.

    Attributes:
        keys: What each column measures.
        numerators: ``[n_users, n_columns]`` float64, users in ascending order.
        denominators: ``[n_users, n_denominators]`` float64.
        denominator_of: ``[n_columns]``; the denominator of each column.
    """

    keys: tuple[Key, ...]
    numerators: NDArray[np.float64]
    denominators: NDArray[np.float64]
    denominator_of: NDArray[np.intp]

    @property
    def n_contributing(self) -> NDArray[np.int64]:
        """Users with something in the denominator, per column: ``[n_columns]``."""
        return np.asarray(np.count_nonzero(self.denominators, axis=0)[self.denominator_of], dtype=np.int64)

    @property
    def totals(self) -> NDArray[np.float64]:
        """Summed denominator of each column (targets, slots or users): ``[n_columns]``."""
        return np.asarray(self.denominators.sum(axis=0)[self.denominator_of], dtype=np.float64)

    def column(self, key: Key) -> int:
        """Position of a key."""
        return self.keys.index(key)

    def values(self) -> NDArray[np.float64]:
        """The ratios: ``[n_columns]``; NaN where the denominator is zero."""
        return ratios(self.numerators.sum(axis=0), self.totals)


def ratios(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, giving NaN for 0/0 without a warning."""
    out = np.full(np.broadcast_shapes(numerators.shape, denominators.shape), np.nan)
    return np.asarray(np.divide(numerators, denominators, out=out, where=denominators > 0), dtype=np.float64)


def build(
    columns: Iterable[tuple[Key, NDArray[np.float64], int]], denominators: list[NDArray[np.float64]]
) -> UserSums:
    """Gather (key, numerator, position of its denominator) into one table."""
    gathered = list(columns)
    return UserSums(
        keys=tuple(key for key, _, _ in gathered),
        numerators=np.stack([numerator for _, numerator, _ in gathered], axis=1),
        denominators=np.stack(denominators, axis=1),
        denominator_of=np.array([position for _, _, position in gathered], dtype=np.intp),
    )


def accuracy_sums(
    rankings: Rankings, segments: Segments, metrics: Sequence[str], ks: Sequence[int]
) -> UserSums:
    """Sum each user's target values, overall and by the segment of the target."""
    users = rankings.lists[USER_INDEX].to_numpy()
    row = np.searchsorted(users, rankings.targets[USER_INDEX].to_numpy())  # [m]
    label = segments.labels[rankings.targets[ITEM_INDEX].to_numpy()]  # [m]
    groups = [(OVERALL, np.ones(label.size, dtype=np.bool_))]
    groups += [(name, label == i) for i, name in enumerate(segments.names)]
    columns: list[tuple[Key, NDArray[np.float64], int]] = []
    for metric in metrics:
        for k in ks:
            values = target_values(rankings, metric, k)
            for position, (name, mask) in enumerate(groups):
                sums = np.bincount(row[mask], weights=values[mask], minlength=users.size)
                columns.append(((metric, k, name), sums.astype(np.float64), position))
    counts = [np.bincount(row[mask], minlength=users.size).astype(np.float64) for _, mask in groups]
    return build(columns, counts)


def join_columns(left: UserSums, right: UserSums) -> UserSums:
    """Put the columns of two tables of the same users side by side."""
    return UserSums(
        keys=left.keys + right.keys,
        numerators=np.hstack([left.numerators, right.numerators]),
        denominators=np.hstack([left.denominators, right.denominators]),
        denominator_of=np.concatenate(
            [left.denominator_of, right.denominator_of + left.denominators.shape[1]]
        ),
    )


def mean_over_seeds(sums: Sequence[UserSums]) -> UserSums:
    """Average numerators and denominators over seeds of the same users and targets."""
    first = sums[0]
    return UserSums(
        keys=first.keys,
        numerators=np.asarray(sum(s.numerators for s in sums) / len(sums), dtype=np.float64),
        denominators=np.asarray(sum(s.denominators for s in sums) / len(sums), dtype=np.float64),
        denominator_of=first.denominator_of,
    )


def bootstrap(
    sums: UserSums,
    *,
    n_resamples: int,
    seed: int,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Resample users with all their targets; give each column's ratio in every resample.

    The number of times each user is drawn is multinomial, so a resample is one row of
    counts and all resamples are a matrix product. Every column sees the same resamples.

    Args:
        sums: Of ``n`` users.
        n_resamples: Number of resamples.
        seed: Of the draws.
        statistic: Maps ratios ``[r, n_columns]`` to ``[r, c]``. None: the ratios themselves.

    Returns:
        ``[n_resamples, c]`` float64; NaN where a resample has nothing in the denominator.
    """
    n = sums.numerators.shape[0]
    rng = np.random.default_rng(seed)
    chunk = max(1, min(n_resamples, _MAX_DRAWS // max(n, 1)))
    parts = []
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        below = counts @ sums.denominators  # [size, n_denominators]
        part = ratios(counts @ sums.numerators, below[:, sums.denominator_of])  # [size, n_columns]
        parts.append(part if statistic is None else statistic(part))
    return np.concatenate(parts)
