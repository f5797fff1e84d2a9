"""Who lives in the tail: segments by brand, category, seller or any column of the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import betaincinv
from scipy.stats import rankdata

from tailwise.errors import DataError
from tailwise.segments import COLD, Segments

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
    series = values if isinstance(values, pl.Series) else pl.Series(column or "column", values)
    name = column or series.name or "column"
    texts = _texts(series, segments.n_items, name)
    for argument, given in (("min_items", min_items), ("max_values", max_values)):
        if given < 1 or given != int(given):
            raise ValueError(
                f"{argument} must be a whole number >= 1; got {given!r}.\n"
                "  It bounds which values have a row of their own; the others are pooled."
            )
    if separator == "":
        raise ValueError("separator must not be empty; got ''.\n  None takes the text as one value.")
    items = pl.DataFrame(
        {
            "value": texts,
            "label": segments.labels.astype(np.int64),
            "count": segments.counts,
            "rank": rankdata(-segments.counts),
        }
    ).with_row_index("item")
    if separator is not None:
        items = _split(items, separator)
    pooled = _pool(items, int(min_items), int(max_values))
    table = _summarise(pooled, segments)
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


def _texts(series: pl.Series, n_items: int, name: str) -> pl.Series:
    """Values as texts, null where there is none."""
    if len(series) != n_items:
        raise ValueError(
            f"values must have one entry per item, {n_items:,}; got {len(series):,} in column {name!r}.\n"
            "  Pass the catalogue's column, in the order of item_index."
        )
    if not (series.dtype in (pl.String, pl.Categorical, pl.Boolean, pl.Null) or series.dtype.is_integer()):
        raise ValueError(
            f"values must be texts, whole numbers or booleans; got {series.dtype} in column {name!r}.\n"
            "  Cut amounts such as prices into classes first, for example with Series.qcut()."
        )
    texts = series.cast(pl.String).str.strip_chars()
    texts = texts.to_frame("value").select(pl.when(pl.col("value") != "").then("value"))["value"]
    if texts.null_count() == len(texts):
        raise DataError(
            f"column {name!r} must have a value for some item; got {n_items:,} missing ones.\n"
            "  Load the catalogue with that column, or leave it out."
        )
    return texts


def _split(items: pl.DataFrame, separator: str) -> pl.DataFrame:
    """Give each of an item's values a row; one null where nothing stands between separators."""
    parts = items.select("item", pl.col("value").str.split(separator)).explode("value", empty_as_null=True)
    parts = parts.with_columns(pl.col("value").str.strip_chars()).filter(pl.col("value") != "").unique()
    return items.drop("value").join(parts, on="item", how="left", maintain_order="left")


def _pool(items: pl.DataFrame, min_items: int, max_values: int) -> pl.DataFrame:
    """Give each item its row: kind and value, with small values together."""
    sizes = (
        items.filter(pl.col("value").is_not_null())
        .group_by("value")
        .len("size")
        .sort(["size", "value"], descending=[True, False])
        .with_row_index("place")
        .with_columns(own=(pl.col("size") >= min_items) & (pl.col("place") < max_values))
    )
    kind = (
        pl.when(pl.col("value").is_null())
        .then(pl.lit("missing"))
        .when(pl.col("own"))
        .then(pl.lit("value"))
        .otherwise(pl.lit("other"))
    )
    labelled = items.join(sizes.select("value", "own"), on="value", how="left").with_columns(
        kind.alias("kind")
    )
    shown = pl.when(pl.col("kind") == "value").then("value").otherwise("kind")
    return labelled.with_columns(original=pl.col("value"), value=shown)


def _summarise(items: pl.DataFrame, segments: Segments) -> pl.DataFrame:
    """One row per value: sizes, shares of the catalogue, shares of each segment."""
    total = max(int(segments.counts.sum()), 1)  # a window without interactions has shares of 0
    order = pl.col("kind").replace_strict({"value": 0, "other": 1, "missing": 2}, return_dtype=pl.Int8)
    last = len(segments.names) - 1
    n_values = items.group_by("value", "kind").agg(
        pl.col("original").drop_nulls().n_unique().cast(pl.Int64).alias("n_values")
    )
    # An item of two pooled values is one item of "other".
    sizes = (
        items.unique(["value", "kind", "item"])
        .group_by("value", "kind")
        .agg(
            pl.len().cast(pl.Int64).alias("n_items"),
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
    )
    by_size = [order, pl.col("n_items"), pl.col("value")]
    return n_values.join(sizes, on=["value", "kind"]).sort(by_size, descending=[False, True, False])


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
