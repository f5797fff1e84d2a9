"""From scores to a list of items."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tailwise.recommenders._protocol import History, Recommender

__all__ = ["recommend"]


def recommend(
    recommender: Recommender, histories: Sequence[History], k: int, *, exclude_seen: bool = True
) -> list[list[int]]:
    """Return the ``k`` best items for every history, best first.

    Args:
        recommender: Anything with ``scores``.
        histories: One per user; item indices, oldest first.
        k: Length of each list, in 1..n_items; shorter where fewer items are unseen.
        exclude_seen: Leave out the items of the history.

    Returns:
        One list of item indices per history. Equal scores come in the order of their index.

    Raises:
        ValueError: ``k`` is out of range.

    Example:
        >>> from tailwise.recommenders import MostPopular
        >>> recommend(MostPopular(np.array([3, 9, 5])), [[1], []], k=2)
        [[2, 0], [1, 2]]
    """
    if not 1 <= k <= recommender.n_items:
        raise ValueError(f"k must be in 1..{recommender.n_items}, the size of the catalogue; got {k}.")
    scores = recommender.scores(histories).clone()  # ours to write into
    if exclude_seen:
        for row, history in enumerate(histories):
            scores[row, torch.as_tensor(np.asarray(history, dtype=np.int64))] = -torch.inf
    # Sorting a large catalogue would take longer than scoring it: only those that may be listed are.
    worst = torch.topk(scores, k, dim=1).values[:, -1] if len(scores) else scores[:, 0]
    return [_best(row, worst_listed, k) for row, worst_listed in zip(scores, worst, strict=True)]


def _best(scores: Tensor, worst: Tensor, k: int) -> list[int]:
    """Up to ``k`` items that score ``worst`` or better and above -inf, equal ones by their index."""
    items = ((scores >= worst) & (scores > -torch.inf)).nonzero()[:, 0]
    listed: list[int] = items[scores[items].sort(descending=True, stable=True).indices[:k]].tolist()
    return listed
