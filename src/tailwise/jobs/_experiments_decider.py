"""What decides about a running experiment: evidence from the log, a decision, the store that keeps both."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tailwise.errors import ConfigError, LogUnavailableError, TailwiseError
from tailwise.events._database import Database
from tailwise.experiments import (
    AuditEntry,
    ConflictError,
    Decision,
    Evidence,
    Experiment,
    ExperimentStore,
    Rollout,
    decide,
    evidence_at,
)
from tailwise.jobs._experiments_items import experiment_items
from tailwise.jobs._experiments_reading import ExperimentReader

__all__ = ["Decider", "Look", "parse_every", "watch"]

log = logging.getLogger("tailwise.experiments")

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Look:
    """What one look at an experiment found.

    Attributes:
        rollout: As it was looked at.
        evidence: What was known.
        decision: What follows from it.
        after: As it stands after the decision was carried out; None where it was not.
    """

    rollout: Rollout
    evidence: Evidence
    decision: Decision
    after: Rollout | None = None


class Decider:
    """Looks at experiments, and does what their policy says when asked to.

    Any number may be at work on one database: of two that decide at once, the second finds the
    experiment changed and looks again at its next turn.

    Args:
        database: URL of the log, which keeps the experiments too.
        items: Gives an experiment's division of the catalogue: ``item_id``, ``segment``.
        clock: Unix seconds.
    """

    def __init__(
        self,
        database: str,
        items: Callable[[Experiment], pl.DataFrame],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.store = ExperimentStore(database, clock=clock)
        self.database = Database(database)
        self._items = items
        self._readers: dict[str, ExperimentReader] = {}

    @classmethod
    def of_service(
        cls, database: str, *, state: Path, root: Path, clock: Callable[[], float] = time.time
    ) -> "Decider":
        """Make a decider for a service: segments are those of control's run.

        Args:
            database: As of the service.
            state: As of the service.
            root: The service's ``model_root``.
            clock: Unix seconds.
        """

        def items(experiment: Experiment) -> pl.DataFrame:
            return experiment_items(experiment.name, experiment.control, state=state, root=root)

        return cls(database, items, clock=clock)

    def reader(self, experiment: Experiment) -> ExperimentReader:
        """Return what follows an experiment through the log; it reads nothing by itself."""
        if experiment.name not in self._readers:
            self._readers[experiment.name] = ExperimentReader(
                self.database, experiment, self._items(experiment)
            )
        return self._readers[experiment.name]

    def look(self, name: str, *, apply: bool = False) -> Look:
        """Look at an experiment now.

        Args:
            name: Of the experiment.
            apply: Carry the decision out, and write it into the audit log with its evidence. A decision to
                hold is written when it differs from the last line in its lights or in whom it waits
                for, or when ``policy.look_every_hours`` have passed since.

        Raises:
            ConfigError: there is no such experiment, or it has not started.
            ConflictError: somebody changed it between the look and the decision.
            LogUnavailableError: the database cannot be read now.
        """
        rollout = self.store.get(name)
        if rollout.stage_began_at is None:
            raise ConfigError(
                f"experiment {name!r} must have started; got state {rollout.state!r}. "
                f"Start it: tailwise experiment start {name}."
            )
        reader = self.reader(rollout.experiment)
        reader.refresh()
        evidence = evidence_at(reader.enrolled(), rollout, self.clock())
        decision = decide(evidence, rollout.experiment.policy, rollout)
        after = None
        if apply and rollout.state == "running" and self._is_news(decision, rollout, evidence.at):
            after = self.store.apply(rollout, decision, evidence)
        return Look(rollout, evidence, decision, after)

    def _is_news(self, decision: Decision, rollout: Rollout, at: float) -> bool:
        if decision.action != "hold":
            return True
        last = self.store.history(rollout.experiment.name, limit=1)
        return not last or _differs(last[0], decision) or at - last[0].at >= _pause_s(rollout)

    def running(self) -> tuple[str, ...]:
        """Return the names of the experiments that there is something to decide about."""
        return tuple(each.experiment.name for each in self.store.all() if each.state == "running")

    def close(self) -> None:
        """Close the connections."""
        self.store.close()
        self.database.close()


def _pause_s(rollout: Rollout) -> float:
    return rollout.experiment.policy.look_every_hours * 3600


def _differs(entry: AuditEntry, decision: Decision) -> bool:
    """Whether a decision to hold says something new."""
    lights = [(result.name, result.light) for result in decision.guardrails]
    written = [(result.name, result.light) for result in entry.guardrails]
    return entry.action != "hold" or entry.needs_person != decision.needs_person or lights != written


def watch(
    decider: Decider,
    *,
    every_s: float,
    names: tuple[str, ...] | None = None,
    ends: threading.Event | None = None,
) -> Iterator[Look]:
    """Look and act again and again; failures are logged and tried again at the next turn.

    Args:
        decider: See :class:`Decider`.
        every_s: Seconds between two rounds, > 0.
        names: Experiments. None: all that run, those included that start meanwhile.
        ends: Set it to stop. None: runs until the caller goes away, or until none of ``names`` runs.

    Yields:
        Every look that was written into the audit log.
    """
    stopping = ends or threading.Event()
    while not stopping.is_set():
        try:
            running = decider.running()
        except LogUnavailableError as error:
            log.warning("Experiments cannot be read, no decision is made: %s", error)
            running = names or ()
        chosen = running if names is None else tuple(name for name in names if name in running)
        if names is not None and not chosen:
            return
        for name in chosen:
            look = _try(decider, name)
            if look is not None and look.after is not None:
                yield look
        stopping.wait(every_s)


def _try(decider: Decider, name: str) -> Look | None:
    try:
        return decider.look(name, apply=True)
    except ConflictError:
        log.info("Experiment %s was changed during a look; looking again next time", name)
    except TailwiseError as error:
        log.warning("No decision about experiment %s: %s", name, error)
    return None


def parse_every(text: str, name: str = "--decide") -> float:
    """Read ``every=60s``, or ``60s``, ``5m``, ``1h``: seconds, >= 1.

    Args:
        text: What was given.
        name: What an error calls it.

    Raises:
        ConfigError: it is no such thing.

    Example:
        >>> parse_every("every=5m")
        300.0
    """
    number = text.removeprefix("every=")
    unit = number[-1:]
    try:
        seconds = float(number[:-1]) * _UNITS[unit]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise ConfigError(f"{name} must be every=60s or the like, 1s to 24h; got {text!r}.")
    return seconds
