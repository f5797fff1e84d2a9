"""Confidence sequences of shares by betting: valid at any look, from the first user on.

A user brings a number s in [0, 1], such as the share of the user's requests that failed. Against "the mean
is at most c" one bets a part f of one's wealth on each user, at odds that are fair if that is so: the wealth
is multiplied by 1 + λ(s − c), with λ = f/c. If it is so, the expected wealth never grows, so it ever reaches
1/α with probability at most α (Ville). The lower end is the largest c against which the wealth has reached
1/α, averaged over a grid of f, so that none has to be guessed. The logarithm is concave, hence

    log(1 + λ(s − c)) >= s·log(1 + λ(1 − c)) + (1 − s)·log(1 − λc)

and sums of s and of users are all that has to be kept; for s of 0 or 1 it is an equality.

Reference:
    Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["excess_bounds", "share_bounds"]

Floats = NDArray[np.float64]

_BETS = np.geomspace(1e-3, 0.9, 12)  # parts of the wealth
_HALVINGS = 30  # of the distance between the ends of the scale: 1e-9


def share_bounds(bad: ArrayLike, users: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Bound the mean of users' shares.

    Args:
        bad: ``[L]`` running sums of the users' shares, each in [0, 1], at L looks.
        users: ``[L]`` how many users.
        alpha: Error probability of either bound, in (0, 1).

    Returns:
        Lower and upper bounds ``[L]``; 0 and 1 where nothing is known.

    Raises:
        ValueError: a sum is negative or larger than its users, or alpha is out of range.

    Example:
        >>> low, high = share_bounds([8.0], [8], alpha=0.05)
        >>> bool(low[0] > 0.4), float(high[0])
        (True, 1.0)
    """
    bad, users = _checked(bad, users, alpha)

    def lower(sums: Floats) -> Floats:
        def log_wealth(c: Floats) -> Floats:
            won = 1 + _BETS * ((1 - c) / c)[:, None]
            return sums[:, None] * np.log(won) + (users - sums)[:, None] * np.log(1 - _BETS)

        return _largest_refuted(log_wealth, np.zeros_like(sums), np.ones_like(sums), alpha)

    return lower(bad), 1 - lower(users - bad)


def excess_bounds(
    bad: ArrayLike, users: ArrayLike, bad_in_control: ArrayLike, users_in_control: ArrayLike, alpha: float
) -> tuple[Floats, Floats]:
    """Bound by how much treatment's mean share lies above control's.

    Each user is treated with probability one half, so 2s of a treated user, and −2s of one of control, has
    the excess for its expectation; bets are on that, with λ = f/(2 + m) against an excess of m. It holds
    for a value that no user's excess is above (of lower bounds; below, of upper ones), whatever drifts.

    Args:
        bad: ``[L]`` running sums of treated users' shares, each in [0, 1].
        users: ``[L]`` how many.
        bad_in_control: Likewise.
        users_in_control: Likewise.
        alpha: Error probability of either bound, in (0, 1).

    Returns:
        Lower and upper bounds ``[L]``; −1 and 1 where nothing is known.

    Raises:
        ValueError: as of :func:`share_bounds`.
    """
    treated, n_treated = _checked(bad, users, alpha)
    control, n_control = _checked(bad_in_control, users_in_control, alpha)

    def lower(more: Floats, less: Floats) -> Floats:
        rest = n_treated + n_control - more - less

        def log_wealth(m: Floats) -> Floats:
            m = m[:, None]
            return (
                more[:, None] * np.log(1 + _BETS * (2 - m) / (2 + m))
                + less[:, None] * np.log(1 - _BETS)
                + rest[:, None] * np.log(1 - _BETS * m / (2 + m))
            )

        return _largest_refuted(log_wealth, -np.ones_like(more), np.ones_like(more), alpha)

    return lower(treated, control), -lower(control, treated)


def _largest_refuted(
    log_wealth: Callable[[Floats], Floats], low: Floats, high: Floats, alpha: float
) -> Floats:
    """Halve towards the largest value whose wealth has reached 1/alpha; wealth falls as the value grows."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        logs = log_wealth(middle)  # [L, bets]
        most = logs.max(axis=1)
        wealth = most + np.log(np.exp(logs - most[:, None]).mean(axis=1))
        is_refuted = wealth >= -np.log(alpha)
        low, high = np.where(is_refuted, middle, low), np.where(is_refuted, high, middle)
    return low


def _checked(bad: ArrayLike, users: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be an error probability in (0, 1); got {alpha}.")
    sums, n = np.asarray(bad, dtype=np.float64), np.asarray(users, dtype=np.float64)
    if sums.shape != n.shape or sums.ndim != 1:
        raise ValueError(f"sums and users must be flat and of one length; got {sums.shape} and {n.shape}.")
    if (sums < 0).any() or (sums > n * (1 + 1e-9)).any():
        raise ValueError("sums of shares must be between 0 and the number of users; got one that is not.")
    return np.minimum(sums, n), n
