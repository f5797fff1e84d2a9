"""What a recommender can do, whatever it is made of."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from tailwise.recommenders._sequences import SequenceBatch

__all__ = ["History", "Recommender", "SpanRecommender", "TrainableRecommender"]

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
    """A recommender whose per-target losses can be differentiated."""

    def losses(self, batch: SequenceBatch, logit_offsets: Tensor | None = None) -> Tensor:
        """Return one loss per target, ``[rows, positions]``, 0 where the batch has no target.

        Args:
            batch: Input items and target items.
            logit_offsets: ``[n_items]``; added to the scores during training only.
        """
        ...

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return groups of named parameters for an optimizer; free per-item rows say ``"per_item": True``."""
        ...
