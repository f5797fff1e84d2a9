"""How much one side adds to the other, measured so that it is found when it is there.

:class:`Moments` measures what the two sides explain as a metric would weigh it. A test may weigh
differently, and should: where counts follow Zipf's law a few popular items hold most targets, and
what the prior does among the thousands of others is lost beside the chance that sits in those few.
Here an item weighs as much as its mean accuracy is precise.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tailwise.diagnosis._leave_out import LeaveOutFit
from tailwise.diagnosis._moments import Moments
from tailwise.diagnosis._two_way import group_sums

__all__ = ["Added", "precisions"]

Floats = NDArray[np.float64]
_NOTHING = 1e-12  # of the variance of accuracy: rounding


def precisions(n_targets: Floats, *, between: float, noise: float) -> Floats:
    """Weigh items by how precise their mean accuracy is: ``[n_items] -> [n_items]``, mean 1.

    An item's mean of n targets varies by ``between`` + ``noise`` / n around what is predicted of it.

    Args:
        n_targets: ``[n_items]``; each >= 1.
        between: Variance between items that is not predicted, >= 0.
        noise: Variance of single targets, >= 0.

    Example:
        >>> precisions(np.array([1.0, 100.0]), between=0.0, noise=1.0).round(2)  # as the targets
        array([0.02, 1.98])
        >>> precisions(np.array([1.0, 100.0]), between=9.0, noise=1.0).round(2)  # nearly alike
        array([0.95, 1.05])
    """
    variance = between + noise / n_targets
    if not np.all(variance > 0):
        return np.ones_like(n_targets)
    weight = 1 / variance
    return np.asarray(weight / weight.mean(), dtype=np.float64)


class Added:
    """What regressions on more columns explain beyond one on fewer, for any features.

    Args:
        moments: The targets.
        weights: ``[n_items]``; what each item counts for, whatever it counts for in ``moments``.
    """

    def __init__(self, moments: Moments, weights: Floats) -> None:
        n_targets = group_sums(moments.items, None, moments.n_items)
        omega = (weights / n_targets)[moments.items]
        y = omega * (moments.y - np.average(moments.y, weights=omega))
        of_pair = group_sums(moments.pair, y)
        of_user = np.zeros_like(moments.item_of_pair)
        of_user[moments.pair] = moments.users
        self._weights = weights
        self._sums = group_sums(moments.items, y, moments.n_items)
        self._same_pair = group_sums(moments.item_of_pair, of_pair**2, moments.n_items)
        self._of_users = sparse.csr_array(
            (of_pair, (of_user, moments.item_of_pair)), shape=(moments.n_users, moments.n_items)
        )
        self._least = _NOTHING * float(np.sum(omega * moments.y**2))

    def __call__(self, features: Floats, fewer: tuple[int, ...], more: Sequence[tuple[int, ...]]) -> float:
        """Sum over ``more`` of what each adds to ``fewer``, in units of its standard error by chance.

        Added is explained out of sample as in :class:`Moments`. Its variance where nothing is
        added is that of Σ r_i r_j (x_i G⁻¹ x_j − the same of fewer columns) over i ≠ j, with r the
        residuals of the larger fit.

        Args:
            features: ``[n_items, n_features]``; the first column is 1.
            fewer: Columns of one side.
            more: Columns of both, each set holding ``fewer``.
        """
        of_user = self._of_users @ features
        shared = features.T @ (self._same_pair[:, None] * features) - of_user.T @ of_user
        gram = features.T @ (self._weights[:, None] * features)

        def fit(columns: tuple[int, ...]) -> tuple[LeaveOutFit, float]:
            index = np.ix_(columns, columns)
            found = LeaveOutFit.of(features[:, columns], self._weights, self._sums, gram[index])
            return found, found.explained + float(np.sum(found.inverse * shared[index]))

        one, explained = fit(fewer)
        added = 0.0
        for columns in more:
            other, by_more = fit(columns)
            squares = other.residual**2 * other.kept
            chance = _traced(other, other, squares) - 2 * _traced(one, other, squares)
            chance += _traced(one, one, squares) - float(np.sum(((other.pull - one.pull) * squares) ** 2))
            added += (by_more - explained) / max(float(np.sqrt(max(2 * chance, 0.0))), self._least)
        return added


def _traced(one: LeaveOutFit, other: LeaveOutFit, squares: Floats) -> float:
    """Σ over items i, j of squares_i squares_j times the products of both fits' x_i G⁻¹ x_j."""
    crossed = one.x.T @ (squares[:, None] * other.x)
    return float(np.sum((one.inverse @ crossed) * (crossed @ other.inverse)))
