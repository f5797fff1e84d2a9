"""IPS, self-normalised IPS and the doubly robust estimator, each as what every list adds to a mean."""

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments.ope._log import LoggedLists
from tailwise.experiments.ope._reward_model import RewardModel

__all__ = ["dr_parts", "ips_parts", "preceding", "snips_parts", "tail_values"]


def ips_parts(log: LoggedLists, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ w r of each list: ``[n_lists]``; the mean is unbiased wherever the weights' assumption holds."""
    return log.sum_by_list(weights * log.reward)


def snips_parts(log: LoggedLists, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Self-normalised: for first slots, second slots, ... the weighted mean S_k of rewards, summed.

    Lists that end before a place are counted with nothing there. The mean of the parts is the
    estimate. Their spread is that of the jackknife over users: a slot moves S_k by w (r - S_k) over the
    weight of all *other* users, so that a heavy user does not hide behind a mean it makes itself.

    Args:
        log: Drawn lists.
        weights: ``[n_slots]``; among the k-th slots not all zero.

    Returns:
        ``[n_lists]``.
    """
    n_places = log.n_ordinals
    n_slots = np.bincount(log.ordinal)
    total = np.bincount(log.ordinal, weights)
    mean_reward = np.bincount(log.ordinal, weights * log.reward) / total  # S_k
    own = mean_reward[log.ordinal]
    key = log.cluster[log.list_of_slot] * n_places + log.ordinal
    of_user = np.bincount(key, weights)[key]
    others = np.maximum(total[log.ordinal] - of_user, 0.01 * total[log.ordinal])  # one user may have it all
    moved = n_slots[log.ordinal] * weights * (log.reward - own) / others
    parts = log.sum_by_list(own + moved)
    return parts + (float(own.sum()) / log.n_lists - float(parts.mean()))


def dr_parts(
    log: LoggedLists,
    weights: NDArray[np.float64],
    weights_before: NDArray[np.float64],
    predicted: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Doubly robust: Σ w (r + later - predicted) + w_before · expected, where predictions may be any.

    With w the product of ratios down to a slot and w_before that down to the slot above, the predictions
    cancel in expectation whatever they are (cascade doubly robust); good ones take away variance. With
    single ratios and w_before = 1 it is the ordinary doubly robust estimator of a slot.

    Args:
        log: Drawn lists.
        weights: ``[n_slots]``.
        weights_before: ``[n_slots]``; 1 for the first slot of a list.
        predicted: ``[n_slots]``; of the shown item: this slot's reward and, for cascade weights, those below.
        expected: ``[n_slots]``; the same, expected over the item that the policy would show.

    Returns:
        ``[n_lists]``.
    """
    parts = weights * (log.reward - predicted) + weights_before * expected
    return log.sum_by_list(parts)


def preceding(log: LoggedLists, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of the slot above, 1 for the first slot of a list: ``[n_slots]``."""
    return np.where(log.ordinal == 0, 1.0, np.roll(weights, 1))


def tail_values(log: LoggedLists, model: RewardModel, expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the slots below are expected to earn: one number per place and fold, from the other folds' lists.

    Args:
        log: Drawn lists.
        model: Cross-fitted.
        expected: ``[n_slots, n_folds]``; what the policy's own item would earn in the slot.

    Returns:
        ``[n_slots]``; sum over the list's own later slots.
    """
    n_places = log.n_ordinals
    fold_of_slot = model.fold[log.list_of_slot]
    later = np.zeros(log.propensity.size)
    for fold in range(model.n_folds):
        others = fold_of_slot != fold
        n_slots = np.bincount(log.ordinal[others], minlength=n_places)
        means = np.bincount(log.ordinal[others], expected[others, fold], n_places) / np.maximum(n_slots, 1)
        sums = np.append(0.0, np.cumsum(means))  # sums[k]: of the places before the k-th
        own = ~others
        lengths = np.bincount(log.list_of_slot, minlength=log.n_lists)[log.list_of_slot[own]]
        later[own] = sums[lengths] - sums[log.ordinal[own] + 1]
    return later
