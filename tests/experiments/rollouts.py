"""Experiments, rollouts and evidence that several tests begin with."""

import dataclasses

from tailwise.experiments import (
    EffectEvidence,
    EffectLimit,
    Evidence,
    Experiment,
    Policy,
    RateEvidence,
    Rollout,
    SampleEvidence,
    StageOverride,
    StageRule,
    transition,
)

POLICY = Policy(
    every_stage=StageRule(minimum_days=2, minimum_users=400),
    effects=(EffectLimit("clicks", 0.05), EffectLimit("head_purchases", 0.15)),
)


def experiment(name: str = "shelf", **changes) -> Experiment:
    plain = {"surface": "discovery", "control": "control", "treatment": "treatment", "policy": POLICY}
    return Experiment(name, **{**plain, **changes})


def running(stage: int = 0, **changes) -> Rollout:
    rollout = transition(Rollout(experiment(**changes)), "start", 0.0)
    for number in range(stage):
        rollout = transition(rollout, "ramp", number + 1.0)
    return rollout


def effect(metric: str, estimate: float, low: float, high: float) -> EffectEvidence:
    return EffectEvidence(metric, estimate, low, high, 0.025)


def evidence(**changes) -> Evidence:
    """Three days, 500 users per cohort and stage, nothing unusual."""
    plain = Evidence(
        at=259_200.0,
        days_in_stage=3.0,
        n_users=500,
        n_users_in_stage=500,
        limits=(effect("clicks", 0.0, -0.1, 0.1), effect("head_purchases", -0.02, -0.3, 0.3)),
        goals=(effect("tail_clicks", 0.1, -0.05, 0.3), effect("tail_purchases", 0.1, -0.3, 0.5)),
        rates=(
            RateEvidence("errors", 0.001, 0.001, 0.0, -0.002, 0.002),
            RateEvidence("fallbacks", 0.01, 0.01, 0.0, -0.01, 0.01),
            RateEvidence("slow", 0.02, 0.02, -0.03, -0.05, -0.01),
        ),
        sample=SampleEvidence(500, 500, 1.0),
    )
    return dataclasses.replace(plain, **changes)


def with_proof(percent: float, proof: str) -> Policy:
    return dataclasses.replace(POLICY, stages=(StageOverride(percent, proof=proof),))
