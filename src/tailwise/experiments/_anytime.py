"""Effects with confidence sequences: at any number of looks, at any users, under any drift."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments._arrays import OutcomeArrays
from tailwise.experiments._centring import potential_outcomes
from tailwise.experiments._confidence_sequence import critical_value, information_per_user, log_evidence
from tailwise.experiments._intervals import fieller

__all__ = ["DEFAULT_BURN_IN", "AnytimePath", "BurnIn", "anytime_path"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BurnIn:
    """What must have been seen before anything is said; earlier intervals are infinite.

    Attributes:
        users: Users with closed windows, of both variants together, >= 2.
        active_users: Those among them whose numerator is not zero, >= 1. Sums of money rest on these.
        active_users_of_bounds: As many at least for one-sided bounds of the difference, >= 1. Where a few
            orders make most of the money, these err more often than they may until there are more of them.
    """

    users: int = 200
    active_users: int = 50
    active_users_of_bounds: int = 200

    def __post_init__(self) -> None:
        if self.users < 2:
            raise ValueError(f"burn_in.users must be >= 2; got {self.users}.")
        if self.active_users < 1:
            raise ValueError(f"burn_in.active_users must be >= 1; got {self.active_users}.")
        if self.active_users_of_bounds < 1:
            raise ValueError(
                f"burn_in.active_users_of_bounds must be >= 1; got {self.active_users_of_bounds}."
            )


@dataclass(frozen=True, eq=False)
class AnytimePath:
    """An effect after each of L looks; every array is ``[L]``, in the order of the looks.

    Intervals hold at all looks at once, with probability 1 − alpha each kind: two-sided ``low`` and ``high``,
    and the one-sided bounds ``lower`` and ``upper``, which err with probability alpha each.

    Attributes:
        n_users: Users whose windows had closed.
        control: Metric under control, for these users.
        treatment: Metric under treatment, for the same users.
        difference: Treatment less control, in the metric's unit.
        standard_error: Of the difference.
        low: Two-sided, of the difference.
        high: Likewise.
        lower: One-sided, of the difference: it is above this. Infinite until the bounds' own burn-in is over.
        upper: One-sided, of the difference: it is below this. Likewise.
        relative: Difference over control.
        relative_low: Two-sided, by Fieller.
        relative_high: Likewise.
        relative_lower: One-sided: the relative difference is above this.
        relative_upper: One-sided: the relative difference is below this.
        log_e_value: Evidence against no effect; reaches log(1/α) with probability <= α if there is none.
        p_value: Always-valid: min(1, 1/e).
        is_warm: The burn-in is over.
    """

    n_users: NDArray[np.int64]
    control: Floats
    treatment: Floats
    difference: Floats
    standard_error: Floats
    low: Floats
    high: Floats
    lower: Floats
    upper: Floats
    relative: Floats
    relative_low: Floats
    relative_high: Floats
    relative_lower: Floats
    relative_upper: Floats
    log_e_value: Floats
    p_value: Floats
    is_warm: NDArray[np.bool_]


DEFAULT_BURN_IN = BurnIn()


def anytime_path(
    outcomes: OutcomeArrays,
    looks: object | None = None,
    *,
    alpha: float = 0.05,
    tuned_for: float = 10_000,
    burn_in: BurnIn = DEFAULT_BURN_IN,
) -> AnytimePath:
    """Follow an effect through looks at the first users of an experiment.

    What is estimated is the mean effect on the users so far: stages weigh what they hold of them.

    Args:
        outcomes: In order of enrolment. With covariates the effect is CUPED-adjusted.
        looks: Numbers of users, ascending, in 0..n. None: one look, at all.
        alpha: Error probability of each interval, in (0, 0.5).
        tuned_for: Users at which the sequence is narrowest; to be fixed before the start.
        burn_in: When to begin.

    Raises:
        ValueError: looks fall or leave 0..n, or an argument is outside its range.
    """
    n = outcomes.n_users
    at = np.array([n]) if looks is None else np.asarray(looks, dtype=np.int64)
    if at.ndim != 1 or (np.diff(at) < 0).any() or (at.size and (at[0] < 0 or at[-1] > n)):
        raise ValueError(f"looks must be ascending numbers of users in 0..{n}; got {at}.")
    active = np.cumsum(outcomes.values[:, 0] != 0)  # it is the same whichever variant a user got
    start = _start(active, burn_in.users, burn_in.active_users)
    later = _start(active, burn_in.users, max(burn_in.active_users, burn_in.active_users_of_bounds))
    known = _MomentsAt.of(potential_outcomes(outcomes), np.append(at, n if start is None else start))
    # [L + 1]; the last one, where the burn-in ends, sets the scale for all
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = known.n * (known.n * known.var_difference + known.difference**2)
    scale = 0.0 if start is None else float(squares[-1] / start)
    if start is None or not scale > 0:
        is_warm, information = np.zeros(at.size, dtype=bool), np.zeros(at.size)
    else:
        is_warm = (at >= start) & np.isfinite(squares[:-1])
        information = np.where(is_warm, squares[:-1] / scale, 0.0)
    has_bounds = is_warm & (at >= (np.inf if later is None else later))
    return _path(
        known.but_the_last(), information, is_warm, has_bounds=has_bounds, alpha=alpha, tuned_for=tuned_for
    )


@dataclass(frozen=True, eq=False)
class _MomentsAt:
    """Both variants' metric, and how sure they are, at each look: arrays ``[L]``."""

    n: Floats
    treatment: Floats
    control: Floats
    var_treatment: Floats
    var_control: Floats
    covariance: Floats

    @classmethod
    def of(cls, psi: Floats, looks: NDArray[np.int64]) -> "_MomentsAt":
        """Take means and covariances of the first users, and the delta method for ratios."""
        n = looks.astype(np.float64)
        by_time = np.argsort(looks, kind="stable")
        sums = np.empty((looks.size, psi.shape[1]))
        products = np.empty((looks.size, psi.shape[1], psi.shape[1]))
        total, square, done = np.zeros(psi.shape[1]), np.zeros((psi.shape[1],) * 2), 0
        for look in by_time:
            block = psi[done : looks[look]]
            total = total + block.sum(axis=0)
            square = square + block.T @ block
            done = int(looks[look])
            sums[look], products[look] = total, square
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / n[:, None]
            cov = products / n[:, None, None] - means[:, :, None] * means[:, None, :]
            if psi.shape[1] == 2:
                return cls(n, means[:, 0], means[:, 1], cov[:, 0, 0] / n, cov[:, 1, 1] / n, cov[:, 0, 1] / n)
            above1, below1, above0, below0 = means.T
            below1, below0 = (np.where(below > 0, below, np.nan) for below in (below1, below0))
            ratio1, ratio0 = above1 / below1, above0 / below0
            slope = np.zeros((looks.size, 2, 4))
            slope[:, 0, 0], slope[:, 0, 1] = 1 / below1, -ratio1 / below1
            slope[:, 1, 2], slope[:, 1, 3] = 1 / below0, -ratio0 / below0
            of_ratios = slope @ cov @ slope.transpose(0, 2, 1) / n[:, None, None]
        return cls(n, ratio1, ratio0, of_ratios[:, 0, 0], of_ratios[:, 1, 1], of_ratios[:, 0, 1])

    @property
    def difference(self) -> Floats:
        return self.treatment - self.control

    @property
    def var_difference(self) -> Floats:
        return np.maximum(self.var_treatment + self.var_control - 2 * self.covariance, 0.0)

    def but_the_last(self) -> "_MomentsAt":
        return _MomentsAt(
            self.n[:-1],
            self.treatment[:-1],
            self.control[:-1],
            self.var_treatment[:-1],
            self.var_control[:-1],
            self.covariance[:-1],
        )


