"""The log as tables: events with what they are owed to, and the slots of every list, a piece at a time."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tailwise.errors import LogUnavailableError
from tailwise.events._attribution import AttributionWindows, attribute
from tailwise.events._database import Database, describe_error, is_outage
from tailwise.events._event import MONEY_DIGITS
from tailwise.events._rows import Row
from tailwise.events._tables import EVENTS, LISTS

__all__ = ["EVENT_COLUMNS", "SLOT_COLUMNS", "event_frames", "reading", "slot_frames"]

EVENTS_AT_ONCE = 20_000
LISTS_AT_ONCE = 2_000

OWED = {
    "surface": pl.String,
    "experiment": pl.String,
    "variant": pl.String,
    "stage": pl.Int32,
    "in_experiment": pl.Boolean,
    "model": pl.String,
    "method": pl.String,
    "is_explored": pl.Boolean,
}

EVENT_COLUMNS: dict[str, Any] = {
    "seq": pl.Int64,
    "event_id": pl.String,
    "type": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "occurred_at": pl.Float64,
    "received_at": pl.Float64,
    "session_id": pl.String,
    "quantity": pl.Int32,
    "revenue": pl.Decimal(20, MONEY_DIGITS),
    "currency": pl.String,
    "recommendation_id": pl.String,
    "client_position": pl.Int32,
    "attribution": pl.String,
    "attributed_id": pl.String,
    "shown_at": pl.Float64,
    **OWED,
    "position": pl.Int32,
    "segment": pl.String,
    "propensity": pl.Float64,
}

SLOT_COLUMNS: dict[str, Any] = {
    "seq": pl.Int64,
    "recommendation_id": pl.String,
    "served_at": pl.Float64,
    "user_id": pl.String,
    **OWED,
    "reason": pl.String,
    "temperature": pl.Float64,
    "n_candidates": pl.Int32,
    "history_length": pl.Int32,
    "latency_ms": pl.Float64,
    "context": pl.String,
    "position": pl.Int32,
    "item_id": pl.String,
    "score": pl.Float64,
    "segment": pl.String,
    "propensity": pl.Float64,
}


def event_frames(
    connection: Connection, since: float | None, until: float | None, windows: AttributionWindows
) -> Iterator[pl.DataFrame]:
    """Yield events with their attribution, within the caller's transaction."""
    for rows in _pages(connection, EVENTS, EVENTS.c.occurred_at, since, until, n_rows=EVENTS_AT_ONCE):
        owed = attribute(connection, rows, windows)
        full = [_event_cells(row) | answer for row, answer in zip(rows, owed, strict=True)]
        yield pl.DataFrame(full, schema=EVENT_COLUMNS, orient="row")


def slot_frames(connection: Connection, since: float | None, until: float | None) -> Iterator[pl.DataFrame]:
    """Yield slots, within the caller's transaction."""
    for rows in _pages(connection, LISTS, LISTS.c.served_at, since, until, n_rows=LISTS_AT_ONCE):
        cells = []
        for row in rows:
            shared = {name: row[name] for name in SLOT_COLUMNS if name in row}
            for position, item_id, score, segment, propensity in json.loads(row["slots"]):
                slot = {"position": position, "item_id": item_id, "score": score}
                cells.append(shared | slot | {"segment": segment, "propensity": propensity})
        yield pl.DataFrame(cells, schema=SLOT_COLUMNS, orient="row")


def reading(database: Database) -> "_Reading":
    """A reading transaction of any length, whose failures say that the log is unavailable."""
    return _Reading(database)


class _Reading:
    def __init__(self, database: Database) -> None:
        self._inner = database.reading(timeout_s=None)

    def __enter__(self) -> Connection:
        try:
            return self._inner.__enter__()
        except Exception as error:
            raise self._translated(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._inner.__exit__(kind, error, trace)
        if isinstance(error, Exception) and is_outage(error):
            raise self._translated(error) from error

    @staticmethod
    def _translated(error: Exception) -> Exception:
        if not is_outage(error):
            return error
        return LogUnavailableError(f"The event log cannot be read now: {describe_error(error)}.")


def _pages(
    connection: Connection,
    table: sa.Table,
    moment: sa.Column[float],
    since: float | None,
    until: float | None,
    *,
    n_rows: int,
) -> Iterator[list[Row]]:
    """Rows by moment and ``seq``, a page at a time."""
    statement = sa.select(table).order_by(moment, table.c.seq).limit(n_rows)
    if since is not None:
        statement = statement.where(moment >= since)
    if until is not None:
        statement = statement.where(moment < until)
    page = connection.execute(statement).mappings().all()
    while page:
        yield [dict(row) for row in page]
        if len(page) < n_rows:
            return
        last = sa.tuple_(page[-1][moment.name], page[-1]["seq"])
        after = statement.where(moment >= page[-1][moment.name], sa.tuple_(moment, table.c.seq) > last)
        page = connection.execute(after).mappings().all()


def _event_cells(row: Row) -> Row:
    cells = {name: value for name, value in row.items() if name not in ("revenue_e4", "position")}
    minor = row["revenue_e4"]
    cells["revenue"] = None if minor is None else Decimal(minor).scaleb(-MONEY_DIGITS)
    cells["client_position"] = row["position"]
    return cells
