"""The command line of the monitor: `tailwise monitor`."""

import json
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from tailwise.errors import ConfigError

if TYPE_CHECKING:
    from tailwise.dashboard import MonitorReport
    from tailwise.jobs._monitor import ServiceMonitor

__all__ = ["monitor"]

Flag = Parameter(negative=())


def monitor(
    *,
    once: Annotated[bool, Flag] = False,
    every: str | None = None,
    webhook: str | None = None,
    at: str = "now",
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    config: Path | None = None,
    database: str | None = None,
    state: str | None = None,
    model_root: str | None = None,
) -> None:
    """Look at what a service showed and users chose lately, raise and clear alarms, tell the webhook.

    Looks once, or again and again until Ctrl-C or SIGTERM if --every or the setting `monitor` says so.
    Settings are those of `tailwise serve`: --config, over it TAILWISE_SERVE_... variables, over them flags. A
    single look's exit status: 0 nothing is raised, 1 it could not look, 2 something is raised, 3 nothing
    is raised but deliveries are owed. It may run beside a service that monitors: one of them sends.

    Args:
        once: Look once, also where the setting `monitor` says how often.
        every: From one look to the next, such as 1h.
        webhook: Told of alarms by POST, signed where TAILWISE_WEBHOOK_SECRET holds a secret. An address that
            is itself secret is better kept in TAILWISE_SERVE_WEBHOOK_URL: others can read flags.
        at: now; log, the latest moment that the log knows, for simulations; or a time in UTC.
        as_json: For programs, a line for each look.
        config: TOML file of the service.
        database: Of the service's log.
        state: The service's state folder.
        model_root: As of the service.
    """
    from tailwise.jobs._experiments import parse_at
    from tailwise.jobs._monitor_config import load_monitor_config

    if once and every is not None:
        raise ConfigError(f"--once must stand without --every; got both, --every {every}.")
    given = {
        "monitor": every,
        "webhook_url": webhook,
        "database": database,
        "state": state,
        "model_root": model_root,
    }
    settings = load_monitor_config(
        file=config, flags={name: value for name, value in given.items() if value is not None}
    )
    every_s = None if once else settings.every_s
    if every_s is not None and at != "now":
        raise ConfigError(f"--at must be now where looks are repeated; got {at!r}. Give --once.")
    if every_s is not None:
        ends = threading.Event()
        watching = settings.monitor(clock=time.time, sleep=ends.wait)
        _look_again(watching, every_s, ends, as_json=as_json)
        return
    moment = parse_at(at, settings.database)
    watching = settings.monitor(clock=time.time)
    try:
        status = _show(watching, watching.look(moment), as_json=as_json)
    finally:
        watching.close()
    sys.exit(status)


def _look_again(watching: "ServiceMonitor", every_s: float, ends: threading.Event, *, as_json: bool) -> None:
    """Until a signal; the look at hand is finished, what it could not deliver stays owed."""
    from tailwise.dashboard import monitor_forever

    def end(number: int, frame: FrameType | None) -> None:
        ends.set()
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait

    earlier = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        monitor_forever(
            lambda now: _show(watching, watching.look(now, is_ending=ends.is_set), as_json=as_json),
            every_s=every_s,
            stop=ends,
        )
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        watching.close()


def _show(watching: "ServiceMonitor", report: "MonitorReport", *, as_json: bool) -> Any:
    """Print a look; return what the exit status says of it."""
    from tailwise.jobs._monitor_report import exit_status, monitor_tables, report_as_plain

    raised = watching.alarms.open_ones()
    if as_json:
        print(json.dumps(report_as_plain(report, raised), allow_nan=False), flush=True)  # noqa: T201
    else:
        Console(highlight=False).print(monitor_tables(report, raised, watching.settings))
        sys.stdout.flush()
    return exit_status(raised, report.deliveries)
