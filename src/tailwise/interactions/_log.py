"""Who did what, when: reading and checking a table of interactions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import polars as pl

from tailwise.errors import DataError
from tailwise.interactions._catalogue import Catalogue
from tailwise.interactions._columns import require_values, select_columns, to_numbers, to_text_ids
from tailwise.interactions._files import read_table
from tailwise.interactions._timestamps import TimestampUnit, to_unix_seconds
from tailwise.schema import EVENT_TYPE, ITEM, OPTIONAL_INTERACTION_COLUMNS, TIMESTAMP, USER

__all__ = ["Duplicates", "InteractionLog", "check_interactions", "drop_unknown_items", "load_interactions"]

Duplicates = Literal["drop", "keep"]


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """Checked interactions with the user's own identifiers, before they meet a catalogue."""

    table: pl.DataFrame
    """``user_id``, ``item_id`` (text), ``timestamp`` (int64 unix seconds) and optional columns."""
    source: str = "table"
    n_rows_read: int = 0
    n_duplicate_rows: int = 0
    """Rows equal to an earlier one in every column of the file."""
    n_duplicate_rows_removed: int = 0
    n_unknown_item_rows_removed: int = 0
    timestamps: str = "unix seconds"
    """How timestamps were written and read."""
    ignored_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader of a named data set left out or changed."""

    @property
    def n_interactions(self) -> int:
        """Number of rows."""
        return self.table.height


def load_interactions(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    timestamp_unit: TimestampUnit = "s",
    duplicates: Duplicates = "drop",
    separator: str | None = None,
    encoding: str = "utf-8",
) -> InteractionLog:
    """Read and check an interactions file, or the ``interactions`` table of a folder.

    Args:
        path: CSV, TSV, Parquet or RecBole ``.inter`` file, or a folder with one of them.
        columns: Our name -> the file's, e.g. ``{"user_id": "customer"}``.
        timestamp_unit: Of numeric timestamps: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.
        duplicates: See :func:`check_interactions`.
        separator: Column separator of text files, when it is not that of the format.
        encoding: Of text files.

    Raises:
        DataError: the file or its content breaks a rule; see :func:`check_interactions`.

    Example:
        >>> load_interactions("sales.csv", columns={"user_id": "customer"})  # doctest: +SKIP
    """
    table, file = read_table(path, role="interactions", separator=separator, encoding=encoding)
    return check_interactions(
        table, columns=columns, timestamp_unit=timestamp_unit, duplicates=duplicates, source=str(file)
    )


def check_interactions(
    table: pl.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    timestamp_unit: TimestampUnit = "s",
    duplicates: Duplicates = "drop",
    source: str = "table",
    notes: tuple[str, ...] = (),
) -> InteractionLog:
    """Check a table of interactions and bring it into the schema.

    Rows may come in any order.

    Args:
        table: One row per interaction.
        columns: Our name -> the table's.
        timestamp_unit: Of numeric timestamps.
        duplicates: What to do with a row equal to another in *every* column of ``table``,
            also those that Tailwise ignores (an order line has its own number): ``"drop"``
            keeps one; ``"keep"`` keeps all, for logs in which such rows are separate events.
            They are counted either way.
        source: Name for messages.
        notes: Passed on to the report of checks.

    Raises:
        DataError: empty, a column or value is missing, a number or timestamp does not parse,
            or timestamps look like another unit.

    Example:
        >>> table = pl.DataFrame({"user_id": ["ann"], "item_id": ["7"], "timestamp": ["2024-01-31"]})
        >>> check_interactions(table).table["timestamp"].to_list()
        [1706659200]
    """
    if duplicates not in ("drop", "keep"):
        raise ValueError(f"duplicates must be 'drop' or 'keep'; got {duplicates!r}")
    rows, ignored = select_columns(
        table,
        required=(USER, ITEM, TIMESTAMP),
        optional=OPTIONAL_INTERACTION_COLUMNS,
        columns=columns,
        source=source,
    )
    if rows.height == 0:
        raise DataError(f"{source} must hold at least one interaction; got 0 rows.\n  Check the export.")
    require_values(rows, (USER, ITEM, TIMESTAMP), source)
    seconds, how = to_unix_seconds(rows[TIMESTAMP], unit=timestamp_unit, source=source)
    rows = rows.with_columns(
        to_text_ids(rows[USER], source), to_text_ids(rows[ITEM], source), seconds.alias(TIMESTAMP)
    )
    for name in OPTIONAL_INTERACTION_COLUMNS:
        if name in rows.columns:
            values = rows[name].cast(pl.String) if name == EVENT_TYPE else to_numbers(rows[name], source)
            rows = rows.with_columns(values)

    comparable = [name for name, dtype in table.schema.items() if not dtype.is_nested()]
    is_first = table.select(pl.struct(comparable).is_first_distinct()).to_series()
    n_duplicates = int((~is_first).sum())
    if n_duplicates and duplicates == "drop":
        rows = rows.filter(is_first)
    return InteractionLog(
        table=rows,
        source=source,
        n_rows_read=table.height,
        n_duplicate_rows=n_duplicates,
        n_duplicate_rows_removed=table.height - rows.height,
        timestamps=how,
        ignored_columns=ignored,
        notes=notes,
    )


def drop_unknown_items(log: InteractionLog, catalogue: Catalogue) -> InteractionLog:
    """Return the log without the rows whose item the catalogue lacks, their number recorded."""
    known = log.table.filter(pl.col(ITEM).is_in(catalogue.items[ITEM].implode()))
    n_removed = log.table.height - known.height
    return replace(log, table=known, n_unknown_item_rows_removed=log.n_unknown_item_rows_removed + n_removed)
