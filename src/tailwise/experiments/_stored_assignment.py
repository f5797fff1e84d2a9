"""The store's assignments inside a worker: polled in the background, never waited for."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tailwise._settings import from_plain, plain_of
from tailwise.errors import LogUnavailableError, TailwiseError
from tailwise.experiments._assignment import HashAssignment
from tailwise.experiments._rollout import Rollout
from tailwise.experiments._store import ExperimentStore
from tailwise.serving import Assigned, Surface

__all__ = ["StoredAssignment"]

log = logging.getLogger("tailwise.experiments")


class StoredAssignment:
    """Assigns by what the store said last.

    A change reaches every worker within ``poll_s``; until then workers may differ. While the database is
    down the last known state goes on. A worker that starts while it is down takes the state from
    ``remember``, and without that file assigns everybody the default, uncounted, until the database answers.

    Args:
        store: What is polled.
        default: Served model that answers where no experiment is.
        poll_s: Seconds between two looks, > 0.
        remember: A file that keeps the last known state for the next start. None: none.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: ExperimentStore,
        *,
        default: str = "control",
        poll_s: float = 2.0,
        remember: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not poll_s > 0:
            raise ValueError(f"poll_s must be > 0; got {poll_s}.")
        self._store, self._default, self._poll_s = store, default, poll_s
        self._remember, self._clock = remember, clock
        self._current = HashAssignment((), default)
        self._rollouts: tuple[Rollout, ...] | None = None
        self._refreshed_at: float | None = None
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def age_s(self) -> float | None:
        """Seconds since the store last answered; None: not yet in this worker."""
        return None if self._refreshed_at is None else self._clock() - self._refreshed_at

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """What is assigned by; empty while nothing is known."""
        return self._rollouts or ()

    def assign(self, user_id: str | None, surface: Surface) -> Assigned:
        """Assign; see :class:`tailwise.serving.Assignment`. Never waits."""
        return self._current.assign(user_id, surface)

    def refresh(self) -> bool:
        """Look at the store once; False where it did not answer, and all stays as it was."""
        try:
            rollouts = self._store.all()
        except LogUnavailableError as error:
            if self._rollouts is None:
                self._recall()
            log.warning("experiments not refreshed: %s", error)
            return False
        self._refreshed_at = self._clock()
        if rollouts != self._rollouts:
            self._take(rollouts)
            self._write(rollouts)
        return True

    def start(self) -> None:
        """Look once, then again and again in a thread, until :meth:`close`."""
        self.refresh()
        self._thread = threading.Thread(target=self._poll, name="experiments", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; assignments stay as they are."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join(10)

    def _poll(self) -> None:
        while not self._ends.wait(self._poll_s):
            try:
                self.refresh()
            except Exception:  # the thread must outlive what nobody foresaw; serving goes on meanwhile
                log.exception("experiments not refreshed")

    def _take(self, rollouts: tuple[Rollout, ...]) -> None:
        self._rollouts = rollouts
        self._current = HashAssignment(
            rollouts, self._default
        )  # swapped at once: requests see one or the other

    def _write(self, rollouts: tuple[Rollout, ...]) -> None:
        if self._remember is None:
            return
        part = self._remember.with_name(f"{self._remember.name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps(plain_of(rollouts)), encoding="utf-8")
            part.replace(self._remember)
        except OSError as error:
            log.warning("experiments not remembered for the next start: %s", error.strerror)

    def _recall(self) -> None:
        if self._remember is None or not self._remember.exists():
            return
        try:
            stored = json.loads(self._remember.read_text(encoding="utf-8"))
            self._take(tuple(from_plain(Rollout, values, "rollout") for values in stored))
        except (OSError, ValueError, TailwiseError) as error:
            log.warning("experiments not recalled from %s: %s", self._remember.name, error)
