"""The command line of the online half: serve, keys, events."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from tailwise.errors import ConfigError

if TYPE_CHECKING:
    from tailwise.events import EventLog

__all__ = ["serving_app"]

T = TypeVar("T")

serving_app = App()
"""Flattened into the command line: ``app.command(serving_app, name="*")``."""

keys_app = App(name="keys", help="API keys of the service: create, list, revoke.")
events_app = App(name="events", help="The event log: export, delete a user's data, retain.")
serving_app.command(keys_app)
serving_app.command(events_app)

Flag = Parameter(negative=())
_STATE = "tailwise-state"
_DATABASE = "sqlite:///tailwise-events.db"


@serving_app.command
def serve(
    *,
    model: Annotated[list[str] | None, Flag] = None,
    database: str | None = None,
    config: Path | None = None,
    state: str | None = None,
    model_root: str | None = None,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    explore_share: float | None = None,
    time_limit_ms: float | None = None,
    rate_limit: str | None = None,
    allowed_host: Annotated[list[str] | None, Flag] = None,
    cors_origin: Annotated[list[str] | None, Flag] = None,
    log_level: Literal["debug", "info", "warning", "error"] | None = None,
    decide: str | None = None,
    monitor: str | None = None,
    clock_from_header: Annotated[bool, Flag] = False,
    drill: Annotated[list[str] | None, Flag] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
) -> None:
    """Answer requests for recommendations over HTTP, and keep every list and event; see docs/serving.md.

    Settings come from --config, over it from TAILWISE_SERVE_... variables, over them from flags.

    Args:
        model: NAME=RUN/VARIANT or NAME=RUN/VARIANT/seed-N, the first for everybody. Repeat for several.
        database: Of the event log: sqlite:///file.db or postgresql://user:password@host/name. A password
            is better kept in TAILWISE_SERVE_DATABASE: others on the machine can read flags.
        config: TOML file with any setting; see docs/operations.md.
        state: Folder of keys, deployment and spool.
        model_root: Folder under which every model lies.
        host: Address to listen on; beyond 127.0.0.1 only once there is a key.
        port: 0 takes a free one.
        workers: Processes.
        device: Where models compute.
        explore_share: Share of lists that are drawn, for off-policy estimates.
        time_limit_ms: For a model; after it the most popular items are shown.
        rate_limit: Of a key without one of its own, in each worker: 100/second.
        allowed_host: Value that the header Host may have. Repeat for several.
        cors_origin: Origin whose scripts may read answers. Repeat for several.
        log_level: Of the lines on standard error.
        decide: How often to decide about running experiments, such as every=60s; by default never.
        monitor: How often to look at the live lists for drift, such as every=1h; by default never.
        clock_from_header: Take the time from requests, for simulations on this machine alone.
        drill: NAME=fail:SHARE, NAME=slow:TIME or NAME=fail:0.1,slow:300ms: break a model on purpose, on this
            machine alone, to see that it is noticed. Repeat for several.
        set_: Any setting, e.g. --set engine.max_batch=64.
    """
    from tailwise.jobs._config_file import merged, parse_setting
    from tailwise.jobs._serve import serve as run
    from tailwise.jobs._serve_config import load_serve_config
    from tailwise.jobs._serve_drill import parse_drills
    from tailwise.jobs._serve_models import parse_model

    given: dict[str, Any] = {
        "models": dict(parse_model(text) for text in model) if model else None,
        "database": database,
        "state": state,
        "model_root": model_root,
        "host": host,
        "port": port,
        "workers": workers,
        "device": device,
        "explore_share": explore_share,
        "time_limit_ms": time_limit_ms,
        "rate_limit": rate_limit,
        "allowed_hosts": allowed_host,
        "cors_origins": cors_origin,
        "log_level": log_level,
        "decide": decide,
        "monitor": monitor,
        "clock_from_header": clock_from_header or None,
        "drill": parse_drills(drill) if drill else None,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    settings = load_serve_config(
        file=config, flags=merged(flags, *(parse_setting(text) for text in set_ or ()))
    )
    sys.exit(run(settings))


@keys_app.command
def create(
    *,
    name: str,
    role: Annotated[list[str], Flag],
    rate_limit: str | None = None,
    state: Path = Path(_STATE),
) -> None:
    """Make a key and print it, once: only a hash of it is kept.

    Args:
        name: What you call it, such as shop.
        role: recommend, write-events, monitor or admin. Repeat for several.
        rate_limit: Of this key, such as 100/second; by default the service's.
        state: Folder of the service.
    """
    key, text = _keys(state).create(name, role, rate_limit=rate_limit)
    Console(stderr=True).print(
        f"key {key.id} with {', '.join(key.roles)}; keep it secret, it is shown only now", markup=False
    )
    print(text)  # noqa: T201 - the command's result


@keys_app.command(name="list")
def list_keys(*, state: Path = Path(_STATE)) -> None:
    """Show every key that was made, without its secret.

    Args:
        state: Folder of the service.
    """
    from datetime import UTC, datetime

    table = Table("id", "name", "roles", "created", "rate limit", "state")
    for key in _keys(state).all_keys():
        table.add_row(
            key.id,
            key.name,
            ", ".join(key.roles),
            datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%d"),
            key.rate_limit or "",
            "good" if key.revoked_at is None else "revoked",
        )
    Console().print(table)


@keys_app.command
def revoke(key_id: str, *, state: Path = Path(_STATE)) -> None:
    """Take a key out of use, from the next request on.

    Args:
        key_id: As `tailwise keys list` shows it.
        state: Folder of the service.
    """
    key = _keys(state).revoke(key_id)
    print(f"{key.id} is revoked")  # noqa: T201 - the command's result


def _keys(state: Path) -> Any:
    from tailwise.serving._http_keys import KeyStore

    return KeyStore(state / "keys.json")


@events_app.command
def export(
    *,
    out: Path,
    since: str | None = None,
    until: str | None = None,
    database: str | None = None,
) -> None:
    """Write the log as Parquet files, one a day: events with what each is owed to, and slots of lists.

    The same command goes on where it was stopped, and writes a day again only if it has changed.

    Args:
        out: Folder.
        since: First day, such as 2026-11-01, in UTC.
        until: Day after the last.
        database: Of the log.
    """
    from tailwise.events import LogReader

    done = LogReader(_database(database)).export(out, _day("--since", since), _day("--until", until))
    print(  # noqa: T201 - the command's result
        f"{done.n_written:,} files written with {done.n_rows:,} rows, {done.n_kept:,} kept, "
        f"{done.n_removed:,} removed"
    )


def _day(flag: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag} must be a day such as 2026-11-01; got {text!r}.") from None


@events_app.command(name="delete-user")
def delete_user(
    user_id: str,
    *,
    by: str,
    reason: str,
    database: str | None = None,
    state: Path = Path(_STATE),
) -> None:
    """Delete all that the log holds of a user; that it was done stays on record.

    Args:
        user_id: Whose.
        by: Who asked for it.
        reason: Why; not the user's id.
        database: Of the log.
        state: Folder of the service, whose spool is looked through too.
    """
    deleted = _with_log(database, state, lambda log: log.delete_user(user_id, by, reason))
    print(f"{deleted.n_events:,} events and {deleted.n_lists:,} lists are deleted")  # noqa: T201


@events_app.command
def retain(
    *,
    days: float,
    by: str,
    reason: str = "retention",
    database: str | None = None,
    state: Path = Path(_STATE),
) -> None:
    """Delete events and lists older than some days; that it was done stays on record.

    Args:
        days: What is older goes; > 0.
        by: Who asked for it.
        reason: Why.
        database: Of the log.
        state: Folder of the service.
    """
    deleted = _with_log(database, state, lambda log: log.retain(days, by, reason))
    print(f"{deleted.n_events:,} events and {deleted.n_lists:,} lists are deleted")  # noqa: T201


def _with_log(database: str | None, state: Path, work: "Callable[[EventLog], Coroutine[Any, Any, T]]") -> T:
    """Open the log, do something, close it."""
    from tailwise.events import EventLog

    async def done() -> T:
        log = EventLog.open(_database(database), state / "spool")
        try:
            return await work(log)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        finally:
            await log.close(10)

    return asyncio.run(done())


def _database(given: str | None) -> str:
    """The flag, else what the service's own variable says, else its default."""
    import os

    return given or os.environ.get("TAILWISE_SERVE_DATABASE") or _DATABASE
