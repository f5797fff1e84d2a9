"""One experiment as a page shows it: from tables and a rollout to rows, lights and paths. No HTML here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tailwise.dashboard._sources import ExperimentTables
from tailwise.experiments import (
    METRICS,
    PRIMARY_METRICS,
    AuditEntry,
    BurnIn,
    CatalogueShare,
    Effects,
    GuardrailResult,
    Metric,
    MetricEffect,
    Rollout,
    SampleRatio,
    check_guardrails,
    check_sample_ratio,
    estimate_effects,
    follow_effect,
)

__all__ = [
    "EffectPath",
    "EffectRow",
    "ExperimentPage",
    "SegmentRow",
    "StageStep",
    "experiment_page",
    "stage_steps",
]

_N_LOOKS = 48
_SEGMENTS = ("head", "mid", "tail", "cold")
Verdict = Literal["better", "worse", "unclear", "early"]


@dataclass(frozen=True)
class EffectRow:
    """A metric's effect, relative to control. None stands for what is not known yet.

    Attributes:
        metric: Which.
        control: Its value under control.
        treatment: Under treatment.
        change: Relative.
        fixed_low: Of the 95 % interval that holds at one look alone.
        fixed_high: Its upper end.
        low: Of the confidence sequence, which holds at every look.
        high: Its upper end.
        verdict: By the sequence and the metric's direction; ``early`` before its burn-in is over.
        margin: Loss that the policy accepts, as a positive share; None where it limits none.
        is_goal: The experiment is for it.
        p_adjusted: Always-valid, after Holm over the metrics of its kind.
    """

    metric: Metric
    control: float | None
    treatment: float | None
    change: float | None
    fixed_low: float | None
    fixed_high: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    margin: float | None
    is_goal: bool
    p_adjusted: float


@dataclass(frozen=True)
class EffectPath:
    """A confidence sequence over time, relative to control.

    Attributes:
        metric: Which.
        at: ``[L]`` unix seconds.
        change: ``[L]``; None before the burn-in is over.
        low: ``[L]`` lower ends.
        high: ``[L]`` upper ends.
        margin: As of :class:`EffectRow`.
    """

    metric: Metric
    at: tuple[float, ...]
    change: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    margin: float | None


@dataclass(frozen=True)
class StageStep:
    """A stage of the ramp.

    Attributes:
        percent: Share of users.
        state: ``done``, ``current``, ``next``, or ``ended``: the one in which it was ended.
        began_at: Unix seconds; None: not yet.
        ended_at: Likewise.
        n_control: Users with closed windows; None: not counted yet.
        n_treatment: Likewise.
    """

    percent: float
    state: Literal["done", "current", "next", "ended"]
    began_at: float | None
    ended_at: float | None
    n_control: int | None = None
    n_treatment: int | None = None


@dataclass(frozen=True)
class SegmentRow:
    """Head against tail: what is shown of a segment and what comes of it.

    Attributes:
        segment: head, mid, tail or cold.
        shown: Its share of impressions.
        ctr: Its clicks per impression.
        purchases: Purchases per user; None where the registry has none for the segment.
    """

    segment: str
    shown: EffectRow
    ctr: EffectRow
    purchases: EffectRow | None


@dataclass(frozen=True, eq=False)
class ExperimentPage:
    """Everything on an experiment's page.

    Attributes:
        rollout: Its definition and where it stands.
        steps: The ramp.
        goals: What the experiment is for.
        others: The other primary metrics, and what the policy limits.
        segments: Head against tail.
        catalogue: Distinct items and brands.
        paths: Of the goals and the limited metrics.
        guardrails: Lights; empty before the first look.
        sample: First exposures; None before the first.
        decisions: Newest first.
        n_users: With closed windows.
        currency: Of money; None: unknown.
        alpha: Error probability of each interval.
    """

    rollout: Rollout
    steps: tuple[StageStep, ...]
    goals: tuple[EffectRow, ...]
    others: tuple[EffectRow, ...]
    segments: tuple[SegmentRow, ...]
    catalogue: tuple[CatalogueShare, ...]
    paths: tuple[EffectPath, ...]
    guardrails: tuple[GuardrailResult, ...]
    sample: SampleRatio | None
    decisions: tuple[AuditEntry, ...]
    n_users: int
    currency: str | None
    alpha: float

    @property
    def gmv(self) -> EffectRow | None:
        """The effect on GMV per user, where it is known."""
        return next((row for row in (*self.goals, *self.others) if row.metric.name == "gmv"), None)


def experiment_page(
    rollout: Rollout, tables: ExperimentTables, decisions: Sequence[AuditEntry], *, alpha: float = 0.05
) -> ExperimentPage:
    """Compute the page of an experiment; may take seconds for many users.

    Args:
        rollout: Where it stands.
        tables: What was counted.
        decisions: Newest first.
        alpha: Error probability of each interval.

    Raises:
        DataError: a table breaks a rule.
    """
    experiment, policy = rollout.experiment, rollout.experiment.policy
    margins = {limit.metric: limit.margin for limit in policy.effects}
    limited = [METRICS[name] for name in margins]
    goals = [METRICS[name] for name in experiment.metrics]
    others = [m for m in (*PRIMARY_METRICS, *limited) if m not in goals]
    segment_names = _segments_of(tables.outcomes)
    descriptive = [METRICS[name] for s in segment_names for name in (f"{s}_impression_share", f"{s}_ctr")]
    purchases = [METRICS[f"{s}_purchases"] for s in segment_names if f"{s}_purchases" in METRICS]
    asked = tuple(dict.fromkeys([*goals, *others, *descriptive, *purchases]))
    burn_in = BurnIn(2 * policy.first_look_users, policy.first_look_active_users)
    outcomes = _unbroken(rollout, tables.outcomes)
    sizes: dict[int, tuple[int, int]] = {}
    rows: dict[str, EffectRow] = {}
    found: Effects | None = None
    if outcomes.height:
        found = estimate_effects(
            outcomes,
            asked,
            alpha=alpha,
            tuned_for=policy.tuned_for_users,
            burn_in=burn_in,
            control=experiment.control,
            treatment=experiment.treatment,
        )
        sizes = {size.stage: (size.n_control, size.n_treatment) for size in found.stages}
        for effect in found.metrics:
            name = effect.metric.name
            rows[name] = _row(effect, margins.get(name), is_goal=name in experiment.metrics)
    followed = dict.fromkeys([*goals, *limited])
    return ExperimentPage(
        rollout=rollout,
        steps=stage_steps(rollout, sizes),
        goals=tuple(rows[m.name] for m in goals if m.name in rows),
        others=tuple(rows[m.name] for m in dict.fromkeys(others) if m.name in rows),
        segments=tuple(
            SegmentRow(s, rows[f"{s}_impression_share"], rows[f"{s}_ctr"], rows.get(f"{s}_purchases"))
            for s in segment_names
            if f"{s}_ctr" in rows
        ),
        catalogue=tables.catalogue,
        paths=tuple(_path(rollout, outcomes, m, margins.get(m.name), alpha, burn_in) for m in followed)
        if outcomes.height
        else (),
        guardrails=check_guardrails(tables.evidence, policy) if tables.evidence is not None else (),
        sample=_sample(rollout, tables.exposures),
        decisions=tuple(decisions),
        n_users=0 if found is None else found.n_users,
        currency=None if found is None else found.currency,
        alpha=alpha,
    )


def stage_steps(rollout: Rollout, sizes: dict[int, tuple[int, int]] | None = None) -> tuple[StageStep, ...]:
    """Lay the rollout's moments out over the stages of its ramp."""
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    for moment in rollout.timeline:
        if moment.action in ("start", "ramp"):
            began.setdefault(moment.stage, moment.at)
            if moment.action == "ramp":
                ended[moment.stage - 1] = moment.at
        elif moment.action in ("complete", "stop", "rollback"):
            ended[moment.stage] = moment.at
    is_over = rollout.state in ("stopped", "rolled_back")
    steps = []
    for stage, percent in enumerate(rollout.experiment.ramp_percent):
        state: Literal["done", "current", "next", "ended"] = "next"
        if stage in began:
            state = "done"
            if stage == rollout.stage and rollout.state != "completed":
                state = "ended" if is_over else "current"
        n_control, n_treatment = (sizes or {}).get(stage, (None, None))
        steps.append(StageStep(percent, state, began.get(stage), ended.get(stage), n_control, n_treatment))
    return tuple(steps)


