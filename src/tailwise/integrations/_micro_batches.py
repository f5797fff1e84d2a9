"""The micro-batches of one update as one batch of rows, each with one loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["IGNORED", "MicroBatches", "causal_row_losses", "n_target_tokens"]

IGNORED = -100
"""Label of a token that is not a target, as everywhere in transformers."""


class MicroBatches:
    """Rows of several micro-batches under one numbering.

    Args:
        batches: Inputs of the model by name, ``[rows, ...]`` where they are of rows; with the items.
        item_column: Name of the items, ``[rows]`` int64.

    Raises:
        KeyError: a batch has no such column.
    """

    def __init__(self, batches: Sequence[Mapping[str, Any]], item_column: str) -> None:
        for batch in batches:
            if item_column not in batch:
                raise KeyError(
                    f"examples must have a column {item_column!r} with the number of their item; got "
                    f"{', '.join(batch)}. Name yours with EISAMSettings(item_column=...)."
                )
        of_batches = [batch[item_column] for batch in batches]
        self.items = torch.cat(list(of_batches))
        self.sizes = [len(items) for items in of_batches]
        self._inputs = [{k: v for k, v in batch.items() if k != item_column} for batch in batches]
        self._starts = [sum(self.sizes[:k]) for k in range(len(self.sizes))]

    def inputs_of(self, rows: Tensor) -> dict[str, Any]:
        """Inputs of some rows of one micro-batch.

        Args:
            rows: ``[n]`` int64, n >= 1, all of one micro-batch.
        """
        first = int(rows[0])
        k = max(k for k, start in enumerate(self._starts) if start <= first)
        inputs, size = self._inputs[k], self.sizes[k]
        if len(rows) == size:
            return dict(inputs)
        local = rows - self._starts[k]
        return {
            name: value[local]
            if isinstance(value, Tensor) and value.ndim > 0 and len(value) == size
            else value
            for name, value in inputs.items()
        }

    def loss_fn(self, row_losses: Callable[[dict[str, Any]], Tensor]) -> Callable[[Tensor], Tensor]:
        """From rows to their losses, through ``row_losses`` of inputs."""
        return lambda rows: row_losses(self.inputs_of(rows))


def causal_row_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each row's labels, summed over its tokens, in float32.

    Args:
        logits: ``[rows, positions, vocabulary]``; position t scores token t + 1.
        labels: ``[rows, positions]`` int64, -100 where there is no target; not shifted.

    Returns:
        ``[rows]`` float32, in nats.
    """
    targets = labels[:, 1:]
    is_target = targets != IGNORED
    # The prompt's logits are never looked at: neither upcast nor differentiated.
    token_losses = F.cross_entropy(logits[:, :-1][is_target].float(), targets[is_target], reduction="none")
    rows = is_target.nonzero()[:, 0]
    return token_losses.new_zeros(len(labels)).index_add(0, rows, token_losses)


def n_target_tokens(labels: Tensor) -> Tensor:
    """Number of tokens that :func:`causal_row_losses` sums over."""
    return (labels[:, 1:] != IGNORED).sum()
