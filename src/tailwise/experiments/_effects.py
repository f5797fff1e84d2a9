"""The effect of a treatment on every metric, by both kinds of interval, from the outcome table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailwise.experiments._anytime import DEFAULT_BURN_IN, AnytimePath, BurnIn, anytime_path
from tailwise.experiments._arrays import OutcomeArrays
from tailwise.experiments._intervals import Interval
from tailwise.experiments._metrics import GUARDRAIL_METRICS, PRIMARY_METRICS, Metric
from tailwise.experiments._multiple import holm
from tailwise.experiments._outcome_table import closed_outcomes, currency_of, metric_arrays
from tailwise.experiments._stratified import FixedEffect, StageSize, fixed_effect, stage_sizes

__all__ = ["AnytimeEffect", "Effects", "MetricEffect", "estimate_effects", "follow_effect"]


@dataclass(frozen=True)
class AnytimeEffect:
    """An effect with intervals that hold at every look, so also at the one somebody chose.

    Attributes:
        control: Metric under control; NaN where nothing can be said.
        treatment: Metric under treatment.
        difference: Treatment less control, in the metric's unit.
        standard_error: Of the difference.
        interval: Two-sided confidence sequence of the difference; its ``width`` is what peeking costs.
        bounds: Two one-sided sequences of the difference, each with the full error probability: ``low``
            is for "it is not worse than", ``high`` for "it is not better than". Not to be read as a pair.
        relative: Difference over control.
        relative_interval: Two-sided, by Fieller; it excludes 0 exactly when ``interval`` does.
        relative_bounds: One-sided, of the relative difference.
        simultaneous: Two-sided, of the difference, at alpha over the number of metrics of this kind.
        e_value: Evidence against no effect.
        p_value: Always-valid, not corrected for the number of metrics.
        is_warm: The burn-in is over; before that intervals are infinite.
    """

    control: float
    treatment: float
    difference: float
    standard_error: float
    interval: Interval
    bounds: Interval
    relative: float
    relative_interval: Interval
    relative_bounds: Interval
    simultaneous: Interval
    e_value: float
    p_value: float
    is_warm: bool


@dataclass(frozen=True)
class MetricEffect:
    """What is known of one metric.

    Attributes:
        metric: Which.
        fixed: At this look as if it were the only one; None where it cannot be computed.
        fixed_cuped: The same after CUPED; None also without ``pre_`` columns.
        variance_ratio: Variance of the difference with CUPED over that without; below 1 it helps.
        anytime: Confidence sequence.
        anytime_cuped: The same with CUPED; None without ``pre_`` columns.
        p_adjusted: Always-valid, of :attr:`deciding`, by Holm over the metrics of this kind.
    """

    metric: Metric
    fixed: FixedEffect | None
    fixed_cuped: FixedEffect | None
    variance_ratio: float | None
    anytime: AnytimeEffect
    anytime_cuped: AnytimeEffect | None
    p_adjusted: float

    @property
    def deciding(self) -> AnytimeEffect:
        """What decisions rest on: with CUPED wherever there is something to adjust by."""
        return self.anytime if self.anytime_cuped is None else self.anytime_cuped


@dataclass(frozen=True)
class Effects:
    """What is known of an experiment.

    Attributes:
        metrics: One per metric, in the order asked for.
        stages: Users per stage and variant, with the weights of the fixed-horizon effects.
        n_users: Users with closed windows.
        alpha: Error probability of each interval.
        tuned_for: Users at which the confidence sequences are narrowest.
        currency: Of money; None where the table names none.
    """

    metrics: tuple[MetricEffect, ...]
    stages: tuple[StageSize, ...]
    n_users: int
    alpha: float
    tuned_for: float
    currency: str | None

    def __getitem__(self, name: str) -> MetricEffect:
        """Return the effect on the metric of this name."""
        for effect in self.metrics:
            if effect.metric.name == name:
                return effect
        raise KeyError(f"{name!r} must be one of {[effect.metric.name for effect in self.metrics]}.")


def estimate_effects(
    outcomes: pl.DataFrame,
    metrics: Sequence[Metric] = (*PRIMARY_METRICS, *GUARDRAIL_METRICS),
    *,
    alpha: float = 0.05,
    tuned_for: float = 10_000,
    windows_closed_at: float | None = None,
    burn_in: BurnIn = DEFAULT_BURN_IN,
    control: str = "control",
    treatment: str = "treatment",
) -> Effects:
    """Estimate what the treatment changed, per metric, with intervals that allow peeking and that do not.

    Args:
        outcomes: One row per assigned user, as :func:`user_outcomes` makes it.
        metrics: Of level ``user``.
        alpha: Error probability of every interval, in (0, 0.5).
        tuned_for: Users at which confidence sequences are narrowest; fix it before the start, from
            :func:`plan_duration`.
        windows_closed_at: Count users whose windows closed by then, unix seconds. None: all rows.
        burn_in: Before it, confidence sequences are infinite.
        control: Value of ``variant`` that is control.
        treatment: Value of ``variant`` that is treatment.

    Raises:
        DataError: the table breaks a rule; see the message.
        ValueError: an argument is outside its range.
    """
    _check_level(metrics)
    closed = closed_outcomes(
        outcomes, metrics, windows_closed_at=windows_closed_at, control=control, treatment=treatment
    )
    rows = []
    for metric in metrics:
        arrays = metric_arrays(closed, metric, treatment=treatment)
        n_alike = sum(other.kind == metric.kind for other in metrics)
        plain = arrays.without_covariates()
        fixed, fixed_cuped, cuped = fixed_effect(plain, alpha=alpha), None, None
        if arrays.covariates is not None:
            fixed_cuped = fixed_effect(arrays, alpha=alpha)
            cuped = _anytime(arrays, alpha, n_alike, tuned_for, burn_in)
        rows.append((metric, fixed, fixed_cuped, _anytime(plain, alpha, n_alike, tuned_for, burn_in), cuped))
    adjusted: dict[int, float] = {}
    for kind in {metric.kind for metric in metrics}:
        alike = [i for i, row in enumerate(rows) if row[0].kind == kind]
        adjusted.update(zip(alike, holm([(rows[i][4] or rows[i][3]).p_value for i in alike]), strict=True))
    return Effects(
        metrics=tuple(
            MetricEffect(metric, fixed, cuped, _variance_ratio(fixed, cuped), plain, with_cuped, adjusted[i])
            for i, (metric, fixed, cuped, plain, with_cuped) in enumerate(rows)
        ),
        stages=stage_sizes((closed["variant"] == treatment).to_numpy(), closed["stage"].to_numpy()),
        n_users=closed.height,
        alpha=alpha,
        tuned_for=tuned_for,
        currency=currency_of(closed),
    )


def follow_effect(
    outcomes: pl.DataFrame,
    metric: Metric,
    times: Sequence[float],
    *,
    alpha: float = 0.05,
    tuned_for: float = 10_000,
    burn_in: BurnIn = DEFAULT_BURN_IN,
    control: str = "control",
    treatment: str = "treatment",
) -> AnytimePath:
    """Follow one metric's confidence sequence over time, as somebody who looked then would have seen it.

    CUPED-adjusted where the table has ``pre_`` columns. Arguments as of :func:`estimate_effects`, and
    ``times``, ascending, unix seconds; a user counts from ``window_closes_at`` on.
    """
    _check_level([metric])
    closed = closed_outcomes(
        outcomes, [metric], windows_closed_at=float("inf"), control=control, treatment=treatment
    )
    # The order is that of exposure; a user is seen once all earlier ones are, so windows are of one length.
    closing = np.maximum.accumulate(closed["window_closes_at"].to_numpy().astype(np.float64))
    looks = np.searchsorted(closing, np.asarray(times, dtype=np.float64), side="right")
    arrays = metric_arrays(closed, metric, treatment=treatment)
    return anytime_path(arrays, looks, alpha=alpha, tuned_for=tuned_for, burn_in=burn_in)


def _check_level(metrics: Sequence[Metric]) -> None:
    for metric in metrics:
        if metric.level != "user":
            raise ValueError(
                f"metrics must be sums over users; got {metric.name!r}, which counts the catalogue. "
                "Use describe_catalogue()."
            )


def _variance_ratio(plain: FixedEffect | None, cuped: FixedEffect | None) -> float | None:
    if plain is None or cuped is None or plain.standard_error == 0:
        return None
    return (cuped.standard_error / plain.standard_error) ** 2


def _anytime(
    arrays: OutcomeArrays, alpha: float, n_alike: int, tuned_for: float, burn_in: BurnIn
) -> AnytimeEffect:
    path = anytime_path(arrays, alpha=alpha, tuned_for=tuned_for, burn_in=burn_in)
    wider = anytime_path(arrays, alpha=alpha / n_alike, tuned_for=tuned_for, burn_in=burn_in)
    return AnytimeEffect(
        control=float(path.control[0]),
        treatment=float(path.treatment[0]),
        difference=float(path.difference[0]),
        standard_error=float(path.standard_error[0]),
        interval=Interval(float(path.low[0]), float(path.high[0])),
        bounds=Interval(float(path.lower[0]), float(path.upper[0])),
        relative=float(path.relative[0]),
        relative_interval=Interval(float(path.relative_low[0]), float(path.relative_high[0])),
        relative_bounds=Interval(float(path.relative_lower[0]), float(path.relative_upper[0])),
        simultaneous=Interval(float(wider.low[0]), float(wider.high[0])),
        e_value=float(np.exp(np.minimum(path.log_e_value[0], 700.0))),
        p_value=float(path.p_value[0]),
        is_warm=bool(path.is_warm[0]),
    )
