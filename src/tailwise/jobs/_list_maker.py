"""From a recommender and histories to rows of a table of lists."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.evaluation import TieOrder
from tailwise.jobs._stored_histories import UserHistories
from tailwise.recommenders import Recommender, top_items
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

    @cached_property
    def _ties(self) -> TieOrder:
        return TieOrder(self.recommender.n_items, seed=0)  # as rank_targets orders them in a run

    def _batch(self, histories: list[NDArray[np.int64]], users: NDArray[np.int64]) -> pl.DataFrame:
        """List one batch as the run's measurement does: ``row``, ``item``, ``rank``, ``score``."""
        items, scores = top_items(
            self.recommender,
            histories,
            self.k,
            exclude_seen=self.exclude_seen,
            keys=self._ties.of(users),
            users=users,
        )
        row, place = (items >= 0).nonzero(as_tuple=True)  # by row, then by place
        columns = {"row": row, "item": items[row, place], "rank": place + 1, "score": scores[row, place]}
        table = pl.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
        return table.cast({"rank": pl.Int32, "score": pl.Float32})
