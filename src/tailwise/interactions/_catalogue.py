"""The items that can be recommended, and the text that a language model reads for each."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from tailwise.errors import DataError
from tailwise.interactions._columns import (
    first_offenders,
    require_values,
    select_columns,
    to_numbers,
    to_text_ids,
)
from tailwise.interactions._files import read_table
from tailwise.schema import BRAND, CATEGORY, ITEM, OPTIONAL_ITEM_COLUMNS, PRICE, TITLE

__all__ = ["Catalogue", "MissingTitles", "check_catalogue", "load_catalogue"]

MissingTitles = Literal["describe", "error"]

UNKNOWN_TITLE = "Unknown item"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Checked items; the row number is the ``item_index`` of every encoded table.

    :func:`load_catalogue` and :func:`check_catalogue` sort by ``item_id``, so the index does
    not depend on the order of the file.
    """

    items: pl.DataFrame
    """``item_id`` and ``title`` (text), and ``category``, ``brand``, ``price`` when present."""
    source: str = "table"
    n_rows_read: int = 0
    n_duplicate_rows_removed: int = 0
    """Rows equal to another in every column."""
    n_untitled: int = 0
    """Items without a title, described by brand and category instead, or as "Unknown item"."""
    n_titles_cleaned: int = 0
    """Titles in which spaces were collapsed or Unicode was composed (NFC)."""
    ignored_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (ITEM, TITLE):
            if name not in self.items.columns:
                raise ValueError(f"items must have a column {name!r}; got {self.items.columns}")

    @property
    def n_items(self) -> int:
        """Number of items, those never interacted with included."""
        return self.items.height

    def titles(self) -> list[str]:
        """Titles in the order of ``item_index``."""
        return self.items[TITLE].to_list()

    def item_ids(self) -> list[str]:
        """Identifiers in the order of ``item_index``."""
        return self.items[ITEM].to_list()


def load_catalogue(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    missing_titles: MissingTitles = "describe",
    separator: str | None = None,
    encoding: str = "utf-8",
) -> Catalogue:
    """Read and check a catalogue file, or the ``items`` table of a folder.

    Args:
        path: CSV, TSV, Parquet or RecBole ``.item`` file, or a folder with one of them.
        columns: Our name -> the file's, e.g. ``{"title": "product_name"}``.
        missing_titles: See :func:`check_catalogue`.
        separator: Column separator of text files, when it is not that of the format.
        encoding: Of text files.

    Raises:
        DataError: the file or its content breaks a rule; see :func:`check_catalogue`.

    Example:
        >>> load_catalogue("catalogue.csv", columns={"title": "name"}).n_items  # doctest: +SKIP
        1682
    """
    table, file = read_table(path, role="items", separator=separator, encoding=encoding)
    return check_catalogue(table, columns=columns, missing_titles=missing_titles, source=str(file))


def check_catalogue(
    table: pl.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    missing_titles: MissingTitles = "describe",
    source: str = "table",
) -> Catalogue:
    """Check a table of items and bring it into the schema.

    Titles lose surrounding space, runs of white space become one space (a line break would
    end a prompt early) and Unicode is composed (NFC, the form language models were trained
    on); nothing else is changed. An item without a title gets its brand and category as
    text, or "Unknown item" where both are missing: counted, and said in a warning.

    Args:
        table: One row per item.
        columns: Our name -> the table's.
        missing_titles: ``"describe"`` as above, or ``"error"``.
        source: Name for messages.

    Raises:
        DataError: empty, a column is missing, an identifier is missing or stands for two
            different rows, a price is no number, or (with ``"error"``) a title is missing.

    Example:
        >>> check_catalogue(pl.DataFrame({"item_id": ["7"], "title": [" Heat  (1995)"]})).titles()
        ['Heat (1995)']
    """
    if missing_titles not in ("describe", "error"):
        raise ValueError(f"missing_titles must be 'describe' or 'error'; got {missing_titles!r}")
    items, ignored = select_columns(
        table, required=(ITEM, TITLE), optional=OPTIONAL_ITEM_COLUMNS, columns=columns, source=source
    )
    if items.height == 0:
        raise DataError(
            f"{source} must hold at least one item; got 0 rows.\n  Check the export that wrote it."
        )
    require_values(items, (ITEM,), source)
    items = items.with_columns(to_text_ids(items[ITEM], source))
    if PRICE in items.columns:
        items = items.with_columns(to_numbers(items[PRICE], source))
    texts = [name for name in (CATEGORY, BRAND) if name in items.columns]
    items = items.with_columns(pl.col(name).cast(pl.String).str.strip_chars() for name in (TITLE, *texts))

    n_rows_read = items.height
    items = items.unique(maintain_order=False).sort(ITEM)
    repeated = items.filter(pl.col(ITEM).is_duplicated())[ITEM]
    if len(repeated):
        raise DataError(
            f"item_id must be unique; got {repeated.n_unique():,} of {items[ITEM].n_unique():,} items with "
            f"several different rows ({first_offenders(repeated.unique(maintain_order=True))}).\n"
            f"  In {source}. Keep one row per item."
        )
    n_duplicates = n_rows_read - items.height

    clean = pl.col(TITLE).str.normalize("NFC").str.replace_all(r"\s+", " ").str.strip_chars()
    cleaned = items.select(clean)[TITLE]
    n_cleaned = int((cleaned != items[TITLE]).fill_null(False).sum())
    items = items.with_columns(cleaned)
    items, n_untitled = _fill_titles(items, missing_titles, source)
    return Catalogue(items, source, n_rows_read, n_duplicates, n_untitled, n_cleaned, ignored)


def _fill_titles(items: pl.DataFrame, rule: MissingTitles, source: str) -> tuple[pl.DataFrame, int]:
    is_untitled = pl.col(TITLE).is_null() | (pl.col(TITLE) == "")
    untitled = items.filter(is_untitled)[ITEM]
    if not len(untitled):
        return items, 0
    found = f"{len(untitled):,} of {items.height:,} items have no title ({first_offenders(untitled)})"
    if rule == "error":
        raise DataError(
            f"title must be given for every item; got {found}.\n"
            f"  In {source}. Fill the titles in, or allow missing_titles='describe'."
        )
    parts = [
        pl.when(pl.col(name) != "").then(pl.col(name)) for name in (BRAND, CATEGORY) if name in items.columns
    ]
    described = pl.concat_str(parts, separator=" ", ignore_nulls=True) if parts else pl.lit("")
    fallback = pl.when(described == "").then(pl.lit(UNKNOWN_TITLE)).otherwise(described)
    items = items.with_columns(pl.when(is_untitled).then(fallback).otherwise(pl.col(TITLE)).alias(TITLE))
    n_unknown = items.filter(pl.col(ITEM).is_in(untitled.implode()) & (pl.col(TITLE) == UNKNOWN_TITLE)).height
    warnings.warn(
        f"{found}; in {source}. The model reads brand and category in place of the title, and "
        f"{UNKNOWN_TITLE!r} for {n_unknown:,} items that have neither. Fill the titles in for better "
        "recommendations, or pass missing_titles='error' to insist.",
        stacklevel=4,
    )
    return items, len(untitled)
