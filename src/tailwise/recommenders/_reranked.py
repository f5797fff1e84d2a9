"""Popular items pushed down after training: the cheapest thing one can do for the tail."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tailwise.recommenders._protocol import History, Recommender

__all__ = ["PopularityPenalised"]


class PopularityPenalised:
    """A recommender whose scores are lowered by ``penalty · log(1 + n_i)``.

    For scores that are logits this is logit adjustment after training (Menon et al.,
    arXiv:2007.07314, "post-hoc").

    Args:
        recommender: Whose scores.
        counts: ``[n_items]``; training interactions n_i, >= 0.
        penalty: In units of the scores, >= 0; 0 changes nothing.

    Raises:
        ValueError: ``counts`` has another length than the catalogue, or ``penalty`` < 0.
    """

    def __init__(self, recommender: Recommender, counts: Tensor, penalty: float) -> None:
        if counts.shape != (recommender.n_items,):
            raise ValueError(
                f"counts must be one per item, {recommender.n_items:,}; got shape {tuple(counts.shape)}.\n"
                "  popularity(train, n_items) counts every item of the catalogue."
            )
        if not 0 <= penalty < float("inf"):
            raise ValueError(f"penalty must be a finite number >= 0; got {penalty}.\n  0 changes nothing.")
        self._recommender = recommender
        self._lowered = penalty * torch.log1p(counts.to(torch.float32))  # [n_items]

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self._recommender.n_items

    def scores(self, histories: Sequence[History]) -> Tensor:
        """Score every item for every history: ``[len(histories), n_items]``; see ``Recommender.scores``."""
        return self._recommender.scores(histories) - self._lowered
