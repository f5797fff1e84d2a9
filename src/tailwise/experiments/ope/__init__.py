"""Off-policy evaluation: lists drawn by one policy in, what another would have earned out, or a refusal.

One line: ``evaluate_policy(check_logged_lists(pl.read_parquet("log.parquet")), policy)``.
"""

from tailwise.experiments.ope._diagnostics import SlotDiagnostics, effective_sample_size, pareto_k
from tailwise.experiments.ope._evaluate import evaluate_policy
from tailwise.experiments.ope._exported import EXPORTED_REWARDS, ExportedReward, exported_slots
from tailwise.experiments.ope._log import LogChecks, LoggedLists, Propensities, check_logged_lists
from tailwise.experiments.ope._open_bandit import open_bandit_log
from tailwise.experiments.ope._plackett_luce import PlackettLuce
from tailwise.experiments.ope._policies import (
    FixedLists,
    GivenProbabilities,
    ItemProbabilities,
    TargetPolicy,
)
from tailwise.experiments.ope._result import Estimate, Estimator, OffPolicyResult, ShownValue
from tailwise.experiments.ope._weights import Interaction
from tailwise.experiments.ope._words import estimates_table, sentence, support_table

__all__ = [
    "EXPORTED_REWARDS",
    "Estimate",
    "Estimator",
    "ExportedReward",
    "FixedLists",
    "GivenProbabilities",
    "Interaction",
    "ItemProbabilities",
    "LogChecks",
    "LoggedLists",
    "OffPolicyResult",
    "PlackettLuce",
    "Propensities",
    "ShownValue",
    "SlotDiagnostics",
    "TargetPolicy",
    "check_logged_lists",
    "effective_sample_size",
    "estimates_table",
    "evaluate_policy",
    "exported_slots",
    "open_bandit_log",
    "pareto_k",
    "sentence",
    "support_table",
]
