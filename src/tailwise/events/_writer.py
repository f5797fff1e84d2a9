"""One thread that writes for all callers: many batches in a transaction, each answered after the commit."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tailwise.errors import DataError, LogUnavailableError
from tailwise.events._breaker import Breaker
from tailwise.events._database import Database, describe_error, is_outage, is_refusal
from tailwise.events._event import Appended
from tailwise.events._insert import insert
from tailwise.events._replay import replay
from tailwise.events._rows import Row, is_same_event
from tailwise.events._spool import Spool, adopt_spools

__all__ = ["Job", "Writer"]

GROUP_ROWS = 2_000  # of a transaction, about
LAST_RECORDS = 500  # so few are replayed while writers wait, which is how a busy log gets out of its spool
LOOK_S = 2.0  # between looks for spools that dead workers left

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """What one caller wants kept, and the answer to it."""

    events: Sequence[Row] = ()
    lists: Sequence[Row] = ()
    done: Future[Appended] = field(default_factory=Future)

    @property
    def n_rows(self) -> int:
        """Rows, of either kind."""
        return len(self.events) + len(self.lists)

    def records(self) -> list[dict[str, Any]]:
        """What a spool holds of it."""
        return [{"event": row} for row in self.events] + [{"list": row} for row in self.lists]


class Writer:
    """The writing thread, and a second one that brings spooled records back.

    Args:
        database: Where rows go.
        spool: Where they go while the database is away.
        queue_limit: Rows that may wait in memory.
    """

    def __init__(self, database: Database, spool: Spool, *, queue_limit: int) -> None:
        self.breaker = Breaker()
        self.n_queued = 0
        self._database = database
        self._spool = spool
        self._queue_limit = queue_limit
        self._queue: deque[Job] = deque()
        self._wakes = threading.Condition()
        self._is_closing = False
        self._gate = threading.Lock()  # of the spool, and of the way that rows take
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._write_loop, "event-writer"), (self._replay_loop, "event-replayer"))
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> Future[Appended]:
        """Queue a job.

        Raises:
            LogUnavailableError: the queue is full, or the log is closed.
        """
        with self._wakes:
            if self._is_closing:
                raise LogUnavailableError("The event log is closed; nothing has been kept.")
            if self.n_queued and self.n_queued + job.n_rows > self._queue_limit:
                raise LogUnavailableError(
                    f"The event log's queue is full ({self.n_queued:,} of {self._queue_limit:,} rows wait);"
                    " nothing of this batch has been kept. Send it again later."
                )
            self._queue.append(job)
            self.n_queued += job.n_rows
            self._wakes.notify()
        return job.done

    def close(self, timeout_s: float) -> None:
        """Write what is queued, then stop; whoever still waits at the end is told that nothing was kept."""
        last = time.monotonic() + timeout_s
        with self._wakes:
            self._is_closing = True
            self._wakes.notify_all()
        self._threads[0].join(max(0.0, last - time.monotonic()))
        self._ends.set()
        self._threads[1].join(max(0.0, last - time.monotonic()))
        with self._wakes:
            left = list(self._queue)
            self._queue.clear()
            self.n_queued = 0
        for job in left:
            _fail(job, LogUnavailableError("The event log was closed before this batch could be kept."))
        if self._gate.acquire(timeout=max(0.1, last - time.monotonic())):
            self._spool.close()
            self._gate.release()

    # The writing thread.

    def _write_loop(self) -> None:
        while group := self._take_group():
            try:
                with self._gate:
                    answers = self._write(group)
            except Exception as error:  # the thread must live: everyone after waits for it
                log.exception("The event log's writer failed")
                failed = LogUnavailableError(f"The event log failed: {describe_error(error)}.")
                answers = [failed] * len(group)
            for job, answer in zip(group, answers, strict=True):
                if isinstance(answer, Appended):
                    if job.done.set_running_or_notify_cancel():
                        job.done.set_result(answer)
                else:
                    _fail(job, answer)

    def _take_group(self) -> list[Job]:
        """Wait for jobs and take as many as a transaction holds; none when the log closes."""
        with self._wakes:
            while not self._queue:
                if self._is_closing:
                    return []
                self._wakes.wait()
            group = [self._queue.popleft()]
            n_rows = group[0].n_rows
            while self._queue and n_rows + self._queue[0].n_rows <= GROUP_ROWS:
                n_rows += self._queue[0].n_rows
                group.append(self._queue.popleft())
            self.n_queued -= n_rows
            return group

    def _write(self, group: list[Job]) -> Sequence[Appended | Exception]:
        if not self.breaker.is_open:
            try:
                answers = self._commit(group)
                self.breaker.succeed()
                return answers
            except Exception as error:
                if is_refusal(error):
                    if len(group) > 1:
                        return [answer for job in group for answer in self._write([job])]
                    return [DataError(f"The database refused the batch: {describe_error(error)}.")]
                self.breaker.trip(describe_error(error))
                log.warning(
                    "The event log's database is away, events go to disk: %s", self.breaker.last_error
                )
        try:
            self._spool.append([record for job in group for record in job.records()])
        except OSError as error:
            self.breaker.last_error = describe_error(error)
            unavailable = LogUnavailableError(
                "Neither the event log's database nor its spool can be written; nothing of this batch"
                f" has been kept. The spool says: {describe_error(error)}."
            )
            return [unavailable] * len(group)
        return [_spooled(job) for job in group]

    def _commit(self, group: list[Job]) -> list[Appended]:
        events = [row for job in group for row in job.events]
        lists = [row for job in group for row in job.lists]
        inserted = self._database.write(lambda connection: insert(connection, events, lists))
        return [inserted.claim(job.events) for job in group]

    # The replaying thread.

    def _replay_loop(self) -> None:
        next_look = 0.0
        while not self._ends.is_set():
            if self.breaker.is_open:
                if self.breaker.wait_s() == 0:
                    self._try(self._bring_back)
            elif time.monotonic() >= next_look:
                self._try(self._adopt)
                next_look = time.monotonic() + LOOK_S
            self._ends.wait(max(0.05, min(self.breaker.wait_s(), 0.5)))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if not is_outage(error):
                log.exception("Spooled events could not be replayed; they stay on disk")
            if is_outage(error) or self.breaker.is_open:
                self.breaker.trip(describe_error(error))

    def _bring_back(self) -> None:
        """Replay our own spool; its last part while writers wait, so that nothing slips in behind."""
        with self._database.writing():
            pass  # a probe
        while not self._ends.is_set():
            with self._gate:
                self._spool.rotate()
                segments = list(self._spool.segments)
                if self._spool.n_records <= LAST_RECORDS:
                    for segment in segments:
                        replay(self._database, self._spool, segment)
                        self._spool.remove(segment)
                    self.breaker.close()
                    log.warning("The event log's database is back")
                    return
            for segment in segments:
                replay(self._database, self._spool, segment)
                with self._gate:
                    self._spool.remove(segment)

    def _adopt(self) -> None:
        for spool in adopt_spools(self._spool.folder):
            for segment in list(spool.segments):
                replay(self._database, spool, segment)
                spool.remove(segment)
            if self._ends.is_set():
                return


def _spooled(job: Job) -> Appended:
    """Count a batch that nobody has compared with the log yet; only what it repeats itself is known."""
    firsts: dict[str, Row] = {}
    n_conflicting = 0
    for row in job.events:
        n_conflicting += not is_same_event(row, firsts.setdefault(row["event_id"], row))
    n_spooled = len(firsts)
    return Appended(0, len(job.events) - n_spooled, n_conflicting, n_spooled)


def _fail(job: Job, error: Exception) -> None:
    if job.done.set_running_or_notify_cancel():
        job.done.set_exception(error)
