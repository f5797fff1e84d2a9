"""Intervals of ratios with a common denominator, from what each user and each item contributes.

Three things make an interval from a linear approximation miss more or less often than it says,
and each has its remedy here. A *ratio* is bent where its denominator is uncertain: the
interval holds the values v for which numerator − v · denominator may be zero (Fieller, *Some
problems in interval estimation*, JRSS B 1954). Products of the noise of *pairs of items* are in the
contribution of either but were drawn once (Efron, Stein 1981). And a variance that a few
popular items decide is itself uncertain: Student's t, with as many degrees of freedom as give
a chi-square the variance that this variance has (Satterthwaite 1946).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailwise.diagnosis._moments import Linear
from tailwise.diagnosis._two_way import two_way_sums
from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["RatioErrors", "degrees_of_freedom"]

Floats = NDArray[np.float64]
_UPPER = 0.975  # of the two-sided 95 % interval


@dataclass(frozen=True, eq=False)
class RatioErrors:
    """How sure k numbers are; the last is the total that all others are divided by.

    Attributes:
        variance: ``[k]``.
        with_total: ``[k]``; covariance with the total over the total.
        total_variance: Of the total over the total.
        freedom: ``[k]``; effective degrees of freedom of each variance, >= 1.
    """

    variance: Floats
    with_total: Floats
    total_variance: float
    freedom: Floats

    @classmethod
    def measure(
        cls,
        linear: Linear,
        slope: Floats,
        total: float,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
    ) -> "RatioErrors":
        """Resample users and items in thought.

        Args:
            linear: Moments and their derivatives.
            slope: ``[n_moments, k]``; derivatives of the k numbers by the moments.
            total: Value of the last of them.
            users: ``[n_targets]`` 0..n_users-1.
            items: ``[n_targets]`` 0..n_items-1.
        """
        sums = two_way_sums(linear.by_target @ slope, users, items, linear.by_item @ slope)
        of_user, of_item, of_pair = sums
        twice = slope.T @ linear.twice @ slope
        by_item = _products(of_item)
        covariance = _products(of_user) + by_item - _products(of_pair)
        first = np.maximum(covariance.diagonal(), by_item.diagonal())
        # Where all is noise of pairs, what is counted twice is half of the whole.
        variance = np.maximum(first - twice.diagonal(), first / 2)
        left = np.divide(variance, first, out=np.ones_like(first), where=first > 0)
        freedom = np.minimum(degrees_of_freedom(of_item), degrees_of_freedom(of_user)) * left**2
        return cls(
            variance=variance,
            with_total=(covariance - twice)[:, -1] / total,
            total_variance=float(variance[-1]) / total**2,
            freedom=np.maximum(freedom, 1.0),
        )

    def reach(self, k: int) -> float:
        """Half the width of the interval of number ``k``, were it no ratio."""
        return float(stats.t.ppf(_UPPER, self.freedom[k]) * np.sqrt(self.variance[k]))

    def interval(self, k: int, value: float) -> Uncertain:
        """Fieller's interval of ratio ``k``; none where the denominator may be zero.

        With d the distance from the value, q the quantile, S and T the variances of the ratio and of the
        total, C their covariance: all d with d² <= q² (S − 2 d C + d² T).
        """
        q = float(stats.t.ppf(_UPPER, self.freedom[k]))
        curve = 1 - q**2 * self.total_variance
        if curve <= 0:
            return Uncertain(value)
        middle = -(q**2) * float(self.with_total[k]) / curve
        reach = float(np.sqrt(middle**2 + q**2 * float(self.variance[k]) / curve))
        return Uncertain(value, value + middle - reach, value + middle + reach)


def degrees_of_freedom(contributions: Floats) -> Floats:
    """Degrees of freedom of variances that are sums of squares: ``[n_groups, k] -> [k]``.

    2 · variance² / variance of the variance, at most ``n_groups``: n contributions of one normal law
    give about n, few large ones among many small ones about as many as are large. Where a handful
    decides, fourth powers come out too small, and the number up to twice too large.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> alike = rng.standard_normal((500, 1))
        >>> unlike = alike * np.where(np.arange(500) < 20, 10, 1)[:, None]
        >>> [bool(degrees_of_freedom(x)[0] > 300) for x in (alike, unlike)]
        [True, False]
    """
    n = contributions.shape[0]
    squares = contributions**2
    sums = squares.sum(axis=0)
    spread = (squares**2).sum(axis=0) - sums**2 / n
    found = np.divide(2 * sums**2, spread, out=np.full(sums.shape, float(n)), where=spread > 0)
    return np.asarray(np.minimum(found, n), dtype=np.float64)


def _products(sums: Floats) -> Floats:
    """Sums of products, with the n/(n-1) of a sample covariance: ``[n_groups, k] -> [k, k]``."""
    n = sums.shape[0]
    return np.asarray(sums.T @ sums * n / max(n - 1, 1), dtype=np.float64)
