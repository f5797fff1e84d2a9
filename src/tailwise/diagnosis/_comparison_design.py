"""Which items to compare, and with which: a sample of head and tail, and a connected graph on it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["comparison_pairs", "sample_by_count"]

Indices = NDArray[np.int64]
_N_STRATA = 10  # of equal width in log counts


def sample_by_count(counts: ArrayLike, n: int, *, seed: int = 0) -> Indices:
    """Draw items so that head and tail are both well represented.

    The range of log(1 + count) is cut into ten strata of equal width, and as many items are drawn
    from each; what small strata lack is drawn from the others. A plain sample would be nearly
    all tail.

    Args:
        counts: ``[n_items]``; training interactions.
        n: Items to draw; all of them where there are no more.
        seed: Of the draw.

    Returns:
        ``[min(n, n_items)]`` int64, positions in ``counts``, increasing.

    Example:
        >>> sample_by_count([0] * 97 + [5, 50, 500], 4)[1:].tolist()  # all but one of the tail
        [97, 98, 99]
    """
    x = np.log1p(np.asarray(counts, dtype=np.float64))
    if n >= x.size:
        return np.arange(x.size)
    rng = np.random.default_rng(seed)
    edges = np.linspace(x.min(), x.max(), _N_STRATA + 1)[1:-1]
    stratum = np.digitize(x, edges)
    size = np.bincount(stratum, minlength=_N_STRATA)
    wanted = np.zeros(_N_STRATA, dtype=np.int64)
    for _ in range(n):  # the next item from the stratum that has given fewest and still has some
        open_ = np.flatnonzero(wanted < size)
        wanted[open_[wanted[open_].argmin()]] += 1
    drawn = [
        rng.choice(np.flatnonzero(stratum == k), size=wanted[k], replace=False) for k in range(_N_STRATA)
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def comparison_pairs(n_items: int, *, per_item: int = 10, seed: int = 0) -> Indices:
    """Pair items at random, so that each is in about ``per_item`` pairs and all are connected.

    The union of ``per_item / 2`` random cycles through all items: each cycle gives every item two
    partners, and a single one connects them all, without which scores could not be compared.
    A pair that two cycles share counts once, so a few items have fewer partners.

    Args:
        n_items: 2 or more.
        per_item: Partners of each item; even, >= 2.
        seed: Of the draw.

    Returns:
        ``[n_pairs, 2]`` int64; different pairs of different items, each in one order, drawn at
        random.

    Raises:
        ValueError: ``n_items`` or ``per_item`` is out of range.

    Example:
        >>> comparison_pairs(300, per_item=10).shape[0] in range(1450, 1501)
        True
    """
    if n_items < 2:
        raise ValueError(f"n_items must be >= 2; got {n_items}.\n  There is nothing to compare with.")
    if per_item < 2 or per_item % 2:
        raise ValueError(
            f"per_item must be even and >= 2; got {per_item}.\n  Each cycle through all items gives two."
        )
    rng = np.random.default_rng(seed)
    cycles = [rng.permutation(n_items) for _ in range(per_item // 2)]
    edges = np.concatenate([np.stack([cycle, np.roll(cycle, -1)], axis=1) for cycle in cycles])
    pairs = np.unique(np.sort(edges, axis=1), axis=0)
    turned = rng.random(len(pairs)) < 0.5
    pairs[turned] = pairs[turned][:, ::-1]
    return pairs.astype(np.int64)
