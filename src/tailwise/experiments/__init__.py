"""Assignments and the event log in; effects, guardrails and decisions out.

Enters, of the statistics: events and first exposures (:func:`user_outcomes`), or a table with a row per
assigned user. Leaves: :class:`Effects`, every metric with a fixed-horizon interval and a confidence
sequence that allows peeking; :class:`SampleRatio`; :class:`Duration`. A runnable line::

    >>> import numpy as np
    >>> check_sample_ratio(np.tile([0, 1], 500)).is_mismatch
    False

What the numbers mean is in docs/experiments-statistics.md.
"""

from tailwise.experiments._anytime import AnytimePath, BurnIn, anytime_path
from tailwise.experiments._arrays import OutcomeArrays
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
from tailwise.experiments._intervals import Interval
from tailwise.experiments._metrics import (
    GUARDRAIL_METRICS,
    METRICS,
    PRIMARY_METRICS,
    Metric,
    metrics_of_kind,
)
from tailwise.experiments._multiple import holm
from tailwise.experiments._sample_ratio import SampleRatio, check_sample_ratio, follow_sample_ratio
from tailwise.experiments._stratified import FixedEffect, StageSize, fixed_effect, stage_sizes
from tailwise.experiments._user_outcomes import user_outcomes

__all__ = [
    "GUARDRAIL_METRICS",
    "METRICS",
    "PRIMARY_METRICS",
    "AnytimeEffect",
    "AnytimePath",
    "BurnIn",
    "CatalogueShare",
    "Duration",
    "Effects",
    "FixedEffect",
    "Interval",
    "Metric",
    "MetricEffect",
    "OutcomeArrays",
    "PrePeriod",
    "SampleRatio",
    "StageSize",
    "anytime_path",
    "check_sample_ratio",
    "critical_value",
    "describe_catalogue",
    "describe_groups",
    "estimate_effects",
    "fixed_effect",
    "follow_effect",
    "follow_sample_ratio",
    "holm",
    "information_per_user",
    "log_evidence",
    "metrics_of_kind",
    "plan_duration",
    "stage_sizes",
    "user_outcomes",
]
