"""How far each user moves a mean, and the interval that follows from it."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["by_user", "clustered_error", "clustered_interval"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def by_user(values: Floats, users: Ints, n_users: int) -> Floats:
    """Influence of each user on the mean of ``values``: ``[n], [n] -> [n_users]``; they add up to 0."""
    return np.bincount(users, weights=values - values.mean(), minlength=n_users) / values.size


def clustered_error(influences: Floats) -> float | None:
    """Standard error from users' influences ``[n_users]``; None where fewer than two have any."""
    n_users = int(np.count_nonzero(influences))
    if n_users < 2:
        return None
    return float(np.sqrt(n_users / (n_users - 1) * (influences @ influences)))


def clustered_interval(
    value: float, influences: Floats, *, extra: float = 0.0, dof: int | None = None
) -> Uncertain:
    """95 % interval around ``value``: t with as many degrees of freedom as users, less one.

    Args:
        value: The estimate.
        influences: ``[n_users]``.
        extra: Variance from elsewhere, such as seeds.
        dof: Degrees of freedom instead.
    """
    error = clustered_error(influences)
    if error is None:
        return Uncertain(value)
    freedom = int(np.count_nonzero(influences)) - 1 if dof is None else dof
    reach = float(stats.t.ppf(0.975, freedom)) * float(np.sqrt(error**2 + extra))
    return Uncertain(value, value - reach, value + reach)
