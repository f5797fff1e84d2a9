"""From scores to a list of items."""

from collections.abc import Sequence

from tailwise.recommenders._protocol import History, Recommender
from tailwise.recommenders._top_items import top_items

__all__ = ["recommend"]


def recommend(
    recommender: Recommender, histories: Sequence[History], k: int, *, exclude_seen: bool = True
) -> list[list[int]]:
    """Return the ``k`` best items for every history, best first.

    Args:
        recommender: Anything with ``scores``; see :func:`top_items` for large catalogues.
        histories: One per user; item indices, oldest first.
        k: Length of each list, in 1..n_items; shorter where fewer items are unseen.
        exclude_seen: Leave out the items of the history.

    Returns:
        One list of item indices per history. Equal scores come in the order of their index.

    Raises:
        ValueError: ``k`` is out of range.
        DataError: a score is NaN or ``+inf``.

    Example:
        >>> import numpy as np
        >>> from tailwise.recommenders import MostPopular
        >>> recommend(MostPopular(np.array([3, 9, 5])), [[1], []], k=2)
        [[2, 0], [1, 2]]
    """
    items, _ = top_items(recommender, histories, k, exclude_seen=exclude_seen)
    return [[item for item in row if item >= 0] for row in items.tolist()]
