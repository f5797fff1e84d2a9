"""Least squares of item accuracy in which no item helps to predict itself."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["LeaveOutFit"]

Floats = NDArray[np.float64]
_MOST_LEVERAGE = 0.95  # an item that decides a fit by itself would be divided by almost nothing


@dataclass(frozen=True, eq=False)
class LeaveOutFit:
    """A weighted least-squares fit of the items' mean accuracy, in closed form.

    Attributes:
        x: ``[n_items, p]``; the columns.
        weight: ``[n_items]``; what the items count for.
        sums: ``[n_items]``; weight times mean accuracy.
        inverse: ``[p, p]``; of the Gram matrix.
    """

    x: Floats
    weight: Floats
    sums: Floats
    inverse: Floats

    @classmethod
    def of(cls, x: Floats, weight: Floats, sums: Floats, gram: Floats) -> "LeaveOutFit":
        """Fit; ``gram`` is ``x.T @ (weight * x)``, which callers have for many columns at once."""
        inverse = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
        return cls(x, weight, sums, np.asarray(inverse, dtype=np.float64))

    @cached_property
    def z(self) -> Floats:
        """``[n_items, p]``; rows of x G⁻¹."""
        return self.x @ self.inverse

    @cached_property
    def pull(self) -> Floats:
        """``[n_items]``; x G⁻¹ x: an item's leverage over its weight."""
        return np.asarray(np.einsum("ij,ij->i", self.z, self.x), dtype=np.float64)

    @cached_property
    def kept(self) -> Floats:
        """``[n_items]``; by what leaving the item out stretches its residual, 1 / (1 − leverage)."""
        return 1 / (1 - np.minimum(self.weight * self.pull, _MOST_LEVERAGE))

    @cached_property
    def fitted(self) -> Floats:
        """``[n_items]``; predicted mean accuracy, itself included."""
        return self.z @ (self.x.T @ self.sums)

    @cached_property
    def residual(self) -> Floats:
        """``[n_items]``; weight times what the fit leaves."""
        return self.sums - self.weight * self.fitted

    @cached_property
    def stretched(self) -> Floats:
        """``[p]``; sums over items of x · sums · kept."""
        return self.x.T @ (self.kept * self.sums)

    @cached_property
    def taught(self) -> Floats:
        """``[n_items]``; by how much others' explained sum rises with this item's residual."""
        return self.z @ self.stretched - self.kept * self.sums * self.pull

    @cached_property
    def explained(self) -> float:
        """Σ over items of sums times the prediction from all *other* items."""
        whole = self.stretched @ self.inverse @ (self.x.T @ self.sums)
        return float(whole - self.kept @ (self.sums**2 * self.pull))
