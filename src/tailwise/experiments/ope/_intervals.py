"""Intervals of means over lists whose users come back, and whose weights are skewed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Mean", "clustered_mean", "log_ratio_interval"]


@dataclass(frozen=True)
class Mean:
    """A mean with its interval.

    Attributes:
        value: The mean.
        low: Lower end.
        high: Upper end.
        standard_error: Clustered by user.
        degrees_of_freedom: Of the t quantile; see :func:`clustered_mean`.
    """

    value: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float

    def p_value(self, hypothesis: float) -> float:
        """Two-sided p-value of the true mean being ``hypothesis``."""
        if self.standard_error == 0:
            return 1.0 if self.value == hypothesis else 0.0
        distance = abs(self.value - hypothesis) / self.standard_error
        return float(2 * stats.t.sf(distance, self.degrees_of_freedom))


def clustered_mean(
    parts: NDArray[np.float64], cluster: NDArray[np.int64], *, confidence: float = 0.95
) -> Mean:
    """Mean over lists, with an interval for lists of other users.

    With e_c the sum of a user's deviations from the mean, the variance is G/(G-1) Σ e_c² / n² over
    G users. A few users with huge weights make that variance itself uncertain, so the quantile is
    Student's. A normal sample has an equally uncertain variance at 2 G / (kurtosis of e_c - 1) degrees of
    freedom; half of that is used, at most G - 1, because the kurtosis seen in a sample is itself too low
    when tails are heavy. They also make the mean skewed, mostly too low with an equally low error, so the
    quantiles go through Hall's cubic transformation with the skewness of e_c, and the interval reaches
    further to the side of the rare large values. docs/decisions/0017-off-policy.md has the coverage
    with and without.

    Args:
        parts: ``[n]``; what each list adds to the mean (its influence, centred or not).
        cluster: ``[n]``; of each list its user.
        confidence: Of the interval, in (0, 1).

    Returns:
        :class:`Mean`; infinite ends for a single user.

    Reference:
        P. Hall 1992, On the removal of skewness by transformation, JRSS B 54.
    """
    n = parts.size
    value = float(parts.mean())
    _, user = np.unique(cluster, return_inverse=True)
    deviations = np.bincount(user, parts - value)  # [G]
    n_users = deviations.size
    squares = float((deviations**2).sum())
    if n_users < 2:
        return Mean(value, -np.inf, np.inf, np.inf, 0.0)
    if squares == 0:
        return Mean(value, value, value, 0.0, float(n_users - 1))
    error = float(np.sqrt(n_users / (n_users - 1) * squares)) / n
    kurtosis = n_users * float((deviations**4).sum()) / squares**2
    freedom = n_users - 1.0 if kurtosis <= 1 else min(n_users - 1.0, n_users / (kurtosis - 1))
    freedom = max(freedom, 1.0)
    skew = float((deviations**3).sum()) / squares**1.5  # skewness / √G
    quantile = float(stats.t.ppf((1 + confidence) / 2, freedom))
    low, high = value - error * _unskewed(quantile, skew), value - error * _unskewed(-quantile, skew)
    return Mean(value, low, high, error, freedom)


def _unskewed(x: float, skew: float) -> float:
    """Quantile of the studentised mean, from that of its symmetrised transform (Hall 1992, cubic)."""
    if abs(skew) < 1e-9:
        return x
    return 3 / skew * (float(np.cbrt(1 + skew * (x - skew / 6))) - 1)


def log_ratio_interval(
    parts: NDArray[np.float64],
    base: NDArray[np.float64],
    cluster: NDArray[np.int64],
    *,
    confidence: float = 0.95,
) -> tuple[float, float, float] | None:
    """Ratio of two means over the same lists, with an interval from the logarithm (delta method).

    Args:
        parts: ``[n]``; adds to the numerator's mean.
        base: ``[n]``; adds to the denominator's.
        cluster: ``[n]``.
        confidence: Of the interval.

    Returns:
        Ratio, lower end, upper end; None where a mean is not above zero.
    """
    above, below = float(parts.mean()), float(base.mean())
    if above <= 0 or below <= 0:
        return None
    shift = clustered_mean(parts / above - base / below, cluster, confidence=confidence)  # mean 0
    ratio = above / below
    return ratio, ratio * float(np.exp(shift.low)), ratio * float(np.exp(shift.high))
