"""Effects at one moment that was chosen beforehand: stages weighed by their users, variance by users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tailwise.experiments._arrays import OutcomeArrays
from tailwise.experiments._cuped import adjust_by_covariates
from tailwise.experiments._intervals import Interval, fieller

__all__ = ["FixedEffect", "StageSize", "fixed_effect", "stage_sizes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StageSize:
    """Users of one stage.

    Attributes:
        stage: Which.
        n_control: Users under control.
        n_treatment: Users under treatment.
        weight: Share of the stage in the fixed-horizon effect; 0 where a variant has fewer than two users.
    """

    stage: int
    n_control: int
    n_treatment: int
    weight: float


@dataclass(frozen=True)
class FixedEffect:
    """An effect with the interval that holds at one look.

    Attributes:
        control: Metric under control, stages weighed alike for both variants.
        treatment: Metric under treatment.
        difference: Treatment less control, in the metric's unit.
        standard_error: Of the difference.
        degrees_of_freedom: Of its variance, by Welch and Satterthwaite over stages and variants.
        interval: Of the difference, Student's t.
        relative: Difference over control; None where control is 0.
        relative_interval: Of it, by Fieller: it excludes 0 exactly when ``interval`` does.
        p_value: Two-sided, against no difference, at this one look.
    """

    control: float
    treatment: float
    difference: float
    standard_error: float
    degrees_of_freedom: float
    interval: Interval
    relative: float | None
    relative_interval: Interval
    p_value: float


def stage_sizes(treated: NDArray[np.bool_], stage: NDArray[np.int64]) -> tuple[StageSize, ...]:
    """Count users per stage and variant, and weigh the stages by their users."""
    stages, code = np.unique(stage, return_inverse=True)
    n_treatment = np.bincount(code[treated], minlength=stages.size)
    n_control = np.bincount(code[~treated], minlength=stages.size)
    counted = np.where((n_treatment >= 2) & (n_control >= 2), n_treatment + n_control, 0)
    weights = counted / max(int(counted.sum()), 1)
    rows = zip(stages, n_control, n_treatment, weights, strict=True)
    return tuple(StageSize(int(s), int(c), int(t), float(w)) for s, c, t, w in rows)


def fixed_effect(outcomes: OutcomeArrays, *, alpha: float = 0.05) -> FixedEffect | None:
    """Estimate an effect with an interval for one look.

    Within each stage the variants' means are compared; stages are weighed by their users, of both
    variants together. Of a ratio, numerators and denominators are weighed so, and then divided (delta
    method with users as clusters). With covariates, CUPED comes first.

    Args:
        outcomes: Users, in any order.
        alpha: Error probability, in (0, 0.5).

    Returns:
        None where no stage has two users of each variant, or the denominators of a variant sum to 0.
    """
    sizes = stage_sizes(outcomes.treated, outcomes.stage)
    values = adjust_by_covariates(outcomes) if outcomes.covariates is not None else outcomes.values
    m = values.shape[1]
    means, covariance = np.zeros((2, m)), np.zeros((2, m, m))
    parts: list[tuple[int, Floats, int]] = []  # variant, covariance of its weighed mean, users
    for size in sizes:
        if size.weight == 0:
            continue
        for variant in (0, 1):
            mine = values[(outcomes.stage == size.stage) & (outcomes.treated == bool(variant))]
            of_mean = size.weight**2 * np.cov(mine, rowvar=False, ddof=1).reshape(m, m) / mine.shape[0]
            means[variant] += size.weight * mine.mean(axis=0)
            covariance[variant] += of_mean
            parts.append((variant, of_mean, mine.shape[0]))
    if not parts or (m == 2 and not (means[:, 1] > 0).all()):
        return None
    slopes = np.ones((2, 1)) if m == 1 else np.stack([1 / means[:, 1], -means[:, 0] / means[:, 1] ** 2], 1)
    control, treatment = means[:, 0] if m == 1 else means[:, 0] / means[:, 1]
    variances = [(float(slopes[v] @ c @ slopes[v]), n) for v, c, n in parts]
    variance = sum(v for v, _ in variances)
    wobble = sum(v**2 / (n - 1) for v, n in variances)
    freedom = variance**2 / wobble if wobble > 0 else np.inf
    error, difference = float(np.sqrt(variance)), float(treatment - control)
    reach = float(stats.t.ppf(1 - alpha / 2, freedom))
    var_control, var_treatment = (float(slopes[v] @ covariance[v] @ slopes[v]) for v in (0, 1))
    low, high = fieller(
        treatment,
        control,
        var_above=var_treatment,
        var_below=var_control,
        covariance=0.0,
        multiplier=reach,
    )
    p_value = 2 * stats.t.sf(abs(difference) / error, freedom) if error > 0 else float(difference == 0)
    return FixedEffect(
        control=float(control),
        treatment=float(treatment),
        difference=difference,
        standard_error=error,
        degrees_of_freedom=float(freedom),
        interval=Interval(difference - reach * error, difference + reach * error),
        relative=difference / float(control) if control else None,
        relative_interval=Interval(float(low) - 1, float(high) - 1),
        p_value=float(p_value),
    )
