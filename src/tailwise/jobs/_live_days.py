"""What was shown and chosen lately, a day at a time: days in which nothing came or went are kept."""

import math
import threading
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tailwise.dashboard import LiveTables
from tailwise.events._database import Database
from tailwise.events._frames_out import reading
from tailwise.events._tables import EVENTS, LISTS
from tailwise.jobs._log_columns import choice_tables, slot_tables

__all__ = ["LiveDays"]

DAY_S = 86_400
_COUNTED = ["day", "variant", "segment"]
_SHOWN: dict[str, Any] = {"day": pl.Int64, "variant": pl.String, "segment": pl.String, "n": pl.Int64}
_CHOSEN: dict[str, Any] = {"item_id": pl.String, "occurred_at": pl.Float64}

Mark = tuple[int, int | None]
"""How many rows a day has, and the newest one's number: both stay only if nothing came or went."""


class LiveDays:
    """Counts of slots, and choices, of whole days of UTC. Calls may come from several threads.

    Args:
        database: Of the log.
        days: Days that are looked back at, beside the one that has begun, > 0.
    """

    def __init__(self, database: Database, days: float) -> None:
        self._database = database
        self._days = days
        self._kept: dict[tuple[str, int], tuple[Mark, pl.DataFrame]] = {}
        self._one_at_a_time = threading.Lock()

    def tables(self, now: float) -> LiveTables:
        """Read what is new, and return it with what was read before.

        Args:
            now: Unix seconds.

        Raises:
            LogUnavailableError: the database cannot be read; what was read before stays.
        """
        first = math.floor((now - self._days * DAY_S) / DAY_S) * DAY_S
        today = max(first, math.floor(now / DAY_S) * DAY_S)
        days = range(first, today + 1, DAY_S)
        with self._one_at_a_time, reading(self._database) as connection:
            kept = {}
            for day in days:
                until = None if day == today else float(day + DAY_S)  # clocks of clients may be ahead
                for table, moment, read in (
                    (LISTS, LISTS.c.served_at, _shown),
                    (EVENTS, EVENTS.c.occurred_at, _chosen),
                ):
                    mark = _mark(connection, table, moment, day, until)
                    known = self._kept.get((table.name, day))
                    kept[table.name, day] = (
                        known
                        if known is not None and known[0] == mark
                        else (mark, read(connection, day, until))
                    )
            self._kept = kept
            shown, chosen = (
                pl.concat([pl.DataFrame(schema=schema), *(kept[name, day][1] for day in days)])
                for name, schema in ((LISTS.name, _SHOWN), (EVENTS.name, _CHOSEN))
            )
        return LiveTables(shown, chosen)


def _mark(
    connection: Connection, table: sa.Table, moment: sa.Column[float], day: int, until: float | None
) -> Mark:
    """Read from the index of moments alone."""
    asked = sa.select(sa.func.count(), sa.func.max(table.c.seq)).where(moment >= day)
    n, newest = connection.execute(asked if until is None else asked.where(moment < until)).one()
    return int(n), None if newest is None else int(newest)


def _shown(connection: Connection, day: int, until: float | None) -> pl.DataFrame:
    counted = pl.DataFrame(schema=_SHOWN)
    for piece in slot_tables(connection, ("served_at", "variant", "segment"), day, until):
        dated = piece.with_columns(day=(pl.col("served_at") // DAY_S).cast(pl.Int64) * DAY_S)
        new = dated.group_by(_COUNTED).agg(pl.len().cast(pl.Int64).alias("n"))
        counted = pl.concat([counted, new]).group_by(_COUNTED).agg(pl.sum("n"))
    return counted.sort(_COUNTED)


def _chosen(connection: Connection, day: int, until: float | None) -> pl.DataFrame:
    pieces = [piece.select(*_CHOSEN) for piece in choice_tables(connection, day, until)]
    return pl.concat([pl.DataFrame(schema=_CHOSEN), *pieces])
