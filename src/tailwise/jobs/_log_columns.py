"""The few columns of the log that pages and the monitor count: no attribution, no row by row."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tailwise.events._database import Database
from tailwise.events._frames_out import reading
from tailwise.events._tables import EVENTS, LISTS

__all__ = ["LogColumns", "choice_tables", "slot_tables"]

_LISTS_AT_ONCE, _EVENTS_AT_ONCE = 2_000, 50_000
_OF_LISTS: dict[str, Any] = {
    "recommendation_id": pl.String,
    "user_id": pl.String,
    "served_at": pl.Float64,
    "method": pl.String,
    "variant": pl.String,
}
_PLACES = {"position": 0, "item_id": 1, "segment": 3}  # of a slot as the table keeps it
_OF_SLOTS: dict[str, Any] = {"position": pl.Int64, "item_id": pl.String, "segment": pl.String}
_OF_CHOICES: dict[str, Any] = {"type": pl.String, "item_id": pl.String, "occurred_at": pl.Float64}


class LogColumns:
    """Slots and choices for the monitor; see :class:`tailwise.dashboard.LogTables`.

    The same rows as those of ``LogReader``, clicks and purchases alone, many times faster: what an event is
    owed to is not looked up.

    Args:
        url: As of the log.
    """

    columns = ("recommendation_id", "user_id", "served_at", "method", "position", "item_id")

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def slots(self, since: float | None = None, until: float | None = None) -> Iterator[pl.DataFrame]:
        """Yield slots; see :func:`slot_tables`."""
        with reading(self._database) as connection:
            yield from slot_tables(connection, self.columns, since, until)

    def events(self, since: float | None = None, until: float | None = None) -> Iterator[pl.DataFrame]:
        """Yield clicks and purchases; see :func:`choice_tables`."""
        with reading(self._database) as connection:
            yield from choice_tables(connection, since, until)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


def slot_tables(
    connection: Connection, columns: Sequence[str], since: float | None, until: float | None
) -> Iterator[pl.DataFrame]:
    """Yield a row per slot of the lists of ``since <= served_at < until``, in the order of time.

    Args:
        connection: In a reading transaction.
        columns: Of ``recommendation_id``, ``user_id``, ``served_at``, ``method``, ``variant``, ``position``,
            ``item_id``, ``segment``.
        since: Unix seconds; None: the beginning.
        until: Unix seconds; None: the end.
    """
    of_lists = [name for name in columns if name in _OF_LISTS]
    of_slots = [name for name in columns if name in _OF_SLOTS]
    statement = sa.select(LISTS.c.slots, *(LISTS.c[name] for name in of_lists))
    statement = _within(statement, LISTS.c.served_at, since, until).order_by(LISTS.c.served_at, LISTS.c.seq)
    for texts, *shared in _pages(connection, statement, _LISTS_AT_ONCE):
        values: dict[str, list[Any]] = {name: [] for name in of_slots}
        sizes = []
        for text in texts:  # each by itself: a hundred thousand small lists at once would be slow to collect
            slots = json.loads(text)
            sizes.append(len(slots))
            for name, kept in values.items():
                place = _PLACES[name]
                kept.extend([slot[place] for slot in slots])
        lists = pl.DataFrame(shared, schema={name: _OF_LISTS[name] for name in of_lists}, orient="col")
        yield (
            lists[np.repeat(np.arange(len(sizes)), sizes)]
            .with_columns(pl.Series(name, kept, _OF_SLOTS[name]) for name, kept in values.items())
            .select(columns)
        )


def choice_tables(connection: Connection, since: float | None, until: float | None) -> Iterator[pl.DataFrame]:
    """Yield ``type``, ``item_id``, ``occurred_at`` of the clicks and purchases of a stretch, by time.

    Args:
        connection: In a reading transaction.
        since: Unix seconds; None: the beginning.
        until: Unix seconds; None: the end.
    """
    statement = sa.select(*(EVENTS.c[name] for name in _OF_CHOICES)).where(
        EVENTS.c.type.in_(("click", "purchase"))
    )
    statement = _within(statement, EVENTS.c.occurred_at, since, until)
    statement = statement.order_by(EVENTS.c.occurred_at, EVENTS.c.seq)
    for page in _pages(connection, statement, _EVENTS_AT_ONCE):
        yield pl.DataFrame(page, schema=_OF_CHOICES, orient="col")


def _within(
    statement: sa.Select[Any], moment: sa.Column[float], since: float | None, until: float | None
) -> sa.Select[Any]:
    if since is not None:
        statement = statement.where(moment >= since)
    return statement if until is None else statement.where(moment < until)


def _pages(connection: Connection, statement: sa.Select[Any], n_rows: int) -> Iterator[list[Sequence[Any]]]:
    """Columns of a result, some rows at a time."""
    for rows in connection.execute(statement.execution_options(yield_per=n_rows)).partitions():
        yield list(zip(*rows, strict=True))
