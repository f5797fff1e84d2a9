"""Questions of many coroutines, answered together by one thread."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Batcher", "EngineClosedError", "OverloadedError"]

Question = TypeVar("Question")
Reply = TypeVar("Reply")
T = TypeVar("T")

_LEAST_RETRY_S = 0.05


class OverloadedError(RuntimeError):
    """The queue is full; the request was not taken.

    Attributes:
        retry_after_s: When there may be room, in seconds, > 0: about the time that what waits now takes.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineClosedError(OverloadedError):
    """The engine takes no more requests; ask the one that has its place."""


@dataclass(eq=False)
class _Job(Generic[Question, Reply]):
    """A question, who waits for the reply, and until when."""

    question: Question
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Reply]"
    deadline: float  # of time.monotonic
    arrived: float = field(default_factory=time.monotonic)
    is_dropped: bool = False

    def is_wanted(self) -> bool:
        return not self.is_dropped and time.monotonic() < self.deadline


class Batcher(Generic[Question, Reply]):
    """A bounded queue before one thread that answers whatever waits, several questions at once.

    Questions whose asker has gone or whose time is up are not answered. If a batch fails, its questions are
    answered one by one, so that the bad one fails alone.

    Args:
        answer: Called in the thread, with at most ``max_batch`` questions; one reply each, in order.
        max_batch: >= 1.
        weigh: Called in the thread: the work that a question is. None: no question weighs anything.
        max_weight: Of a batch together; a question that weighs more goes alone.
        max_wait_ms: How long a question waits for company while the thread is free, >= 0.
        queue_limit: Questions that may wait, >= 1.
        prepare: Called in the thread before the first question.
        name: Of the thread.
    """

    def __init__(
        self,
        answer: Callable[[list[Question]], Sequence[Reply]],
        *,
        max_batch: int,
        weigh: Callable[[Question], int] | None = None,
        max_weight: int = 0,
        max_wait_ms: float = 0.0,
        queue_limit: int,
        prepare: Callable[[], None] | None = None,
        name: str = "batcher",
    ) -> None:
        self._answer = answer
        self._prepare = prepare
        self._ready: Future[None] = Future()
        self._max_batch = max_batch
        self._weigh = weigh
        self._max_weight = max_weight
        self._max_wait_s = max_wait_ms / 1000
        self._queue_limit = queue_limit
        self._waiting: deque[_Job[Question, Reply]] = deque()
        self._chores: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._n_running = 0
        self._seconds_each = 0.01  # of an answer, lately
        self.n_refused = 0
        self.n_skipped = 0  # nobody waited any more when their turn came
        self.n_answered = 0
        self.n_batches = 0
        self.last_batch = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def start(self) -> None:
        """Start the thread and wait until it has prepared itself.

        Raises:
            Exception: what ``prepare`` raised; the thread has ended then.
        """
        self._thread.start()
        await asyncio.wrap_future(self._ready)

    @property
    def n_waiting(self) -> int:
        """Questions in the queue."""
        return len(self._waiting)

    async def ask(self, question: Question, timeout_s: float) -> Reply:
        """Wait for the reply to a question.

        Raises:
            OverloadedError: the queue is full; :class:`EngineClosedError` after :meth:`close`.
            TimeoutError: ``timeout_s`` have passed, or the batcher closed before the question's turn.
            Exception: what ``answer`` raised for this question.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        job = _Job(question, loop, future, time.monotonic() + timeout_s)
        with self._changed:
            if self._is_closed:
                raise EngineClosedError("engine must be open; got a request after close().", _LEAST_RETRY_S)
            if len(self._waiting) >= self._queue_limit:
                self.n_refused += 1
                raise OverloadedError(
                    f"requests waiting must be at most {self._queue_limit}; got one more.",
                    max(_LEAST_RETRY_S, (len(self._waiting) + self._n_running) * self._seconds_each),
                )
            self._waiting.append(job)
            self._changed.notify()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            if future.cancelled():  # time is up, or the asker has gone
                job.is_dropped = True
                with self._changed:
                    if job in self._waiting:
                        self._waiting.remove(job)
                        self.n_skipped += 1

    async def call(self, work: Callable[[], T]) -> T:
        """Call something in the thread, between two batches: what a batch has begun is over by then.

        Raises:
            EngineClosedError: after :meth:`close`.
            Exception: what ``work`` raised.
        """
        done: Future[T] = Future()

        def chore() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(work())
                except Exception as error:
                    done.set_exception(error)

        with self._changed:
            if self._is_closed:
                raise EngineClosedError("engine must be open; got a call after close().", _LEAST_RETRY_S)
            self._chores.append(chore)
            self._changed.notify()
        return await asyncio.wrap_future(done)

    async def close(self, drain_s: float) -> None:
        """Take no more questions; answer those that wait for at most ``drain_s`` seconds more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, drain_s)
        with self._changed:
            left, self._waiting = list(self._waiting), deque()
        for job in left:
            if not job.future.done():
                job.future.set_exception(TimeoutError("the engine closed before this request's turn"))

    def _work(self) -> None:
        try:
            if self._prepare is not None:
                self._prepare()
        except Exception as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while True:
            batch = self._next()
            if batch is None:
                return
            if batch:
                begin = time.monotonic()
                outcomes = self._answered(batch)
                each = (time.monotonic() - begin) / len(batch)
                self._seconds_each = 0.8 * self._seconds_each + 0.2 * each
                self._n_running = 0
                self._deliver(outcomes)
            while self._chores:
                self._chores.popleft()()

    def _next(self) -> list[_Job[Question, Reply]] | None:
        """What waits, up to a batch, nothing if there is something else to do; None when closed and empty."""
        with self._changed:
            while not self._waiting:
                if self._chores:
                    return []
                if self._is_closed:
                    return None
                self._changed.wait()
            until = self._waiting[0].arrived + self._max_wait_s
            while len(self._waiting) < self._max_batch and not self._is_closed:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch: list[_Job[Question, Reply]] = []
            weight = 0
            while self._waiting and len(batch) < self._max_batch:
                job = self._waiting.popleft()
                if not job.is_wanted():
                    self.n_skipped += 1
                    continue
                weight += self._weight_of(job.question)
                if batch and weight > self._max_weight:
                    self._waiting.appendleft(job)  # first of the next
                    break
                batch.append(job)
            self._n_running = len(batch)
            return batch

    def _weight_of(self, question: Question) -> int:
        try:
            return 0 if self._weigh is None else self._weigh(question)
        except Exception:  # what cannot be weighed goes alone, and fails there if it has to
            return self._max_weight + 1

    def _answered(
        self, batch: list[_Job[Question, Reply]]
    ) -> list[tuple[_Job[Question, Reply], Reply | Exception]]:
        self.n_batches += 1
        self.last_batch = len(batch)
        try:
            replies = self._answer([job.question for job in batch])
            outcomes: list[tuple[_Job[Question, Reply], Reply | Exception]]
            outcomes = list(zip(batch, replies, strict=True))
            self.n_answered += len(batch)
            return outcomes
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
        outcomes = []
        for job in batch:
            if job.is_wanted():
                outcomes += self._answered([job])
            else:
                self.n_skipped += 1
        return outcomes

    def _deliver(self, outcomes: list[tuple[_Job[Question, Reply], Reply | Exception]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job[Question, Reply], Reply | Exception]]] = {}
        for outcome in outcomes:
            by_loop.setdefault(outcome[0].loop, []).append(outcome)
        for loop, own in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, own)
            except RuntimeError:  # the loop is closed: nobody waits there any more
                self.n_skipped += len(own)


def _resolve(outcomes: Sequence[tuple[_Job[Question, Reply], Reply | Exception]]) -> None:
    for job, reply in outcomes:
        if job.future.done():
            continue
        if isinstance(reply, Exception):
            job.future.set_exception(reply)
        else:
            job.future.set_result(reply)
