"""What a policy would have shown: probabilities of the logged items, and of what it would show instead."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.experiments.ope._log import LoggedLists, Propensities
from tailwise.interactions._columns import first_offenders
from tailwise.schema import ITEM, USER

__all__ = ["FixedLists", "GivenProbabilities", "ItemProbabilities", "TargetPolicy"]

_SUM_TOLERANCE = 1e-6  # of probabilities written with six or more digits


class TargetPolicy(Protocol):
    """A policy whose value is asked for."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def propensities(self) -> tuple[Propensities, ...]:
        """Kinds of probability that it can give for lists of more than one slot."""
        ...

    @property
    def item_ids(self) -> pl.Series | None:
        """What it chooses from, text; None where only the probabilities of shown items are known."""
        ...

    def probabilities(
        self, log: LoggedLists, shown: NDArray[np.int64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the probability of each shown item, and what the policy's own choice there is worth.

        Args:
            log: Drawn lists.
            shown: ``[n_slots]``; the shown item as an index into ``item_ids``, -1 for one that is not in it.
            values: ``[n_items, m]``; a value of each item, m times.

        Returns:
            ``[n_slots]``: probability of the shown item in its place; for a conditional log given the
            logged places before. ``[n_slots, m]``: expectation of the values under the same
            distribution; ``m = 0`` where ``item_ids`` is None.
        """
        ...


@dataclass(frozen=True)
class GivenProbabilities:
    """Probabilities of the shown items that somebody else computed: the log's column ``target_propensity``.

    What the policy would show instead is not known, so there is no doubly robust estimate.

    Attributes:
        name: What messages call the policy.
    """

    name: str = "the policy"

    @property
    def propensities(self) -> tuple[Propensities, ...]:
        """Whatever the log's are."""
        return ("conditional", "marginal")

    @property
    def item_ids(self) -> None:
        """Not known."""
        return None

    def probabilities(
        self, log: LoggedLists, shown: NDArray[np.int64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See :class:`TargetPolicy`.

        Raises:
            DataError: the log has no such column.
        """
        if log.target_propensity is None:
            raise DataError(
                "log must have a column target_propensity for GivenProbabilities; got none.\n"
                "  It holds the probability of each shown item under the evaluated policy, of the kind that "
                "the propensities are."
            )
        return log.target_propensity, np.empty((log.target_propensity.size, 0))


@dataclass(frozen=True, eq=False)
class ItemProbabilities:
    """A policy that looks at nobody: for every place a probability of each item (marginal).

    Attributes:
        item_ids: ``[n_items]`` text.
        table: ``[n_places, n_items]``; each row sums to 1.
        name: What messages call the policy.
    """

    item_ids: pl.Series
    table: NDArray[np.float64]
    name: str = "the policy"

    @classmethod
    def of_log(cls, log: LoggedLists, *, name: str = "the logged policy") -> "ItemProbabilities":
        """Take what another log shows on average: how often each item stands in each place.

        Args:
            log: Drawn lists of the policy that is to be evaluated on a different log.
            name: What messages call the policy.
        """
        counts = np.zeros((int(log.position.max()), len(log.item_ids)))
        np.add.at(counts, (log.position - 1, log.item), 1.0)
        return cls(log.item_ids, counts / counts.sum(axis=1, keepdims=True), name)

    @property
    def propensities(self) -> tuple[Propensities, ...]:
        """Marginal."""
        return ("marginal",)

    def probabilities(
        self, log: LoggedLists, shown: NDArray[np.int64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See :class:`TargetPolicy`.

        Raises:
            DataError: a row sums to something else than 1, or the log has places beyond the table.
        """
        sums = self.table.sum(axis=1)
        if (self.table < 0).any() or (np.abs(sums - 1) > _SUM_TOLERANCE).any():
            worst = float(sums[np.argmax(np.abs(sums - 1))])
            raise DataError(
                f"probabilities of a place must be >= 0 and sum to 1; got a sum of {worst:.6f}.\n"
                "  Every item that the policy may show must have a column."
            )
        if int(log.position.max()) > len(self.table):
            raise DataError(
                f"probabilities must be given for every place; got {len(self.table)} places for a log of "
                f"{int(log.position.max())}.\n  Pass max_position={len(self.table)} to check_logged_lists."
            )
        row = log.position - 1
        target = np.where(shown >= 0, self.table[row, np.maximum(shown, 0)], 0.0)
        return target, (self.table @ values)[row]


@dataclass(frozen=True, eq=False)
class FixedLists:
    """A deterministic policy: one list per logged list.

    Attributes:
        item_ids: ``[n_items]`` text.
        lists: ``[n_lists, length]`` int64 into ``item_ids``; -1 beyond the end of a list.
        name: What messages call the policy.
    """

    item_ids: pl.Series
    lists: NDArray[np.int64]
    name: str = "the lists"

    @classmethod
    def from_table(cls, table: pl.DataFrame, log: LoggedLists, *, name: str = "the lists") -> "FixedLists":
        """Take lists by ``recommendation_id`` or, without that column, by ``user_id``.

        Args:
            table: The key, ``item_id`` and ``rank`` (1 = first, without a gap), as `tailwise recommend`
                writes them.
            log: Drawn lists.
            name: What messages call the policy.

        Raises:
            DataError: a logged list has no list of the policy.
        """
        key = "recommendation_id" if "recommendation_id" in table.columns else USER
        if key not in log.lists.columns:
            raise DataError(
                f"log must have {key} to find the policy's lists by; got {', '.join(log.lists.columns)}."
            )
        wanted = log.lists.select(pl.col(key), pl.int_range(pl.len()).alias("row"))
        table = table.with_columns(pl.col(key, ITEM).cast(pl.String))
        missing = wanted.join(table, on=key, how="anti", nulls_equal=False)
        if missing.height:
            raise DataError(
                f"the policy must have a list for every logged one; got none for {missing.height:,} of "
                f"{wanted.height:,} ({first_offenders(missing[key])}).\n"
                "  Keep the others with LoggedLists.of_lists."
            )
        item_ids = table[ITEM].unique().sort()
        codes = table.with_columns((pl.col(ITEM).rank("dense").cast(pl.Int64) - 1).alias("code"))
        rows = wanted.join(codes, on=key).select("row", pl.col("rank").cast(pl.Int64) - 1, "code")
        lists = np.full((log.n_lists, int(codes["rank"].max())), -1, np.int64)  # type: ignore[arg-type]
        lists[rows["row"].to_numpy(), rows["rank"].to_numpy()] = rows["code"].to_numpy()
        return cls(item_ids, lists, name)

    @property
    def propensities(self) -> tuple[Propensities, ...]:
        """Both: what is certain is certain whatever stands above."""
        return ("conditional", "marginal")

    def probabilities(
        self, log: LoggedLists, shown: NDArray[np.int64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See :class:`TargetPolicy`; places beyond the end of a list hold nothing."""
        n_places = max(int(log.position.max()), self.lists.shape[1])
        padded = np.full((log.n_lists, n_places), -1, np.int64)
        padded[:, : self.lists.shape[1]] = self.lists
        own = padded[log.list_of_slot, log.position - 1]
        target = ((own == shown) & (own >= 0)).astype(np.float64)
        return target, np.where((own >= 0)[:, None], values[np.maximum(own, 0)], 0.0)
