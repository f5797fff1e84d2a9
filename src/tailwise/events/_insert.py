"""Rows into the tables, each id once: one transaction for what several callers brought."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from tailwise.events._event import Appended
from tailwise.events._rows import Row, is_same_event
from tailwise.events._tables import EVENTS, LISTS

__all__ = ["Inserted", "insert"]

IDS_AT_ONCE = 500  # of a SELECT


@dataclass
class Inserted:
    """What a transaction found; it counts when the transaction is committed.

    Attributes:
        fresh: ``event_id`` of events that were not there; each is claimed by the first caller that has it.
        kept: What the log holds under each id.
    """

    fresh: set[str]
    kept: dict[str, Row]

    def claim(self, rows: Sequence[Row]) -> Appended:
        """Count one caller's events; call it for the callers in their order."""
        n_new = n_conflicting = 0
        for row in rows:
            event_id = row["event_id"]
            if event_id in self.fresh:
                self.fresh.discard(event_id)
                n_new += 1
            elif not is_same_event(row, self.kept.get(event_id, row)):
                n_conflicting += 1
        return Appended(n_new=n_new, n_duplicates=len(rows) - n_new, n_conflicting=n_conflicting)


def insert(connection: Connection, events: Iterable[Row], lists: Iterable[Row]) -> Inserted:
    """Insert what is not there yet; of an id that comes twice, the first.

    Rows go in by id, so that workers that hold some of the same wait for each other in one direction only.

    Args:
        connection: In a transaction.
        events: Rows of events.
        lists: Rows of served lists.
    """
    kept: dict[str, Row] = {}
    for row in events:
        kept.setdefault(row["event_id"], row)
    fresh: set[str] = set()
    if kept:
        statement = _insert_new(connection, EVENTS).returning(EVENTS.c.event_id)
        fresh.update(connection.execute(statement, [kept[event_id] for event_id in sorted(kept)]).scalars())
    known = [event_id for event_id in kept if event_id not in fresh]
    for first in range(0, len(known), IDS_AT_ONCE):
        wanted = EVENTS.c.event_id.in_(known[first : first + IDS_AT_ONCE])
        for found in connection.execute(sa.select(EVENTS).where(wanted)).mappings():
            kept[found["event_id"]] = dict(found)
    if by_id := {row["recommendation_id"]: row for row in lists}:
        connection.execute(_insert_new(connection, LISTS), [by_id[list_id] for list_id in sorted(by_id)])
    return Inserted(fresh, kept)


def _insert_new(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()
