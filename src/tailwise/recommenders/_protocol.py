"""What a recommender can do, whatever it is made of."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = [
    "BatchSource",
    "History",
    "Recommender",
    "SpanRecommender",
    "TrainableRecommender",
    "TrainingBatch",
]

History = Sequence[int] | np.ndarray
"""Item indices of one user, oldest first."""


@runtime_checkable
class Recommender(Protocol):
    """Scores the whole catalogue for given histories; that is all evaluation and serving need."""

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue: the width of every score matrix."""
        ...

    def scores(self, histories: Sequence[History]) -> Tensor:
        """Score every item for every history.

        Args:
            histories: One per user; item indices, oldest first. May be empty sequences.

        Returns:
            ``[len(histories), n_items]`` float32 on the CPU; higher is better. Seen items
            are scored like any other: :func:`recommend` leaves them out.
        """
        ...


class TrainingBatch(Protocol):
    """Rows of training data, whatever a recommender reads in them."""

    @property
    def targets(self) -> Tensor:
        """``[rows, columns]`` int64; items to be predicted, -1 where there is none."""
        ...

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        ...

    def rows(self, rows: Tensor) -> Self:
        """Return the part of the batch that holds ``rows`` (int64 positions)."""
        ...

    def part(self, rows: slice) -> Self:
        """Return the part of the batch that holds consecutive rows."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the batch on ``device``."""
        ...


class BatchSource(Protocol):
    """Deals training data out, epoch by epoch."""

    def epoch(self, epoch: int) -> Sequence[TrainingBatch]:
        """Return the batches of one epoch, in their order: a function of its number and of a seed."""
        ...


@runtime_checkable
class SpanRecommender(Recommender, Protocol):
    """A recommender that need not hold the scores of a large catalogue all at once."""

    def scores_by_span(
        self, histories: Sequence[History], items_at_once: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Score neighbouring items of the catalogue, span after span, for every history.

        Args:
            histories: As for :meth:`scores`.
            items_at_once: Items of a span, >= 1; the last may have fewer.

        Yields:
            Index of the span's first item, and ``[len(histories), items of the span]`` float32 on
            the recommender's device, yours to write into; side by side they are what
            :meth:`scores` returns.
        """
        ...


@runtime_checkable
class TrainableRecommender(Recommender, Protocol):
    """A recommender whose per-target losses can be differentiated: what the training loop needs."""

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        ...

    def losses(self, batch: Any, logit_offsets: Tensor | None = None) -> Tensor:
        """Return one loss per target, the shape of ``batch.targets``, 0 where the batch has none.

        Args:
            batch: One that :meth:`batches` dealt, or some of its rows.
            logit_offsets: ``[n_items]``; added to the scores during training only. A recommender whose
                loss is no softmax over items refuses them.
        """
        ...

    def batches(
        self,
        histories: Sequence[np.ndarray],
        *,
        positions_per_batch: int,
        seed: int,
        history_weights: np.ndarray | None = None,
        negatives: Any = None,
    ) -> BatchSource:
        """Turn training histories into batches of its own kind.

        Args:
            histories: One per user; item indices, oldest first.
            positions_per_batch: Positions of a batch at most, padding included.
            seed: Of everything drawn.
            history_weights: ``[len(histories)]``, mean 1; how often each appears in an epoch on average.
            negatives: Draws the items that stand for the catalogue in the softmax; None for all of it. A
                recommender whose loss is no softmax over items refuses them.
        """
        ...

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Return all parameters by name, as ``torch.nn.Module`` does."""
        ...

    def parameter_groups(self, learning_rate: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return groups of named parameters for an optimizer; free per-item rows say ``"per_item": True``."""
        ...

    def trainable_state(self) -> dict[str, Tensor]:
        """Return every trainable parameter by name, whole."""
        ...

    def content(self) -> dict[str, str]:
        """Return digests of what decides its losses beside its parameters and its ``recipe``."""
        ...

    def train(self, mode: bool = True) -> Self:
        """Set training mode, as ``torch.nn.Module`` does."""
        ...

    def eval(self) -> Self:
        """Set evaluation mode, as ``torch.nn.Module`` does."""
        ...
