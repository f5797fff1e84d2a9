"""How a recommender is trained."""

import math
from dataclasses import dataclass, field

from tailwise._settings import WRITTEN_WHEN_SET
from tailwise.errors import ConfigError

__all__ = ["TrainingConfig", "learning_rate_factor"]

_SCHEDULES = ("linear", "cosine", "constant")
_KEEPS = ("best", "last")
_PRECISIONS = ("highest", "high", "medium")


@dataclass(frozen=True)
class TrainingConfig:
    """How a recommender is trained, whatever the optimizer.

    Attributes:
        max_epochs: Passes over all training targets at most, >= 1.
        learning_rate: Peak of the schedule, > 0.
        weight_decay: Of matrices, decoupled (AdamW), >= 0.
        warmup_share: Share of all steps over which the rate rises from 0, in [0, 1).
        schedule: After the warm-up: ``linear`` or ``cosine`` to zero at the last epoch, or
            ``constant``.
        max_grad_norm: Gradients of a larger norm are scaled down to it, > 0.
        positions_per_batch: Positions of a batch at most, padding included, >= 1.
        patience: Stop when the validation metric has not risen for this many epochs, >= 1;
            not used with ``keep="last"``.
        keep: Whose parameters are the result. ``best``: of the epoch with the highest validation
            metric, and training stops early. ``last``: of the last of ``max_epochs`` epochs, for
            comparisons at equal steps; the metric is still measured after each.
        matmul_precision: Of matrix products of float32, in training and in ranking after it, as
            ``torch.set_float32_matmul_precision``: ``high`` or ``medium`` allow the processor a faster
            product, with or without loss of digits as it has it.
        checkpoint_seconds: Save the state of training at least this often, >= 0; it is
            saved after every epoch in any case.
        negatives: Items drawn for each batch, in place of the whole catalogue in the softmax, >= 1; for
            catalogues of 100,000 items and more. None: the whole catalogue. See
            :class:`~tailwise.recommenders.NegativeSampler`.
        negatives_power: Of the counts, for the probability that an item is drawn, >= 0; with ``negatives``
            only, there 0.5 unless given.
        fused: Have AdamW's update done in one pass over the parameters (``torch.optim.AdamW(fused=True)``):
            the same mathematics, rounded otherwise, so the last digits of a result differ. For many
            per-item vectors. None: no.
    """

    max_epochs: int = 10
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    schedule: str = "linear"
    max_grad_norm: float = 1.0
    positions_per_batch: int = 800
    patience: int = 3
    keep: str = "best"
    matmul_precision: str = "highest"
    checkpoint_seconds: float = 60.0
    negatives: int | None = field(default=None, metadata=WRITTEN_WHEN_SET)
    negatives_power: float | None = field(default=None, metadata=WRITTEN_WHEN_SET)
    fused: bool | None = field(default=None, metadata=WRITTEN_WHEN_SET)

    def __post_init__(self) -> None:
        rules = [
            ("max_epochs", self.max_epochs >= 1, "be >= 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "be > 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "be >= 0"),
            ("warmup_share", 0 <= self.warmup_share < 1, "be a fraction in [0, 1)"),
            ("schedule", self.schedule in _SCHEDULES, f"be one of {', '.join(_SCHEDULES)}"),
            ("max_grad_norm", self.max_grad_norm > 0, "be > 0"),
            ("positions_per_batch", self.positions_per_batch >= 1, "be >= 1"),
            ("patience", self.patience >= 1, "be >= 1"),
            ("keep", self.keep in _KEEPS, f"be one of {', '.join(_KEEPS)}"),
            (
                "matmul_precision",
                self.matmul_precision in _PRECISIONS,
                f"be one of {', '.join(_PRECISIONS)}",
            ),
            ("checkpoint_seconds", self.checkpoint_seconds >= 0, "be >= 0"),
            ("negatives", self.negatives is None or self.negatives >= 1, "be >= 1"),
            (
                "negatives_power",
                self.negatives_power is None or 0 <= self.negatives_power < math.inf,
                "be a finite number >= 0",
            ),
        ]
        for name, holds, rule in rules:
            if not holds:
                raise ConfigError(f"training.{name} must {rule}; got {getattr(self, name)!r}.")
        if self.negatives is None and self.negatives_power is not None:
            raise ConfigError(
                "training.negatives_power must go with training.negatives, or it would do nothing; got "
                f"{self.negatives_power} alone."
            )


def learning_rate_factor(step: int, n_steps: int, config: TrainingConfig) -> float:
    """Factor on the learning rate for ``step`` (0-based) of ``n_steps``; in (0, 1].

    Example:
        >>> [learning_rate_factor(s, 10, TrainingConfig(warmup_share=0.2)) for s in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.125]
    """
    n_warmup = round(config.warmup_share * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    if config.schedule == "constant":
        return 1.0
    remaining = (n_steps - step) / max(1, n_steps - n_warmup)
    return remaining if config.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * remaining))
