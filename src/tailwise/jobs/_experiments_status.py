"""An experiment's state as tables: what a person reads before deciding, and the same as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tailwise.experiments import (
    GUARDRAIL_METRICS,
    METRICS,
    PRIMARY_METRICS,
    AuditEntry,
    BurnIn,
    Effects,
    Experiment,
    MetricEffect,
    Rollout,
    estimate_effects,
    evidence_as_plain,
)
from tailwise.jobs._experiments_decider import Decider, Look
from tailwise.jobs._experiments_reading import ExperimentReader

__all__ = ["Cohort", "Status", "audit_table", "moment", "status_of", "status_tables"]

DAY_S = 86_400.0
_LIGHTS = {"green": "green", "amber": "yellow", "red": "bold red"}


@dataclass(frozen=True)
class Cohort:
    """Users of one stage and variant.

    Attributes:
        percent: Size of the stage.
        variant: Name of the model.
        exposed: Users first exposed in it.
        closed: Those whose windows have closed.
    """

    percent: float
    variant: str
    exposed: int
    closed: int


@dataclass(frozen=True, eq=False)
class Status:
    """Where an experiment stands.

    Attributes:
        rollout: State, stage, timeline.
        cohorts: By stage.
        effects: Of every primary and guardrail metric; None before there is a closed window in both
            cohorts.
        look: What the machine sees and would do; None before the start.
        at: Moment of it all, unix seconds.
    """

    rollout: Rollout
    cohorts: tuple[Cohort, ...]
    effects: Effects | None
    look: Look | None
    at: float

    def as_plain(self) -> dict[str, Any]:
        """Return nested plain values for JSON; numbers that are not finite become None."""
        experiment, look = self.rollout.experiment, self.look
        return {
            "name": experiment.name,
            "at": self.at,
            "state": self.rollout.state,
            "stage": self.rollout.stage,
            "percent": self.rollout.percent,
            "ramp_percent": list(experiment.ramp_percent),
            "timeline": [[m.at, m.action, m.stage] for m in self.rollout.timeline],
            "cohorts": [vars(cohort) for cohort in self.cohorts],
            "effects": [] if self.effects is None else [_plain(e) for e in self.effects.metrics],
            "evidence": None if look is None else evidence_as_plain(look.evidence),
            "guardrails": [] if look is None else [vars(result) for result in look.decision.guardrails],
            "next": None
            if look is None
            else {
                "action": look.decision.action,
                "reason": look.decision.reason,
                "needs_person": look.decision.needs_person,
            },
        }


def status_of(decider: Decider, name: str) -> Status:
    """Read everything that there is to say about an experiment now.

    Raises:
        ConfigError: there is no such experiment.
        LogUnavailableError: the database cannot be read now.
    """
    rollout, at = decider.store.get(name), decider.clock()
    if rollout.stage_began_at is None:
        return Status(rollout, (), None, None, at)
    look = decider.look(name)
    experiment = rollout.experiment
    goals = [METRICS[metric] for metric in experiment.metrics]
    metrics = tuple(dict.fromkeys([*PRIMARY_METRICS, *GUARDRAIL_METRICS, *goals]))
    reader = ExperimentReader(decider.database, experiment, decider.reader(experiment).items, metrics)
    reader.refresh()
    outcomes = reader.outcomes(at)
    cohorts = _cohorts(experiment, reader.exposures(), outcomes)
    return Status(rollout, cohorts, _effects(rollout, outcomes, reader), look, at)


def _cohorts(experiment: Experiment, exposures: pl.DataFrame, outcomes: pl.DataFrame) -> tuple[Cohort, ...]:
    return tuple(
        Cohort(
            percent,
            variant,
            *(
                table.filter((pl.col("stage") == stage) & (pl.col("variant") == variant)).height
                for table in (exposures, outcomes)
            ),
        )
        for stage, percent in enumerate(experiment.ramp_percent)
        for variant in (experiment.control, experiment.treatment)
        if exposures.filter(pl.col("stage") == stage).height
    )


def _effects(rollout: Rollout, outcomes: pl.DataFrame, reader: ExperimentReader) -> Effects | None:
    """Effects over users whose windows no break cut, as the machine counts them."""
    experiment, policy = rollout.experiment, rollout.experiment.policy
    for at in rollout.breaks:
        outcomes = outcomes.filter((pl.col("exposed_at") >= at) | (pl.col("window_closes_at") <= at))
    if outcomes["variant"].n_unique() < 2:
        return None
    return estimate_effects(
        outcomes,
        reader.metrics,
        alpha=policy.alpha,
        tuned_for=policy.tuned_for_users,
        burn_in=BurnIn(users=2 * policy.first_look_users, active_users=policy.first_look_active_users),
        control=experiment.control,
        treatment=experiment.treatment,
    )


def status_tables(status: Status) -> RenderableType:
    """Write a status for a terminal."""
    rollout = status.rollout
    experiment = rollout.experiment
    began = rollout.stage_began_at
    lines = [
        f"{experiment.name}: {rollout.state}, {rollout.percent:g} % of users get {experiment.treatment!r}, "
        f"the others {experiment.control!r}, on {experiment.surface}.",
        f"Ramp {', '.join(f'{p:g}' for p in experiment.ramp_percent)} %, stage {rollout.stage}"
        + ("." if began is None else f" since {moment(began)}; now {moment(status.at)}."),
    ]
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if status.cohorts:
        parts.append(_cohort_table(status.cohorts))
    if status.effects is not None:
        parts.append(_effect_table(status.effects))
    if status.look is None:
        parts.append(Text("Not started; nothing is served and nothing counted."))
        return Group(*parts)
    decision = status.look.decision
    parts.append(_guardrail_table(decision.guardrails))
    waits = " A person is waited for." if decision.needs_person else ""
    parts.append(Text(f"The machine would {decision.action}: {decision.reason}{waits}"))
    return Group(*parts)


def _cohort_table(cohorts: Sequence[Cohort]) -> Table:
    table = Table("stage", "model", "users exposed", "windows closed", title="Cohorts", title_justify="left")
    for cohort in cohorts:
        table.add_row(f"{cohort.percent:g} %", cohort.variant, f"{cohort.exposed:,}", f"{cohort.closed:,}")
    return table


def _effect_table(effects: Effects) -> Table:
    table = Table(
        "metric", "control", "treatment", "change", "at any look", "at one look", "p, Holm",
        title=f"Effects per assigned user, {effects.n_users:,} users, {1 - effects.alpha:.0%} intervals",
        title_justify="left",
    )  # fmt: skip
    for effect in effects.metrics:
        found = effect.deciding
        fixed = effect.fixed_cuped or effect.fixed
        at_one = (
            "–" if fixed is None else _interval(fixed.relative_interval.low, fixed.relative_interval.high)
        )
        table.add_row(
            effect.metric.name,
            _number(found.control),
            _number(found.treatment),
            _share(found.relative),
            _interval(found.relative_interval.low, found.relative_interval.high),
            at_one,
            f"{effect.p_adjusted:.2g}",
        )
    return table


def _guardrail_table(guardrails: Sequence[Any]) -> Table:
    table = Table("guardrail", "light", "why", title="Guardrails", title_justify="left")
    for result in guardrails:
        table.add_row(result.name, Text(result.light, style=_LIGHTS[result.light]), Text(result.reason))
    return table


def audit_table(entries: Sequence[AuditEntry], experiment: Experiment) -> Table:
    """Write an audit log, oldest first, for a terminal."""
    table = Table("when", "who", "what", "treatment", "why", title=f"Audit log of {experiment.name}")
    for entry in sorted(entries, key=lambda each: each.seq):
        percent = f"{experiment.ramp_percent[entry.stage_after]:g} %"
        stands = percent if entry.state_after in ("running", "completed") else entry.state_after
        table.add_row(moment(entry.at), entry.by, entry.action, stands, Text(entry.reason))
    return table


def moment(at: float) -> str:
    """Write a moment in UTC, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _plain(effect: MetricEffect) -> dict[str, Any]:
    found, fixed = effect.deciding, effect.fixed_cuped or effect.fixed
    values: dict[str, Any] = {
        "metric": effect.metric.name,
        "kind": effect.metric.kind,
        "unit": effect.metric.unit,
        "control": found.control,
        "treatment": found.treatment,
        "relative": found.relative,
        "anytime_low": found.relative_interval.low,
        "anytime_high": found.relative_interval.high,
        "fixed_low": None if fixed is None else fixed.relative_interval.low,
        "fixed_high": None if fixed is None else fixed.relative_interval.high,
        "p_adjusted": effect.p_adjusted,
        "is_warm": found.is_warm,
    }
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _number(value: float) -> str:
    return f"{value:,.4g}" if math.isfinite(value) else "–"


def _share(value: float) -> str:
    return f"{value:+.1%}" if math.isfinite(value) else "–"


def _interval(low: float, high: float) -> str:
    if not (math.isfinite(low) or math.isfinite(high)):
        return "too early"
    return f"{_share(low) if math.isfinite(low) else '-∞'} to {_share(high) if math.isfinite(high) else '∞'}"
