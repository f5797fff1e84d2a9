"""From drawn lists and a policy to what the policy would have earned, or to a refusal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.experiments.ope._cautions import cautions
from tailwise.experiments.ope._diagnostics import diagnose_weights, refuse_unsupported
from tailwise.experiments.ope._estimators import dr_parts, ips_parts, preceding, snips_parts, tail_values
from tailwise.experiments.ope._intervals import clustered_mean, log_ratio_interval
from tailwise.experiments.ope._log import LoggedLists
from tailwise.experiments.ope._policies import TargetPolicy
from tailwise.experiments.ope._result import Estimate, Estimator, OffPolicyResult, ShownValue
from tailwise.experiments.ope._reward_model import RewardModel, fit_reward_model
from tailwise.experiments.ope._weights import Interaction, slot_weights

__all__ = ["evaluate_policy"]


def evaluate_policy(
    log: LoggedLists,
    policy: TargetPolicy,
    *,
    reward: str = "reward",
    clip: float | None = None,
    whole_lists: bool = False,
    max_unsupported: float = 0.05,
    n_folds: int = 5,
    confidence: float = 0.95,
    seed: int = 0,
) -> OffPolicyResult:
    """Estimate the mean reward per list if ``policy`` had made the lists.

    A log with conditional propensities is weighed by ``cascade`` weights, one with marginal propensities by
    ``position`` weights; in lists of one slot the two are the same.

    Args:
        log: Drawn lists; see :func:`check_logged_lists`.
        policy: What would have been shown.
        reward: What rewards are, in the plural, for sentences: clicks, euros.
        clip: Cut weights above this (> 0). Lowers the variance and biases the estimates: of rewards >= 0,
            IPS becomes too low. None: never.
        whole_lists: Give IPS with whole-list weights too, which holds without the cascade's assumption
            and varies more. Conditional propensities only.
        max_unsupported: Refuse a policy that puts significantly more than this share of its probability
            where the log has no support; in [0, 1).
        n_folds: Of users, for the reward model of the doubly robust estimate.
        confidence: Of the intervals.
        seed: Of the division into folds.

    Returns:
        :class:`OffPolicyResult`.

    Raises:
        ValueError: an argument is out of range.
        DataError: support is missing, the policy cannot give the log's kind of probability, or all lists
            are one user's.

    Example:
        >>> import polars as pl
        >>> from tailwise.experiments.ope import ItemProbabilities, check_logged_lists
        >>> log = pl.DataFrame(
        ...     {
        ...         "position": [1] * 8,
        ...         "item_id": list("abababab"),
        ...         "propensity": [0.5] * 8,
        ...         "reward": [1, 0, 1, 0, 1, 0, 1, 1],
        ...     }
        ... )
        >>> policy = ItemProbabilities(pl.Series(["a", "b"]), np.array([[0.75, 0.25]]))
        >>> result = evaluate_policy(check_logged_lists(log, propensities="marginal"), policy)
        >>> result.estimate("snips").value
        0.8125
    """
    _check(
        log,
        policy,
        clip=clip,
        whole_lists=whole_lists,
        max_unsupported=max_unsupported,
        confidence=confidence,
    )
    model = fit_reward_model(log, n_folds=n_folds, seed=seed)
    target, expected, never_shown = _ask(log, policy, model)
    interaction: Interaction = "cascade" if log.propensities == "conditional" else "position"
    weights = slot_weights(log, target, interaction)
    diagnostics = diagnose_weights(log, weights, never_shown)
    refuse_unsupported(diagnostics, max_unsupported=max_unsupported, policy=policy.name, unit=log.unit)
    estimates = []
    kinds: tuple[Interaction, ...] = (interaction, "list") if whole_lists else (interaction,)
    for kind in kinds:
        free = slot_weights(log, target, kind)
        cut = free if clip is None else np.minimum(free, clip)
        unclipped = _parts(log, free, kind, model, expected)
        for estimator, parts in _parts(log, cut, kind, model, expected).items():
            numbers = _numbers(log, parts, confidence)
            before = float(unclipped[estimator].mean())
            estimates.append(Estimate(estimator, kind, **numbers, unclipped_value=before))
    best = "snips" if expected is None else "dr"
    headline = next(e for e in estimates if (e.estimator, e.interaction) == (best, interaction))
    shown = clustered_mean(log.rewards_of_lists(), log.cluster, confidence=confidence)
    n_clipped = 0 if clip is None else int((weights > clip).sum())
    return OffPolicyResult(
        policy=policy.name,
        reward=reward,
        unit=log.unit,
        shown=ShownValue.of(shown, log.n_lists),
        not_drawn=_not_drawn(log, confidence),
        estimates=tuple(estimates),
        headline=headline,
        diagnostics=diagnostics,
        checks=log.checks,
        clip=clip,
        n_clipped=n_clipped,
        max_unsupported=max_unsupported,
        confidence=confidence,
        cautions=cautions(diagnostics, headline, clip=clip, n_clipped=n_clipped, unit=log.unit),
    )


def _check(
    log: LoggedLists,
    policy: TargetPolicy,
    *,
    clip: float | None,
    whole_lists: bool,
    max_unsupported: float,
    confidence: float,
) -> None:
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be > 0; got {clip}.")
    if not 0 <= max_unsupported < 1:
        raise ValueError(f"max_unsupported must be in [0, 1); got {max_unsupported}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1); got {confidence}.")
    if whole_lists and log.propensities != "conditional":
        raise ValueError("whole_lists must be False for marginal propensities; got True.")
    if log.propensities not in policy.propensities and int(log.position.max()) > 1:
        raise DataError(
            f"{policy.name} must give {log.propensities} probabilities, as the log has them; "
            f"got {policy.propensities[0]} ones only.\n"
            "  In the first place both are the same: pass max_position=1 to check_logged_lists."
        )
    if log.checks.n_users < 2:
        raise DataError(
            f"drawn lists must be of several users for an interval; got {log.checks.n_users} in "
            f"{log.n_lists:,} {log.unit}.\n  Give user_id if it has been left out by mistake."
        )


def _ask(
    log: LoggedLists, policy: TargetPolicy, model: RewardModel
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Target probabilities, predictions of the policy's own slots (per fold), never-shown mass."""
    if policy.item_ids is None:
        nowhere = np.full(log.item.shape, -1)
        return policy.probabilities(log, nowhere, np.empty((0, 0)))[0], None, None
    index = {item: code for code, item in enumerate(policy.item_ids.to_list())}
    code_of = np.array([index.get(item, -1) for item in log.item_ids.to_list()], np.int64)  # [n log items]
    values = np.zeros((len(policy.item_ids), model.n_folds + 1))
    values[:, -1] = 1.0  # never shown
    known = code_of >= 0
    values[code_of[known], :-1] = model.item_effects[:, known].T
    values[code_of[known], -1] = 0.0
    target, expected = policy.probabilities(log, code_of[log.item], values)
    return target, model.of_policy(log, expected[:, :-1]), expected[:, -1]


