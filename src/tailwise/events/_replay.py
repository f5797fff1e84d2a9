"""What a spool holds goes back into the database: in order, each id once."""

import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from tailwise.events._database import Database, describe_error, is_refusal
from tailwise.events._deletion import keep_undeleted
from tailwise.events._frames import encode_frames, read_frames
from tailwise.events._insert import insert
from tailwise.events._spool import Spool

__all__ = ["replay"]

RECORDS_AT_ONCE = 1_000  # of a transaction

log = logging.getLogger(__name__)


def replay(database: Database, spool: Spool, segment: Path) -> None:
    """Write a closed segment's records into the database; when this returns, the segment may be removed.

    Stopped anywhere, it can be done again. An unfinished last line was never acknowledged and is dropped.
    A segment with a damaged line is kept beside it as ``*.damaged``; records that the database refuses
    for what they say go to ``*.refused``.

    Raises:
        Exception: the database is down, or something else fails but the rows; nothing is lost by it.
    """
    n_damaged = 0
    part: list[dict[str, Any]] = []
    for frame in read_frames(segment):
        if frame.record is not None:
            part.append(frame.record)
        elif frame.line.endswith(b"\n"):
            n_damaged += 1
        if len(part) == RECORDS_AT_ONCE:
            _write(database, spool, part)
            part = []
    _write(database, spool, part)
    if n_damaged:
        log.error("%d damaged records in the spool: %s is kept as .damaged", n_damaged, segment.name)
        kept = segment.with_suffix(".damaged")
        kept.unlink(missing_ok=True)
        os.link(segment, kept)


def _write(database: Database, spool: Spool, records: Sequence[dict[str, Any]]) -> None:
    if not records:
        return
    try:
        _write_all(database, records)
    except Exception as error:
        if not is_refusal(error):
            raise
        if len(records) == 1:
            log.error("A spooled record was refused by the database: %s", describe_error(error))
            _put_aside(spool, records)
            return
        middle = len(records) // 2
        for half in (records[:middle], records[middle:]):
            _write(database, spool, half)


def _write_all(database: Database, records: Sequence[dict[str, Any]]) -> None:
    def write(connection: Connection) -> None:
        database.exclude(connection, is_shared=True)
        events = keep_undeleted(connection, [r["event"] for r in records if "event" in r], "received_at")
        lists = keep_undeleted(connection, [r["list"] for r in records if "list" in r], "served_at")
        insert(connection, events, lists)

    database.write(write)


def _put_aside(spool: Spool, records: Sequence[dict[str, Any]]) -> None:
    with (spool.folder / f"{spool.worker}.refused").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(encode_frames(records))
        file.flush()
        os.fsync(file.fileno())
