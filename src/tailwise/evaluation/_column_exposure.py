"""Who gets the slots: exposure by category, brand or any column of the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tailwise.errors import DataError
from tailwise.evaluation._evaluate import check_inputs
from tailwise.evaluation._exposure import check_list_length
from tailwise.evaluation._rankings import Rankings
from tailwise.evaluation._user_sums import UserSums, bootstrap, mean_over_seeds, ratios
from tailwise.evaluation._with_interval import WithInterval
from tailwise.schema import ITEM_INDEX, USER_INDEX
from tailwise.segments import ColumnValues, Segments, column_values

__all__ = ["ColumnExposure", "exposure_by_column"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ColumnExposure:
    """Each value of a catalogue column: what it holds of catalogue and log, and what it is shown.

    Attributes:
        column: Name of the column.
        k: Slots of each list that count.
        table: A row per value, most items first, then pooled values, then missing ones:

            ==========================  ===========================================================
            ``value``                   text; ``"other"`` pooled, ``"missing"`` for no value
            ``kind``                    ``value``, ``other`` or ``missing``
            ``n_values``                values in the row, 1 unless pooled
            ``n_items``                 items of the catalogue
            ``n_interactions``          training interactions that the segments counted
            ``n_slots``                 slots that show its items, mean over seeds
            ``item_share``              of the catalogue, 0–1
            ``interaction_share``       of the training interactions, 0–1
            ``slot_share``              of the slots, 0–1
            ``exposure_ratio``          ``slot_share / interaction_share``: above 1, lists show it
                                        more than users chose it
            ``*_low``, ``*_high``       95 % intervals of the last two, users resampled
            ==========================  ===========================================================

            A ratio is null for a value without interactions.
        min_items: Values with fewer items are pooled.
        max_values: No more values than this have a row of their own.
        n_users: Users with a slot.
        n_slots: Filled slots, mean over seeds.
        is_partition: Whether the shares of all rows add up to 1; not with a separator.
        resamples_interactions: Whether a resample takes users' interactions along with their lists.
    """

    column: str
    k: int
    table: pl.DataFrame
    min_items: int
    max_values: int
    n_users: int
    n_slots: float
    is_partition: bool
    resamples_interactions: bool

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "column": self.column,
            "k": self.k,
            "min_items": self.min_items,
            "max_values": self.max_values,
            "n_users": self.n_users,
            "n_slots": self.n_slots,
            "is_partition": self.is_partition,
            "resamples_interactions": self.resamples_interactions,
            "values": self.table.to_dicts(),
        }


def exposure_by_column(
    rankings: Rankings | Sequence[Rankings],
    values: pl.Series | Sequence[str | None],
    segments: Segments,
    k: int = 10,
    *,
    training: pl.DataFrame | None = None,
    column: str | None = None,
    separator: str | None = None,
    min_items: int = 20,
    max_values: int = 50,
    n_resamples: int = 1000,
    seed: int = 0,
) -> ColumnExposure:
    """Compare what each brand, category or seller is shown with what users chose of it.

    Rows with many values are wide tables of users: memory is about 8 bytes × users × rows,
    twice that with ``training``.

    Args:
        rankings: Of one variant, or lists of any system; a sequence holds one per training seed.
        values: ``[n_items]`` texts, whole numbers or booleans in the order of ``item_index``;
            null, empty or blank = missing.
        segments: Of the same items, for their training counts.
        k: Slots that count, 1..list_length.
        training: Encoded training rows (``user_index``, ``item_index``), those that the segments
            counted. With them a resampled user brings along lists *and* interactions, so that the
            ratio's interval speaks of other users; without, the counts are taken as known, and it
            speaks of other lists only.
        column: Name for results. None: the series' own.
        separator: An item has several values, separated so (``"Action|Drama"``), and counts in
            full for each. Rows then overlap. None: the text is one value.
        min_items: Pool values with fewer items, >= 1.
        max_values: Pool all but so many of the largest values, >= 1.
        n_resamples: Of the bootstrap over users.
        seed: Of the bootstrap.

    Raises:
        ValueError: there is not one value per item, they are floats, or an argument is out of range.
        DataError: no slot is filled, no item has a value, seeds hold different cases, or ``training``
            is not what the segments counted.

    Example:
        >>> from tailwise.evaluation import rank_targets
        >>> from tailwise.segments import segment_items
        >>> segments = segment_items(np.array([6, 2, 1, 1]), head_share=0.25)
        >>> r = rank_targets(lambda h: np.array([[4, 3, 2, 1]] * 2), [[], []], [0, 0, 0], [], n_items=4)
        >>> found = exposure_by_column(r, ["A", "B", "B", "A"], segments, k=2, column="brand", min_items=1)
        >>> found.table.select("value", "slot_share", "interaction_share").rows()
        [('A', 0.5, 0.7), ('B', 0.5, 0.3)]
    """
    runs = check_inputs(rankings, segments)
    check_list_length(runs, [k])
    name = column or (values.name if isinstance(values, pl.Series) else "") or "column"
    of_column = column_values(
        values,
        segments.n_items,
        column=name,
        separator=separator,
        min_items=min_items,
        max_values=max_values,
    )
    interactions = None if training is None else _interactions(training, segments)
    sums = mean_over_seeds([_sums(r, of_column, segments.n_items, k, interactions) for r in runs])
    n_slots = float(sums.denominators[:, 0].sum())
    if not n_slots:
        raise DataError(
            f"rankings must show an item in the first {k} slots; got {runs[0].n_users:,} empty lists.\n"
            "  Nothing is exposed: check how the lists were made."
        )
    return ColumnExposure(
        column=name,
        k=k,
        table=_table(of_column, segments, sums, n_resamples, seed),
        min_items=int(min_items),
        max_values=int(max_values),
        n_users=int(sums.n_contributing[0]),
        n_slots=n_slots,
        is_partition=separator is None,
        resamples_interactions=training is not None,
    )


def _interactions(training: pl.DataFrame, segments: Segments) -> pl.DataFrame:
    """Training rows, of which the segments counted every one."""
    rows = training.select(pl.col(USER_INDEX).cast(pl.Int64), pl.col(ITEM_INDEX).cast(pl.Int64))
    counts = np.bincount(rows[ITEM_INDEX].to_numpy(), minlength=segments.n_items)
    if not np.array_equal(counts, segments.counts):
        raise DataError(
            f"training must hold the rows that the segments counted, {int(segments.counts.sum()):,}; got "
            f"{rows.height:,}, or as many of other items.\n"
            "  Pass the training part, cut to the popularity window where there is one."
        )
    return rows


def _by_value(
    users: NDArray[np.int64], items: NDArray[np.int64], n_users: int, members: csr_matrix
) -> Floats:
    """Count (user, item) events by user and value: ``[n_users, n_rows]``."""
    shape = (n_users, members.shape[0])
    events = csr_matrix((np.ones(users.size), (users, items)), shape=shape)
    return np.asarray((events @ members).toarray(), dtype=np.float64)


def _sums(
    rankings: Rankings, of_column: ColumnValues, n_items: int, k: int, interactions: pl.DataFrame | None
) -> UserSums:
    """Slots, and interactions where users bring them, by user and value."""
    size = of_column.table.height
    ones = np.ones(of_column.items.size)
    members = csr_matrix((ones, (of_column.items, of_column.rows)), shape=(n_items, size))
    users = rankings.lists[USER_INDEX].to_numpy()
    if interactions is not None:
        users = np.union1d(users, interactions[USER_INDEX].to_numpy())
    slots = rankings.lists.select(USER_INDEX, pl.col("items").list.head(k))
    slots = slots.explode("items", empty_as_null=False)
    events = [(slots[USER_INDEX].to_numpy(), slots["items"].cast(pl.Int64).to_numpy())]
    if interactions is not None:
        events.append((interactions[USER_INDEX].to_numpy(), interactions[ITEM_INDEX].to_numpy()))
    numerators, denominators = [], []
    for of_users, items in events:
        rows = np.searchsorted(users, of_users)
        numerators.append(_by_value(rows, items, users.size, members))
        denominators.append(np.bincount(rows, minlength=users.size).astype(np.float64))
    kinds = ("slot_share", "interaction_share")[: len(events)]
    return UserSums(
        keys=tuple((kind, k, str(row)) for kind in kinds for row in range(size)),
        numerators=np.hstack(numerators),
        denominators=np.stack(denominators, axis=1),
        denominator_of=np.repeat(np.arange(len(events)), size),
    )


def _table(
    of_column: ColumnValues, segments: Segments, sums: UserSums, n_resamples: int, seed: int
) -> pl.DataFrame:
    size = of_column.table.height
    counts = np.bincount(of_column.rows, weights=segments.counts[of_column.items], minlength=size)
    interaction_share = counts / max(int(segments.counts.sum()), 1)
    training_drawn = len(sums.keys) > size

    def with_ratios(shares: Floats) -> Floats:  # [r, n_columns] -> [r, 2 · n_rows]
        of_slots = shares[:, :size]
        below = shares[:, size:] if training_drawn else np.broadcast_to(interaction_share, of_slots.shape)
        return np.hstack([of_slots, ratios(of_slots, below)])

    values = with_ratios(sums.values()[None, :])[0]
    draws = bootstrap(sums, n_resamples=n_resamples, seed=seed, statistic=with_ratios)
    n_users = int(sums.n_contributing[0])
    found = [WithInterval.from_draws(v, draws[:, i], n_users) for i, v in enumerate(values)]
    columns = [
        pl.Series("n_interactions", counts.astype(np.int64)),
        pl.Series("n_slots", sums.numerators[:, :size].sum(axis=0)),
        of_column.table["n_items"].alias("item_share") / segments.n_items,
        pl.Series("interaction_share", interaction_share),
    ]
    for name, part in (("slot_share", found[:size]), ("exposure_ratio", found[size:])):
        for suffix, attribute in (("", "value"), ("_low", "low"), ("_high", "high")):
            numbers = [getattr(number, attribute) for number in part]
            columns.append(pl.Series(f"{name}{suffix}", numbers, dtype=pl.Float64))
    return of_column.table.with_columns(columns)
