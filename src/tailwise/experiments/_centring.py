"""What a user was expected to do, from users before: it takes variance away and leaves a martingale.

User i is treated with probability one half. For any number m that was known before the user's variant was,

    ψ1 = m + 2·A·(Y − m)        ψ0 = m + 2·(1 − A)·(Y − m)

have the expectations of Y under treatment and under control. So sums of them, less these expectations,
are martingales, whatever drifts. m is the mean of earlier users of the same stage, plus what the
covariates add by a regression on earlier users; the variant is never looked at.
"""

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments._arrays import OutcomeArrays

__all__ = ["potential_outcomes"]

Floats = NDArray[np.float64]

_PRIOR_USERS = 10.0  # users' worth of the mean over all stages with which a stage's own mean starts
_FIRST_FIT = 50  # users before the first regression on covariates
_GROWTH = 1.25  # the regression is fitted anew whenever the users became this many times as many


def potential_outcomes(outcomes: OutcomeArrays) -> Floats:
    """Return ψ1 of every column of the values, then ψ0 of every column: ``[n, 2m]``."""
    expected = _earlier_means(outcomes.values, outcomes.stage)
    if outcomes.covariates is not None:
        expected = expected + _predicted(outcomes, expected)
    surprise = 2.0 * (outcomes.values - expected)
    treated = outcomes.treated[:, None]
    return np.concatenate([expected + treated * surprise, expected + ~treated * surprise], axis=1)


def _earlier_means(values: Floats, stage: NDArray[np.int64]) -> Floats:
    """Mean of each user's predecessors in the stage, shrunk to that of all predecessors. ``[n, m]``."""
    n = values.shape[0]
    if n == 0:
        return np.zeros_like(values)
    before_all = _exclusive_cumsum(values)
    n_before_all = np.arange(n)[:, None]
    overall = before_all / np.maximum(n_before_all, 1)
    order = np.argsort(stage, kind="stable")
    _, starts, sizes = np.unique(stage[order], return_index=True, return_counts=True)
    running = _exclusive_cumsum(values[order])
    within = np.empty_like(values)
    within[order] = running - np.repeat(running[starts], sizes, axis=0)
    n_within = np.empty((n, 1))
    n_within[order, 0] = np.arange(n) - np.repeat(starts, sizes)
    return (within + _PRIOR_USERS * overall) / (n_within + _PRIOR_USERS)


def _predicted(outcomes: OutcomeArrays, expected: Floats) -> Floats:
    """What the covariates say beyond the mean, by least squares on earlier users. ``[n, m]``."""
    assert outcomes.covariates is not None
    known = outcomes.covariates
    is_known = np.isfinite(known)
    filled = np.where(is_known, known, 0.0)
    sums = _earlier_means(filled, outcomes.stage)
    shares = _earlier_means(is_known.astype(np.float64), outcomes.stage)
    means = np.divide(sums, shares, out=np.zeros_like(sums), where=shares > 0)
    moved = np.where(is_known & (shares > 0), known - means, 0.0)  # [n, c]
    surprise = outcomes.values - expected  # [n, m]
    added = np.zeros_like(expected)
    n = outcomes.n_users
    start = _FIRST_FIT
    gram = np.zeros((moved.shape[1], moved.shape[1]))
    cross = np.zeros((moved.shape[1], surprise.shape[1]))
    fitted = 0
    while start < n:
        gram += moved[fitted:start].T @ moved[fitted:start]
        cross += moved[fitted:start].T @ surprise[fitted:start]
        fitted, end = start, min(n, int(np.ceil(start * _GROWTH)))
        added[start:end] = moved[start:end] @ (np.linalg.pinv(gram, hermitian=True) @ cross)
        start = end
    return added


def _exclusive_cumsum(values: Floats) -> Floats:
    """Sum of the rows before each row."""
    total = np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=total[1:])
    return total
