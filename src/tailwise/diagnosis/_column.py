"""Who lives in the tail: segments by brand, category, seller or any column of the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import betaincinv
from scipy.stats import rankdata

from tailwise.segments import COLD, ColumnValues, Segments, column_values

__all__ = ["ColumnTail", "segments_by_column"]


@dataclass(frozen=True, eq=False)
class ColumnTail:
    """Each value of a catalogue column, and how its items spread over the segments.

    Attributes:
        column: Name of the column.
        table: A row per value, most items first, then pooled values, then missing ones:

            ===========================  ==========================================================
            ``value``                    text; ``"other"`` pooled, ``"missing"`` for no value
            ``kind``                     ``value``, ``other`` or ``missing``
            ``n_values``                 values in the row, 1 unless pooled
            ``n_items``                  items of the catalogue
            ``n_interactions``           training interactions that the segments counted
            ``item_share``               of the catalogue, 0–1
            ``interaction_share``        of all interactions, 0–1
            ``mean_popularity_rank``     1 = most popular; equal counts share their mean rank
            ``<segment>_share``          of the row's items, one column per segment, cold last
            ``tail_ratio``               share of the row's *trained* items in the last trained
                                         segment, over that share in the catalogue: above 1, it
                                         lives in the tail more than others
            ``head_ratio``               likewise for the first segment; says more than the
                                         tail's where most items are tail anyway
            ``cold_ratio``               likewise: share of *all* its items that are cold
            ``*_ratio_low``, ``_high``   their intervals
            ===========================  ==========================================================

            Ratios are null where the denominator is empty.
        min_items: Values with fewer items are pooled.
        max_values: No more values than this have a row of their own.
        level: Of the intervals, after any correction.
        is_partition: Whether every item is in one row; not with a separator.
        segments: Rule, parameters and window of the segments.
    """

    column: str
    table: pl.DataFrame
    min_items: int
    max_values: int
    level: float
    is_partition: bool
    segments: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "column": self.column,
            "min_items": self.min_items,
            "max_values": self.max_values,
            "level": self.level,
            "is_partition": self.is_partition,
            "segments": dict(self.segments),
            "values": self.table.to_dicts(),
        }


def segments_by_column(
    values: pl.Series | Sequence[str | None],
    segments: Segments,
    *,
    column: str | None = None,
    separator: str | None = None,
    min_items: int = 20,
    max_values: int = 50,
    simultaneous: bool = False,
) -> ColumnTail:
    """Spread the items of each brand, category or seller over the segments.

    The intervals are exact binomial ones (Clopper–Pearson) for the row's share, over the
    catalogue's share taken as known. They ask: would other items of this brand live in the
    tail as often? For a value that is much of the catalogue they are too wide, never too narrow.
    Of twenty such intervals one misses by chance: with ``simultaneous`` all rows of a ratio hold
    together (Bonferroni), as a claim about the extreme one needs.

    Args:
        values: ``[n_items]`` texts, whole numbers or booleans in the order of ``item_index``;
            null, empty or blank = missing.
        segments: Of the same items.
        column: Name for results. None: the series' own.
        separator: An item has several values, separated so (``"Action|Drama"``), and counts
            in full for each. Rows then overlap. None: the text is one value.
        min_items: Pool values with fewer items, >= 1. Of fewer than 20 items, a share says little.
        max_values: Pool all but so many of the largest values, >= 1.
        simultaneous: Whether the 95 % hold for all rows at once.

    Raises:
        ValueError: there is not one value per item, they are floats, or an argument is out of
            range.
        DataError: no item has a value.

    Example:
        >>> from tailwise.segments import segment_items
        >>> segments = segment_items(np.array([9, 8, 1, 1, 0]), head_share=0.5)
        >>> found = segments_by_column(["A", "A", "B", None, "B"], segments, column="brand", min_items=2)
        >>> found.table.select("value", "n_items", "tail_share", "tail_ratio").rows()
        [('A', 2, 0.0, 0.0), ('B', 2, 0.5, 2.0), ('missing', 1, 1.0, 2.0)]
    """
    name = column or (values.name if isinstance(values, pl.Series) else "") or "column"
    found = column_values(
        values,
        segments.n_items,
        column=name,
        separator=separator,
        min_items=min_items,
        max_values=max_values,
    )
    table = _summarise(found, segments)
    level = 1 - 0.05 / table.height if simultaneous else 0.95
    table = _with_ratios(table, segments, level)
    described = segments.as_dict()
    return ColumnTail(
        column=name,
        table=table,
        min_items=int(min_items),
        max_values=int(max_values),
        level=level,
        is_partition=separator is None,
        segments={key: described[key] for key in ("rule", "parameters", "popularity_window")},
    )


def _summarise(found: ColumnValues, segments: Segments) -> pl.DataFrame:
    """One row per value: sizes, shares of the catalogue, shares of each segment."""
    total = max(int(segments.counts.sum()), 1)  # a window without interactions has shares of 0
    last = len(segments.names) - 1
    pairs = pl.DataFrame(
        {
            "row": found.rows,
            "label": segments.labels[found.items].astype(np.int64),
            "count": segments.counts[found.items],
            "rank": rankdata(-segments.counts)[found.items],
        }
    )
    sizes = pairs.group_by("row").agg(
        pl.col("count").sum().alias("n_interactions"),
        (pl.len() / segments.n_items).alias("item_share"),
        (pl.col("count").sum() / total).alias("interaction_share"),
        pl.col("rank").mean().alias("mean_popularity_rank"),
        *((pl.col("label") == i).mean().alias(f"{name}_share") for i, name in enumerate(segments.names)),
        *(
            (pl.col("label") == label).sum().cast(pl.Int64).alias(f"_n_{name}")
            for name, label in (("head", 0), ("tail", last - 1), ("cold", last))
        ),
    )
    table = found.table.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    return table.join(sizes, on="row", how="left", maintain_order="left").drop("row")


def _with_ratios(table: pl.DataFrame, segments: Segments, level: float) -> pl.DataFrame:
    """Replace the counted head, tail and cold items by ratios with intervals."""
    n_items, n_cold = table["n_items"].to_numpy(), table["_n_cold"].to_numpy()
    n_trained, all_trained = n_items - n_cold, int(segments.is_trained.sum())
    of_all = {
        "tail": segments.n_items_in(segments.names[-2]) / all_trained,
        "head": segments.n_items_in(segments.names[0]) / all_trained,
        "cold": segments.n_items_in(COLD) / segments.n_items,
    }
    columns = []
    for name, of_catalogue in of_all.items():
        hits, n = table[f"_n_{name}"].to_numpy(), n_items if name == "cold" else n_trained
        low, high = exact_binomial(hits, n, level)
        for suffix, shares in (("", hits / np.maximum(n, 1)), ("_low", low), ("_high", high)):
            known = (n > 0) & (of_catalogue > 0)
            ratios = [
                float(s / of_catalogue) if k else None
                for s, k in zip(shares.tolist(), known.tolist(), strict=True)
            ]
            columns.append(pl.Series(f"{name}_ratio{suffix}", ratios, dtype=pl.Float64))
    return table.drop("_n_head", "_n_tail", "_n_cold").with_columns(columns)


def exact_binomial(
    hits: NDArray[np.int64], n: NDArray[np.int64], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clopper–Pearson bounds of a share: ``[m], [m]``; 0 and 1 where ``n`` is 0."""
    miss = (1 - level) / 2
    misses = n - hits
    # The beta distribution has no quantile at a parameter of 0; those bounds are 0 and 1.
    low = betaincinv(np.maximum(hits, 1), misses + 1, miss)
    high = betaincinv(hits + 1, np.maximum(misses, 1), 1 - miss)
    return np.where(hits > 0, low, 0.0), np.where(misses > 0, high, 1.0)
