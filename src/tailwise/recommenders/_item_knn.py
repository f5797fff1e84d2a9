"""Item-to-item nearest neighbours, from the library ``implicit``."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailwise.recommenders._protocol import History

__all__ = ["ItemKNN"]


class ItemKNN:
    """Scores an item by its summed cosine similarity to the items of the history.

    Two items are similar when the same users interacted with both. A strong, quick
    baseline without a language model; it ignores the order of the history.

    Args:
        histories: Training histories, one per user.
        n_items: Size of the catalogue.
        n_neighbours: Similar items kept per item, >= 1.

    Raises:
        ValueError: ``n_neighbours`` is below 1.
    """

    def __init__(self, histories: Sequence[np.ndarray], n_items: int, *, n_neighbours: int = 100) -> None:
        if n_neighbours < 1:
            raise ValueError(f"n_neighbours must be >= 1; got {n_neighbours}.")
        from implicit.nearest_neighbours import CosineRecommender

        self._n_items = n_items
        model = CosineRecommender(K=n_neighbours, num_threads=1)
        with warnings.catch_warnings():
            # It converts formats within itself and warns about its own conversion.
            warnings.filterwarnings("ignore", message="Method expects CSR input")
            model.fit(self._matrix(histories), show_progress=False)
        self._similarity = model.similarity  # sparse [n_items, n_items]

    def _matrix(self, histories: Sequence[History]) -> Any:
        from scipy.sparse import csr_matrix

        lengths = [len(h) for h in histories]
        rows = np.repeat(np.arange(len(histories)), lengths)
        columns = np.concatenate([np.asarray(h, dtype=np.int64) for h in histories]) if rows.size else rows
        matrix = csr_matrix(
            (np.ones(len(rows), dtype=np.float64), (rows, columns)), shape=(len(histories), self._n_items)
        )
        matrix.data[:] = 1.0  # repeats were summed; similarity is over who, not how often
        return matrix

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue."""
        return self._n_items

    def scores(self, histories: Sequence[History]) -> Tensor:
        """Return summed similarities ``[len(histories), n_items]``; see ``Recommender.scores``."""
        product = self._matrix(histories) @ self._similarity
        return torch.from_numpy(np.asarray(product.todense(), dtype=np.float32))
