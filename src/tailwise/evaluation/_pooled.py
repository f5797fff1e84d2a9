"""Relative paired differences in one setting or pooled over many, and tests that count the comparisons."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailwise.errors import DataError
from tailwise.evaluation._accuracy import METRICS, check_metric
from tailwise.evaluation._evaluate import check_inputs
from tailwise.evaluation._linearised import (
    LEAST_SEEDS,
    Linearised,
    clustered_variance,
    linearise,
    satterthwaite,
)
from tailwise.evaluation._rankings import Rankings, check_same_cases
from tailwise.evaluation._user_sums import UserSums, accuracy_sums
from tailwise.schema import USER_INDEX
from tailwise.segments import OVERALL, Segments

__all__ = [
    "NonInferiority",
    "PairedRuns",
    "RelativeDifference",
    "holm",
    "non_inferiority",
    "relative_difference",
    "scatter_users",
    "user_gains",
]

_CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class PairedRuns:
    """Trained models of a baseline and of a treatment in one setting, seed by seed.

    Attributes:
        setting: Name of the setting: data set and amount of training histories, say.
        population: Whom the test users are drawn from. Settings that name the same population
            are evaluated on the same users (one data set, other amounts of training histories),
            which their pooled variance must know.
        users: ``[n_users]`` int64, ascending; index of each user within the population.
        baseline: Gains per user, one table per seed.
        treatment: As many, paired in order.
    """

    setting: str
    population: str
    users: NDArray[np.int64]
    baseline: tuple[UserSums, ...]
    treatment: tuple[UserSums, ...]

    def __post_init__(self) -> None:
        if len(self.baseline) != len(self.treatment) or not self.baseline:
            raise ValueError(
                f"baseline and treatment of {self.setting!r} must have as many seeds, at least one; "
                f"got {len(self.baseline)} and {len(self.treatment)}.\n"
                "  Keep the seeds that both were trained with."
            )

    @classmethod
    def from_rankings(
        cls,
        baseline: Rankings | Sequence[Rankings],
        treatment: Rankings | Sequence[Rankings],
        segments: Segments,
        *,
        setting: str = "",
        population: str | None = None,
        metrics: Sequence[str] = ("ndcg", "recall"),
        ks: Sequence[int] = (10,),
    ) -> "PairedRuns":
        """Sum the gains of both sides per user; ``population`` is the setting unless named.

        Raises:
            ValueError: unequal numbers of seeds, or an unknown metric or k.
            DataError: users or targets differ between rankings.
        """
        left, right = check_inputs(baseline, segments), check_inputs(treatment, segments)
        check_same_cases([left[0], right[0]], what="baseline and treatment")
        return cls(
            setting=setting,
            population=setting if population is None else population,
            users=left[0].lists[USER_INDEX].to_numpy(),
            baseline=tuple(user_gains(r, segments, metrics, ks) for r in left),
            treatment=tuple(user_gains(r, segments, metrics, ks) for r in right),
        )


def user_gains(
    rankings: Rankings,
    segments: Segments,
    metrics: Sequence[str] = ("ndcg", "recall"),
    ks: Sequence[int] = (10,),
) -> UserSums:
    """Sum each user's target values overall and per segment: what :class:`PairedRuns` holds of a model.

    Raises:
        ValueError: a metric or k is unknown.
    """
    for metric in metrics:
        for k in ks:
            check_metric(metric, k)
    return accuracy_sums(rankings, segments, metrics, ks)


@dataclass(frozen=True)
class RelativeDifference:
    """Treatment over baseline minus one, averaged over settings, with a 95 % interval.

    Attributes:
        metric: Name of the metric.
        k: Length of the judged list.
        segment: Segment of the targets, or ``"overall"``.
        settings: Names of the settings averaged, each with the same weight.
        baseline_value: Mean over seeds; None when several settings are pooled.
        value: The treatment's; None likewise.
        difference: Relative; 0.1 is ten per cent more.
        low: Lower end; None where fewer than two users contribute in some population, or where the
            treatment has nothing at all in some setting: what never varies says nothing of chance.
        high: Upper end; None likewise.
        standard_error: None like ``low``.
        degrees_of_freedom: Of the t distribution (Satterthwaite); None like ``low``.
        p_value: Two-sided, of no difference; None like ``low``.
        n_seeds: Pairs of training runs of the setting that has the fewest.
        n_users: Users that contribute, over all populations.
        n_targets: Held-out targets, over all settings.
        variance: ``"users+seeds"``, or ``"users"`` where a setting has a single seed.
    """

    metric: str
    k: int
    segment: str
    settings: tuple[str, ...]
    baseline_value: float | None
    value: float | None
    difference: float
    low: float | None
    high: float | None
    standard_error: float | None
    degrees_of_freedom: float | None
    p_value: float | None
    n_seeds: int
    n_users: int
    n_targets: int
    variance: str

    @property
    def has_enough_seeds(self) -> bool:
        """Three or more in every setting: the interval speaks of the method, not only of these models."""
        return self.n_seeds >= LEAST_SEEDS

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {**vars(self), "settings": list(self.settings)}


def relative_difference(
    runs: PairedRuns | Sequence[PairedRuns], *, metric: str = "ndcg", k: int = 10, segment: str = OVERALL
) -> RelativeDifference:
    """Compare a treatment with its baseline, relative to the baseline, in one or many settings.

    In each setting the estimate is the ratio of the two means over seeds, minus one. Its variance has
    two parts, both linearised as in :func:`compare`: users (each with all targets, averaged over
    seeds), and seeds. What is new in every pair of user and seed is in both and, unlike in
    :func:`compare`, is taken off once, but never more than leaves the larger of the two parts.
    Pooled, every setting weighs the same. Users of one population who appear in
    several settings are one cluster; seeds of different settings are independent. The interval is t
    with Satterthwaite's degrees of freedom: each population brings users-1, each setting seeds-1.

    A treatment without any hit is minus one whatever users and seeds are drawn, so that its variance
    would be zero and its p value too, by chance alone where hits are few. It gets neither interval nor p.

    Args:
        runs: Of one setting, or one per setting.
        metric: Name in :data:`METRICS` that ``runs`` were summed with.
        k: Length of the judged list, likewise.
        segment: A segment or ``"overall"``.

    Returns:
        :class:`RelativeDifference`.

    Raises:
        ValueError: no runs, a setting named twice, or a measure that was not summed.
        DataError: the baseline has nothing in some setting to be relative to.

    Example:
        >>> from tailwise.evaluation import rank_targets
        >>> from tailwise.segments import segment_items
        >>> def model(scores): return rank_targets(lambda h: scores, [[], []], [0, 1, 2], [0, 1], n_items=3)
        >>> worse, better = model([[3, 2, 1], [3, 2, 1]]), model([[3, 2, 1], [1, 2, 0]])
        >>> segments = segment_items(np.array([5, 3, 1]), head_share=0.5)
        >>> runs = PairedRuns.from_rankings(worse, better, segments, metrics=["mrr"])
        >>> round(relative_difference(runs, metric="mrr").difference, 3)  # (1 + 1) over (1 + 1/2), minus one
        0.333
    """
    settings = [runs] if isinstance(runs, PairedRuns) else list(runs)
    _check_settings(settings)
    parts = [_relative(one, metric, k, segment) for one in settings]
    n_settings = len(settings)
    components: list[tuple[float, float]] = []
    n_users = 0
    is_known = all(part.has_hits for part in parts)
    for population in dict.fromkeys(one.population for one in settings):
        members = [i for i, one in enumerate(settings) if one.population == population]
        scattered = scatter_users(
            [settings[i].users for i in members],
            [np.stack([parts[i].linear.user_parts, parts[i].weights], axis=1) for i in members],
        )  # [n_members, n_users, 2]
        moved, weights = scattered.sum(axis=0).T
        n_contributing = int(np.count_nonzero(weights))
        n_users += n_contributing
        if n_contributing < 2:
            is_known = False
            continue
        components.append(
            (clustered_variance(moved, n_contributing) / n_settings**2, float(n_contributing - 1))
        )
    of_users = sum(v for v, _ in components)
    of_seeds = noise = 0.0
    for part in parts:
        n_seeds, n_contributing = part.linear.seed_parts.size, int(np.count_nonzero(part.weights))
        if n_seeds > 1:
            components.append((part.linear.seed_variance / n_settings**2, float(n_seeds - 1)))
            of_seeds += part.linear.seed_variance / n_settings**2
            noise += part.linear.noise_variance(n_contributing) / n_settings**2
    variance = max(of_users, of_seeds, of_users + of_seeds - noise)
    difference = float(np.mean([part.linear.estimate for part in parts]))
    n_seeds = min(part.linear.seed_parts.size for part in parts)
    error = dof = low = high = p_value = None
    if is_known:
        error, dof = float(np.sqrt(variance)), satterthwaite(components, total=variance)
        reach = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, dof)) * error
        low, high = difference - reach, difference + reach
        p_value = _two_sided(difference, error, dof)
    alone = n_settings == 1
    return RelativeDifference(
        metric=metric,
        k=k,
        segment=segment,
        settings=tuple(one.setting for one in settings),
        baseline_value=parts[0].baseline_value if alone else None,
        value=parts[0].baseline_value * (1 + difference) if alone else None,
        difference=difference,
        low=low,
        high=high,
        standard_error=error,
        degrees_of_freedom=dof,
        p_value=p_value,
        n_seeds=n_seeds,
        n_users=n_users,
        n_targets=round(sum(float(part.weights.sum()) for part in parts)),
        variance="users+seeds" if n_seeds > 1 else "users",
    )


@dataclass(frozen=True)
class NonInferiority:
    """Is the loss of a treatment smaller than a margin?

    Attributes:
        margin: Largest relative loss that counts as none, e.g. 0.02.
        p_value: One-sided, of a loss of the margin or more; None without an interval.
        is_shown: The lower end of the 95 % interval lies above ``-margin``: a one-sided test at
            2.5 %. None without an interval.
    """

    margin: float
    p_value: float | None
    is_shown: bool | None


def non_inferiority(result: RelativeDifference, *, margin: float = 0.02) -> NonInferiority:
    """Test whether quality was kept, up to a relative margin.

    Not the absence of a significant loss, which any small sample shows, but the presence of an
    interval that rules a loss of ``margin`` out. With fewer than three seeds that is said of the trained
    models at hand, not of the method (:attr:`RelativeDifference.has_enough_seeds`).

    Args:
        result: Of overall quality, one setting or pooled.
        margin: In (0, 1); declared before the results are looked at.

    Raises:
        ValueError: the margin is outside (0, 1).
    """
    if not 0 < margin < 1:
        raise ValueError(
            f"margin must be a fraction in (0, 1); got {margin}.\n  For a loss of two per cent, write 0.02."
        )
    if result.low is None or result.standard_error is None or result.degrees_of_freedom is None:
        return NonInferiority(margin, None, None)
    shifted = result.difference + margin
    p_value = 0.0 if shifted > 0 else 1.0
    if result.standard_error > 0:
        p_value = float(stats.t.sf(shifted / result.standard_error, result.degrees_of_freedom))
    return NonInferiority(margin, p_value, result.low > -margin)


def holm(p_values: Iterable[float | None]) -> list[float | None]:
    """Adjust p values for their number, so that one false alarm among them is as rare as the level says.

    The smallest of m is multiplied by m, the next by m - 1, and so on, never falling below the one
    before and never above 1 (Holm 1979). It needs no independence.

    Args:
        p_values: In any order; None marks a comparison without a test, which does not count.

    Returns:
        The adjusted values in the same order, None where it was None.

    Raises:
        ValueError: a value lies outside 0..1.

    Example:
        >>> holm([0.01, None, 0.04, 0.03])
        [0.03, None, 0.06, 0.06]
    """
    given = list(p_values)
    known = [i for i, p in enumerate(given) if p is not None]
    adjusted: list[float | None] = [None] * len(given)
    least = 0.0
    for position, i in enumerate(sorted(known, key=lambda i: float(given[i] or 0.0))):
        p = float(given[i] or 0.0)
        if not 0 <= p <= 1:
            raise ValueError(f"p_values must lie in 0..1; got {given[i]}.\n  It is number {i}.")
        least = max(least, min(1.0, p * (len(known) - position)))
        adjusted[i] = least
    return adjusted


@dataclass(frozen=True, eq=False)
class _Part:
    """What one setting adds to a pooled relative difference."""

    linear: Linearised
    weights: NDArray[np.float64]  # [n_users]; targets of each user
    baseline_value: float
    has_hits: bool  # of the treatment


def _relative(runs: PairedRuns, metric: str, k: int, segment: str) -> _Part:
    key = (metric, k, segment)
    first = runs.baseline[0]
    if key not in first.keys:
        known = ", ".join(f"{m}@{n} {s}" for m, n, s in first.keys)
        raise ValueError(
            f"measure must be one of {known}; got {metric}@{k} {segment}.\n"
            f"  Sum the runs of {runs.setting!r} with it; metrics: {', '.join(METRICS)}."
        )
    i = first.column(key)
    weights = first.denominators[:, first.denominator_of[i]]  # [n_users]
    below = np.stack([s.numerators[:, i] for s in runs.baseline])  # [n_seeds, n_users]
    above = np.stack([s.numerators[:, i] for s in runs.treatment])
    if not below.sum() > 0:
        raise DataError(
            f"baseline of {runs.setting!r} must have some {metric}@{k} in {segment!r} to be relative to; "
            f"got 0 over {weights.sum():,.0f} targets.\n  Compare absolute values with compare()."
        )
    value = float(below.sum()) / (below.shape[0] * float(weights.sum()))
    return _Part(linearise(above - below, below), weights, value, has_hits=bool(above.sum() > 0))


def scatter_users(
    users: Sequence[NDArray[np.int64]], values: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Align settings of one population: ``[n_settings, n_users_of_any, c]``, zero where a user is absent."""
    everyone = np.unique(np.concatenate(list(users)))
    out = np.zeros((len(users), everyone.size, values[0].shape[1]))
    for setting, (index, value) in enumerate(zip(users, values, strict=True)):
        out[setting, np.searchsorted(everyone, index)] = value
    return out


def _check_settings(settings: Sequence[PairedRuns]) -> None:
    names = [one.setting for one in settings]
    if not names:
        raise ValueError(
            "runs must hold at least one setting; got none.\n  Pass PairedRuns, or a list of them."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"settings must be distinct; got {', '.join(map(repr, twice))} more than once.\n"
            "  Put all seeds of a setting into one PairedRuns."
        )


def _two_sided(difference: float, error: float, dof: float) -> float:
    if error == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return float(2 * stats.t.sf(abs(difference) / error, dof))
