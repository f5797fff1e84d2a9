"""Small rankings for the tests of this folder."""

import numpy as np
import polars as pl

from tailwise.evaluation import UNRANKED, Rankings, rank_targets


def rank(scores, targets, histories=None, **arguments):
    """Rank ``scores[u]`` for user ``u`` with the held-out items ``targets[u]``."""
    scores = np.asarray(scores)
    histories = [[] for _ in targets] if histories is None else histories
    position = iter(range(len(targets)))
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in targets])])
    return rank_targets(
        lambda batch: scores[[next(position) for _ in batch]],
        histories,
        offsets,
        np.array([item for t in targets for item in t], dtype=np.int64),
        n_items=scores.shape[1],
        **arguments,
    )


def hits_and_misses(users, hits, n_items=2):
    """One target (item 0) per entry of ``users``: at rank 1 if it hits, else never."""
    users, hits = np.asarray(users), np.asarray(hits, dtype=bool)
    targets = pl.DataFrame(
        {"user_index": users, "item_index": 0, "n_better": np.where(hits, 0, UNRANKED), "n_tied": 0}
    )
    listed = np.unique(users)
    lists = pl.DataFrame({"user_index": listed, "items": [[0]] * listed.size})
    return Rankings(targets, lists, n_items=n_items, list_length=1)
