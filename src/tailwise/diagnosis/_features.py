"""What the attribution sees of an item: polynomials of log-counts and of the prior's normal scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = [
    "BOTH",
    "DATA",
    "PRIOR",
    "STRAIGHT_DATA",
    "STRAIGHT_PRIOR",
    "Sides",
    "features",
    "normal_scores",
    "polynomial_residuals",
    "standardised",
]

Floats = NDArray[np.float64]

# Columns of features(): constant; d to d³; then p by order: p·(1, d, d²), p²·(1, d), p³. The
# polynomials of both sides hold those of either, and those of order k in p stay apart from
# lower orders when p is normal given d, which the correction for measurement error needs.
DATA = (0, 1, 2, 3)
PRIOR = ((0, 4), (0, 4, 7), (0, 4, 7, 9))  # up to order 1, 2, 3
BOTH = (tuple(range(7)), tuple(range(9)), tuple(range(10)))  # up to order 1, 2, 3 in the prior
STRAIGHT_PRIOR = (*DATA, 4)  # a straight line of the prior beside the polynomial of counts
STRAIGHT_DATA = (0, 1, *PRIOR[-1][1:])  # and the other way round
_ORDER = 3  # of the polynomials of counts; higher ones swing where an item alone at the end is left out
_LEAST_LEFT = 0.05  # 1 − leverage of an item that decides a fit by itself


@dataclass(frozen=True, eq=False)
class Sides:
    """Both popularities of the items that have targets, on a common scale.

    Attributes:
        weights: ``[n_items]``; what each item counts for.
        data: ``[n_items]``; log(1 + count), weighted mean 0, variance 1.
        prior: ``[n_items]``; mean of the estimates, likewise 0 and 1.
        estimates: ``[n_items, n_estimates]``; normal scores of each estimate, likewise.
        residuals: ``[n_items, n_estimates]``; what counts do not predict of them.
    """

    weights: Floats
    data: Floats
    prior: Floats
    estimates: Floats
    residuals: Floats

    @classmethod
    def measure(cls, counts: NDArray[np.int64], priors: Floats, weights: Floats) -> "Sides":
        """Put counts ``[n_items]`` and priors ``[n_items, n_estimates]`` on their scales."""
        data = standardised(np.log1p(counts), weights)
        even = np.ones_like(weights)
        estimates = np.stack(
            [standardised(normal_scores(column, even), weights) for column in priors.T], axis=1
        )
        prior = standardised(estimates.mean(axis=1), weights)
        on_data = np.stack([part - predicted(part, data, weights) for part in estimates.T], axis=1)
        return cls(weights, data, prior, estimates, on_data)


def normal_scores(values: NDArray[np.float64] | NDArray[np.int64], weights: Floats) -> Floats:
    """Replace values by the normal quantiles of their weighted mid-ranks; equal values stay equal.

    Example:
        >>> normal_scores(np.array([3, 1, 1, 9]), np.ones(4)).round(2)
        array([ 0.32, -0.67, -0.67,  1.15])
    """
    _, position = np.unique(values, return_inverse=True)
    held = np.bincount(position, weights)
    middle = (np.cumsum(held) - held / 2) / held.sum()
    return np.asarray(ndtri(middle)[position], dtype=np.float64)


def standardised(values: Floats, weights: Floats) -> Floats:
    """Shift and scale to weighted mean 0 and variance 1; a constant becomes zeros."""
    centred = values - np.average(values, weights=weights)
    deviation = np.sqrt(np.average(centred**2, weights=weights))
    return centred / deviation if deviation > 1e-9 else np.zeros_like(centred)


def predicted(values: Floats, by: Floats, weights: Floats) -> Floats:
    """Fit a polynomial of order 3 by weighted least squares and give its values: ``[n] -> [n]``."""
    x = _hermite(by, _ORDER)
    root = np.sqrt(weights)[:, None]
    coefficients = np.linalg.lstsq(x * root, values * root[:, 0], rcond=1e-8)[0]
    return np.asarray(x @ coefficients, dtype=np.float64)


def polynomial_residuals(values: Floats, by: Floats) -> tuple[Floats, Floats]:
    """Give what a polynomial of order 3 predicts, and what it leaves: two ``[n]``.

    All items weigh alike, and residuals are stretched by 1/√(1 − leverage): a fit passes closer to
    the points at its ends than to others, and unstretched, these would look better predicted.
    """
    x = _hermite(standardised(by, np.ones_like(by)), _ORDER)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    basis = u[:, s > 1e-8 * s[0]]
    expected = basis @ (basis.T @ values)
    left = np.maximum(1 - (basis**2).sum(axis=1), _LEAST_LEFT)
    return expected, (values - expected) / np.sqrt(left)


def features(data: Floats, prior: Floats) -> Floats:
    """Give the columns that :data:`DATA`, :data:`PRIOR` and :data:`BOTH` point to: ``[n_items, 10]``."""
    d, p = _hermite(data, _ORDER), _hermite(prior, 3)
    crossed = [p[:, 1], p[:, 1] * d[:, 1], p[:, 1] * d[:, 2], p[:, 2], p[:, 2] * d[:, 1], p[:, 3]]
    return np.column_stack([d, *crossed])


def _hermite(x: Floats, order: int) -> Floats:
    """Hermite polynomials, uncorrelated under a normal law: ``[n] -> [n, order + 1]``."""
    return np.asarray(np.polynomial.hermite_e.hermevander(x, order), dtype=np.float64)
