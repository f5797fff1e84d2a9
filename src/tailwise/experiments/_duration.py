"""How many users, and how many days, an effect or a margin takes; and whether the traffic can pay for it."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tailwise.experiments._arrays import OutcomeArrays
from tailwise.experiments._confidence_sequence import critical_value, information_per_user

__all__ = ["Duration", "PrePeriod", "plan_duration"]


@dataclass(frozen=True)
class PrePeriod:
    """A metric before the experiment, over windows as long as the experiment's.

    Attributes:
        mean: Of the metric, > 0.
        variance: Of one user's contribution: of the value, or of (N − R·D)/mean(D) for a ratio R.
        variance_left: Share of the variance that CUPED leaves, in (0, 1].
    """

    mean: float
    variance: float
    variance_left: float = 1.0

    def __post_init__(self) -> None:
        if not self.mean > 0:
            raise ValueError(f"mean must be > 0; got {self.mean}. Effects are relative to it.")
        if not self.variance > 0:
            raise ValueError(f"variance must be > 0; got {self.variance}. A constant needs no experiment.")
        if not 0 < self.variance_left <= 1:
            raise ValueError(f"variance_left must be in (0, 1]; got {self.variance_left}.")

    @classmethod
    def of(
        cls,
        numerator: object,
        denominator: object | None = None,
        *,
        variance_left: float = 1.0,
    ) -> "PrePeriod":
        """Measure a metric on users of the time before. Arguments as of :class:`OutcomeArrays`."""
        n = np.asarray(numerator).size
        values = OutcomeArrays.of(np.zeros(n), 0, numerator, denominator).values
        if n < 2:
            raise ValueError(f"numerator must hold two users or more; got {n}.")
        if values.shape[1] == 1:
            return cls(float(values.mean()), float(values.var(ddof=1)), variance_left)
        above, below = values.mean(axis=0)
        if below == 0:
            raise ValueError("denominator must not sum to 0; got 0.")
        linear = (values[:, 0] - above / below * values[:, 1]) / below
        return cls(float(above / below), float(linear.var(ddof=1)), variance_left)


@dataclass(frozen=True)
class Duration:
    """What an effect of the planned size takes.

    Attributes:
        effect: Difference that is to be told from ``against``, in the metric's unit.
        against: The tested difference: 0, or minus the margin.
        users_fixed: Users, both variants together, for one look at the end.
        users_anytime: Users for a confidence sequence that may be looked at any time.
        days_fixed: From the first exposure until the last window closes; infinite out of reach.
        days_anytime: Likewise.
        width: Of the confidence sequence at ``users_anytime``, in the metric's unit.
        within_reach: ``days_anytime`` is within the limits.
        smallest_effect: Least positive difference from ``against`` that a confidence sequence can tell
            within the limits; infinite where no user finishes in time.
        sentence: The verdict, for people.
    """

    effect: float
    against: float
    users_fixed: int
    users_anytime: int
    days_fixed: float
    days_anytime: float
    width: float
    within_reach: bool
    smallest_effect: float
    sentence: str


def plan_duration(
    before: PrePeriod,
    *,
    users_per_day: float,
    share: float = 1.0,
    window_days: float = 7.0,
    relative_effect: float = 0.0,
    relative_margin: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    max_days: float = 28.0,
    max_users: float = math.inf,
) -> Duration:
    """Say how long an experiment takes, or that it cannot be done.

    Without a margin the question is whether a two-sided interval excludes no effect when the true one is
    ``relative_effect``; with one, whether a one-sided bound excludes a loss of the margin.

    A confidence sequence may stop earlier than planned here: counted is only that it excludes the value
    *at* the planned number of users. The variance under treatment is taken to grow as the mean does.

    Args:
        before: Mean and variance of the metric before.
        users_per_day: First exposures per day at full traffic, > 0; returning users count once.
        share: Of the traffic in the experiment, both variants together, in (0, 1].
        window_days: Of each user's window, > 0.
        relative_effect: True difference over the mean of control, > -1.
        relative_margin: Loss that must be ruled out, over the mean of control, in (0, 1). None: superiority.
        alpha: Error probability, in (0, 0.5).
        power: Probability of success, in (0.5, 1).
        max_days: Days until the last window must have closed.
        max_users: Users that exist, in the experiment's share.

    Raises:
        ValueError: an argument is outside its range, or there is nothing to find.
    """
    _check(
        users_per_day,
        share,
        window_days,
        relative_effect=relative_effect,
        relative_margin=relative_margin,
        power=power,
    )
    one_sided = relative_margin is not None
    effect = relative_effect * before.mean
    against = 0.0 if relative_margin is None else -relative_margin * before.mean
    distance = effect - against
    if not (distance > 0 if one_sided else distance != 0):
        raise ValueError(
            f"relative_effect must differ from what is tested; got {relative_effect} with "
            f"relative_margin {relative_margin}."
        )
    # Of one user's contribution, treated or not with probability one half each.
    treated, control = 1 + relative_effect, (1 - (relative_margin or 0.0)) ** 2
    variance = 2 * before.variance * before.variance_left * (treated + control)
    quantile = float(stats.norm.ppf(power))
    fixed = math.ceil(
        (stats.norm.ppf(1 - (alpha if one_sided else alpha / 2)) + quantile) ** 2 * variance / distance**2
    )
    critical = _critical(alpha, one_sided)
    anytime = math.ceil((critical + quantile) ** 2 * variance / distance**2)
    per_day = users_per_day * share
    days = [users / per_day + window_days if users <= max_users else math.inf for users in (fixed, anytime)]
    most = min(max(max_days - window_days, 0.0) * per_day, max_users)
    smallest = math.inf
    if most >= 1:
        # d² = k·(1 + (d + against)/mean + control): the variance under treatment grows with d.
        k = 2 * before.variance * before.variance_left * float(critical + quantile) ** 2 / most
        half = k / before.mean / 2
        smallest = half + math.sqrt(half**2 + k * (1 + against / before.mean + control))
    return Duration(
        effect=effect,
        against=against,
        users_fixed=fixed,
        users_anytime=anytime,
        days_fixed=days[0],
        days_anytime=days[1],
        width=2 * _critical(alpha, one_sided=False) * math.sqrt(variance / anytime),
        within_reach=days[1] <= max_days,
        smallest_effect=smallest,
        sentence=_sentence(
            before, distance, anytime, days[1], max_days=max_days, most=most, smallest=smallest
        ),
    )


def _critical(alpha: float, one_sided: bool) -> float:
    """Critical value at the number of users that a sequence is tuned for, whatever that number is."""
    rate = information_per_user(1.0, alpha, one_sided=one_sided)
    return float(critical_value(rate, alpha, one_sided=one_sided))


def _sentence(
    before: PrePeriod,
    distance: float,
    users: int,
    days: float,
    *,
    max_days: float,
    most: float,
    smallest: float,
) -> str:

    def share_of(value: float) -> str:
        return f"{value / before.mean:.1%} of the mean"

    if days <= max_days:
        return (
            f"A difference of {share_of(abs(distance))} takes about {users:,} users and {days:.0f} days; "
            f"{max_days:.0f} are allowed."
        )
    if math.isinf(smallest):
        return f"Out of reach: no user's window closes within {max_days:.0f} days."
    return (
        f"Out of reach: a difference of {share_of(abs(distance))} takes about {users:,} users, and at most "
        f"{math.floor(most):,} finish within {max_days:.0f} days. The smallest that can be told is "
        f"{share_of(smallest)}."
    )


def _check(
    users_per_day: float,
    share: float,
    window_days: float,
    *,
    relative_effect: float,
    relative_margin: float | None,
    power: float,
) -> None:
    if not users_per_day > 0:
        raise ValueError(f"users_per_day must be > 0; got {users_per_day}.")
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; got {share}.")
    if not window_days > 0:
        raise ValueError(f"window_days must be > 0; got {window_days}.")
    if relative_margin is not None and not 0 < relative_margin < 1:
        raise ValueError(f"relative_margin must be in (0, 1); got {relative_margin}.")
    if not relative_effect > -1:
        raise ValueError(f"relative_effect must be > -1; got {relative_effect}.")
    if not 0.5 < power < 1:
        raise ValueError(f"power must be in (0.5, 1); got {power}.")
