"""Recommendation lists that any system wrote: read, checked, nothing guessed and nothing dropped silently.

What a list says by itself is checked here; what it says of a catalogue and of users, when it is
encoded (``_encode_lists.py``). Every rule is in docs/recommendation-lists.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tailwise.errors import DataError
from tailwise.interactions._columns import first_offenders, require_values, select_columns, to_text_ids
from tailwise.interactions._columns import to_numbers as to_numbers_or_null
from tailwise.interactions._files import read_table
from tailwise.schema import ITEM, USER

__all__ = ["LISTS_METADATA", "RANK", "SCORE", "GivenLists", "RepeatedItems", "check_lists", "read_lists"]

RANK = "rank"  # int64, 1 = first
SCORE = "score"  # float, higher is better
LISTS_METADATA = "tailwise.lists"  # key in a Parquet file's metadata; `tailwise recommend` writes it

RepeatedItems = Literal["error", "drop"]


@dataclass(frozen=True, eq=False)
class GivenLists:
    """Checked lists with the system's own identifiers, before they meet a catalogue.

    Attributes:
        table: ``user_id`` and ``item_id`` (text), and ``rank`` (int64, 1, 2, ... of each user) or
            ``score`` (float64, finite) or both. Where both are there they agree, and ``rank`` decides.
        source: Name for messages.
        n_rows_read: Of the file or table.
        n_repeated_rows_dropped: Rows that named an item a second time in a user's list.
        ignored_columns: Columns that nothing was read from.
        made_with: What ``tailwise recommend`` wrote about these lists; None for other systems'.
    """

    table: pl.DataFrame
    source: str = "table"
    n_rows_read: int = 0
    n_repeated_rows_dropped: int = 0
    ignored_columns: tuple[str, ...] = ()
    made_with: Mapping[str, Any] | None = None

    @property
    def order(self) -> str:
        """What the order of a list was given by: ``rank``, ``score`` or ``rank and score``."""
        return " and ".join(name for name in (RANK, SCORE) if name in self.table.columns)


def read_lists(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    repeated_items: RepeatedItems = "error",
    separator: str | None = None,
    encoding: str = "utf-8",
) -> GivenLists:
    """Read and check a file of recommendation lists, one row per user and listed item.

    Args:
        path: Parquet, CSV or TSV (text may be gzipped) with ``user_id``, ``item_id`` and ``rank``
            (1 = first) or ``score`` (higher = better). Rows may come in any order.
        columns: Our name -> the file's, e.g. ``{"item_id": "sku"}``.
        repeated_items: See :func:`check_lists`.
        separator: Column separator of text files, when it is not that of the format.
        encoding: Of text files.

    Raises:
        DataError: the file or its content breaks a rule; see :func:`check_lists`.

    Example:
        >>> read_lists("lists.parquet", columns={"item_id": "sku"})  # doctest: +SKIP
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"lists must be a file; got {str(path)!r}.\n  Check the path.")
    table, file = read_table(file, role="interactions", separator=separator, encoding=encoding)
    made_with = None
    if file.suffix.lower() in (".parquet", ".pq"):
        text = pl.read_parquet_metadata(file).get(LISTS_METADATA)
        made_with = None if text is None else json.loads(text)
    return check_lists(
        table, columns=columns, repeated_items=repeated_items, source=str(file), made_with=made_with
    )


def check_lists(
    table: pl.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    repeated_items: RepeatedItems = "error",
    source: str = "table",
    made_with: Mapping[str, Any] | None = None,
) -> GivenLists:
    """Check a table of recommendation lists and bring it into the schema.

    Args:
        table: One row per user and listed item.
        columns: Our name -> the table's.
        repeated_items: An item twice in one user's list is an ``"error"``, or with ``"drop"`` keeps
            its best place; later ranks move up, and the rows are counted.
        source: Name for messages.
        made_with: See :class:`GivenLists`.

    Raises:
        ValueError: an argument is unknown.
        DataError: there is no row, a column or value is missing, an identifier is neither text nor a
            whole number, a rank is not 1, 2, 3, ... of its user, a score is not finite, rank
            and score contradict each other, or (with ``"error"``) a list repeats an item.

    Example:
        >>> rows = pl.DataFrame({"user_id": ["ann", "ann"], "item_id": [7, 4], "score": [0.2, 0.9]})
        >>> check_lists(rows).order
        'score'
    """
    if repeated_items not in ("error", "drop"):
        raise ValueError(f"repeated_items must be 'error' or 'drop'; got {repeated_items!r}")
    if table.height == 0:
        raise DataError(f"{source} must hold at least one list; got 0 rows.\n  Check the export.")
    rows, ignored = select_columns(
        table, required=(USER, ITEM), optional=(RANK, SCORE), columns=columns, source=source
    )
    if RANK not in rows.columns and SCORE not in rows.columns:
        raise DataError(
            f"{source} must have a column 'rank' or 'score' with values; got "
            f"{', '.join(repr(name) for name in table.columns)}.\n"
            "  The order of rows is not read. Name the column: columns={'rank': '<its name in the file>'}."
        )
    require_values(rows, (USER, ITEM), source)
    rows = rows.with_columns(to_text_ids(rows[USER], source), to_text_ids(rows[ITEM], source))
    for name in (RANK, SCORE):
        if name in rows.columns:
            rows = rows.with_columns(_numbers(rows, name, source))
    if repeated_items == "drop":
        rows = rows.unique()  # a row exported twice repeats its rank too
    if RANK in rows.columns:
        rows = _with_whole_ranks(rows, source)
        rows = rows.sort(USER, RANK)
        if SCORE in rows.columns:
            _check_agreement(rows, source)
    rows = _without_repeats(rows, repeated_items, source)
    return GivenLists(
        table=rows,
        source=source,
        n_rows_read=table.height,
        n_repeated_rows_dropped=table.height - rows.height,
        ignored_columns=ignored,
        made_with=made_with,
    )


