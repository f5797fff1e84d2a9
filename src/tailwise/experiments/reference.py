"""What is commonly done and should not be: for tests and benchmarks to compare with, nothing else."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["pooled_z_test", "repeated_z_test"]

Floats = NDArray[np.float64]


def pooled_z_test(treated: object, values: object, *, alpha: float = 0.05) -> tuple[float, float, float]:
    """Difference of the means of all treatment and all control users, whatever stage they are of.

    Wrong as soon as the shares of the variants change over time while the base rate does (Simpson).

    Args:
        treated: ``[n]`` of 0 and 1.
        values: ``[n]``.
        alpha: Error probability.

    Returns:
        Difference, low and high end of its interval.
    """
    flags, numbers = np.asarray(treated).astype(bool), np.asarray(values, dtype=np.float64)
    of_treatment, of_control = numbers[flags], numbers[~flags]
    difference = float(of_treatment.mean() - of_control.mean())
    error = np.sqrt(of_treatment.var(ddof=1) / of_treatment.size + of_control.var(ddof=1) / of_control.size)
    reach = float(stats.norm.ppf(1 - alpha / 2) * error)
    return difference, difference - reach, difference + reach


def repeated_z_test(treated: object, values: object, looks: object) -> Floats:
    """P-values of the z-test at each look, each as if it were the only one.

    Wrong as soon as somebody stops at the first that is small.

    Args:
        treated: ``[n]`` of 0 and 1, in order of enrolment.
        values: ``[n]``.
        looks: ``[L]`` numbers of users, ascending.

    Returns:
        ``[L]``; 1 where a variant has fewer than two users, or nothing varies.
    """
    flags, numbers = np.asarray(treated).astype(np.float64), np.asarray(values, dtype=np.float64)
    at = np.asarray(looks, dtype=np.int64)

    def sums(terms: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(terms)])[at]

    parts = []
    for mine in (flags, 1 - flags):
        n = sums(mine)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums(mine * numbers) / n
            variance = (sums(mine * numbers**2) - n * mean**2) / (n - 1)
            parts.append((n, mean, variance / n))
    (n1, mean1, var1), (n0, mean0, var0) = parts
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (mean1 - mean0) / np.sqrt(var1 + var0)
    p_values = 2 * stats.norm.sf(np.abs(z))
    return np.where((n1 >= 2) & (n0 >= 2) & np.isfinite(z), p_values, 1.0)
