"""The rollout as a state machine, and the pure function that decides what it should do next."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from tailwise.errors import TailwiseError
from tailwise.experiments._experiment import Experiment
from tailwise.experiments._guardrails import Evidence, GuardrailResult, check_guardrails
from tailwise.experiments._policy import Policy, StageRule

__all__ = [
    "ACTIONS",
    "STATES",
    "Action",
    "Decision",
    "IllegalTransitionError",
    "Moment",
    "Rollout",
    "State",
    "decide",
    "legal_actions",
    "transition",
]

State = Literal["draft", "running", "paused", "completed", "rolled_back", "stopped"]
STATES: tuple[State, ...] = ("draft", "running", "paused", "completed", "rolled_back", "stopped")
Action = Literal["start", "ramp", "hold", "pause", "resume", "complete", "stop", "rollback"]
ACTIONS: tuple[Action, ...] = ("start", "ramp", "hold", "pause", "resume", "complete", "stop", "rollback")

_LEGAL: dict[State, tuple[Action, ...]] = {
    "draft": ("start", "stop"),
    "running": ("ramp", "hold", "pause", "complete", "stop", "rollback"),
    "paused": ("hold", "resume", "stop", "rollback"),
    "completed": ("hold", "stop", "rollback"),
    "rolled_back": ("rollback",),  # again: changes nothing
    "stopped": ("stop",),  # again: changes nothing
}
_AFTER: dict[Action, State] = {
    "start": "running",
    "pause": "paused",
    "resume": "running",
    "complete": "completed",
    "stop": "stopped",
    "rollback": "rolled_back",
}


class IllegalTransitionError(TailwiseError):
    """A rollout was asked for what its state does not allow; the message says what it does."""


@dataclass(frozen=True)
class Moment:
    """One change of a rollout.

    Attributes:
        at: Unix seconds.
        action: What was done.
        stage: Stage from then on.
    """

    at: float
    action: Action
    stage: int


@dataclass(frozen=True)
class Rollout:
    """An experiment and where it stands.

    Attributes:
        experiment: Its definition.
        state: ``draft``: nothing is served yet. ``running``: the stage's cohorts are served and counted.
            ``paused``: everybody is served control, nobody is counted; it can go on. ``completed``: the last
            stage is served for good, hold-out included, and nothing more is decided. ``rolled_back``,
            ``stopped``: everybody is served control; the end, with and without a verdict.
        stage: 0 for the first.
        version: Grows with every change.
        timeline: The changes, oldest first.
    """

    experiment: Experiment
    state: State = "draft"
    stage: int = 0
    version: int = 0
    timeline: tuple[Moment, ...] = ()

    @property
    def is_live(self) -> bool:
        """It owns its part of the layer."""
        return self.state in ("running", "paused", "completed")

    @property
    def serves_treatment(self) -> bool:
        """Somebody is served the treatment."""
        return self.state in ("running", "completed")

    @property
    def percent(self) -> float:
        """Share of users served the treatment now, of the experiment's part of its layer; 0 to 100."""
        if not self.serves_treatment:
            return 0.0
        share = self.experiment.ramp_percent[self.stage]
        return share if share < 100 else 100 - self.experiment.hold_out_percent

    @property
    def stage_began_at(self) -> float | None:
        """When the stage began or was resumed, unix seconds; None before the start."""
        began = [moment.at for moment in self.timeline if moment.action in ("start", "ramp", "resume")]
        return began[-1] if began else None

    @property
    def breaks(self) -> tuple[float, ...]:
        """Moments at which counted users may have begun to be served another model, unix seconds.

        A pause and its end, the step to 100 %, the end. A user whose window holds one is left out, in
        both cohorts alike: what came after is not what the user was assigned.
        """
        ramp = self.experiment.ramp_percent
        return tuple(
            moment.at
            for moment in self.timeline
            if moment.action in ("pause", "resume", "stop", "rollback")
            or (moment.action == "ramp" and ramp[moment.stage] == 100)
        )


def legal_actions(rollout: Rollout) -> tuple[Action, ...]:
    """Return what may be done now."""
    is_last = rollout.stage == rollout.experiment.last_stage
    without = {"ramp"} if is_last else {"complete"}
    return tuple(action for action in _LEGAL[rollout.state] if action not in without)


