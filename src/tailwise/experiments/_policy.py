"""What lets a rollout grow, what makes it wait, and what ends it: the policy file."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailwise._settings import from_plain, plain_of, read_toml_file, toml_of
from tailwise.experiments._metrics import METRICS

__all__ = [
    "EffectLimit",
    "Policy",
    "ServiceLimits",
    "StageOverride",
    "StageRule",
    "check_metric",
    "policy_as_toml",
    "read_policy",
]

Proof = Literal["no-harm-shown", "no-harm-seen", "non-inferior", "effect-shown"]
OnRed = Literal["rollback", "pause", "hold"]


@dataclass(frozen=True)
class StageRule:
    """What a stage needs before the next one may begin.

    Attributes:
        minimum_days: Days in the stage, >= 0. One day at least, so that every hour of the day was seen.
        minimum_users: Users of this stage with closed windows in the smaller cohort, >= 2. Ask
            :func:`plan_duration` for what the margins need.
        proof: ``no-harm-shown``: no guardrail is red; for first stages whose users are too few to tell more.
            ``no-harm-seen``: moreover no effect looks worse than its margin (its point estimate).
            ``non-inferior``: every confidence sequence excludes harm beyond the margin.
            ``effect-shown``: no harm seen, and a metric of the experiment is shown to be better.
        maximum_days: Days after which a stage that has not ramped asks for a person, > minimum_days.
    """

    minimum_days: float = 1.0
    minimum_users: int = 500
    proof: Proof = "no-harm-seen"
    maximum_days: float = 28.0

    def __post_init__(self) -> None:
        if not 0 <= self.minimum_days < math.inf:
            raise ValueError(f"minimum_days must be >= 0 and finite; got {self.minimum_days}.")
        if self.minimum_users < 2:
            raise ValueError(f"minimum_users must be >= 2; got {self.minimum_users}.")
        if not self.minimum_days < self.maximum_days:
            raise ValueError(
                f"maximum_days must be more than minimum_days, {self.minimum_days:g}; "
                f"got {self.maximum_days:g}."
            )


@dataclass(frozen=True)
class StageOverride:
    """Where one stage asks for something else than ``every_stage``.

    Attributes:
        percent: Which stage, as written in the experiment's ``ramp_percent``.
        minimum_days: None: as every stage.
        minimum_users: None: as every stage.
        proof: None: as every stage.
        maximum_days: None: as every stage.
    """

    percent: float
    minimum_days: float | None = None
    minimum_users: int | None = None
    proof: Proof | None = None
    maximum_days: float | None = None


@dataclass(frozen=True)
class EffectLimit:
    """How much worse than control a metric per assigned user may be.

    Attributes:
        metric: A name of the metric registry, of those counted per user.
        margin: Largest loss that is accepted, as a share of control's mean, in (0, 1).
        on_red: What a loss that is shown to be larger does.
    """

    metric: str
    margin: float
    on_red: OnRed = "rollback"

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if not 0 < self.margin < 1:
            raise ValueError(
                f"margin of {self.metric} must be a share in (0, 1); got {self.margin}. "
                "For five percent, write 0.05."
            )


@dataclass(frozen=True)
class ServiceLimits:
    """How the treatment's requests may behave.

    Attributes:
        error_excess: Share of requests that may fail beyond control's, in (0, 1): the model failed, or the
            request ended without a list.
        fallback_excess: Share that may be answered by the fallback beyond control's, in (0, 1).
        latency_p95_ms: 95 of 100 requests must be faster than this; > 0.
        window_hours: A user's requests count from the first on for so long, > 0. Short, so that a broken
            treatment is seen within hours.
        on_red: What a limit that is shown to be broken does.
    """

    error_excess: float = 0.005
    fallback_excess: float = 0.05
    latency_p95_ms: float = 500.0
    window_hours: float = 1.0
    on_red: OnRed = "rollback"

    def __post_init__(self) -> None:
        for name in ("error_excess", "fallback_excess"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be a share in (0, 1); got {getattr(self, name)}.")
        for name in ("latency_p95_ms", "window_hours"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0 and finite; got {getattr(self, name)}.")


def check_metric(name: str) -> None:
    """Refuse a name that decisions cannot rest on.

    Raises:
        ValueError: it is not in the registry, counts the catalogue, or more of it is not better.
    """
    known = [m.name for m in METRICS.values() if m.level == "user" and m.good == "up"]
    if name not in known:
        raise ValueError(f"metric must be one of {', '.join(known)}; got {name!r}.")


@dataclass(frozen=True)
class Policy:
    """Everything by which a machine, or a person who wants its advice, decides.

    Attributes:
        look_every_hours: How often the machine decides, > 0. The statistics stay valid at any rate.
        window_days: A user's outcomes count from the first exposure on for so long, > 0; the user
            enters the statistics when the window has closed.
        first_look_users: Users with closed windows, half of those of both cohorts together, before any
            effect is judged, >= 2: the sequences are approximations that need some users to begin with.
        first_look_active_users: Users of both cohorts who did what a metric counts, before it is
            judged; >= 1.
        tuned_for_users: Users of both cohorts at which the sequences are narrowest, > 0.
        alpha: Chance of ever rolling back although no effect limit is broken, in (0, 0.5); shared
            equally among the effect limits.
        alpha_effect: Chance of ever seeing an effect that is not there, in (0, 0.5); shared equally
            among the experiment's metrics.
        alpha_service: Chance of ever rolling back for errors, fallbacks or latency that are as they should
            be, in (0, 0.5); shared by the three.
        alpha_sample_ratio: Chance of ever taking equal cohorts for unequal, in (0, 0.5).
        last_step_needs_person: The machine proposes the step to 100 % and waits.
        on_sample_ratio: What unequal cohorts do. ``pause``, as the numbers no longer compare, and
            users may be missing because the treatment loses them.
        every_stage: See :class:`StageRule`.
        stages: Exceptions, by stage.
        effects: See :class:`EffectLimit`. Some loss of head purchases is the point of a treatment that
            lifts the tail; the margin says how much.
        service: See :class:`ServiceLimits`.
    """

    look_every_hours: float = 1.0
    window_days: float = 3.0
    first_look_users: int = 100
    first_look_active_users: int = 50
    tuned_for_users: int = 10_000
    alpha: float = 0.05
    alpha_effect: float = 0.05
    alpha_service: float = 0.01
    alpha_sample_ratio: float = 0.001
    last_step_needs_person: bool = False
    on_sample_ratio: OnRed = "pause"
    every_stage: StageRule = StageRule()
    stages: tuple[StageOverride, ...] = ()
    effects: tuple[EffectLimit, ...] = (
        EffectLimit("clicks", 0.05),
        EffectLimit("gmv", 0.1),
        EffectLimit("head_purchases", 0.15),
    )
    service: ServiceLimits = ServiceLimits()

    def __post_init__(self) -> None:
        for name in ("look_every_hours", "window_days"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0 and finite; got {getattr(self, name)}.")
        for name in ("alpha", "alpha_effect", "alpha_service", "alpha_sample_ratio"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"{name} must be a chance in (0, 0.5); got {getattr(self, name)}.")
        for name, least in (("first_look_users", 2), ("first_look_active_users", 1), ("tuned_for_users", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}; got {getattr(self, name)}.")
        for what, names in (
            ("effects", [limit.metric for limit in self.effects]),
            ("stages", [stage.percent for stage in self.stages]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} must name each once; got {names}.")
        for stage in self.stages:
            self.rule_for(stage.percent)  # an override that is out of range is refused here

    def rule_for(self, percent: float) -> StageRule:
        """Return what the stage of this size needs."""
        for stage in self.stages:
            if stage.percent == percent:
                own = {field.name: getattr(stage, field.name) for field in dataclasses.fields(StageRule)}
                changes = {name: value for name, value in own.items() if value is not None}
                return dataclasses.replace(self.every_stage, **changes)
        return self.every_stage


def read_policy(file: Path) -> Policy:
    """Read a policy file; what it leaves out keeps its default.

    Raises:
        ConfigError: it is not there, not TOML, or a setting is unknown, of the wrong kind or out of range.
    """
    return from_plain(Policy, read_toml_file(file, "policy"), "policy")


def policy_as_toml(policy: Policy) -> str:
    """Write every setting, so that a file can be begun from the defaults.

    Example:
        >>> print(policy_as_toml(Policy()).splitlines()[1])
        window_days = 3.0
    """
    return toml_of(plain_of(policy))
