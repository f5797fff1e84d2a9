"""Assignments and the event log in; effects, guardrails and decisions out.

Enters, of the statistics: events and first exposures (:func:`user_outcomes`), or a table with a row per
assigned user. Leaves: :class:`Effects`, every metric with a fixed-horizon interval and a confidence
sequence that allows peeking; :class:`SampleRatio`; :class:`Duration`. A runnable line::

    >>> import numpy as np
    >>> check_sample_ratio(np.tile([0, 1], 500)).is_mismatch
    False

Enters, of the rollout: an :class:`Experiment` with its :class:`Policy`, and :class:`Evidence`. Leaves: who
is assigned what (:class:`StoredAssignment`), and a :class:`Decision` in the audit log of
:class:`ExperimentStore`.

What the numbers mean is in docs/experiments-statistics.md, how a rollout goes in docs/experiments.md.
"""

from tailwise.experiments._anytime import AnytimePath, BurnIn, anytime_path
from tailwise.experiments._arrays import OutcomeArrays
from tailwise.experiments._assignment import HashAssignment, bucket, cohorts_of
from tailwise.experiments._confidence_sequence import critical_value, information_per_user, log_evidence
from tailwise.experiments._describe import CatalogueShare, describe_catalogue, describe_groups
from tailwise.experiments._duration import Duration, PrePeriod, plan_duration
from tailwise.experiments._effects import (
    AnytimeEffect,
    Effects,
    MetricEffect,
    estimate_effects,
    follow_effect,
)
from tailwise.experiments._evidence import Enrolled, evidence_at, evidence_path
from tailwise.experiments._experiment import (
    Experiment,
    experiment_as_json,
    experiment_as_toml,
    experiment_from_json,
    parse_ramp,
    read_experiment,
)
from tailwise.experiments._guardrails import (
    EffectEvidence,
    Evidence,
    GuardrailResult,
    RateEvidence,
    SampleEvidence,
    check_guardrails,
    evidence_as_plain,
)
from tailwise.experiments._intervals import Interval
from tailwise.experiments._metrics import GUARDRAIL_METRICS, METRICS, PRIMARY_METRICS, Metric, metrics_of_kind
from tailwise.experiments._multiple import holm
from tailwise.experiments._policy import (
    EffectLimit,
    Policy,
    ServiceLimits,
    StageOverride,
    StageRule,
    policy_as_toml,
    read_policy,
)
from tailwise.experiments._rollout import (
    Decision,
    IllegalTransitionError,
    Moment,
    Rollout,
    decide,
    legal_actions,
    transition,
)
from tailwise.experiments._sample_ratio import SampleRatio, check_sample_ratio, follow_sample_ratio
from tailwise.experiments._simulate import SimulatedDecision, SimulatedRollout, run_experiment
from tailwise.experiments._store import AuditEntry, ConflictError, ExperimentStore
from tailwise.experiments._stored_assignment import StoredAssignment
from tailwise.experiments._stratified import FixedEffect, StageSize, fixed_effect, stage_sizes
from tailwise.experiments._user_model import Response, UserModel, UserModelSettings
from tailwise.experiments._user_outcomes import user_outcomes
from tailwise.experiments._world import (
    SCENARIOS,
    Behaviour,
    Population,
    Scenario,
    World,
    population,
    simulate_windows,
)

__all__ = [
    "GUARDRAIL_METRICS",
    "METRICS",
    "PRIMARY_METRICS",
    "SCENARIOS",
    "AnytimeEffect",
    "AnytimePath",
    "AuditEntry",
    "Behaviour",
    "BurnIn",
    "CatalogueShare",
    "ConflictError",
    "Decision",
    "Duration",
    "EffectEvidence",
    "EffectLimit",
    "Effects",
    "Enrolled",
    "Evidence",
    "Experiment",
    "ExperimentStore",
    "FixedEffect",
    "GuardrailResult",
    "HashAssignment",
    "IllegalTransitionError",
    "Interval",
    "Metric",
    "MetricEffect",
    "Moment",
    "OutcomeArrays",
    "Policy",
    "Population",
    "PrePeriod",
    "RateEvidence",
    "Response",
    "Rollout",
    "SampleEvidence",
    "SampleRatio",
    "Scenario",
    "ServiceLimits",
    "SimulatedDecision",
    "SimulatedRollout",
    "StageOverride",
    "StageRule",
    "StageSize",
    "StoredAssignment",
    "UserModel",
    "UserModelSettings",
    "World",
    "anytime_path",
    "bucket",
    "check_guardrails",
    "check_sample_ratio",
    "cohorts_of",
    "critical_value",
    "decide",
    "describe_catalogue",
    "describe_groups",
    "estimate_effects",
    "evidence_as_plain",
    "evidence_at",
    "evidence_path",
    "experiment_as_json",
    "experiment_as_toml",
    "experiment_from_json",
    "fixed_effect",
    "follow_effect",
    "follow_sample_ratio",
    "holm",
    "information_per_user",
    "legal_actions",
    "log_evidence",
    "metrics_of_kind",
    "parse_ramp",
    "plan_duration",
    "policy_as_toml",
    "population",
    "read_experiment",
    "read_policy",
    "run_experiment",
    "simulate_windows",
    "stage_sizes",
    "transition",
    "user_outcomes",
]
