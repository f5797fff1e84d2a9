"""Uncertainty when targets share users and share items: both are resampled."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_sums", "two_way_sums", "two_way_variance", "two_way_weights"]

Floats = NDArray[np.float64]


def two_way_variance(
    slopes: Floats, users: NDArray[np.int64], items: NDArray[np.int64], by_item: Floats | None = None
) -> Floats:
    """Variance of statistics from their derivatives by each target's weight, clustered both ways.

    Σ over users of squared sums + Σ over items − Σ over (user, item) pairs, which both of
    the former hold (Cameron, Gelbach, Miller, *Robust inference with multiway clustering*, 2011). It
    is never taken to be below either of the one-way sums, which are lower bounds.

    Args:
        slopes: ``[n_targets, k]``.
        users: ``[n_targets]`` 0..n_users-1.
        items: ``[n_targets]`` 0..n_items-1.
        by_item: ``[n_items, k]``; derivatives by each item's weight. None: sums of its targets'.

    Returns:
        ``[k]``.
    """
    of_user, of_item, of_pair = map(_squares, two_way_sums(slopes, users, items, by_item))
    return np.maximum(of_user + of_item - of_pair, of_item)


def two_way_sums(
    slopes: Floats, users: NDArray[np.int64], items: NDArray[np.int64], by_item: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Sum derivatives over users, items and (user, item) pairs: three ``[n_groups, k]``.

    Arguments as in :func:`two_way_variance`.
    """
    n_users = int(users.max()) + 1
    _, pairs = np.unique(items * n_users + users, return_inverse=True)
    of_item = _sums(slopes, items) if by_item is None else by_item
    return _sums(slopes, users), of_item, _sums(slopes, pairs)


def group_sums(group: NDArray[np.int64], values: Floats | None = None, n_groups: int = 0) -> Floats:
    """Sum values (None: ones) over each group: ``[n] -> [n_groups]`` float64."""
    return np.bincount(group, values, n_groups).astype(np.float64)


def _sums(slopes: Floats, group: NDArray[np.int64]) -> Floats:
    """Sum over each group: ``[n_targets, k] -> [n_groups, k]``."""
    return np.stack([group_sums(group, column) for column in slopes.T], axis=1)


def _squares(sums: Floats) -> Floats:
    """Sum of the squares, with the n/(n-1) of a sample variance: ``[n_groups, k] -> [k]``."""
    n = sums.shape[0]
    return np.asarray((sums**2).sum(axis=0) * n / max(n - 1, 1), dtype=np.float64)


def two_way_weights(
    n_users: int, n_items: int, *, n_resamples: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """Yield weights of users and of items, exponential of mean 1; a target's is their product.

    The pigeonhole bootstrap (Owen 2007) with smooth weights (Rubin's Bayesian bootstrap), which
    never empty a cell. Its variance counts the noise of single targets three times (Owen,
    Eckles 2012), so intervals from it are shrunk to :func:`two_way_variance`.
    """
    rng = np.random.default_rng(seed)
    for _ in range(n_resamples):
        yield rng.exponential(size=n_users), rng.exponential(size=n_items)
