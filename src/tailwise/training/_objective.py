"""What a batch contributes to the loss that training lowers: margins and weights on the side of the loss."""

import torch
from torch import Tensor

from tailwise.recommenders import TrainableRecommender, TrainingBatch

__all__ = ["Objective"]


class Objective:
    """A recommender's losses, with offsets on its scores and weights on its targets.

    Whatever the optimizer does with rows and parameters, it sees these losses and no others; so
    logit adjustment and re-weighting go with all of them.

    Args:
        recommender: Whose losses.
        logit_offsets: ``[n_items]``; added to the scores.
        target_weights: ``[n_items]`` floating, each >= 0; multiply the losses of an item's targets.

    Raises:
        ValueError: ``target_weights`` do not fit the catalogue, or one is negative or not finite.
    """

    def __init__(
        self,
        recommender: TrainableRecommender,
        logit_offsets: Tensor | None = None,
        target_weights: Tensor | None = None,
    ) -> None:
        if target_weights is not None:
            _check_weights(target_weights, recommender.n_items)
            target_weights = target_weights.detach().to(recommender.device, torch.float32)
        if logit_offsets is not None:
            logit_offsets = logit_offsets.to(recommender.device)
        self._recommender = recommender
        self._offsets = logit_offsets
        self._weights = target_weights

    def losses(self, batch: TrainingBatch) -> Tensor:
        """Return ``[rows, columns]`` float32, the shape of the targets; 0 where the batch has no target."""
        losses = self._recommender.losses(batch, self._offsets)
        return losses if self._weights is None else losses * self._weights[batch.targets.clamp_min(0)]


def _check_weights(weights: Tensor, n_items: int) -> None:
    if weights.shape != (n_items,) or not weights.is_floating_point():
        raise ValueError(
            f"target_weights must be a floating vector of {n_items} items; got {weights.dtype} of shape "
            f"{tuple(weights.shape)}. Use loss_weights(counts)."
        )
    wrong = (~(torch.isfinite(weights) & (weights >= 0))).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"target_weights must be finite and >= 0; got {float(weights[wrong[0]])} for item {wrong[0]} "
            f"({len(wrong):,} in all)."
        )
