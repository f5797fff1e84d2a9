"""Evidence in, lights out: what each guardrail says, in words a person can check against the numbers."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from tailwise._settings import plain_of
from tailwise.experiments._policy import EffectLimit, OnRed, Policy

__all__ = [
    "EffectEvidence",
    "Evidence",
    "GuardrailResult",
    "RateEvidence",
    "SampleEvidence",
    "check_guardrails",
    "evidence_as_plain",
]

Light = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class EffectEvidence:
    """The change of a metric per assigned user, as a share of control's mean.

    Attributes:
        metric: A name of the metric registry.
        effect: Estimate over all stages, each compared within itself; -0.1 is ten percent less. NaN where
            there is none.
        low: Lower end of the confidence sequence, possibly ``-inf``.
        high: Upper end, possibly ``inf``.
        alpha: Chance that the truth is ever below ``low``; that it is ever above ``high`` is another.
    """

    metric: str
    effect: float
    low: float
    high: float
    alpha: float


@dataclass(frozen=True)
class RateEvidence:
    """The share of a user's requests to which something bad happened, averaged over users.

    Attributes:
        name: ``errors``, ``fallbacks`` or ``slow``.
        control: Mean share in the control cohort, 0 to 1. NaN where there were no requests.
        treatment: Mean share in the treatment's cohort.
        excess: What is limited: treatment less control; of ``slow``, treatment less 0.05.
        low: Lower end of the confidence sequence of ``excess``.
        high: Upper end.
    """

    name: Literal["errors", "fallbacks", "slow"]
    control: float
    treatment: float
    excess: float
    low: float
    high: float


@dataclass(frozen=True)
class SampleEvidence:
    """First exposures of the two cohorts, which should be equally many in every stage.

    Attributes:
        n_control: Users first exposed in the control cohort.
        n_treatment: Users first exposed in the treatment's.
        p_value: Of the sequential test, valid at any look; 1 where there is nothing to test.
    """

    n_control: int
    n_treatment: int
    p_value: float


@dataclass(frozen=True)
class Evidence:
    """Everything that a decision is based on.

    Attributes:
        at: Moment of the look, unix seconds.
        days_in_stage: Days since the stage began or was resumed.
        n_users: Users with closed windows in the smaller cohort, over all stages.
        n_users_in_stage: Those of this stage.
        limits: One for each of ``policy.effects``, each side at ``alpha`` over their number.
        goals: One for each metric of the experiment, each side at ``alpha_effect`` over their number.
        rates: Errors, fallbacks, slow requests.
        sample: First exposures.
    """

    at: float
    days_in_stage: float
    n_users: int
    n_users_in_stage: int
    limits: tuple[EffectEvidence, ...]
    goals: tuple[EffectEvidence, ...]
    rates: tuple[RateEvidence, ...]
    sample: SampleEvidence


@dataclass(frozen=True)
class GuardrailResult:
    """What one guardrail says.

    Attributes:
        name: The metric, ``errors``, ``fallbacks``, ``latency_p95`` or ``sample_ratio``.
        light: ``red``: harm beyond the limit is shown. ``amber``: it looks like that, or cannot be judged
            yet. ``green``: it does not.
        reason: One sentence with its numbers.
        is_excluded: Harm beyond the limit is shown *not* to be there.
        on_red: What red does.
    """

    name: str
    light: Light
    reason: str
    is_excluded: bool
    on_red: OnRed


def check_guardrails(evidence: Evidence, policy: Policy) -> tuple[GuardrailResult, ...]:
    """Turn evidence into lights, in the policy's order: effects, service, sample ratio.

    Raises:
        ValueError: evidence is missing for one of the policy's effect limits.
    """
    by_metric = {effect.metric: effect for effect in evidence.limits}
    missing = [limit.metric for limit in policy.effects if limit.metric not in by_metric]
    if missing:
        raise ValueError(f"limits must hold evidence on every effect limit; got none on {missing}.")
    return (
        *(_of_effect(limit, by_metric[limit.metric], evidence.n_users, policy) for limit in policy.effects),
        *(_of_rate(rate, policy) for rate in evidence.rates),
        _of_sample(evidence.sample, policy),
    )


def _of_effect(limit: EffectLimit, found: EffectEvidence, n_users: int, policy: Policy) -> GuardrailResult:
    def result(light: Light, reason: str, *, is_excluded: bool = False) -> GuardrailResult:
        return GuardrailResult(limit.metric, light, reason, is_excluded, limit.on_red)

    name, accepted = limit.metric, f"a loss of {limit.margin:.1%}, which is accepted"
    if not math.isfinite(found.effect) or not (math.isfinite(found.low) or math.isfinite(found.high)):
        return result(
            "amber",
            f"{name}: too early to judge; {n_users:,} users per cohort have closed windows "
            f"({policy.first_look_users:,} are needed, {policy.first_look_active_users:,} of both with "
            "something to count).",
        )
    seen = f"{name} changed by {found.effect:+.1%} (between {found.low:+.1%} and {found.high:+.1%})"
    if found.high < -limit.margin:
        return result("red", f"{seen}: shown to be worse than {accepted}.")
    if found.effect < -limit.margin:
        return result("amber", f"{seen}: looks worse than {accepted}, but that is not shown.")
    if found.low > -limit.margin:
        return result("green", f"{seen}: shown to be better than {accepted}.", is_excluded=True)
    return result("green", f"{seen}: does not look worse than {accepted}; worse is not excluded yet.")


def _of_rate(rate: RateEvidence, policy: Policy) -> GuardrailResult:
    limits = policy.service
    if rate.name == "slow":
        name, limit = "latency_p95", 0.0
        seen = (
            f"{rate.treatment:.2%} of the treatment's requests took longer than {limits.latency_p95_ms:g} ms "
            f"(control: {rate.control:.2%}); 5 % may"
        )
    else:
        name = rate.name
        limit = limits.error_excess if rate.name == "errors" else limits.fallback_excess
        seen = (
            f"{rate.name}: {rate.treatment:.2%} of the treatment's requests, {rate.control:.2%} of "
            f"control's; {limit:.2%} more are accepted"
        )

    def result(light: Light, words: str, *, is_excluded: bool = False) -> GuardrailResult:
        return GuardrailResult(name, light, f"{seen}. {words}", is_excluded, limits.on_red)

    if math.isnan(rate.excess):
        return GuardrailResult(name, "amber", f"{name}: no requests yet.", False, limits.on_red)
    if rate.low > limit:
        return result("red", "Shown to be too many.")
    if rate.excess > limit:
        return result("amber", "Looks like too many, but that is not shown.")
    return result("green", "Within the limit.", is_excluded=rate.high < limit)


def _of_sample(sample: SampleEvidence, policy: Policy) -> GuardrailResult:
    seen = (
        f"first exposures: {sample.n_treatment:,} in treatment, {sample.n_control:,} in control "
        f"(sequential p = {sample.p_value:.2g})"
    )
    light: Light = "green"
    words = "as equal cohorts would be"
    if sample.p_value < policy.alpha_sample_ratio:
        light, words = "red", "the cohorts are not equal, so nothing else here can be trusted"
    elif sample.p_value < 10 * policy.alpha_sample_ratio:
        light, words = "amber", "close to unequal"
    return GuardrailResult(
        "sample_ratio", light, f"{seen}: {words}.", light == "green", policy.on_sample_ratio
    )


def evidence_as_plain(evidence: Evidence) -> dict[str, Any]:
    """Return nested plain values for JSON; numbers that are not finite become None."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: finite(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [finite(entry) for entry in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    plain: dict[str, Any] = finite(plain_of(evidence))
    return plain
