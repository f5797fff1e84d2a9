"""How far several noisy estimates of the prior can be trusted, overall and beyond the log."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.diagnosis._features import Sides

__all__ = ["PriorReliability", "agreement", "prior_reliability"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PriorReliability:
    """Share of true differences in the variance of the mean of several estimates.

    Attributes:
        reliability: 1 = no error, 0 = nothing but error; below 0 the estimates contradict
            each other. None with a single estimate.
        given_data: The same among items of equal count: what error leaves of the part of
            the prior that the log cannot know. Never above ``reliability``.
        mean_correlation: Of two estimates, on average. None with a single estimate.
        n_estimates: How many there are.
        is_given: The caller stated the reliability; it was not measured.
    """

    reliability: float | None
    given_data: float | None
    mean_correlation: float | None
    n_estimates: int
    is_given: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "reliability": self.reliability,
            "given_data": self.given_data,
            "mean_correlation": self.mean_correlation,
            "n_estimates": self.n_estimates,
            "is_given": self.is_given,
        }


def prior_reliability(
    priors: ArrayLike, counts: ArrayLike, *, weights: ArrayLike | None = None
) -> PriorReliability:
    """Measure reliability from the agreement of estimates whose errors are independent.

    Each estimate is turned into normal scores. With c the mean covariance of two estimates and
    v the variance of their mean, reliability is c/v: Cronbach's alpha, which is also the mean
    over all split halves, stepped up by Spearman and Brown's formula. ``given_data`` is the
    same of residuals from a polynomial of log-counts.

    Assumes that every estimate measures the same thing equally strongly, with errors that are
    independent of each other, of the truth and of counts. Errors that templates *share*
    (a title that is ambiguous in all of them) pass for truth, and reliability comes out too
    high. Estimates that measure with unequal strength make it come out too low.

    Args:
        priors: ``[n_items, n_estimates]``; higher = better known.
        counts: ``[n_items]``; training interactions.
        weights: ``[n_items]``; what each item counts for. None: all alike.

    Returns:
        :class:`PriorReliability`.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> truth = rng.standard_normal((2000, 1))
        >>> noisy = truth + rng.standard_normal((2000, 4))  # four estimates, each half error
        >>> round(prior_reliability(noisy, rng.poisson(9, 2000)).reliability, 1)  # 1 / (1 + 1/4)
        0.8
    """
    columns = np.asarray(priors, dtype=np.float64)
    n = np.asarray(counts)
    if columns.ndim != 2 or n.shape != columns.shape[:1]:
        raise ValueError(
            f"priors must be [n_items, n_estimates] beside counts [n_items]; got shapes {columns.shape} "
            f"and {n.shape}.\n  Give one row of estimates per item."
        )
    of_item = np.ones(n.size) if weights is None else np.asarray(weights, dtype=np.float64)
    sides = Sides.measure(n, columns, of_item)
    if columns.shape[1] < 2:
        return PriorReliability(None, None, None, int(columns.shape[1]))
    means = np.average(agreement(sides), axis=0, weights=of_item)
    reliability, given_data = _ratio(means[0], means[1]), _ratio(means[2], means[3])
    return PriorReliability(reliability, given_data, float(means[0]), int(columns.shape[1]))


def agreement(sides: Sides) -> Floats:
    """Give per item what reliabilities are ratios of weighted means of: ``[n_items, 4]``.

    Mean product of two different estimates, square of their mean; the same of residuals.
    With a single estimate the products are left at the squares, as if it had no error.
    """

    def one(estimates: Floats) -> list[Floats]:
        k = estimates.shape[1]
        square = estimates.mean(axis=1) ** 2
        if k < 2:
            return [square, square]
        return [(k * k * square - (estimates**2).sum(axis=1)) / (k * (k - 1)), square]

    return np.column_stack(one(sides.estimates) + one(sides.residuals))


def _ratio(above: float, below: float) -> float:
    """Divide; where nothing but rounding is left of a variance of 1 there is no reliability."""
    return float(above / below) if below > 1e-9 else 0.0
