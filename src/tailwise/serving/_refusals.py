"""Requests that ended without a list leave a trace in the log, behind their answer and within bounds."""

import asyncio
import logging
from typing import Protocol

from tailwise.serving._protocols import ListSink
from tailwise.serving._records import ServedList

__all__ = ["RefusalCounts", "Refusals"]

_LOG = logging.getLogger(__name__)

MOST_PENDING = 200  # rows of some 300 bytes: a list that waits for the log waits for no more of them


class RefusalCounts(Protocol):
    """Counts requests that ended without a list."""

    def count_refusal(self, refused: ServedList) -> None:
        """Count one, whether or not the log keeps it."""
        ...

    def count_unlogged_refusal(self) -> None:
        """Count one that the log will not keep."""
        ...


class Refusals:
    """Keeps requests that were refused, without making anybody wait.

    The caller gets its error at once; the row follows, through the sink that keeps the lists. At most
    ``most_pending`` rows are on their way: what comes beyond is counted and not kept, so that a service that
    has too much to do is not given more. Requests of anonymous visitors are counted alone: no
    experiment assigns them.

    Args:
        sink: Keeps lists.
        most_pending: Rows on their way, >= 1.
    """

    def __init__(self, sink: ListSink, *, most_pending: int = MOST_PENDING) -> None:
        if most_pending < 1:
            raise ValueError(f"most_pending must be >= 1; got {most_pending}.")
        self._sink = sink
        self._most_pending = most_pending
        self._pending: set[asyncio.Task[None]] = set()
        self._counts: RefusalCounts | None = None

    def count_in(self, counts: RefusalCounts) -> None:
        """Count in these from now on."""
        self._counts = counts

    def keep(self, refused: ServedList) -> None:
        """Begin to keep one; called in the event loop, returns at once.

        Args:
            refused: ``answer.method`` is ``refused``.
        """
        if self._counts is not None:
            self._counts.count_refusal(refused)
        if refused.user_id is None:
            return
        if len(self._pending) >= self._most_pending:
            self._lose()
            return
        task = asyncio.get_running_loop().create_task(self._record(refused))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def close(self, timeout_s: float) -> None:
        """Keep what is on its way, for at most ``timeout_s``; the rest is lost and counted."""
        if self._pending:
            _, late = await asyncio.wait(self._pending, timeout=timeout_s)
            for task in late:
                task.cancel()
                self._lose()

    async def _record(self, refused: ServedList) -> None:
        try:
            await self._sink.record(refused)
        except Exception as error:
            self._lose()
            _LOG.warning("a refused request was not logged: %s", type(error).__name__)

    def _lose(self) -> None:
        if self._counts is not None:
            self._counts.count_unlogged_refusal()
