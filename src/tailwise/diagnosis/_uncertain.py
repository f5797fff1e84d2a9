"""A number with its 95 % interval."""

import numpy as np
from numpy.typing import NDArray

from tailwise.evaluation import WithInterval

__all__ = ["Uncertain", "Z", "shaped_interval"]

Z = 1.959963984540054  # of 95 %, two-sided


class Uncertain(WithInterval):
    """A number with its 95 % interval; None where one of them is not known."""

    @classmethod
    def normal(cls, value: float, error: float) -> "Uncertain":
        """Return value ± 1.96 standard errors."""
        return cls(value, value - Z * error, value + Z * error)


def shaped_interval(value: float, error: float, resampled: NDArray[np.float64]) -> Uncertain:
    """Take the width of an interval from a standard error and its asymmetry from a bootstrap.

    The percentile interval of the resampled values, shrunk towards the value until it is
    as wide as ±1.96 standard errors.
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    if not np.isfinite(error) or high <= low:
        return Uncertain(value, value, value) if error == 0 else Uncertain(value)
    shrink = 2 * Z * error / (high - low)
    return Uncertain(value, float(value + shrink * (low - value)), float(value + shrink * (high - value)))