def _start(active: NDArray[np.int64], users: int, active_users: int) -> int | None:
    """Users after which so many users have been seen and so many of them were active; None: never."""
    if active.size < users or active[-1] < active_users:
        return None
    return max(users, int(np.searchsorted(active, active_users)) + 1)


def _path(
    known: _MomentsAt,
    information: Floats,
    is_warm: NDArray[np.bool_],
    *,
    has_bounds: NDArray[np.bool_],
    alpha: float,
    tuned_for: float,
) -> AnytimePath:
    """Turn estimates and information into intervals and evidence."""
    difference, error = known.difference, np.sqrt(known.var_difference)

    def ends(one_sided: bool) -> tuple[Floats, Floats, Floats, Floats]:
        rate = information_per_user(tuned_for, alpha, one_sided=one_sided)
        critical = critical_value(information * rate, alpha, one_sided=one_sided)
        with np.errstate(invalid="ignore", divide="ignore"):
            # The sum of squares is taken about the tested value, hence n - critical**2 in place of n.
            wide = critical / np.sqrt(1 - critical**2 / known.n)
        reach = np.where(is_warm & (critical**2 < known.n), wide, np.inf)
        with np.errstate(invalid="ignore"):
            half = np.where(np.isfinite(reach), reach * error, np.inf)
            low, high = difference - half, difference + half
        ratio = fieller(
            known.treatment,
            known.control,
            var_above=known.var_treatment,
            var_below=known.var_control,
            covariance=known.covariance,
            multiplier=reach,
        )
        return (
            np.where(np.isfinite(half), low, -np.inf),
            np.where(np.isfinite(half), high, np.inf),
            ratio[0] - 1,
            ratio[1] - 1,
        )

    low, high, relative_low, relative_high = ends(one_sided=False)
    lower, upper, relative_lower, relative_upper = ends(one_sided=True)
    rate = information_per_user(tuned_for, alpha)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(known.n * (known.n * error**2 + difference**2))
        z = np.where(size > 0, known.n * difference / size, 0.0)  # no difference at all is no evidence
        relative = difference / known.control
    log_e = np.where(is_warm, log_evidence(np.where(is_warm, z, 0.0), information * rate), 0.0)
    return AnytimePath(
        n_users=known.n.astype(np.int64),
        control=known.control,
        treatment=known.treatment,
        difference=difference,
        standard_error=error,
        low=low,
        high=high,
        lower=np.where(has_bounds, lower, -np.inf),
        upper=np.where(has_bounds, upper, np.inf),
        relative=relative,
        relative_low=relative_low,
        relative_high=relative_high,
        relative_lower=relative_lower,
        relative_upper=relative_upper,
        log_e_value=log_e,
        p_value=np.minimum(1.0, np.exp(-log_e)),
        is_warm=is_warm,
    )
