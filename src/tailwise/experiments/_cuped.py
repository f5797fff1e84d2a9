"""CUPED: what users did before they were exposed takes variance out of what they did afterwards."""

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments._arrays import OutcomeArrays

__all__ = ["adjust_by_covariates"]

Floats = NDArray[np.float64]


def adjust_by_covariates(outcomes: OutcomeArrays) -> Floats:
    """Take from every value what the covariates predict of its distance from the stage's mean.

    Y − θ'(X − mean of X in the stage, over both variants), with θ by least squares on deviations from
    stage means, all stages and both variants together. An unknown covariate counts as the stage's mean.

    Returns:
        ``[n, m]``, as the values; their mean in each stage is unchanged.

    Reference:
        Deng, Xu, Kohavi, Walker, Improving the sensitivity of online controlled experiments by
        utilizing pre-experiment data (WSDM 2013).
    """
    if outcomes.covariates is None:
        raise ValueError("outcomes.covariates must be given to adjust by them; got None.")
    _, code = np.unique(outcomes.stage, return_inverse=True)
    moved = _deviations(outcomes.covariates, code)
    surprise = _deviations(outcomes.values, code)
    theta = np.linalg.pinv(moved.T @ moved, hermitian=True) @ (moved.T @ surprise)
    return np.asarray(outcomes.values - moved @ theta, dtype=np.float64)


def _deviations(values: Floats, code: NDArray[np.int64]) -> Floats:
    """Distance from the mean of the stage; 0 where unknown. ``[n, c]``."""
    known = np.isfinite(values)
    moved = np.empty_like(values)
    for column in range(values.shape[1]):
        here = known[:, column]
        counts = np.maximum(np.bincount(code[here], minlength=code.max(initial=0) + 1), 1)
        sums = np.bincount(code[here], weights=values[here, column], minlength=counts.size)
        moved[:, column] = np.where(here, values[:, column] - (sums / counts)[code], 0.0)
    return moved
