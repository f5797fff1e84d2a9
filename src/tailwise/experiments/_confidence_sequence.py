"""Critical values and evidence that stay valid however often people look: Robbins' normal mixture.

With S the sum of the users' contributions less the value that is tested and V the sum of their squares,
exp(λS − λ²V/2), averaged over λ ~ N(0, 1/scale), is the evidence against that value:

    E = (1 + V/scale)^(−1/2) · exp(S² / (2 (V + scale)))           two sides
    E = 2 (1 + V/scale)^(−1/2) · exp(u²/2) · Φ(u),  u = S/√(V+scale)   S > 0 alone counts

No strategy of looking makes E reach 1/α with more than probability α. ``information`` below is V/scale.
docs/decisions/0016-always-valid-inference.md says when that is a theorem and when an approximation.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["critical_value", "information_per_user", "log_evidence"]

Floats = NDArray[np.float64]


def information_per_user(tuned_for: float, alpha: float = 0.05, *, one_sided: bool = False) -> float:
    """ρ² of the mixture whose sequence is narrowest after ``tuned_for`` users.

    The optimum of the normal mixture is (−W₋₁(−α²/e) − 1) / n, with Lambert's W. One side at α costs what
    two sides at 2α cost.

    Args:
        tuned_for: Number of users, > 0.
        alpha: Error probability, in (0, 0.5).
        one_sided: For a bound on one side.

    Returns:
        Information that one user adds, > 0.

    Reference:
        Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (arXiv:2103.06476), appendix on tuning.
    """
    if not tuned_for > 0:
        raise ValueError(f"tuned_for must be a number of users > 0; got {tuned_for}.")
    _check_alpha(alpha)
    level = 2 * alpha if one_sided else alpha
    return float(-special.lambertw(-(level**2) / np.e, k=-1).real - 1.0) / tuned_for


def critical_value(information: Floats | float, alpha: float = 0.05, *, one_sided: bool = False) -> Floats:
    """Standard errors between the estimate and the end of the confidence sequence.

    Args:
        information: V/scale, >= 0, any shape; n·ρ² where all users vary alike.
        alpha: Error probability, in (0, 0.5).
        one_sided: Of a bound on one side, whose error probability is ``alpha``.

    Returns:
        z such that |S| <= z·√V for all times with probability 1 − alpha; infinite at no information.

    Example:
        >>> t = 10_000 * information_per_user(10_000)
        >>> round(float(critical_value(t)), 2)  # instead of 1.96
        3.04
    """
    _check_alpha(alpha)
    t = np.asarray(information, dtype=np.float64)
    goal = np.log(1 / alpha) + np.log1p(t) / 2
    if one_sided:
        u = np.sqrt(2 * goal)
        for _ in range(8):  # Newton on u²/2 + log 2Φ(u) = goal, which is convex and increasing
            hazard = np.exp(-(u**2) / 2 - special.log_ndtr(u)) / np.sqrt(2 * np.pi)
            u = u - (u**2 / 2 + np.log(2) + special.log_ndtr(u) - goal) / (u + hazard)
    else:
        u = np.sqrt(2 * goal)
    with np.errstate(divide="ignore"):
        return np.asarray(u * np.sqrt(1 + 1 / t), dtype=np.float64)


def log_evidence(z: Floats | float, information: Floats | float, *, one_sided: bool = False) -> Floats:
    """Natural logarithm of the e-value against the tested value.

    Args:
        z: S/√V; with ``one_sided`` positive values speak against it.
        information: V/scale, as in :func:`critical_value`.
        one_sided: Count evidence on one side alone.

    Example:
        >>> t = 4.0
        >>> float(np.exp(log_evidence(critical_value(t, 0.05), t)).round(6))  # 1/alpha
        20.0
    """
    t = np.asarray(information, dtype=np.float64)
    u = np.asarray(z, dtype=np.float64) * np.sqrt(t / (1 + t))
    value = u**2 / 2 - np.log1p(t) / 2
    if one_sided:
        value = value + np.log(2) + special.log_ndtr(u)
    return np.asarray(value, dtype=np.float64)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be an error probability in (0, 0.5); got {alpha}.")
