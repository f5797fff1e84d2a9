"""Accuracy of each target: Recall, NDCG and MRR at k, in expectation over tied scores."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.evaluation._rankings import Rankings

__all__ = ["METRICS", "check_metric", "mean_ndcg", "target_values"]

# What a target earns at rank 1, 2, ... within the first k places; beyond k it earns 0.
Gain = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _recall(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for a hit anywhere in the list: with one relevant item, Recall is the hit rate."""
    return np.ones_like(ranks)


def _ndcg(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / log2(rank + 1): the only relevant item, so the ideal DCG is 1."""
    return 1.0 / np.log2(ranks + 1.0)


def _mrr(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / rank."""
    return 1.0 / ranks


METRICS: dict[str, Gain] = {"recall": _recall, "ndcg": _ndcg, "mrr": _mrr}


def check_metric(metric: str, k: int) -> None:
    """Refuse an unknown metric or a k below 1."""
    if metric not in METRICS:
        raise ValueError(
            f"metric must be one of {', '.join(METRICS)}; got {metric!r}.\n"
            "  docs/how-to-add/metric.md adds one."
        )
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}.\n  It is the length of the list that is judged.")


def target_values(rankings: Rankings, metric: str, k: int) -> NDArray[np.float64]:
    """Value each target by its rank, averaged over the orders of tied scores.

    A target with ``b`` better and ``t`` equally good items lands on each of the ranks
    ``b+1 .. b+t+1`` with the same probability, so its value is the mean gain over
    those ranks, ranks beyond ``k`` earning nothing.

    Args:
        rankings: Of ``m`` targets.
        metric: Name in :data:`METRICS`.
        k: Length of the list that is judged, >= 1.

    Returns:
        ``[m]`` float64 in 0..1, in the order of ``rankings.targets``.

    Raises:
        ValueError: the metric is unknown or ``k`` < 1.

    Example:
        >>> from tailwise.evaluation import rank_targets
        >>> r = rank_targets(lambda h: np.array([[5.0, 4.0, 3.0]]), [[]], [0, 1], [2], n_items=3)
        >>> target_values(r, "ndcg", k=10)
        array([0.5])
    """
    check_metric(metric, k)
    gains = np.append(METRICS[metric](np.arange(1, k + 1, dtype=np.float64)), 0.0)  # [k+1], rank k+1 earns 0
    below = np.concatenate([[0.0], np.cumsum(gains[:-1])])  # [k+1]; gains of the first r ranks
    n_better = rankings.targets["n_better"].to_numpy()
    n_tied = rankings.targets["n_tied"].to_numpy()
    first = np.minimum(n_better, k)
    last = np.minimum(n_better + n_tied + 1, k)
    expected = (below[last] - below[first]) / (n_tied + 1)
    # Without ties the gain itself, free of the rounding of a difference of sums.
    return np.asarray(np.where(n_tied == 0, gains[first], expected), dtype=np.float64)


def mean_ndcg(rankings: Rankings, k: int = 10) -> float:
    """Average NDCG@k over all targets: the number that early stopping watches.

    Raises:
        DataError: there are no targets.
    """
    if not rankings.targets.height:
        raise DataError(
            f"rankings must hold at least one target; got 0 for {rankings.n_users:,} users.\n"
            "  The validation part is empty: choose an earlier cut."
        )
    return float(target_values(rankings, "ndcg", k).mean())
