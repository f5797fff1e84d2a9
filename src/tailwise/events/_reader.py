"""The log for analysis: as tables, a piece at a time, or as files."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl

from tailwise.events._attribution import DEFAULT_WINDOWS, AttributionWindows
from tailwise.events._database import Database
from tailwise.events._export import Exported, export
from tailwise.events._frames_out import event_frames, reading, slot_frames

__all__ = ["LogReader"]


class LogReader:
    """Reads a log for analysis, in any process, while services write to it.

    Args:
        url: As of ``EventLog.open``.

    Raises:
        ConfigError: the URL is neither SQLite's nor PostgreSQL's.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    def events(
        self,
        since: float | None = None,
        until: float | None = None,
        *,
        windows: AttributionWindows = DEFAULT_WINDOWS,
    ) -> Iterator[pl.DataFrame]:
        """Yield the events of ``since <= occurred_at < until`` with what each is owed to.

        All pieces show the log at one moment. Memory does not grow with the log.

        Args:
            since: Unix seconds; None for the beginning.
            until: Unix seconds; None for the end.
            windows: See :class:`AttributionWindows`.

        Yields:
            Tables of up to 20,000 rows by ``occurred_at``; columns in ``docs/events.md``.

        Raises:
            LogUnavailableError: the database cannot be read.
        """
        with reading(self.database) as connection:
            yield from event_frames(connection, since, until, windows)

    def slots(self, since: float | None = None, until: float | None = None) -> Iterator[pl.DataFrame]:
        """Yield the slots of the lists of ``since <= served_at < until``, a row each; see :meth:`events`."""
        with reading(self.database) as connection:
            yield from slot_frames(connection, since, until)

    def export(
        self,
        folder: Path,
        since: date | None = None,
        until: date | None = None,
        *,
        windows: AttributionWindows = DEFAULT_WINDOWS,
    ) -> Exported:
        """Write both tables as Parquet files, one per day of UTC.

        ``events/day=YYYY-MM-DD/events.parquet`` and ``slots/day=YYYY-MM-DD/slots.parquet``. May be stopped at
        any moment; the same call goes on. A day is written again if something came or went that can
        change it: its own rows, or impressions and lists in the window before it. What a retention has
        deleted stays in the files.

        Args:
            folder: Made where it is missing.
            since: First day. None: the log's first.
            until: Day after the last. None: the day after the log's last.
            windows: Of attribution.

        Raises:
            ConfigError: another process exports into the folder.
            LogUnavailableError: the database cannot be read; the days written so far stay.
        """
        return export(self.database, folder, since, until, windows=windows)

    def close(self) -> None:
        """Close the connections."""
        self.database.close()