def transition(rollout: Rollout, action: Action, at: float) -> Rollout:
    """Return the rollout after an action; ``hold``, and ending twice, change nothing.

    Args:
        rollout: As it is.
        action: What to do.
        at: Now, unix seconds.

    Raises:
        IllegalTransitionError: the state does not allow it.
    """
    legal = legal_actions(rollout)
    if action not in legal:
        raise IllegalTransitionError(
            f"what is done to {rollout.experiment.name!r} must be {' or '.join(legal)}, as it is "
            f"{rollout.state} in stage {rollout.stage} of 0..{rollout.experiment.last_stage}; got {action!r}."
        )
    if action == "hold" or _AFTER.get(action) == rollout.state:
        return rollout
    stage = rollout.stage + (action == "ramp")
    return dataclasses.replace(
        rollout,
        state=_AFTER.get(action, rollout.state),
        stage=stage,
        version=rollout.version + 1,
        timeline=(*rollout.timeline, Moment(at, action, stage)),
    )


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    Attributes:
        action: ``ramp``, ``hold``, ``pause``, ``rollback`` or ``complete``.
        reason: A sentence or two for a person.
        guardrails: What they said.
        needs_person: A person is waited for: to take the last step, or because the stage takes too long.
    """

    action: Action
    reason: str
    guardrails: tuple[GuardrailResult, ...]
    needs_person: bool = False


def decide(evidence: Evidence, policy: Policy, rollout: Rollout) -> Decision:
    """Decide; a pure function of what was seen, what was agreed, and where the rollout stands.

    In this order: red guardrails act as the policy says; amber ones hold; then the stage's minima; then its
    proof; then the next stage, or the end.

    Raises:
        ValueError: evidence is missing for one of the policy's effect limits.
    """
    guardrails = check_guardrails(evidence, policy)
    if rollout.state != "running":
        return Decision("hold", f"Nothing to decide while it is {rollout.state}.", guardrails)
    experiment, stage = rollout.experiment, rollout.stage
    rule = policy.rule_for(experiment.ramp_percent[stage])
    red = [result for result in guardrails if result.light == "red"]
    for severest in ("rollback", "pause"):
        causes = [result.reason for result in red if result.on_red == severest]
        if causes:
            return Decision(severest, " ".join(causes), guardrails, needs_person=severest == "pause")
    waiting = [result.reason for result in guardrails if _holds(result, rule, policy)]
    waiting = waiting or _missing(evidence, policy, rollout)
    if waiting:
        is_late = evidence.days_in_stage > rule.maximum_days
        late = f"More than {rule.maximum_days:g} days in this stage. " if is_late else ""
        return Decision("hold", late + " ".join(waiting), guardrails, needs_person=is_late or bool(red))
    why = {
        "no-harm-shown": "No harm shown.",
        "no-harm-seen": "No harm seen.",
        "non-inferior": "Every guardrail excludes harm beyond its margin.",
        "effect-shown": f"Shown to be better: {', '.join(_shown(evidence))}.",
    }[rule.proof]
    if stage == experiment.last_stage:
        return Decision("complete", why, guardrails)
    following = experiment.ramp_percent[stage + 1]
    if following == 100 and policy.last_step_needs_person:
        return Decision(
            "hold", f"{why} A person has to take the step to 100 %.", guardrails, needs_person=True
        )
    return Decision("ramp", f"{why} On to {following:g} %.", guardrails)


def _holds(result: GuardrailResult, rule: StageRule, policy: Policy) -> bool:
    """Whether this light keeps the stage from ending; where harm has to be shown, amber effects do not."""
    is_effect = result.name in {limit.metric for limit in policy.effects}
    return result.light == "red" or (
        result.light == "amber" and not (is_effect and rule.proof == "no-harm-shown")
    )


def _missing(evidence: Evidence, policy: Policy, rollout: Rollout) -> list[str]:
    """What the stage's rule still asks for."""
    experiment = rollout.experiment
    percent = experiment.ramp_percent[rollout.stage]
    rule = policy.rule_for(percent)
    if evidence.days_in_stage < rule.minimum_days:
        return [f"{evidence.days_in_stage:.1f} of {rule.minimum_days:g} days in this stage."]
    has_control = percent < 100 or experiment.hold_out_percent > 0
    if has_control and evidence.n_users_in_stage < rule.minimum_users:
        return [f"{evidence.n_users_in_stage:,} of {rule.minimum_users:,} users per cohort in this stage."]
    if rule.proof == "non-inferior":
        excluded = {result.name for result in check_guardrails(evidence, policy) if result.is_excluded}
        open_ones = [limit.metric for limit in policy.effects if limit.metric not in excluded]
        return [f"Harm beyond the margin is not excluded in {', '.join(open_ones)}."] if open_ones else []
    if rule.proof == "effect-shown" and not _shown(evidence):
        return [f"None of {', '.join(goal.metric for goal in evidence.goals)} is shown to be better."]
    return []


def _shown(evidence: Evidence) -> list[str]:
    return [goal.metric for goal in evidence.goals if goal.low > 0]
