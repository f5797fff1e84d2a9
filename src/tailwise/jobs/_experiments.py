"""What is done with experiments from outside: made, started, watched, ended; one function per command."""

import getpass
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tailwise._settings import from_plain, plain_of, read_toml_file
from tailwise.errors import ConfigError, DataError
from tailwise.events._database import Database
from tailwise.events._frames_out import reading
from tailwise.events._tables import EVENTS, LISTS
from tailwise.experiments import (
    Experiment,
    ExperimentStore,
    Rollout,
    parse_ramp,
    read_policy,
)
from tailwise.experiments._rollout import Action
from tailwise.jobs._experiments_items import experiment_items
from tailwise.jobs._serve_deployment import DeploymentFolder

__all__ = ["act", "create", "definition", "parse_at", "person"]


def definition(
    name: str,
    *,
    file: Path | None,
    policy: Path | None,
    ramp: str | None,
    settings: dict[str, Any],
) -> Experiment:
    """Lay a definition's file and flags over each other, flags on top.

    Args:
        name: Of the experiment.
        file: TOML with fields of :class:`Experiment`. None: no file.
        policy: TOML with fields of :class:`Policy`. None: the file's, or the default.
        ramp: As on the command line. None: the file's, or the default.
        settings: Further fields; None is passed over.

    Raises:
        ConfigError: something is missing, unknown or out of range.
    """
    values = {} if file is None else read_toml_file(file, "experiment")
    values |= {"name": name} | {key: value for key, value in settings.items() if value is not None}
    if policy is not None:
        values["policy"] = plain_of(read_policy(policy))
    if ramp is not None:
        values["ramp_percent"] = list(parse_ramp(ramp))
    return from_plain(Experiment, values, "experiment")


def create(database: str, experiment: Experiment, *, by: str, reason: str, state: Path) -> Rollout:
    """Keep a definition, as a draft.

    Raises:
        ConfigError: there is one of this name, or a service runs from ``state`` without one of the models.
    """
    _check_served(experiment, state)
    store = ExperimentStore(database)
    try:
        return store.create(experiment, by=by, reason=reason)
    finally:
        store.close()


def act(
    database: str,
    name: str,
    action: Action,
    *,
    by: str,
    reason: str,
    state: Path,
    root: Path,
    clock: Callable[[], float] = time.time,
) -> Rollout:
    """Do something to an experiment by hand; a start also fixes the division of the catalogue.

    Raises:
        ConfigError: there is no such experiment, its models are not served, or it overlaps with another.
        IllegalTransitionError: its state does not allow it.
    """
    store = ExperimentStore(database, clock=clock)
    try:
        if action == "start":
            experiment = store.get(name).experiment
            _check_served(experiment, state)
            if (state / "deployment.json").is_file():
                experiment_items(name, experiment.control, state=state, root=root)
        return store.act(name, action, by=by, reason=reason)
    finally:
        store.close()


def _check_served(experiment: Experiment, state: Path) -> None:
    """Refuse models that the service of this state does not serve; without a service nothing is known."""
    try:
        served = DeploymentFolder(state).read().models
    except DataError:
        return
    for role in ("control", "treatment"):
        name = getattr(experiment, role)
        if name not in served:
            raise ConfigError(
                f"{role} must be a model served from {str(state)!r}: {', '.join(served)}; got {name!r}."
            )


def person() -> str:
    """Return who acts, as the audit log writes it."""
    try:
        return f"person:{getpass.getuser()}"
    except OSError:  # a machine without names
        return "person:unknown"


def parse_at(text: str, database: str) -> float:
    """Read a moment: ``now``, ``log`` (the latest that the log knows), or a date with time in UTC.

    Raises:
        ConfigError: it is none of these.
        LogUnavailableError: the log cannot be read.

    Example:
        >>> parse_at("2026-01-02T03:00", "sqlite:///unused.db")
        1767322800.0
    """
    if text == "now":
        return time.time()
    if text == "log":
        return latest_in_log(database)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--at must be now, log, or a time such as 2026-01-02T03:00 (UTC); got {text!r}."
        ) from None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def latest_in_log(database: str, otherwise: float | None = None) -> float:
    """Return the latest moment that lists and events name, unix seconds.

    Args:
        database: URL of the log.
        otherwise: What to return where the log is empty. None: now.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    opened = Database(database)
    try:
        with reading(opened) as connection:
            moments = [
                connection.execute(sa.select(sa.func.max(column))).scalar()
                for column in (LISTS.c.served_at, EVENTS.c.occurred_at)
            ]
    finally:
        opened.close()
    return max(
        (float(at) for at in moments if at is not None),
        default=time.time() if otherwise is None else otherwise,
    )
