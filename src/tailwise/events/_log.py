"""The event log as a service uses it: asynchronous calls over one writing thread and a few reading ones."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, TypeVar

import sqlalchemy as sa

from tailwise.errors import LogUnavailableError
from tailwise.events._attribution import DEFAULT_WINDOWS, AttributionWindows
from tailwise.events._database import WRITE_S, Database, describe_error, is_outage
from tailwise.events._deletion import (
    Deleted,
    UserDeletions,
    delete_older,
    delete_user,
    find_user_deletions,
)
from tailwise.events._event import Appended, Event, EventType, check_text
from tailwise.events._export import Exported, export
from tailwise.events._rows import row_of_event, row_of_list
from tailwise.events._spool import Spool
from tailwise.events._tables import EVENTS
from tailwise.events._writer import Job, Writer
from tailwise.serving import LoggedItem, ServedList

__all__ = ["EventLog", "LogState"]

QUEUE_LIMIT = 20_000  # rows in memory; at 1 kB each about 20 MB
N_READERS = 4
READ_PAUSE_S = 2.0  # after a failed read nobody tries for so long
MOST_ITEMS = 300

T = TypeVar("T")


@dataclass(frozen=True)
class LogState:
    """How the log is, without a word about users.

    Attributes:
        database: ``up`` or ``down``, as the last write or probe found it.
        spooled_records: Acknowledged events and lists of this worker that wait on disk.
        spooled_bytes: Their size.
        other_spooled_bytes: Of other workers' spools in the same folder; those of dead ones are adopted.
        queued: Rows in memory that nobody has been told are kept.
        last_error: Of the database or the spool; None where there was none since the start.
    """

    database: Literal["up", "down"]
    spooled_records: int
    spooled_bytes: int
    other_spooled_bytes: int
    queued: int
    last_error: str | None


class EventLog:
    """Keeps events and served lists; what it has acknowledged is on disk. Made by :meth:`open`.

    It is the service's ``ListSink`` and ``LiveHistory``. Any number of processes may share a database
    and, on one machine, a spool folder. Calls may come from any event loop.

    Example:
        >>> import asyncio, tempfile
        >>> async def keep_twice(folder):
        ...     log = EventLog.open(f"sqlite:///{folder}/events.db", spool=Path(folder) / "spool")
        ...     click = Event("e1", "click", "u1", "i1", occurred_at=1_700_000_000.0)
        ...     print(await log.append([click, click]))
        ...     await log.close(timeout_s=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(keep_twice(folder))
        Appended(n_new=1, n_duplicates=1, n_conflicting=0, n_spooled=0)
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        clock: Callable[[], float],
        queue_limit: int,
        history: Sequence[EventType],
    ) -> None:
        self._database = database
        self._spool = spool
        self._clock = clock
        self._history = tuple(history)
        self._writer = Writer(database, spool, queue_limit=queue_limit)
        self._readers = ThreadPoolExecutor(N_READERS, thread_name_prefix="event-reader")
        self._upkeep = ThreadPoolExecutor(1, thread_name_prefix="event-upkeep")
        self._no_read_before = 0.0

    @classmethod
    def open(
        cls,
        url: str,
        spool: Path,
        clock: Callable[[], float] = time.time,
        *,
        queue_limit: int = QUEUE_LIMIT,
        history: Sequence[EventType] = ("purchase",),
        write_timeout_s: float = WRITE_S,
    ) -> "EventLog":
        """Open a log, bring its tables up to date, and replay what dead workers left in the spool.

        A database that is down is no error: events go to the spool until it is there.

        Args:
            url: ``sqlite:///path`` or ``postgresql://user@host/name``.
            spool: Folder on a disk that outlives the process; made where it is missing.
            clock: Unix seconds; of ``received_at`` and of deletions, nothing else.
            queue_limit: Rows that may wait in memory, >= 1.
            history: Types of events that :meth:`items` returns; not ``impression``.
            write_timeout_s: After so long a transaction is given up and its events go to the spool; > 0.

        Raises:
            ConfigError: the URL is not one of these.
            LogUnavailableError: the spool's folder cannot be written.
            ValueError: one of the last three is out of range.
        """
        if queue_limit < 1:
            raise ValueError(f"queue_limit must be >= 1; got {queue_limit}.")
        if not write_timeout_s > 0:
            raise ValueError(f"write_timeout_s must be > 0; got {write_timeout_s}.")
        chosen = ("click", "add-to-cart", "purchase")
        if not history or not set(history) <= set(chosen):
            raise ValueError(f"history must be one or more of {', '.join(chosen)}; got {tuple(history)!r}.")
        database = Database(url, write_timeout_s=write_timeout_s)
        try:
            own = Spool(spool)
        except OSError as error:
            raise LogUnavailableError(
                f"The spool {spool} must be a folder that can be written; got {describe_error(error)}."
            ) from error
        log = cls(database, own, clock=clock, queue_limit=queue_limit, history=history)
        try:
            database.migrate()
        except Exception as error:
            log._writer.breaker.trip(describe_error(error))
        log._writer.start()
        return log

    async def append(self, events: Sequence[Event]) -> Appended:
        """Keep events, each id once; they are durable when this returns.

        Raises:
            LogUnavailableError: they could not be kept, or the queue is full; nothing is acknowledged, and
                the same events may be sent again.
        """
        received_at = self._clock()
        job = Job(events=[row_of_event(event, received_at) for event in events])
        return await asyncio.wrap_future(self._writer.submit(job)) if events else Appended()

    async def record(self, served: ServedList) -> None:
        """Keep a list that was answered; it is durable when this returns.

        Raises:
            LogUnavailableError: as of :meth:`append`.
            ValueError: an id breaks the rules of ids, or a number is not finite.
        """
        await asyncio.wrap_future(self._writer.submit(Job(lists=[row_of_list(served)])))

    async def items(self, user_id: str) -> Sequence[LoggedItem]:
        """Return the user's latest 300 items of the chosen types, oldest first by the client's clock.

        What waits in a spool is not among them.

        Raises:
            LogUnavailableError: the database cannot be read now.
        """
        newest = (
            sa.select(EVENTS.c.item_id, EVENTS.c.occurred_at)
            .where(
                EVENTS.c.user_id == user_id, EVENTS.c.type.in_(self._history), sa.text("type <> 'impression'")
            )
            .order_by(EVENTS.c.occurred_at.desc(), EVENTS.c.event_id.desc())
            .limit(MOST_ITEMS)
        )

        def read() -> list[LoggedItem]:
            if time.monotonic() < self._no_read_before:
                raise LogUnavailableError("The event log's database could not be read a moment ago.")
            try:
                with self._database.reading() as connection:
                    found = connection.execute(newest).all()
            except Exception as error:
                if not is_outage(error):
                    raise
                self._no_read_before = time.monotonic() + READ_PAUSE_S
                raise LogUnavailableError(
                    f"The event log cannot be read now: {describe_error(error)}."
                ) from error
            return [LoggedItem(item_id, occurred_at) for item_id, occurred_at in reversed(found)]

        return await self._in(self._readers, read)

    async def delete_user(self, user_id: str, by: str, reason: str) -> Deleted:
        """Delete all that the log holds of a user, and write down that it was done.

        Events and lists go, also those that still wait in a spool. What stays is a row with a keyed
        hash of the id, the counts, the moment, ``by`` and ``reason``.

        Args:
            user_id: Who.
            by: Who asked for it, such as the name of an API key; not the user's id.
            reason: Why; not the user's id.

        Raises:
            ValueError: an argument is empty, or contains the user's id.
            LogUnavailableError: the database is away; nothing has been deleted.
        """
        self._check_audit(user_id=user_id, by=by, reason=reason)
        for name, value in (("by", by), ("reason", reason)):
            if user_id in value.split():
                raise ValueError(f"{name} must not contain the user's id: it would outlive the deletion.")
        await asyncio.wrap_future(
            self._writer.submit(Job())
        )  # what came before is kept, so that it can be deleted
        at = self._clock()

        def delete() -> Deleted:
            return delete_user(self._database, user_id, by=by, reason=reason, at=at)

        return await self._maintain(delete)

    async def user_deletions(self, after: int = 0) -> UserDeletions:
        """Return the deletions of users since one, by any process: for those who keep something of users.

        Args:
            after: ``number`` of what was returned before; 0: all.

        Raises:
            LogUnavailableError: the database cannot be read now.
        """
        try:
            return await self._in(self._readers, lambda: find_user_deletions(self._database, after))
        except Exception as error:
            if not is_outage(error):
                raise
            raise LogUnavailableError(
                f"The event log cannot be read now: {describe_error(error)}."
            ) from error

    async def retain(self, days: float, by: str, reason: str = "retention") -> Deleted:
        """Delete events received, and lists served, more than ``days`` ago, and write down that it was done.

        Raises:
            ValueError: ``days`` is not positive, or an argument is empty.
            LogUnavailableError: the database went away; some may have been deleted. Call again.
        """
        if not days > 0:
            raise ValueError(f"days must be > 0; got {days}.")
        self._check_audit(by=by, reason=reason)
        at = self._clock()

        def delete() -> Deleted:
            return delete_older(self._database, at - days * 86_400, by=by, reason=reason, at=at)

        return await self._maintain(delete)

    async def export(
        self,
        folder: Path,
        since: date | None = None,
        until: date | None = None,
        *,
        windows: AttributionWindows = DEFAULT_WINDOWS,
    ) -> Exported:
        """Write the log as Parquet files; see :meth:`LogReader.export`."""
        return await self._in(
            self._upkeep, lambda: export(self._database, folder, since, until, windows=windows)
        )

    def state(self) -> LogState:
        """Return how the log is; cheap enough for every health check."""
        breaker = self._writer.breaker
        other = 0
        for path in self._spool.folder.glob("*.spool"):
            if not path.name.startswith(self._spool.worker):
                try:
                    other += path.stat().st_size
                except FileNotFoundError:
                    continue  # replayed meanwhile
        return LogState(
            database="down" if breaker.is_open else "up",
            spooled_records=self._spool.n_records,
            spooled_bytes=self._spool.n_bytes,
            other_spooled_bytes=other,
            queued=self._writer.n_queued,
            last_error=breaker.last_error,
        )

    async def close(self, timeout_s: float) -> None:
        """Keep what is queued, then stop; what is spooled waits for the next worker.

        Args:
            timeout_s: Longest wait; callers that still wait then get ``LogUnavailableError``.
        """
        await asyncio.to_thread(self._writer.close, timeout_s)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._upkeep.shutdown(wait=False, cancel_futures=True)
        self._database.close()

    @staticmethod
    def _check_audit(**texts: str) -> None:
        if faults := [fault for name, text in texts.items() if (fault := check_text(name, text))]:
            raise ValueError("\n".join(faults))

    async def _maintain(self, work: Callable[[], T]) -> T:
        try:
            return await self._in(self._upkeep, work)
        except Exception as error:
            if not is_outage(error):
                raise
            raise LogUnavailableError(
                f"The event log's database is away: {describe_error(error)}. Call again later."
            ) from error

    @staticmethod
    async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)
