"""The monitor: looks at what was served and chosen lately, and says what is out of bounds, once."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import polars as pl

from tailwise.dashboard._alarms import Alarm, AlarmFile, Finding
from tailwise.dashboard._live_audit import (
    ExposureChange,
    LiveAudit,
    MovedItems,
    audit_lists,
    compare_exposure,
    moved_items,
)
from tailwise.dashboard._monitor_rules import exposure_findings, popularity_findings, retrain_findings
from tailwise.dashboard._monitor_settings import MonitorSettings
from tailwise.dashboard._outbox import Deliveries, Outbox
from tailwise.diagnosis import HeadChange, measure_drift
from tailwise.errors import DataError, LogUnavailableError
from tailwise.schema import ITEM_INDEX, TIMESTAMP
from tailwise.segments import Segments

__all__ = ["LogTables", "MonitorReport", "monitor_forever", "run_monitor_once"]

_DAY_S = 86_400.0
_log = logging.getLogger("tailwise.monitor")


class LogTables(Protocol):
    """What the monitor reads; :class:`tailwise.events.LogReader` is one."""

    def slots(self, since: float | None = None, until: float | None = None) -> Iterator[pl.DataFrame]:
        """Yield tables of slots served from ``since`` up to ``until``."""
        ...

    def events(self, since: float | None = None, until: float | None = None) -> Iterator[pl.DataFrame]:
        """Yield tables of events that occurred from ``since`` up to ``until``."""
        ...


@dataclass(frozen=True, eq=False)
class MonitorReport:
    """What a look of the monitor saw.

    Attributes:
        at: Unix seconds.
        window: Lists of the window.
        reference: Lists of the stretch before.
        exposure: Both compared at equal slots; None where one has none.
        head: What became of the head of what is chosen; None: too few choices.
        moved: What another training would move; None where segments do not follow counts.
        findings: All that is out of bounds now.
        new: Alarms that were written, raised or cleared.
        deliveries: What sinks are owed after this look.
    """

    at: float
    window: LiveAudit
    reference: LiveAudit
    exposure: ExposureChange | None
    head: HeadChange | None
    moved: MovedItems | None
    findings: tuple[Finding, ...]
    new: tuple[Alarm, ...]
    deliveries: Deliveries


def run_monitor_once(
    log: LogTables,
    segments: Segments,
    item_ids: Sequence[str],
    alarms: AlarmFile,
    *,
    now: float,
    trained_until: float | None = None,
    settings: MonitorSettings | None = None,
    outbox: Outbox | None = None,
    is_ending: Callable[[], bool] = lambda: False,
) -> MonitorReport:
    """Look once.

    Lists: who gets the slots of the window, against the reference before it. Popularity: whether the head of
    the earlier half of all choices of both stretches is still chosen in the later half. Retraining: which
    items training counts plus choices since the training would put elsewhere.

    Args:
        log: Read over both stretches, and events back to ``trained_until`` where that lies earlier.
        segments: Of the model that is served, with its training counts.
        item_ids: Of its catalogue, in their order.
        alarms: Where they are kept.
        now: Unix seconds.
        trained_until: Unix seconds of the model's last training interaction; None: choices of both
            stretches count as later.
        settings: Bounds; None: the defaults.
        outbox: Of ``alarms``: tells the sinks what is new, and again what they did not take before, also
            where the log cannot be read. None: nobody is told.
        is_ending: Asked between deliveries; what is left waits for the next look.

    Raises:
        LogUnavailableError: the log cannot be read; nothing is judged then.
        DataError: the alarm file or the outbox is damaged.
        ValueError: the outbox is that of another alarm file.
    """
    if outbox is None:
        return _look(log, segments, item_ids, alarms, now, trained_until, settings)
    if outbox.alarms.file != alarms.file:
        raise ValueError(
            f"outbox must be that of {str(alarms.file)!r}; got that of {str(outbox.alarms.file)!r}."
        )
    outbox.take_up(now)  # who is told is known before anything is raised
    try:
        report = _look(log, segments, item_ids, alarms, now, trained_until, settings)
    except LogUnavailableError:
        outbox.deliver(now, is_ending=is_ending)
        raise
    return replace(report, deliveries=outbox.deliver(now, is_ending=is_ending))


def _look(  # noqa: PLR0917
    log: LogTables,
    segments: Segments,
    item_ids: Sequence[str],
    alarms: AlarmFile,
    now: float,
    trained_until: float | None,
    settings: MonitorSettings | None,
) -> MonitorReport:
    bounds = settings or MonitorSettings()
    middle = now - bounds.window_days * _DAY_S
    first = middle - bounds.reference_days * _DAY_S
    window = audit_lists(log.slots(middle, now), segments, item_ids, k=bounds.k)
    reference = audit_lists(log.slots(first, middle), segments, item_ids, k=bounds.k)
    exposed = compare_exposure(window, reference)
    since = first if trained_until is None else min(first, trained_until)
    choices = _choices(log.events(since, now), item_ids)
    lately = choices.filter(pl.col(TIMESTAMP) >= first)
    head = _head_change(lately, len(item_ids), bounds)
    moved = None
    if segments.rule != "column":
        later = choices if trained_until is None else choices.filter(pl.col(TIMESTAMP) > trained_until)
        counts = np.bincount(later[ITEM_INDEX].to_numpy(), minlength=len(item_ids)).astype(np.int64)
        moved = moved_items(segments, counts, item_ids)
    found = (
        *exposure_findings(window, reference, exposed, bounds),
        *popularity_findings(head, bounds),
        *retrain_findings(moved, bounds),
    )
    judged = _judged(window, reference, head, moved, bounds)
    new = tuple(alarms.take(found, now, judged=judged))
    return MonitorReport(now, window, reference, exposed, head, moved, found, new, Deliveries())


def monitor_forever(
    look: Callable[[float], object],
    *,
    every_s: float,
    stop: threading.Event,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], bool] | None = None,
) -> int:
    """Look every ``every_s`` seconds until told to stop; a log that is away is tried again at the next look.

    Args:
        look: Given the moment; see :func:`run_monitor_once`.
        every_s: From the beginning of a look to that of the next, > 0.
        stop: Set to end.
        clock: Unix seconds.
        wait: Waits so many seconds and returns True to end; None: for ``stop``.

    Returns:
        How often it looked.
    """
    if not every_s > 0:
        raise ValueError(f"every_s must be > 0; got {every_s}.")
    waiting = stop.wait if wait is None else wait
    n_looks = 0
    while not stop.is_set():
        began = clock()
        try:
            look(began)
        except (LogUnavailableError, DataError) as error:
            _log.warning("the monitor could not look: %s", error)
        n_looks += 1
        if waiting(max(0.0, began + every_s - clock())):
            break
    return n_looks


def _judged(
    window: LiveAudit,
    reference: LiveAudit,
    head: HeadChange | None,
    moved: MovedItems | None,
    bounds: MonitorSettings,
) -> set[str]:
    """Kinds of findings for which there was enough to see."""
    kinds = {"no-traffic"}
    if min(window.n_lists, reference.n_lists) >= bounds.minimum_lists:
        kinds |= {"exposure", "coverage", "concentration"}
    if head is not None:
        kinds.add("popularity-drift")
    if moved is not None:
        kinds.add("retrain")
    return kinds


def _choices(pieces: Iterator[pl.DataFrame], item_ids: Sequence[str]) -> pl.DataFrame:
    """Clicks and purchases of known items: ``item_index`` and ``timestamp``."""
    index = pl.DataFrame(
        {"item_id": list(item_ids), ITEM_INDEX: np.arange(len(item_ids), dtype=np.int64)},
        schema_overrides={"item_id": pl.String},
    )
    chosen = [
        piece.filter(pl.col("type").is_in(["click", "purchase"])).select("item_id", "occurred_at")
        for piece in pieces
    ]
    empty = pl.DataFrame(schema={"item_id": pl.String, "occurred_at": pl.Float64})
    return (
        pl.concat([empty, *chosen])
        .join(index, on="item_id", how="inner")
        .select(ITEM_INDEX, pl.col("occurred_at").floor().cast(pl.Int64).alias(TIMESTAMP))
    )


def _head_change(choices: pl.DataFrame, n_items: int, bounds: MonitorSettings) -> HeadChange | None:
    if choices.height < bounds.minimum_choices or choices[TIMESTAMP].n_unique() < 2:
        return None
    return measure_drift(choices, n_items, n_windows=2).changes[0]
