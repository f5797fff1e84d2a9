"""Carry the item of each example past a collator that knows nothing of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

__all__ = ["ItemCollator"]


class ItemCollator:
    """A data collator that adds ``[rows]`` int64 of items to what another makes of the other columns.

    Examples without the column give a batch without it: evaluation does not need one, and
    training says so (:class:`MicroBatches`).

    Args:
        collator: Makes a batch from examples.
        column: Of the items, in the examples and in the batch.
        n_items: Items are in [0, n_items).

    Raises:
        KeyError: on a call, some examples have such a column and some have not.
        ValueError: on a call, an item is out of range, or the collator gave another number of rows.
    """

    def __init__(self, collator: Callable[[Any], Mapping[str, Any]], column: str, n_items: int) -> None:
        self.collator = collator
        self.column = column
        self.n_items = n_items

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate ``examples``."""
        has_items = any(self.column in example for example in examples)
        items = [self._item(example) for example in examples] if has_items else []
        batch = dict(
            self.collator([{k: v for k, v in example.items() if k != self.column} for example in examples])
        )
        if not has_items:
            return batch
        n_rows = len(batch["input_ids"]) if "input_ids" in batch else len(items)
        if n_rows != len(items):
            raise ValueError(
                f"the data collator must give a row per example; got {n_rows} rows of {len(items)} examples. "
                "EISAM weighs rows by their item: switch packing and padding-free batches off."
            )
        batch[self.column] = torch.tensor(items)
        return batch

    def _item(self, example: Mapping[str, Any]) -> int:
        if self.column not in example:
            raise KeyError(
                f"all examples or none must have a column {self.column!r} with the number of their item; got "
                f"one with {', '.join(example)} alone."
            )
        item = int(example[self.column])
        if not 0 <= item < self.n_items:
            raise ValueError(
                f"column {self.column!r} must be in [0, {self.n_items}), the length of item_weights; got "
                f"{item}."
            )
        return item
