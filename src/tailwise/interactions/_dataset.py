"""Interactions and catalogue together: encoded, counted, with a checksum."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from tailwise.errors import DataError
from tailwise.interactions._catalogue import Catalogue
from tailwise.interactions._columns import first_offenders
from tailwise.interactions._log import InteractionLog, drop_unknown_items
from tailwise.schema import (
    ITEM,
    ITEM_INDEX,
    OPTIONAL_INTERACTION_COLUMNS,
    OPTIONAL_ITEM_COLUMNS,
    TIMESTAMP,
    TITLE,
    USER,
    USER_INDEX,
)

__all__ = ["DataChecks", "Dataset", "Repeats", "UnknownItems", "build_dataset"]

Repeats = Literal["first", "keep"]
UnknownItems = Literal["error", "drop"]


@dataclass(frozen=True)
class DataChecks:
    """Everything that was counted, changed or removed between the files and the data set."""

    interactions_source: str
    items_source: str
    n_rows_read: int
    """Of the interactions table."""
    n_duplicate_rows: int
    """Rows equal to another in every column of the file."""
    n_duplicate_rows_removed: int
    n_unknown_item_rows_removed: int
    """Rows whose item the catalogue lacks."""
    repeats: Repeats
    """``first``: only the first interaction of each user with an item is kept."""
    n_repeats: int
    """Rows after the first of their user and item."""
    n_repeats_removed: int
    n_interactions: int
    n_users: int
    n_items: int
    n_users_with_one_interaction: int
    """Kept: they train, but under leave-last-out they cannot be evaluated."""
    n_items_without_interactions: int
    n_tied_interactions: int
    """Rows that share user and timestamp with another row: their order is not in the data."""
    timestamps: str
    """How timestamps were written and read."""
    n_duplicate_items_removed: int
    n_untitled_items: int
    n_titles_cleaned: int
    n_items_sharing_a_title: int
    """Items whose title another item has too: a model that sees titles alone confuses them."""
    ignored_interaction_columns: tuple[str, ...]
    ignored_item_columns: tuple[str, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    def __str__(self) -> str:
        lines = [
            f"{self.n_interactions:,} interactions of {self.n_users:,} users with {self.n_items:,} items",
            f"read {self.n_rows_read:,} rows from {self.interactions_source}, items from {self.items_source}",
            f"timestamps: {self.timestamps}; "
            f"{self.n_tied_interactions:,} rows tie with another of their user",
            f"repeats: {self.repeats}; {self.n_repeats:,} found, {self.n_repeats_removed:,} removed",
        ]
        counts = {
            "duplicate rows found": self.n_duplicate_rows,
            "duplicate rows removed": self.n_duplicate_rows_removed,
            "rows with an item outside the catalogue removed": self.n_unknown_item_rows_removed,
            "users with one interaction (training only)": self.n_users_with_one_interaction,
            "items without interactions": self.n_items_without_interactions,
            "duplicate catalogue rows removed": self.n_duplicate_items_removed,
            "items without title, described instead": self.n_untitled_items,
            "titles tidied (white space, Unicode)": self.n_titles_cleaned,
            "items sharing their title with another": self.n_items_sharing_a_title,
        }
        lines += [f"{text}: {count:,}" for text, count in counts.items() if count]
        ignored = self.ignored_interaction_columns + self.ignored_item_columns
        if ignored:
            lines.append(f"ignored columns: {', '.join(dict.fromkeys(ignored))}")
        return "\n".join((*lines, *self.notes))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Encoded interactions and their catalogue; the input of every split."""

    name: str
    interactions: pl.DataFrame
    """``user_id``, ``item_id``, ``timestamp``, ``user_index``, ``item_index`` and the optional columns
    present, sorted by ``user_index``, ``timestamp``, ``item_index``. Rows of one user and timestamp are
    in *item* order, which means nothing: take sequences from a split, which breaks ties fairly."""
    catalogue: Catalogue
    checks: DataChecks

    @property
    def n_users(self) -> int:
        """Number of users; ``user_index`` counts them in the order of their identifiers."""
        return self.checks.n_users

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue, those without interactions included."""
        return self.catalogue.n_items

    @property
    def n_interactions(self) -> int:
        """Number of rows after all checks."""
        return self.interactions.height

    def checksum(self) -> str:
        """Return a SHA-256 of the encoded interactions and the catalogue.

        The same for any row order of the input files, and on any machine. The name and the
        columns that Tailwise ignores do not count.
        """
        digest = hashlib.sha256(b"tailwise-dataset-1\n")

        def add(name: str, values: pl.Series) -> None:
            digest.update(f"{name}:{len(values)}\n".encode())
            if values.dtype == pl.String:
                digest.update(json.dumps(values.to_list(), ensure_ascii=False).encode())
            elif values.dtype.is_float():
                # One bit pattern for every gap, then little-endian float64.
                numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype("<f8")
                digest.update(np.where(np.isnan(numbers), np.nan, numbers + 0.0).tobytes())
            else:
                digest.update(values.to_numpy().astype("<i8").tobytes())

        for name in (ITEM, TITLE, *OPTIONAL_ITEM_COLUMNS):
            if name in self.catalogue.items.columns:
                add(f"items.{name}", self.catalogue.items[name])
        add("users", self.interactions[USER].unique().sort())
        for name in (USER_INDEX, ITEM_INDEX, TIMESTAMP, *OPTIONAL_INTERACTION_COLUMNS):
            if name in self.interactions.columns:
                add(name, self.interactions[name])
        return digest.hexdigest()


def build_dataset(
    interactions: InteractionLog,
    catalogue: Catalogue,
    *,
    name: str = "data",
    repeats: Repeats = "first",
    unknown_items: UnknownItems = "error",
) -> Dataset:
    """Join a checked log with its catalogue and encode users and items as positions.

    Args:
        interactions: From :func:`load_interactions` or :func:`check_interactions`.
        catalogue: From :func:`load_catalogue` or :func:`check_catalogue`.
        name: For reports.
        repeats: ``"first"`` keeps the first interaction of each user with an item, so that a
            held-out item is always new to its user; ``"keep"`` keeps all.
        unknown_items: ``"error"``, or ``"drop"`` for rows whose item the catalogue lacks.

    Raises:
        DataError: items are unknown (with ``"error"``), or no row is left.

    Example:
        >>> from tailwise.interactions import check_catalogue, check_interactions
        >>> log = pl.DataFrame({"user_id": ["ann", "bob"], "item_id": [7, 7], "timestamp": [1, 2]})
        >>> items = pl.DataFrame({"item_id": [7, 8], "title": ["Heat (1995)", "Fargo (1996)"]})
        >>> dataset = build_dataset(check_interactions(log), check_catalogue(items), name="films")
        >>> dataset.n_users, dataset.n_items, dataset.checks.n_items_without_interactions
        (2, 2, 1)
    """
    if repeats not in ("first", "keep"):
        raise ValueError(f"repeats must be 'first' or 'keep'; got {repeats!r}")
    if unknown_items not in ("error", "drop"):
        raise ValueError(f"unknown_items must be 'error' or 'drop'; got {unknown_items!r}")
    if unknown_items == "drop":
        interactions = drop_unknown_items(interactions, catalogue)
        if not interactions.n_interactions:
            raise DataError(
                f"at least one interaction must name an item of the catalogue; got 0 of "
                f"{interactions.n_rows_read:,}.\n  {interactions.source} and {catalogue.source} do not "
                "belong together, or write item_id differently."
            )
    rows = _encode(interactions, catalogue)
    optional = [column for column in OPTIONAL_INTERACTION_COLUMNS if column in rows.columns]
    # The optional columns only make the order complete, so that the input order never shows.
    rows = rows.sort(USER_INDEX, TIMESTAMP, ITEM_INDEX, *optional, nulls_last=True)
    n_before = rows.height
    first = rows.unique([USER_INDEX, ITEM_INDEX], keep="first", maintain_order=True)
    if repeats == "first":
        rows = first
    per_user = np.bincount(rows[USER_INDEX].to_numpy())
    titles = catalogue.items[TITLE]
    checks = DataChecks(
        interactions_source=interactions.source,
        items_source=catalogue.source,
        n_rows_read=interactions.n_rows_read,
        n_duplicate_rows=interactions.n_duplicate_rows,
        n_duplicate_rows_removed=interactions.n_duplicate_rows_removed,
        n_unknown_item_rows_removed=interactions.n_unknown_item_rows_removed,
        repeats=repeats,
        n_repeats=n_before - first.height,
        n_repeats_removed=n_before - rows.height,
        n_interactions=rows.height,
        n_users=len(per_user),
        n_items=catalogue.n_items,
        n_users_with_one_interaction=int((per_user == 1).sum()),
        n_items_without_interactions=catalogue.n_items - rows[ITEM_INDEX].n_unique(),
        n_tied_interactions=int(rows.select(pl.struct(USER_INDEX, TIMESTAMP).is_duplicated().sum()).item()),
        timestamps=interactions.timestamps,
        n_duplicate_items_removed=catalogue.n_duplicate_rows_removed,
        n_untitled_items=catalogue.n_untitled,
        n_titles_cleaned=catalogue.n_titles_cleaned,
        n_items_sharing_a_title=int(titles.is_duplicated().sum()),
        ignored_interaction_columns=interactions.ignored_columns,
        ignored_item_columns=catalogue.ignored_columns,
        notes=interactions.notes,
    )
    return Dataset(name=name, interactions=rows, catalogue=catalogue, checks=checks)


def _encode(interactions: InteractionLog, catalogue: Catalogue) -> pl.DataFrame:
    table = interactions.table
    positions = catalogue.items.select(ITEM).with_row_index(ITEM_INDEX)
    users = table.select(pl.col(USER).unique().sort()).with_row_index(USER_INDEX)
    rows = table.join(positions, on=ITEM, how="left").join(users, on=USER, how="left")
    unknown = rows.filter(pl.col(ITEM_INDEX).is_null())[ITEM]
    if len(unknown):
        raise DataError(
            f"{len(unknown):,} of {table.height:,} interactions name items absent from the catalogue "
            f"({first_offenders(unknown.unique().sort())}).\n"
            f"  In {interactions.source}; the catalogue is {catalogue.source}.{_hint(unknown, catalogue)}\n"
            "  Add them to the catalogue, or call drop_unknown_items() (unknown_items='drop')."
        )
    columns = [USER, ITEM, TIMESTAMP, USER_INDEX, ITEM_INDEX]
    columns += [name for name in OPTIONAL_INTERACTION_COLUMNS if name in rows.columns]
    return rows.select(columns).cast({USER_INDEX: pl.Int64, ITEM_INDEX: pl.Int64})


def _hint(unknown: pl.Series, catalogue: Catalogue) -> str:
    """Say so when the identifiers differ only in what a spreadsheet tends to change."""
    for reason, clean in (
        ("surrounding spaces", pl.col(ITEM).str.strip_chars()),
        ("upper and lower case", pl.col(ITEM).str.to_lowercase()),
        ("leading zeros", pl.col(ITEM).str.strip_chars_start("0")),
    ):
        theirs = unknown.to_frame().select(clean)[ITEM]
        ours = catalogue.items.select(clean)[ITEM]
        n_close = int(theirs.is_in(ours.implode()).sum())
        if n_close:
            return f"\n  {n_close:,} of them match but for {reason}."
    return ""
