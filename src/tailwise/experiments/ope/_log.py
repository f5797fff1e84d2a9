"""From a table of shown slots to checked, drawn lists: what off-policy estimates are made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.experiments.ope._log_checks import (
    check_positions,
    check_propensities,
    check_rewards,
    check_target_propensities,
    refuse_deterministic,
)
from tailwise.interactions._columns import require_values, select_columns, to_numbers, to_text_ids
from tailwise.schema import ITEM, USER

__all__ = ["LogChecks", "LoggedLists", "Propensities", "check_logged_lists"]

Propensities = Literal["conditional", "marginal"]
"""Of what a slot's propensity is the probability: ``conditional``, of this item in this place given the
places before (Gumbel top-k, as our service logs it); ``marginal``, of this item in this place."""

_LIST = "recommendation_id"
_PLACE = "position"
_REQUIRED = (_PLACE, ITEM, "propensity", "reward")
_OF_LIST = (USER, "is_explored", "temperature", "n_candidates", "history")
_OPTIONAL = (_LIST, "target_propensity", *_OF_LIST)


@dataclass(frozen=True)
class LogChecks:
    """What a log held and what of it is evaluated.

    Attributes:
        n_rows: Rows read: shown slots.
        n_lists: Lists among them.
        n_deterministic_lists: Left out: not drawn, so they support no other policy.
        n_rows_beyond: Slots of drawn lists left out because they stand beyond ``max_position``.
        n_left_out_lists: Drawn lists that :meth:`LoggedLists.of_lists` left out.
        n_evaluated_lists: Drawn lists that are evaluated.
        n_evaluated_rows: Their slots.
        n_users: Clusters of the intervals: users, and every list without a user by itself.
        n_lists_without_user: Of the evaluated lists.
    """

    n_rows: int
    n_lists: int
    n_deterministic_lists: int
    n_rows_beyond: int
    n_left_out_lists: int
    n_evaluated_lists: int
    n_evaluated_rows: int
    n_users: int
    n_lists_without_user: int

    def as_dict(self) -> dict[str, int]:
        """Give plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class LoggedLists:
    """Drawn lists and what each of their slots earned: lists in the log's order, slots by position.

    Attributes:
        propensities: See :data:`Propensities`.
        unit: What a list is called in words: ``slots`` where the log names no lists and every row is one.
        list_of_slot: ``[n_slots]`` int64, ascending.
        position: ``[n_slots]`` int64, 1 is the first.
        ordinal: ``[n_slots]`` int64; 0 for the first logged slot of a list. ``position - 1``, but where a
            log holds single slots of lists.
        item: ``[n_slots]`` int64 into ``item_ids``.
        propensity: ``[n_slots]`` float64 in (0, 1], under the policy that drew the list.
        reward: ``[n_slots]`` float64.
        target_propensity: ``[n_slots]`` float64 in [0, 1]; probability of the shown item under a policy that
            somebody else asked. None where the log has no such column.
        item_ids: Items that were shown, text, sorted.
        lists: A row per list: ``recommendation_id``, and of ``user_id``, ``temperature``,
            ``n_candidates``, ``history`` and the like what the log has.
        cluster: ``[n_lists]`` int64; lists of one user share one.
        deterministic_rewards: ``[n_deterministic_lists]`` float64; what the lists earned that were not drawn.
        deterministic_clusters: ``[n_deterministic_lists]`` int64; their users, numbered like ``cluster``.
        checks: What was read.
    """

    propensities: Propensities
    unit: Literal["lists", "slots"]
    list_of_slot: NDArray[np.int64]
    position: NDArray[np.int64]
    ordinal: NDArray[np.int64]
    item: NDArray[np.int64]
    propensity: NDArray[np.float64]
    reward: NDArray[np.float64]
    target_propensity: NDArray[np.float64] | None
    item_ids: pl.Series
    lists: pl.DataFrame
    cluster: NDArray[np.int64]
    deterministic_rewards: NDArray[np.float64]
    deterministic_clusters: NDArray[np.int64]
    checks: LogChecks

    @property
    def n_lists(self) -> int:
        """Number of drawn lists."""
        return self.lists.height

    @property
    def n_ordinals(self) -> int:
        """Slots of the longest list."""
        return int(self.ordinal.max()) + 1

    def sum_by_list(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up ``values`` ``[n_slots]`` over the slots of each list: ``[n_lists]``."""
        sums = np.bincount(self.list_of_slot, values, minlength=self.n_lists)
        return np.asarray(sums, np.float64)

    def rewards_of_lists(self) -> NDArray[np.float64]:
        """Reward of each list, the sum over its slots: ``[n_lists]``."""
        return self.sum_by_list(self.reward)

    def of_lists(self, keep: NDArray[np.bool_]) -> "LoggedLists":
        """Keep some of the drawn lists, at least one; of those not drawn, the lists of users who remain.

        Args:
            keep: ``[n_lists]``.
        """
        slots = keep[self.list_of_slot]
        renumbered = np.cumsum(keep) - 1
        cluster = self.cluster[keep]
        lists = self.lists.filter(keep)
        without = lists[USER].null_count() if USER in lists.columns else lists.height
        remain = np.isin(self.deterministic_clusters, cluster)
        counts = asdict(self.checks) | {
            "n_left_out_lists": self.checks.n_left_out_lists + int((~keep).sum()),
            "n_evaluated_lists": int(keep.sum()),
            "n_evaluated_rows": int(slots.sum()),
            "n_users": int(np.unique(cluster).size),
            "n_lists_without_user": without,
        }
        return LoggedLists(
            self.propensities,
            self.unit,
            renumbered[self.list_of_slot[slots]],
            self.position[slots],
            self.ordinal[slots],
            self.item[slots],
            self.propensity[slots],
            self.reward[slots],
            None if self.target_propensity is None else self.target_propensity[slots],
            self.item_ids,
            lists,
            cluster,
            self.deterministic_rewards[remain],
            self.deterministic_clusters[remain],
            LogChecks(**counts),
        )


def check_logged_lists(
    table: pl.DataFrame,
    *,
    propensities: Propensities = "conditional",
    max_position: int | None = None,
    columns: Mapping[str, str] | None = None,
    source: str = "the log",
) -> LoggedLists:
    """Check a log, a row per shown slot, and keep the lists that were drawn.

    Args:
        table: ``position`` (1 is the first), ``item_id``, ``propensity`` and ``reward`` (clicks,
            revenue, ...; 0 where there was none). Optional: ``recommendation_id`` (without it every row is
            a list), ``user_id`` (null: nobody known), ``is_explored`` (without it a list whose
            propensities are all 1 counts as not drawn), ``temperature``, ``n_candidates``,
            ``history`` (the user's items before the list, oldest first), ``target_propensity``
            (see :class:`GivenProbabilities`).
        propensities: See :data:`Propensities`.
        max_position: Evaluate the slots down to this place only. None: all.
        columns: Our name -> name in the table, for those that differ, e.g. ``{"reward": "clicks"}``.
        source: Name of the log in messages.

    Raises:
        ValueError: an argument is out of range.
        DataError: a column is missing; a propensity is missing or outside (0, 1]; a reward is not finite;
            positions repeat or, with conditional propensities, leave a gap; or no list was drawn.

    Example:
        >>> log = pl.DataFrame(
        ...     {"position": [1, 1], "item_id": ["a", "b"], "propensity": [0.5, 0.25], "reward": [0, 1]}
        ... )
        >>> check_logged_lists(log).checks.n_evaluated_lists
        2
    """
    if propensities not in ("conditional", "marginal"):
        raise ValueError(f"propensities must be conditional or marginal; got {propensities!r}.")
    if max_position is not None and max_position < 1:
        raise ValueError(f"max_position must be >= 1; got {max_position}.")
    if not table.height:
        raise DataError(f"{source} must hold shown slots; got no row.\n  Check the export that wrote it.")
    table, _ = select_columns(table, required=_REQUIRED, optional=_OPTIONAL, columns=columns, source=source)
    unit: Literal["lists", "slots"] = "lists" if _LIST in table.columns else "slots"
    slots = _typed(table, source)
    check_propensities(slots["propensity"], source)
    check_rewards(slots["reward"], source)
    if "target_propensity" in slots.columns:
        check_target_propensities(slots["target_propensity"], source)
    check_positions(slots, source, is_prefix_needed=propensities == "conditional")
    slots = slots.with_row_index("row")
    slots = slots.sort(pl.col("row").min().over(_LIST), _PLACE)  # lists stay in the order of the log
    drawn = _is_drawn(slots, source)
    n_lists, n_drawn = slots[_LIST].n_unique(), slots.filter(drawn)[_LIST].n_unique()
    if not n_drawn:
        refuse_deterministic(n_lists, source, by_flag="is_explored" in slots.columns)
    slots = slots.with_columns(_clusters(slots))
    kept = slots.filter(drawn)
    if max_position is not None:
        within = kept[_PLACE] <= max_position
        kept, n_beyond = kept.filter(within), int((~within).sum())
    else:
        n_beyond = 0
    if not kept.height:
        raise DataError(
            f"max_position must leave slots; got {max_position}, above which {source} has none.\n"
            "  Positions begin at 1."
        )
    others = slots.filter(~drawn).group_by(_LIST, maintain_order=True)
    rest = others.agg(pl.col("reward").sum(), pl.col("cluster").first())
    list_of_slot = kept[_LIST].rle_id().cast(pl.Int64).to_numpy()  # a run is a list
    first = np.unique(list_of_slot, return_index=True)[1]
    lists = kept[first.tolist()].select(_LIST, *[name for name in _OF_LIST if name in kept.columns])
    cluster = kept["cluster"].gather(first.tolist()).to_numpy()
    item_ids = kept[ITEM].unique().sort()
    checks = LogChecks(
        n_rows=table.height,
        n_lists=n_lists,
        n_deterministic_lists=n_lists - n_drawn,
        n_rows_beyond=n_beyond,
        n_left_out_lists=0,
        n_evaluated_lists=len(first),
        n_evaluated_rows=kept.height,
        n_users=int(np.unique(cluster).size),
        n_lists_without_user=lists[USER].null_count() if USER in lists.columns else lists.height,
    )
    return LoggedLists(
        propensities,
        unit,
        list_of_slot,
        kept[_PLACE].cast(pl.Int64).to_numpy(),
        np.arange(kept.height) - first[list_of_slot],
        (kept[ITEM].rank("dense").cast(pl.Int64) - 1).to_numpy(),  # in the order of item_ids
        kept["propensity"].to_numpy(),
        kept["reward"].to_numpy(),
        kept["target_propensity"].to_numpy() if "target_propensity" in kept.columns else None,
        item_ids,
        lists,
        cluster,
        rest["reward"].to_numpy(),
        rest["cluster"].to_numpy(),
        checks,
    )


def _typed(table: pl.DataFrame, source: str) -> pl.DataFrame:
    """The columns as text identifiers and numbers; every row a list of its own where lists have no names."""
    if _LIST not in table.columns:
        table = table.with_columns(pl.int_range(pl.len()).alias(_LIST))
    require_values(table, (_LIST, _PLACE, ITEM), source)
    columns = [to_text_ids(table[_LIST], source), to_text_ids(table[ITEM], source)]
    if USER in table.columns:
        columns.append(to_text_ids(table[USER], source))
    names = ("propensity", "reward", _PLACE, "target_propensity")
    columns += [to_numbers(table[name], source) for name in names if name in table.columns]
    return table.with_columns(columns)


def _is_drawn(slots: pl.DataFrame, source: str) -> pl.Series:
    """True for slots of lists that were drawn."""
    if "is_explored" not in slots.columns:
        return slots.select((pl.col("propensity").min().over(_LIST) < 1).alias("drawn"))["drawn"]
    flag = slots["is_explored"]
    if flag.dtype != pl.Boolean or flag.null_count():
        raise DataError(
            f"is_explored must be true or false in every row; got {flag.dtype} with {flag.null_count():,} of "
            f"{slots.height:,} rows empty.\n  In {source}. Leave the column out if it is not known."
        )
    return flag


def _clusters(slots: pl.DataFrame) -> pl.Series:
    """A number per user; a list without a user is a cluster of its own."""
    key = pl.concat_str(pl.lit("l"), _LIST)
    if USER in slots.columns:
        key = pl.coalesce(pl.concat_str(pl.lit("u"), USER), key)
    keys = slots.select(key.alias("key"))["key"]
    return keys.rank("dense").cast(pl.Int64).alias("cluster") - 1