def _unbroken(rollout: Rollout, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Users whose windows hold no break, as the machine counts them; none where a variant has none."""
    for at in rollout.breaks if outcomes.height else ():
        outcomes = outcomes.filter((pl.col("exposed_at") >= at) | (pl.col("window_closes_at") <= at))
    both = {rollout.experiment.control, rollout.experiment.treatment}
    if outcomes.height and not both <= set(outcomes["variant"].unique().to_list()):
        return outcomes.clear()
    return outcomes


def _segments_of(outcomes: pl.DataFrame) -> tuple[str, ...]:
    """Segments of which anything was shown."""
    return tuple(
        s
        for s in _SEGMENTS
        if {f"{s}_impressions", f"{s}_clicks", "impressions"} <= set(outcomes.columns)
        and outcomes.height
        and (outcomes[f"{s}_impressions"].sum() or 0) > 0
    )


def _row(effect: MetricEffect, margin: float | None, *, is_goal: bool) -> EffectRow:
    known, fixed = effect.deciding, effect.fixed_cuped or effect.fixed
    interval = known.relative_interval
    verdict: Verdict = "early"
    if known.is_warm:
        is_up = known.interval.low > 0
        verdict = "unclear"
        if known.interval.excludes(0.0):
            verdict = "better" if is_up == (effect.metric.good == "up") else "worse"
    return EffectRow(
        metric=effect.metric,
        control=_finite(known.control),
        treatment=_finite(known.treatment),
        change=_finite(known.relative),
        fixed_low=None if fixed is None else _finite(fixed.relative_interval.low),
        fixed_high=None if fixed is None else _finite(fixed.relative_interval.high),
        low=_finite(interval.low),
        high=_finite(interval.high),
        verdict=verdict,
        margin=margin,
        is_goal=is_goal,
        p_adjusted=effect.p_adjusted,
    )


def _path(  # noqa: PLR0917
    rollout: Rollout,
    outcomes: pl.DataFrame,
    metric: Metric,
    margin: float | None,
    alpha: float,
    burn_in: BurnIn,
) -> EffectPath:
    experiment = rollout.experiment
    closing = outcomes["window_closes_at"].to_numpy().astype(np.float64)
    times = np.linspace(closing.min(), closing.max(), _N_LOOKS)
    path = follow_effect(
        outcomes,
        metric,
        times.tolist(),
        alpha=alpha,
        tuned_for=experiment.policy.tuned_for_users,
        burn_in=burn_in,
        control=experiment.control,
        treatment=experiment.treatment,
    )

    def values(column: np.ndarray) -> tuple[float | None, ...]:
        return tuple(
            _finite(float(value)) if warm else None for value, warm in zip(column, path.is_warm, strict=True)
        )

    return EffectPath(
        metric,
        tuple(times.tolist()),
        values(path.relative),
        values(path.relative_low),
        values(path.relative_high),
        margin,
    )


def _sample(rollout: Rollout, exposures: pl.DataFrame) -> SampleRatio | None:
    """The sample ratio of first exposures; cohorts are equal in every stage but with a hold-out."""
    if not exposures.height:
        return None
    first = exposures.sort("exposed_at", "user_id").unique("user_id", keep="first", maintain_order=True)
    return check_sample_ratio(
        (first["variant"] == rollout.experiment.treatment).to_numpy().astype(np.int64),
        first["stage"].to_numpy(),
        alpha=rollout.experiment.policy.alpha_sample_ratio,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