def _users(rows: pl.DataFrame, offending: pl.DataFrame) -> str:
    """Say how many users are concerned and name the first: ``2 of 943 users (first: 'ann', 'bob')``."""
    users = offending[USER].unique().sort()
    return f"{len(users):,} of {rows[USER].n_unique():,} users ({first_offenders(users)})"


def _numbers(rows: pl.DataFrame, name: str, source: str) -> pl.Series:
    """Ranks or scores as float64, all finite."""
    numbers = to_numbers_or_null(rows[name], source)
    bad = rows.filter(~numbers.is_finite().fill_null(False))
    if bad.height:
        raise DataError(
            f"{name} must be a finite number in every row; got {bad.height:,} of {rows.height:,} rows that "
            f"are empty, NaN or infinite, in the lists of {_users(rows, bad)}.\n"
            f"  In {source}. Leave items out that must not be shown, and mend the others."
        )
    return numbers + 0.0  # -0.0 is 0.0


def _with_whole_ranks(rows: pl.DataFrame, source: str) -> pl.DataFrame:
    """Ranks as int64 that run 1, 2, 3, ... for every user; anything else is an error."""
    ranks = rows[RANK]
    broken = rows.filter(ranks != ranks.floor())
    if broken.height:
        raise DataError(
            f"rank must be a whole number; got {broken.height:,} of {rows.height:,} that are not "
            f"({first_offenders(broken[RANK])}), in the lists of {_users(rows, broken)}.\n"
            f"  In {source}. If higher is better, it is a score: columns={{'score': 'rank'}}."
        )
    by_user = rows.group_by(USER).agg(
        n=pl.len(), n_ranks=pl.col(RANK).n_unique(), lowest=pl.col(RANK).min(), highest=pl.col(RANK).max()
    )
    too_low = by_user.filter(pl.col("lowest") < 1)
    if too_low.height:
        raise DataError(
            f"rank must start at 1; got {too_low['lowest'][0]:.0f} in the lists of {_users(rows, too_low)}.\n"
            f"  In {source}. If the first place is 0, add 1 to every rank."
        )
    repeated = by_user.filter(pl.col("n_ranks") < pl.col("n"))
    if repeated.height:
        raise DataError(
            f"rank must occur once in a user's list; got a rank several times in the lists of "
            f"{_users(rows, repeated)}.\n"
            f"  In {source}. Keep one list per user (one day, one page, one variant); rows exported "
            "twice can be dropped with repeated_items='drop'."
        )
    with_gap = by_user.filter(pl.col("highest") > pl.col("n"))
    if with_gap.height:
        raise DataError(
            f"rank must run 1, 2, 3, ... without a gap; got places that no row fills in the lists of "
            f"{_users(rows, with_gap)}.\n"
            f"  In {source}. Export the missing rows; if they were taken out on purpose, number the others "
            "anew."
        )
    return rows.with_columns(pl.col(RANK).cast(pl.Int64))


def _check_agreement(rows: pl.DataFrame, source: str) -> None:
    """Refuse a score above that of the place before; ``rows`` are sorted by user and rank."""
    users, scores = rows[USER], rows[SCORE].to_numpy()
    same_user = (users == users.shift(1)).fill_null(False).to_numpy()
    rises = np.concatenate(([False], scores[1:] > scores[:-1])) & same_user
    bad = rows.filter(rises)
    if bad.height:
        raise DataError(
            "rank and score must agree, the highest score at rank 1; got a higher score at a later rank in "
            f"the lists of {_users(rows, bad)}.\n"
            f"  In {source}. Give one of the two: drop the column that is not what users see (what is better "
            "when lower is not a score)."
        )


def _without_repeats(rows: pl.DataFrame, rule: RepeatedItems, source: str) -> pl.DataFrame:
    """Each item once in a user's list, at its best place; ranks close up."""
    if not rows.select(pl.struct(USER, ITEM).is_duplicated().any()).item():
        return rows
    best_first = rows.sort(RANK) if RANK in rows.columns else rows.sort(SCORE, descending=True)
    first = best_first.unique([USER, ITEM], keep="first", maintain_order=True)
    if rule == "error":
        again = rows.filter(pl.struct(USER, ITEM).is_duplicated()).sort(USER, ITEM)
        n_again = rows.height - first.height
        raise DataError(
            f"item_id must occur once in a user's list; got {n_again:,} of {rows.height:,} rows that repeat "
            f"an item, in the lists of {_users(rows, again)}; first item: {again[ITEM][0]!r}.\n"
            f"  In {source}. Take the repeats out, or pass repeated_items='drop', which keeps the best place "
            "of each and closes the gaps."
        )
    if RANK in first.columns:
        first = first.sort(USER, RANK).with_columns(pl.int_range(1, pl.len() + 1).over(USER).alias(RANK))
    return first
