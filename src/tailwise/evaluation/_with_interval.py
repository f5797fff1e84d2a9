"""A number with its 95 % interval, read off bootstrap draws."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WithInterval"]

_TAILS = (2.5, 97.5)  # percent: what a 95 % percentile interval leaves out on either side


@dataclass(frozen=True)
class WithInterval:
    """A number with its 95 % interval.

    Attributes:
        value: None where it is not defined.
        low: Lower end; None where there is no interval.
        high: Upper end; None likewise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def from_draws(cls, value: float, draws: NDArray[np.float64], n_users: int) -> "WithInterval":
        """Take the percentile interval of ``draws`` ``[n_resamples]``; none below two users."""
        if np.isnan(value):
            return cls(None)
        known = draws[~np.isnan(draws)]
        if n_users < 2 or not known.size:
            return cls(float(value))
        low, high = np.percentile(known, _TAILS)
        return cls(float(value), float(low), float(high))

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}
