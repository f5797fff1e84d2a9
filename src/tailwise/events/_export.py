"""The log as Parquet files, one per day: each whole or not there, and kept while nothing changes it."""

import fcntl
import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from polars.io.plugins import register_io_source
from sqlalchemy.engine import Connection

from tailwise.errors import ConfigError
from tailwise.events._attribution import DAY_S, AttributionWindows
from tailwise.events._database import Database
from tailwise.events._frames_out import EVENT_COLUMNS, SLOT_COLUMNS, event_frames, reading, slot_frames
from tailwise.events._tables import DELETIONS, EVENTS, LISTS

__all__ = ["Exported", "export"]

KEY = "tailwise_log"  # of a file's metadata: what it was made from
MOMENTS = {"events": EVENTS.c.occurred_at, "slots": LISTS.c.served_at}  # what a row's day goes by


@dataclass(frozen=True)
class Exported:
    """What an export did, in days of either table.

    Attributes:
        n_written: Files written, new or again.
        n_kept: Files that still hold what the log does.
        n_removed: Files of days of which the log holds nothing any more.
        n_rows: Rows in the files written.
    """

    n_written: int
    n_kept: int
    n_removed: int
    n_rows: int


def export(
    database: Database, folder: Path, since: date | None, until: date | None, *, windows: AttributionWindows
) -> Exported:
    """See ``LogReader.export``."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"written": 0, "kept": 0, "removed": 0, "rows": 0}
    with _alone(folder), reading(database) as connection:
        contents = _Contents(connection, windows)
        for kind, moment in MOMENTS.items():
            present = set(_days(connection, moment))
            files = {_day_of(path) for path in (folder / kind).glob("day=*/*.parquet")}
            for day in sorted(present | files):
                if (since is not None and day < since) or (until is not None and day >= until):
                    continue
                path = folder / kind / f"day={day}" / f"{kind}.parquet"
                if day in files and contents.are_in(path, kind, day):
                    counts["kept"] += 1
                elif day in present:
                    counts["rows"] += contents.write(path, kind, day)
                    counts["written"] += 1
                else:
                    path.unlink()
                    counts["removed"] += 1
    return Exported(counts["written"], counts["kept"], counts["removed"], counts["rows"])


class _Contents:
    """What the log holds of each day: numbers that change with any row that comes or goes, and the rows."""

    def __init__(self, connection: Connection, windows: AttributionWindows) -> None:
        self._connection = connection
        self._windows = windows
        self._known: dict[tuple[str, date], list[int]] = {}
        cut = connection.execute(sa.select(sa.func.max(DELETIONS.c.before))).scalar()
        self._cut = float("-inf") if cut is None else float(cut)  # what is older may have been deleted

    def are_in(self, path: Path, kind: str, day: date) -> bool:
        """Whether a file still says what the log does, as far as a retention lets us know."""
        if _start(day) < self._cut:
            return True
        made_from = json.loads(pl.read_parquet_metadata(path).get(KEY, "{}"))
        now = self._describe(kind, day)
        for name, value in now.items():
            is_lost = name == "n_unknown" and _start(day) - self._windows.longest_s < self._cut
            is_lost |= ":" in name and _start(date.fromisoformat(name.partition(":")[2])) < self._cut
            if not is_lost and made_from.get(name) != value:
                return False
        return True

    def write(self, path: Path, kind: str, day: date) -> int:
        """Write a day's file and return its number of rows."""
        since, until = _start(day), _start(day) + DAY_S
        n_rows = 0

        def frames(*_pushed_down: Any) -> Iterator[pl.DataFrame]:
            nonlocal n_rows
            pieces = (
                event_frames(self._connection, since, until, self._windows)
                if kind == "events"
                else slot_frames(self._connection, since, until)
            )
            for frame in pieces:
                n_rows += frame.height
                yield frame

        schema = EVENT_COLUMNS if kind == "events" else SLOT_COLUMNS
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.parent / f".{uuid.uuid4().hex}.partial"
        try:
            metadata = {KEY: json.dumps(self._describe(kind, day))}
            register_io_source(frames, schema=schema).sink_parquet(partial, metadata=metadata)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return n_rows

    def _describe(self, kind: str, day: date) -> dict[str, Any]:
        """All that decides a day's file."""
        if kind == "slots":
            return {"format": 1, f"slots:{day}": self._numbers("slots", day)}
        windows = self._windows
        described: dict[str, Any] = {
            "format": 1,
            "windows_s": [windows.click_s, windows.add_to_cart_s, windows.purchase_s],
            "n_unknown": self._n_unknown(day),
        }
        for n_days in range(math.ceil(windows.longest_s / DAY_S) + 1):
            before = day - timedelta(n_days)
            described |= {f"{each}:{before}": self._numbers(each, before) for each in MOMENTS}
        return described

    def _numbers(self, kind: str, day: date) -> list[int]:
        if (kind, day) not in self._known:
            moment = MOMENTS[kind]
            seq = moment.table.c.seq
            numbers = sa.select(sa.func.count(), sa.func.max(seq), sa.func.sum(seq))
            of_day = numbers.where(moment >= _start(day), moment < _start(day) + DAY_S)
            self._known[kind, day] = [int(n or 0) for n in self._connection.execute(of_day).one()]
        return self._known[kind, day]

    def _n_unknown(self, day: date) -> int:
        """Events that name a list which the log does not have; it may still come, from however long ago."""
        named = EVENTS.outerjoin(LISTS, EVENTS.c.recommendation_id == LISTS.c.recommendation_id)
        count = (
            sa.select(sa.func.count())
            .select_from(named)
            .where(EVENTS.c.occurred_at >= _start(day), EVENTS.c.occurred_at < _start(day) + DAY_S)
            .where(EVENTS.c.recommendation_id.is_not(None), LISTS.c.seq.is_(None))
        )
        return int(self._connection.execute(count).scalar_one())


def _days(connection: Connection, moment: sa.Column[float]) -> Iterator[date]:
    """Days that have rows, by one look into the index for each."""
    earliest = connection.execute(sa.select(sa.func.min(moment))).scalar()
    while earliest is not None:
        day = datetime.fromtimestamp(earliest, UTC).date()
        yield day
        later = sa.select(sa.func.min(moment)).where(moment >= _start(day) + DAY_S)
        earliest = connection.execute(later).scalar()


def _start(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _day_of(path: Path) -> date:
    return date.fromisoformat(path.parent.name.removeprefix("day="))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One export at a time; what a killed one left unfinished is removed."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"The folder of an export must be one process' alone; another writes into {folder}."
                " Wait until it has finished."
            ) from None
        for left in folder.glob("*/day=*/.*.partial"):
            left.unlink()
        yield
