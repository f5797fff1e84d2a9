"""Recommend what sells most: the reference that every personal model has to beat."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tailwise.recommenders._protocol import History

__all__ = ["MostPopular"]


class MostPopular:
    """Scores every item by its training count, whatever the history.

    Args:
        counts: ``[n_items]`` training interactions.

    Example:
        >>> MostPopular(np.array([3, 9])).scores([[0], []])
        tensor([[3., 9.],
                [3., 9.]])
    """

    def __init__(self, counts: np.ndarray) -> None:
        self._scores = torch.tensor(np.asarray(counts), dtype=torch.float32)

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue."""
        return self._scores.numel()

    def scores(self, histories: Sequence[History]) -> Tensor:
        """Return the counts once per history; see ``Recommender.scores``."""
        return self._scores.expand(len(histories), -1).clone()
