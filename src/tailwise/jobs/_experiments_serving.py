"""Experiments inside a worker of the service: who gets which model, and, in one worker, what decides."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tailwise.errors import ConfigError
from tailwise.events._log import EventLog
from tailwise.experiments import ExperimentStore, StoredAssignment
from tailwise.jobs._experiments_clock import MarkingSink, check_may_be_told, told_time
from tailwise.jobs._experiments_decider import Decider, parse_every, watch
from tailwise.jobs._serve_config import ServeConfig
from tailwise.serving import Assignment, ListSink
from tailwise.serving._http_keys import KeyStore
from tailwise.serving._http_log import log

__all__ = ["POLL_S", "ServedExperiments"]

POLL_S = 1.0  # a rollback reaches every worker within this


class ServedExperiments:
    """Takes assignments from the experiments in the log's database, and decides if the settings ask for it.

    Without an experiment everybody is answered by the first model. While the database is away, what was
    known last goes on, over a restart too.

    Args:
        config: Of the service.
        default: Name of the model for everybody.
        worker: Number of this process; number 0 decides.

    Raises:
        ConfigError: the clock may not be told here, or ``decide`` cannot be read or is set beside it.
    """

    def __init__(self, config: ServeConfig, *, default: str, worker: int) -> None:
        self._config = config
        self._every_s = parse_every(config.decide) if config.decide else None
        if config.clock_from_header:
            if self._every_s is not None:
                raise ConfigError(
                    f"decide must be left out where requests tell the time; got {config.decide!r}. Decide in "
                    "simulated time: tailwise simulate NAME --decide."
                )
            has_keys = KeyStore(config.keys_file).are_required()
            check_may_be_told(is_local=config.is_local, has_keys=has_keys)
        self._decides = worker == 0 and self._every_s is not None
        self._store = ExperimentStore(config.database)
        folder = Path(config.state) / "experiments"
        folder.mkdir(parents=True, exist_ok=True)
        self._stored = StoredAssignment(
            self._store, default=default, poll_s=POLL_S, remember=folder / f"last-known-{worker}.json"
        )

    @property
    def assignment(self) -> Assignment:
        """What the service asks who is answered by which model."""
        return self._stored

    @property
    def clock(self) -> Callable[[], float]:
        """What lists are stamped by."""
        return told_time if self._config.clock_from_header else time.time

    def sink(self, event_log: EventLog) -> ListSink:
        """Return what keeps the lists."""
        return MarkingSink(event_log) if self._config.clock_from_header else event_log

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the store inside the block, and decide where that is asked for."""
        ends = threading.Event()
        await asyncio.to_thread(self._stored.start)
        thread = None
        if self._decides:
            thread = threading.Thread(target=self._decide, args=(ends,), name="decider", daemon=True)
            thread.start()
        try:
            yield
        finally:
            ends.set()
            await asyncio.to_thread(self._stored.close)
            if thread is not None:
                await asyncio.to_thread(thread.join, 10)
            self._store.close()

    def _decide(self, ends: threading.Event) -> None:
        config, every_s = self._config, self._every_s
        if every_s is None:
            return
        decider = Decider.of_service(config.database, state=Path(config.state), root=Path(config.model_root))
        with contextlib.closing(decider):
            while not ends.is_set():
                try:
                    for look in watch(decider, every_s=every_s, ends=ends):
                        log(
                            logging.INFO,
                            "decision",
                            experiment=look.rollout.experiment.name,
                            action=look.decision.action,
                            stage=look.rollout.stage,
                            needs_person=look.decision.needs_person,
                        )
                except Exception as error:  # decisions must not end because of one that nobody foresaw
                    log(logging.ERROR, "decider failed", error=error)
                    ends.wait(every_s)