def _parts(
    log: LoggedLists,
    weights: NDArray[np.float64],
    interaction: Interaction,
    model: RewardModel,
    expected: NDArray[np.float64] | None,
) -> dict[Estimator, NDArray[np.float64]]:
    """What each list adds to the mean, for every estimator that these weights allow."""
    parts: dict[Estimator, NDArray[np.float64]] = {"ips": ips_parts(log, weights)}
    if interaction == "list":
        return parts  # intervals of self-normalised whole lists cover less than they say
    parts["snips"] = snips_parts(log, weights)
    if expected is None:
        return parts
    predicted = model.of_shown(log)
    own = expected[np.arange(len(expected)), model.fold[log.list_of_slot]]
    if interaction == "position":
        parts["dr"] = dr_parts(log, weights, np.ones_like(weights), predicted, own)
    else:
        later = tail_values(log, model, expected)
        parts["dr"] = dr_parts(log, weights, preceding(log, weights), predicted + later, own + later)
    return parts


def _numbers(log: LoggedLists, parts: NDArray[np.float64], confidence: float) -> dict[str, Any]:
    """Value, difference and change of an estimate, each with its interval."""
    shown = log.rewards_of_lists()
    mean = clustered_mean(parts, log.cluster, confidence=confidence)
    gap = clustered_mean(parts - shown, log.cluster, confidence=confidence)
    ratio = log_ratio_interval(parts, shown, log.cluster, confidence=confidence)
    change = (None, None, None) if ratio is None else tuple(end - 1 for end in ratio)
    return {
        "value": mean.value,
        "low": mean.low,
        "high": mean.high,
        "standard_error": mean.standard_error,
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        **dict(zip(("change", "change_low", "change_high"), change, strict=True)),
    }


def _not_drawn(log: LoggedLists, confidence: float) -> ShownValue | None:
    if not log.deterministic_rewards.size:
        return None
    mean = clustered_mean(log.deterministic_rewards, log.deterministic_clusters, confidence=confidence)
    return ShownValue.of(mean, log.deterministic_rewards.size)
