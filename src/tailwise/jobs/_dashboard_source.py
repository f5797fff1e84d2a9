"""Where a service's dashboard gets its numbers: the log's database, the experiments in it, the alarms."""

import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from tailwise.dashboard import Alarm, AlarmFile, Deliveries, ExperimentTables, LiveTables, Outbox
from tailwise.events._database import Database
from tailwise.events._frames_out import reading
from tailwise.events._tables import EVENTS, LISTS
from tailwise.experiments import (
    METRICS,
    AuditEntry,
    Experiment,
    ExperimentStore,
    Rollout,
    describe_catalogue,
    evidence_at,
)
from tailwise.jobs._experiments_items import experiment_items
from tailwise.jobs._experiments_reading import ExperimentReader
from tailwise.jobs._live_days import LiveDays
from tailwise.serving import REFUSED

__all__ = ["ALARMS_FILE", "ServiceSource"]

ALARMS_FILE = "alarms.jsonl"  # in the service's state
_MOMENT_S = 60  # windows close as time goes by, also where nothing is logged
_RECENT_LISTS = 400  # among which users are looked for
_USER_METRICS = tuple(metric for metric in METRICS.values() if metric.level == "user")


class MeasuredOnce(ExperimentReader):
    """Measures every user once for each state of the log, for whatever moment is asked.

    A user's measures depend on no other user and not on the moment, which only says whose windows are closed;
    so closed windows are a choice of rows.
    """

    _all: tuple[Hashable, pl.DataFrame] | None = None

    def outcomes(self, now: float) -> pl.DataFrame:
        """See :meth:`ExperimentReader.outcomes`."""
        state = (
            self._deletion,
            self._events.height,
            self._lists.height,
            self._seen.height,
            *self._last.values(),
        )
        if self._all is None or self._all[0] != state:
            self._all = state, super().outcomes(math.inf)
        return self._all[1].filter(pl.col("window_closes_at") <= now)


class ServiceSource:
    """See :class:`tailwise.dashboard.DashboardSource`. Calls may come from several threads.

    It follows every experiment that is looked at through the log, and keeps what it read: some hundred bytes
    for each list, impression, click and purchase.

    Args:
        database: URL of the log, which keeps the experiments too.
        items: Gives an experiment's division of the catalogue: ``item_id``, ``segment``, maybe ``brand``.
        alarms: The monitor's.
        clock: Unix seconds. None: the moment of the last list, for a service whose requests tell the time.
        live_days: How far back the page of the live lists looks, to the beginning of the day, > 0.
    """

    def __init__(
        self,
        database: str,
        items: Callable[[Experiment], pl.DataFrame],
        alarms: AlarmFile,
        *,
        clock: Callable[[], float] | None = time.time,
        live_days: float = 14.0,
    ) -> None:
        if not live_days > 0:
            raise ValueError(f"live_days must be > 0; got {live_days}.")
        self._store = ExperimentStore(database)
        self._database = Database(database)
        self._items = items
        self._alarms = alarms
        self._clock = clock
        self._live = LiveDays(self._database, live_days)
        self._readers: dict[str, MeasuredOnce] = {}
        self._one_at_a_time = threading.Lock()

    @classmethod
    def of_service(
        cls, database: str, *, state: Path, root: Path, clock: Callable[[], float] | None = time.time
    ) -> "ServiceSource":
        """Make the source of a service.

        Args:
            database: As of the service.
            state: As of the service.
            root: The service's ``model_root``.
            clock: See :class:`ServiceSource`.
        """

        def items(experiment: Experiment) -> pl.DataFrame:
            return experiment_items(experiment.name, experiment.control, state=state, root=root)

        return cls(database, items, AlarmFile(state / ALARMS_FILE), clock=clock)

    def now(self) -> float:
        """Return the moment up to which is counted."""
        if self._clock is not None:
            return self._clock()
        with reading(self._database) as connection:
            latest = connection.execute(sa.select(sa.func.max(LISTS.c.served_at))).scalar()
        return time.time() if latest is None else float(latest)

    def version(self) -> Hashable:
        """See :class:`DashboardSource`."""
        with reading(self._database) as connection:
            events = connection.execute(sa.select(sa.func.max(EVENTS.c.seq))).scalar()
            lists = connection.execute(sa.select(sa.func.max(LISTS.c.seq))).scalar()
        return events, lists, self._store.version(), int(self.now() // _MOMENT_S)

    def rollouts(self) -> Sequence[Rollout]:
        """See :class:`DashboardSource`."""
        return self._store.all()

    def decisions(self, name: str, limit: int) -> Sequence[AuditEntry]:
        """See :class:`DashboardSource`."""
        return self._store.history(name, limit=limit)

    def tables(self, name: str) -> ExperimentTables:
        """See :class:`DashboardSource`."""
        rollout = self._store.get(name)
        if rollout.stage_began_at is None:
            return ExperimentTables(pl.DataFrame(), pl.DataFrame())
        experiment = rollout.experiment
        with self._one_at_a_time:
            reader = self._reader(experiment)
            reader.refresh()
            now = self.now()
            outcomes = reader.outcomes(now)
            return ExperimentTables(
                outcomes,
                reader.exposures(),
                evidence_at(reader.enrolled(), rollout, now),
                describe_catalogue(
                    reader.events(),
                    outcomes,
                    reader.items,
                    control=experiment.control,
                    treatment=experiment.treatment,
                )
                if outcomes["variant"].n_unique() == 2
                else (),
            )

    def live(self) -> LiveTables:
        """See :class:`DashboardSource`."""
        return self._live.tables(self.now())

    def users(self, name: str, n: int) -> Sequence[str]:
        """See :class:`DashboardSource`; those who were lately answered, of both models in turn."""
        recent = (
            sa.select(LISTS.c.user_id, LISTS.c.variant)
            .where(
                LISTS.c.experiment == name,
                LISTS.c.in_experiment,
                LISTS.c.user_id.is_not(None),
                LISTS.c.method != REFUSED,
            )
            .order_by(LISTS.c.seq.desc())
            .limit(_RECENT_LISTS)
        )
        with reading(self._database) as connection:
            found: dict[str, list[str]] = {}
            for user, variant in connection.execute(recent):
                users = found.setdefault(variant, [])
                if user not in users:
                    users.append(user)
        longest = max((len(users) for users in found.values()), default=0)
        dealt = [users[i] for i in range(longest) for users in found.values() if i < len(users)]
        return list(dict.fromkeys(dealt))[:n]

    def alarms(self) -> Sequence[Alarm]:
        """See :class:`DashboardSource`."""
        return self._alarms.all()

    def deliveries(self) -> Deliveries:
        """See :class:`DashboardSource`."""
        return Outbox(self._alarms).state()

    def close(self) -> None:
        """Close the connections."""
        self._store.close()
        self._database.close()

    def _reader(self, experiment: Experiment) -> MeasuredOnce:
        if experiment.name not in self._readers:
            items = self._items(experiment)
            self._readers[experiment.name] = MeasuredOnce(self._database, experiment, items, _USER_METRICS)
        return self._readers[experiment.name]
