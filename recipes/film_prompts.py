"""Prompts and completions about films: the data of the recipes in this folder.

One example per user of MovieLens 100K: the films seen before, and the title of the last one of
the training part. Its item is the position of that film in the catalogue.
"""

from typing import Any

import torch
from torch import Tensor

from tailwise.interactions import load_dataset, split_leave_last_out
from tailwise.segments import popularity

__all__ = ["film_prompts", "tokenized"]


def film_prompts(n_examples: int, *, n_shown: int = 8) -> tuple[list[dict[str, Any]], Tensor]:
    """Build examples, and count the training interactions of every film.

    Args:
        n_examples: At most so many, of the users in the order of the log.
        n_shown: Films of the history in a prompt, the newest ones.

    Returns:
        Rows with ``prompt``, ``completion`` and ``item``; ``[n_items]`` int64 counts.
    """
    dataset = load_dataset("ml-100k")
    split = split_leave_last_out(dataset)
    titles = dataset.catalogue.items["title"].to_list()
    seen = split.train.group_by("user_index", maintain_order=True).agg("item_index")
    rows = []
    for films in seen["item_index"].head(n_examples).to_list():
        shown = "; ".join(titles[film] for film in films[-n_shown - 1 : -1])
        rows.append(
            {
                "prompt": f"Films watched, oldest first: {shown}. The next film is:",
                "completion": f" {titles[films[-1]]}",
                "item": films[-1],
            }
        )
    return rows, torch.from_numpy(popularity(split.train, split.n_items))


def tokenized(rows: list[dict[str, Any]], tokenizer: Any) -> list[dict[str, Any]]:
    """Tokens of prompt and completion, the completion's as labels, beside the item."""
    made = []
    for row in rows:
        prompt = tokenizer(row["prompt"])["input_ids"]
        completion = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
        ids = prompt + completion
        made.append(
            {
                "input_ids": ids,
                "attention_mask": [1] * len(ids),
                "labels": [-100] * len(prompt) + completion,
                "item": row["item"],
            }
        )
    return made
