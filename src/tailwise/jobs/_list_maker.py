"""From a recommender and histories to rows of a table of lists."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from tailwise.evaluation import rank_targets
from tailwise.jobs._stored_histories import UserHistories
from tailwise.recommenders import Recommender
from tailwise.schema import ITEM, USER

__all__ = ["ListMaker"]

_SCHEMA = {USER: pl.String, ITEM: pl.String, "rank": pl.Int32, "score": pl.Float32}


@dataclass(frozen=True, eq=False)
class ListMaker:
    """Makes lists the way the run's measurement does.

    Attributes:
        recommender: What scores.
        k: Items per user, 1..n_items.
        exclude_seen: Leave out the items of the history.
        batch_size: Users scored at once, >= 1.
    """

    recommender: Recommender
    k: int
    exclude_seen: bool
    batch_size: int

    def lists(
        self, users: UserHistories, item_ids: pl.Series, progress: Callable[[int], None]
    ) -> pl.DataFrame:
        """Return the rows of these users, in their order, each list by rank.

        Args:
            users: With their histories.
            item_ids: ``[n_items]``.
            progress: Called with the number of users done after each batch.
        """
        batches = []
        for start in range(0, len(users.histories), self.batch_size):
            stop = min(start + self.batch_size, len(users.histories))
            rows = self._batch(users.histories[start:stop], users.indices[start:stop])
            batches.append(rows.with_columns(pl.col("row") + start))
            progress(stop)
        if not batches:
            return pl.DataFrame(schema=_SCHEMA)
        rows = pl.concat(batches)
        return rows.select(
            pl.Series(USER, users.ids, dtype=pl.String).gather(rows["row"]),
            item_ids.gather(rows["item"]).alias(ITEM),
            "rank",
            "score",
        )

    def _batch(self, histories: list[NDArray[np.int64]], users: NDArray[np.int64]) -> pl.DataFrame:
        """Rank one batch as the run's measurement does: ``row``, ``item``, ``rank``, ``score``."""
        scores = torch.empty(0)

        def remember(batch: list[NDArray[np.int64]]) -> torch.Tensor:
            nonlocal scores
            scores = self.recommender.scores(batch)
            return scores

        ranked = rank_targets(
            remember,
            histories,
            np.zeros(len(histories) + 1, np.int64),
            np.empty(0, np.int64),
            n_items=self.recommender.n_items,
            exclude_seen=self.exclude_seen,
            batch_size=len(histories),
            list_length=self.k,
            users=users,
        )
        lists = ranked.lists.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), item="items")
        rows = lists.explode("item", empty_as_null=False)
        rows = rows.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("row"))
        listed = scores.numpy()[rows["row"].to_numpy(), rows["item"].to_numpy()]  # [n_rows]
        return rows.with_columns(score=pl.Series(listed, dtype=pl.Float32))
