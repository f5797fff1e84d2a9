"""Plain ends of an interval, and Fieller's interval of a ratio."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "fieller"]

Floats = NDArray[np.float64]
Numbers = Floats | float


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``, either of which may be infinite.

    Example:
        >>> Interval(-1.0, 3.0).width, Interval(-1.0, 3.0).excludes(0.0)
        (4.0, False)
    """

    low: float
    high: float

    @property
    def width(self) -> float:
        """Length; infinite where an end is."""
        return self.high - self.low

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside."""
        return not self.low <= value <= self.high

    @property
    def is_finite(self) -> bool:
        """Whether both ends are numbers."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def fieller(
    above: Numbers,
    below: Numbers,
    *,
    var_above: Numbers,
    var_below: Numbers,
    covariance: Numbers,
    multiplier: Numbers,
) -> tuple[Floats, Floats]:
    """Interval of ``above / below``: the ratios r for which above − r·below may be zero.

    Those are the r with (above − r·below)² ≤ z² (var_above − 2r·covariance + r²·var_below). Where
    ``below`` is not surely positive the set has no end on one side or both; then it is (−∞, ∞).

    Args:
        above: Estimates, any shape.
        below: Estimates of the denominator.
        var_above: Squared standard errors of ``above``.
        var_below: Squared standard errors of ``below``.
        covariance: Covariance of the two estimates.
        multiplier: z, standard errors to either side, >= 0.

    Reference:
        Fieller, Some problems in interval estimation, JRSS B 16 (1954).
    """
    z2 = np.asarray(multiplier, dtype=np.float64) ** 2
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        a = below**2 - z2 * var_below
        b = above * below - z2 * covariance
        c = above**2 - z2 * var_above
        root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
        bounded = (a > 0) & (below > 0) & np.isfinite(z2)
        low = np.where(bounded, (b - root) / a, -np.inf)
        high = np.where(bounded, (b + root) / a, np.inf)
    return low, high
