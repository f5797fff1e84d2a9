"""A column of the catalogue as rows of a table: its values, the small ones pooled, the missing ones apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError

__all__ = ["ColumnValues", "column_values"]

_KINDS = ("value", "other", "missing")


@dataclass(frozen=True, eq=False)
class ColumnValues:
    """Which items belong to which value of a column.

    Attributes:
        table: A row per value, most items first, then pooled and missing ones: ``value``, ``kind``
            (``value``, ``other`` or ``missing``), ``n_values`` (1 unless pooled), ``n_items``.
        items: ``[m]`` int64; with ``rows``, pairs that occur once. Every item is in a pair.
        rows: ``[m]`` int64; positions in ``table``.
    """

    table: pl.DataFrame
    items: NDArray[np.int64]
    rows: NDArray[np.int64]


def column_values(
    values: pl.Series | Sequence[str | None],
    n_items: int,
    *,
    column: str,
    separator: str | None,
    min_items: int,
    max_values: int,
) -> ColumnValues:
    """Read a catalogue column as every table by brand, category or seller does.

    Args:
        values: ``[n_items]`` texts, whole numbers or booleans in the order of ``item_index``;
            null, empty or blank = missing.
        n_items: Size of the catalogue.
        column: Name for messages.
        separator: An item has several values, separated so (``"Action|Drama"``), and is in the row of
            each. None: the text is one value.
        min_items: Pool values with fewer items, >= 1.
        max_values: Pool all but so many of the largest values, >= 1.

    Raises:
        ValueError: there is not one value per item, they are floats, or a limit is out of range.
        DataError: no item has a value.
    """
    for name, given in (("min_items", min_items), ("max_values", max_values)):
        if given < 1 or given != int(given):
            raise ValueError(
                f"{name} must be a whole number >= 1; got {given!r}.\n"
                "  It bounds which values have a row of their own; the others are pooled."
            )
    if separator == "":
        raise ValueError("separator must not be empty; got ''.\n  None takes the text as one value.")
    series = values if isinstance(values, pl.Series) else pl.Series(column, values)
    items = pl.DataFrame({"item": np.arange(n_items), "value": _texts(series, n_items, column)})
    if separator is not None:
        parts = items.with_columns(pl.col("value").str.split(separator)).explode("value", empty_as_null=True)
        parts = parts.with_columns(pl.col("value").str.strip_chars()).filter(pl.col("value") != "").unique()
        items = items.select("item").join(parts, on="item", how="left")
    sizes = (
        items.filter(pl.col("value").is_not_null())
        .group_by("value")
        .len("size")
        .sort(["size", "value"], descending=[True, False])
        .with_row_index("place")
        .select("value", own=(pl.col("size") >= min_items) & (pl.col("place") < max_values))
    )
    kind = (
        pl.when(pl.col("value").is_null())
        .then(pl.lit("missing"))
        .when(pl.col("own"))
        .then(pl.lit("value"))
        .otherwise(pl.lit("other"))
    )
    labelled = items.join(sizes, on="value", how="left").with_columns(kind=kind)
    shown = pl.when(pl.col("kind") == "value").then("value").otherwise("kind")
    labelled = labelled.with_columns(original=pl.col("value"), value=shown)
    table = labelled.group_by("value", "kind").agg(
        pl.col("original").drop_nulls().n_unique().cast(pl.Int64).alias("n_values"),
        pl.col("item").n_unique().cast(pl.Int64).alias("n_items"),  # an item of two pooled values is one item
    )
    order = pl.col("kind").replace_strict({name: i for i, name in enumerate(_KINDS)}, return_dtype=pl.Int8)
    table = table.sort([order, "n_items", "value"], descending=[False, True, False])
    pairs = labelled.join(table.with_row_index("row"), on=["value", "kind"]).select("item", "row")
    pairs = pairs.unique().sort("item", "row")
    return ColumnValues(table, pairs["item"].to_numpy(), pairs["row"].cast(pl.Int64).to_numpy())


def _texts(series: pl.Series, n_items: int, column: str) -> pl.Series:
    """Values as texts, null where there is none."""
    if len(series) != n_items:
        raise ValueError(
            f"values must have one entry per item, {n_items:,}; got {len(series):,} in column {column!r}.\n"
            "  Pass the catalogue's column, in the order of item_index."
        )
    if not (series.dtype in (pl.String, pl.Categorical, pl.Boolean, pl.Null) or series.dtype.is_integer()):
        raise ValueError(
            f"values must be texts, whole numbers or booleans; got {series.dtype} in column {column!r}.\n"
            "  Cut amounts such as prices into classes first, for example with Series.qcut()."
        )
    texts = series.cast(pl.String).str.strip_chars()
    texts = texts.to_frame("value").select(pl.when(pl.col("value") != "").then("value"))["value"]
    if texts.null_count() == len(texts):
        raise DataError(
            f"column {column!r} must have a value for some item; got {n_items:,} missing ones.\n"
            "  Load the catalogue with that column, or leave it out."
        )
    return texts
