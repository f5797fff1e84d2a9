"""The monitor of a service: its log, the segments of the model for everybody, the alarms in its state."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tailwise.dashboard import (
    AlarmFile,
    AlarmSink,
    MonitorGauges,
    MonitorReport,
    MonitorSettings,
    Outbox,
    monitor_forever,
    run_monitor_once,
)
from tailwise.errors import DataError, TailwiseError
from tailwise.jobs._dashboard_source import ALARMS_FILE
from tailwise.jobs._log_columns import LogColumns
from tailwise.jobs._measure import cut_segments
from tailwise.jobs._run_data import RunData, load_run_data
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._serve_deployment import DeploymentFolder
from tailwise.jobs._serve_models import parse_source
from tailwise.schema import TIMESTAMP
from tailwise.segments import Segments

__all__ = ["ServiceMonitor"]

_STOP_S = 30.0


class ServiceMonitor:
    """Looks at a service's log with the eyes of the model that answers everybody.

    A model that was swapped in brings its own training counts: the next look takes them.

    Args:
        database: As of the service.
        state: As of the service; alarms are kept in it.
        root: The service's ``model_root``.
        settings: Bounds; None: the defaults.
        sinks: Told of alarms, such as a ``Webhook``; what they do not take stays owed to them in the state.
        gauges: For Prometheus; None: none.
        clock: Unix seconds.
    """

    def __init__(
        self,
        database: str,
        *,
        state: Path,
        root: Path,
        settings: MonitorSettings | None = None,
        sinks: Sequence[AlarmSink] = (),
        gauges: MonitorGauges | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.alarms = AlarmFile(state / ALARMS_FILE)
        self.outbox = Outbox(self.alarms, sinks)
        self.settings = settings or MonitorSettings()
        self.clock = clock
        self._log = LogColumns(database)
        self._state, self._root = state, root
        self._gauges = gauges
        self._known: tuple[str, Segments, list[str], float | None] | None = None

    def look(
        self, now: float | None = None, *, is_ending: Callable[[], bool] = lambda: False
    ) -> MonitorReport:
        """Look once; see :func:`run_monitor_once`. What is owed is sent also where nothing can be seen.

        Args:
            now: Unix seconds. None: the clock's.
            is_ending: Asked between deliveries; what is left waits for the next look.

        Raises:
            LogUnavailableError: the log cannot be read.
            DataError: no model is served, its run is not there, or a file of the monitor is damaged.
        """
        at = self.clock() if now is None else now
        try:
            try:
                segments, item_ids, trained_until = self._model()
            except TailwiseError:
                self.outbox.deliver(at, is_ending=is_ending)
                raise
            report = run_monitor_once(
                self._log,
                segments,
                item_ids,
                self.alarms,
                now=at,
                trained_until=trained_until,
                settings=self.settings,
                outbox=self.outbox,
                is_ending=is_ending,
            )
        except TailwiseError:
            if self._gauges is not None:
                self._gauges.observe_deliveries(self.outbox.state())
            raise
        if self._gauges is not None:
            self._gauges.observe(report, self.alarms.open_ones())
        return report

    def close(self) -> None:
        """Close the connections."""
        self._log.close()

    @contextmanager
    def running(self, *, every_s: float) -> Iterator[None]:
        """Look every so many seconds in a thread, inside the block."""
        stop = threading.Event()
        thread = threading.Thread(
            target=monitor_forever,
            args=(lambda now: self.look(now, is_ending=stop.is_set),),
            kwargs={"every_s": every_s, "stop": stop, "clock": self.clock},
            name="monitor",
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_STOP_S)
            with contextlib.suppress(Exception):
                self.close()

    def _model(self) -> tuple[Segments, list[str], float | None]:
        """Segments, items and last training moment of the first model."""
        models = DeploymentFolder(self._state).read().models
        if not models:
            raise DataError(
                f"state must name a served model; got none in {str(self._state)!r}. Serve one first."
            )
        source = next(iter(models.values())).source
        if self._known is None or self._known[0] != source:
            folder = RunFolder(parse_source(source, self._root).run)
            data = load_run_data(folder.data)
            segments = cut_segments(data, folder.read_config().segments)
            self._known = (source, segments, data.catalogue.item_ids(), _trained_until(data))
        return self._known[1:]


def _trained_until(data: RunData) -> float | None:
    """Unix seconds of the last interaction that the segments count."""
    times = data.split.train[TIMESTAMP]
    return float(times.to_numpy().max()) if times.len() else None
