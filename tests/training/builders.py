"""A training that takes a fraction of a second, and everything its end can be compared by."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailwise.optim import (
    EISAM,
    ERM,
    SAM,
    PerTargetOptimizer,
    item_weights,
    loss_weights,
    row_sampling_weights,
)
from tailwise.recommenders import (
    ItemTokenConfig,
    ItemTokenRecommender,
    NegativeSampler,
    SASRecConfig,
    build_sasrec,
)
from tailwise.training import FitResult, TrainingConfig, TrainingProgress, fit

N_ITEMS = 12
CONFIG = TrainingConfig(
    max_epochs=2, learning_rate=1e-2, positions_per_batch=30, patience=3, checkpoint_seconds=0
)
METHODS = ("adamw", "sam", "eisam", "rebalanced", "sampled")
"""``rebalanced``: single-pass, re-weighted and re-sampled; ``sampled``: exact, softmax over drawn items."""


def histories() -> list[np.ndarray]:
    """Item i is always followed by i + 1; 12 users of two to ten items."""
    rng = np.random.default_rng(1)
    return [(u + np.arange(int(rng.integers(2, 11)))) % N_ITEMS for u in range(12)]


def counts() -> Tensor:
    return torch.bincount(torch.from_numpy(np.concatenate(histories())), minlength=N_ITEMS)


def rebalancing() -> dict[str, Any]:
    """Arguments of `fit` that lift rare items on the side of the loss and of the data."""
    rows = [torch.from_numpy(h[1:]) for h in histories()]
    return {
        "logit_offsets": torch.linspace(0, 0.5, N_ITEMS),
        "target_weights": loss_weights(counts(), power=0.5),
        "history_weights": row_sampling_weights(rows, counts(), power=2.0).numpy(),
    }


def optimizer_of(method: str, recommender: ItemTokenRecommender, learning_rate: float) -> PerTargetOptimizer:
    groups = recommender.parameter_groups(learning_rate, weight_decay=0.01)
    if method == "adamw":
        return ERM(groups, torch.optim.AdamW)
    if method == "sam":
        return SAM(groups, torch.optim.AdamW, rho=0.05)
    estimator = "single-pass" if method == "rebalanced" else "exact"
    return EISAM(
        groups,
        torch.optim.AdamW,
        item_weights=item_weights(counts()),
        rho=0.05,
        estimator=estimator,
        seed=0,
    )


@dataclass
class Training:
    """One training in a folder; :meth:`run` as often as it takes."""

    folder: Path
    method: str = "adamw"
    config: TrainingConfig = CONFIG
    identity: str = "tiny"
    seed: int = 0

    def __post_init__(self) -> None:
        self.recommender = build_sasrec(
            N_ITEMS,
            SASRecConfig(width=8, depth=1, attention_dropout=0.2),
            ItemTokenConfig(max_length=6, dropout=0.2),  # dropout: resuming must restore randomness too
            seed=0,
        )
        self.optimizer = optimizer_of(self.method, self.recommender, self.config.learning_rate)

    def validate(self) -> float:
        """Mean score of the right next item: moves with every step, and needs no evaluation stage."""
        scores = self.recommender.scores([[i] for i in range(N_ITEMS)]).softmax(1)
        return float(scores[torch.arange(N_ITEMS), (torch.arange(N_ITEMS) + 1) % N_ITEMS].mean())

    def run(
        self,
        *,
        progress: Callable[[TrainingProgress], None] | None = None,
        validate: Callable[[], float] | None = None,
        **settings: Any,
    ) -> FitResult:
        if self.method == "rebalanced":
            settings = rebalancing() | settings
        if self.method == "sampled":
            settings = {"negatives": NegativeSampler(counts(), n=5, power=0.5, seed=self.seed)} | settings
        return fit(
            self.recommender,
            self.optimizer,
            histories(),
            self.config,
            validate=validate or self.validate,
            folder=self.folder,
            seed=self.seed,
            identity=self.identity,
            progress=progress,
            **settings,
        )

    def again(self, **changes: Any) -> "Training":
        """A new process's view of the same folder: nothing in memory is carried over."""
        return replace(self, **changes)

    def parameters(self) -> dict[str, Tensor]:
        return {name: p.clone() for name, p in self.recommender.trainable_state().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bitwise."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def course(result: FitResult) -> tuple[Any, ...]:
    """All of a result that does not depend on the clock."""
    return (
        result.kept_epoch,
        result.best_epoch,
        result.best_value,
        result.n_epochs,
        result.n_steps,
        result.n_targets,
        result.epochs,
    )
