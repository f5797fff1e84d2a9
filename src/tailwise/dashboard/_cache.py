"""Pages computed once per state of the log, in a thread; while that runs, the last one with a mark."""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Cached", "PageCache"]

_log = logging.getLogger("tailwise.dashboard")
T = TypeVar("T")


@dataclass(frozen=True)
class Cached(Generic[T]):
    """A value, and whether it is of now.

    Attributes:
        value: None: nothing was ever computed.
        is_stale: Another is being computed, or could not be.
        error: Why the last computation gave nothing; None: it did.
    """

    value: T | None
    is_stale: bool
    error: Exception | None = None


class PageCache:
    """Keeps one value per key, of one version; computes at most one per key at a time.

    Args:
        patience_s: How long an answer waits for a computation before it goes out without, >= 0.
        again_s: The same where there is a value of another version to show meanwhile, >= 0. None: as long.
        size: Values kept, the least recently asked for go first, >= 1.
        threads: Computations at once, >= 1.
    """

    def __init__(
        self, *, patience_s: float = 2.0, again_s: float | None = None, size: int = 64, threads: int = 1
    ) -> None:
        if patience_s < 0 or (again_s or 0.0) < 0 or size < 1 or threads < 1:
            raise ValueError(
                "patience_s and again_s must be >= 0, size and threads >= 1; got "
                f"{patience_s}, {again_s}, {size} and {threads}."
            )
        self._patience_s = patience_s
        self._again_s = again_s
        self._size = size
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="dashboard")
        self._quick = ThreadPoolExecutor(2, thread_name_prefix="dashboard-quick")
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
        self._running: dict[Hashable, Future[None]] = {}
        self._errors: dict[Hashable, tuple[Hashable, Exception]] = {}

    async def get(self, key: Hashable, version: Hashable, compute: Callable[[], T]) -> Cached[T]:
        """Return the value of a key; of ``version`` if it is known or computed within the patience.

        Args:
            key: Of the page.
            version: Of everything that it is made from.
            compute: Called in a thread.
        """
        found = self._look(key, version)
        if found is not None:
            return found
        task = self._begin(key, version, compute)
        with self._lock:
            has_older = self._again_s is not None and key in self._values
        patience_s = self._again_s if has_older else self._patience_s
        await asyncio.wait([asyncio.wrap_future(task)], timeout=patience_s)
        found = self._look(key, version)
        if found is not None:
            return found
        with self._lock:
            kept = self._values.get(key)
        return Cached(None if kept is None else kept[1], is_stale=True)

    async def quick(self, work: Callable[[], T]) -> T:
        """Run something short that may read a database, outside of the event loop; not kept."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, work)

    def is_busy(self) -> bool:
        """Whether something is being computed."""
        with self._lock:
            return bool(self._running)

    def close(self) -> None:
        """Begin nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._quick.shutdown(wait=False, cancel_futures=True)

    def _look(self, key: Hashable, version: Hashable) -> Cached[Any] | None:
        with self._lock:
            kept = self._values.get(key)
            if kept is not None and kept[0] == version:
                self._values.move_to_end(key)
                return Cached(kept[1], is_stale=False)
            failed = self._errors.get(key)
            if failed is not None and failed[0] == version:
                return Cached(None if kept is None else kept[1], is_stale=True, error=failed[1])
        return None

    def _begin(self, key: Hashable, version: Hashable, compute: Callable[[], Any]) -> "Future[None]":
        with self._lock:
            task = self._running.get(key)
            if task is None:
                task = self._executor.submit(self._compute, key, version, compute)
                self._running[key] = task
            return task

    def _compute(self, key: Hashable, version: Hashable, compute: Callable[[], Any]) -> None:
        try:
            value, error = compute(), None
        except Exception as caught:
            _log.warning("a page of the dashboard could not be computed", exc_info=caught)
            value, error = None, caught
        with self._lock:
            self._running.pop(key, None)
            if error is not None:
                self._errors[key] = (version, error)
                while len(self._errors) > self._size:
                    self._errors.pop(next(iter(self._errors)))
                return
            self._errors.pop(key, None)
            self._values[key] = (version, value)
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)
