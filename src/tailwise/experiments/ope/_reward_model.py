"""What a slot earns by its item and place: a small model fitted on other users' lists."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.experiments.ope._log import LoggedLists

__all__ = ["RewardModel", "fit_reward_model"]


@dataclass(frozen=True, eq=False)
class RewardModel:
    """Expected reward = mean of the place + effect of the item, one pair per fold, from the other folds.

    An item's effect is its mean deviation from its places' means, shrunk towards 0 by n / (n + κ), where n
    counts its slots and κ is the variance within items over that between them (by moments). An item that
    the other folds never show has effect 0.

    Attributes:
        fold: ``[n_lists]`` int64; lists of one user share a fold.
        place_means: ``[n_folds, n_places]``; place is position - 1.
        item_effects: ``[n_folds, n_items]``.
        shrinkage: ``[n_folds]``; κ in slots, infinite where items do not differ beyond chance.
    """

    fold: NDArray[np.int64]
    place_means: NDArray[np.float64]
    item_effects: NDArray[np.float64]
    shrinkage: NDArray[np.float64]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.shrinkage)

    def of_shown(self, log: LoggedLists) -> NDArray[np.float64]:
        """Predict the shown slots, each by the model that has not seen its user: ``[n_slots]``."""
        fold = self.fold[log.list_of_slot]
        return self.place_means[fold, log.position - 1] + self.item_effects[fold, log.item]

    def of_policy(self, log: LoggedLists, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict what a policy's own slots would earn under every fold's model.

        Args:
            log: Drawn lists.
            effects: ``[n_slots, n_folds]``; expected item effect of the policy in each slot.

        Returns:
            ``[n_slots, n_folds]``.
        """
        return effects + self.place_means[:, log.position - 1].T


def fit_reward_model(log: LoggedLists, *, n_folds: int = 5, seed: int = 0) -> RewardModel:
    """Fit one model per fold of users, on all other users.

    Args:
        log: Drawn lists of at least two users.
        n_folds: At most; as many as there are users if they are fewer. >= 2.
        seed: Of the division into folds.

    Raises:
        ValueError: ``n_folds`` < 2, or the log holds a single user.
    """
    _, user = np.unique(log.cluster, return_inverse=True)
    n_users = int(user.max()) + 1
    n_folds = min(n_folds, n_users)
    if n_folds < 2:
        raise ValueError(f"n_folds must be >= 2, and so must be the users; got {n_folds} and {n_users}.")
    fold = (np.random.default_rng(seed).permutation(n_users) % n_folds)[user]
    models = [_fit(log, fold[log.list_of_slot] != f) for f in range(n_folds)]
    places, effects, shrinkage = zip(*models, strict=True)
    return RewardModel(fold, np.stack(places), np.stack(effects), np.array(shrinkage))


def _fit(
    log: LoggedLists, slots: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    n_places, n_items = int(log.position.max()), len(log.item_ids)
    place, item, reward = log.position[slots] - 1, log.item[slots], log.reward[slots]
    shown = np.bincount(place, minlength=n_places)
    means = np.full(n_places, reward.mean() if reward.size else 0.0)
    np.divide(np.bincount(place, reward, n_places), shown, out=means, where=shown > 0)
    deviation = reward - means[place]
    n = np.bincount(item, minlength=n_items).astype(np.float64)  # [n_items]
    total = np.asarray(np.bincount(item, deviation, n_items), np.float64)
    kappa = _shrinkage(n, total, float((deviation**2).sum()))
    return means, total / (n + kappa) if np.isfinite(kappa) else np.zeros(n_items), kappa


def _shrinkage(n: NDArray[np.float64], total: NDArray[np.float64], squares: float) -> float:
    """Variance within items over that between them, by the moments of a one-way layout."""
    n, total = n[n > 0], total[n > 0]
    n_slots, n_items = n.sum(), n.size
    if n_items < 2 or n_slots <= n_items:
        return np.inf
    explained = float((total**2 / n).sum())
    within = max(squares - explained, 0.0) / (n_slots - n_items)
    between = (explained - (n_items - 1) * within) / (n_slots - (n**2).sum() / n_slots)
    if between <= 0:
        return np.inf
    return float(max(within / between, 1e-9))
