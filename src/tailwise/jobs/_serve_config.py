"""Settings of ``tailwise serve``: a TOML file, over it the environment, over it the command line."""

import dataclasses
import ipaddress
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError
from tailwise.jobs._config_file import config_from_dict, merged, read_toml
from tailwise.serving._engine_settings import EngineSettings

__all__ = ["ENVIRONMENT", "ServeConfig", "as_text", "load_serve_config"]

ENVIRONMENT = "TAILWISE_SERVE_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class ServeConfig:
    """How a service runs. Times are in the unit of their name.

    Attributes:
        models: Name -> RUN/VARIANT or RUN/VARIANT/seed-N, the first for everybody outside of an
            experiment; at least one, at most 8. A path that is not absolute starts at ``model_root``.
        database: Of the event log: ``sqlite:///file.db`` or ``postgresql://user:password@host/name``.
        state: Folder for what outlives a restart beside the log: keys, deployment, spool.
        model_root: Folder under which every model lies: a swap cannot name one elsewhere.
        host: Address to listen on. Beyond the loopback only once there is a key.
        port: 0..65,535; 0 takes a free one, named in the ready line.
        workers: Processes, 1..64; each holds the models in memory.
        device: auto, cpu or cuda.
        time_limit_ms: For a model's answer, > 0; after it the most popular items are shown. 1,000: a page
            waits no longer.
        log_time_limit_ms: For reading a user's latest purchases, and for keeping a list, > 0; after it the
            list goes out without, and says so.
        explore_share: Share of lists that are drawn, in 0..1. 0: drawn lists are worse ones.
        explore_seed: Of the draws, >= 0.
        rate_limit: Of a key that has none of its own, in each worker.
        max_batch_events: Events of one request, 1..1,000.
        max_body_bytes: Of one request, 1,024..100,000,000. A full batch of events takes about 400 kB.
        body_timeout_s: A body must have arrived by then, > 0.
        header_timeout_s: The head of a request must have arrived by then, > 0.
        keep_alive_s: An idle connection is closed after it, >= 1.
        max_connections: Of one worker, >= 1; one more is answered with 503.
        shutdown_s: For requests that have begun when the service is told to stop, >= 1.
        allowed_hosts: Values of the header Host, without port. Empty: any; without keys, the loopback's.
        cors_origins: Origins whose scripts may read answers, such as ``https://shop.example``. Empty: none.
        log_level: debug, info, warning or error.
        decide: How often the first worker decides about running experiments, such as ``every=60s``. Empty:
            never; a person, or another process, does.
        monitor: How often the first worker looks at the live lists, such as ``every=1h``; see
            docs/dashboard.md. Empty: never.
        webhook_url: Told of the monitor's alarms, by POST; signed where the variable TAILWISE_WEBHOOK_SECRET
            holds a secret. Empty: nobody is told.
        clock_from_header: Requests say what time it is; see docs/rollout.md. For simulations on one machine:
            refused beyond the loopback, and where there are keys.
        drill: Name of a served model -> what it does wrong on purpose, such as ``fail:0.1,slow:300ms``; see
            docs/rollout.md. Refused beyond the loopback, and where there are keys. Empty: nothing.
        engine: How a model answers; see :class:`~tailwise.serving.EngineSettings`.
    """

    models: dict[str, str] = field(default_factory=dict)
    database: str = "sqlite:///tailwise-events.db"
    state: str = "tailwise-state"
    model_root: str = "."
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    device: str = "auto"
    time_limit_ms: float = 1000.0
    log_time_limit_ms: float = 500.0
    explore_share: float = 0.0
    explore_seed: int = 0
    rate_limit: str = "1000/second"
    max_batch_events: int = 1000
    max_body_bytes: int = 1_048_576
    body_timeout_s: float = 10.0
    header_timeout_s: float = 10.0
    keep_alive_s: int = 5
    max_connections: int = 1000
    shutdown_s: int = 30
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    log_level: str = "info"
    decide: str = ""
    monitor: str = ""
    webhook_url: str = ""
    clock_from_header: bool = False
    drill: dict[str, str] = field(default_factory=dict)
    engine: EngineSettings = EngineSettings()

    def __post_init__(self) -> None:
        if not 1 <= len(self.models) <= 8:
            raise ConfigError(
                f"models must name 1 to 8 models; got {len(self.models)}. "
                "Give --model NAME=RUN/VARIANT, such as --model control=runs/first/adamw."
            )
        for name in self.models:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"models must have names of letters, digits, '.', '_' and '-', at most 64; got {name!r}."
                )
        for name, low, high in (
            ("port", 0, 65_535),
            ("workers", 1, 64),
            ("explore_share", 0, 1),
            ("explore_seed", 0, 2**63 - 1),
            ("max_batch_events", 1, 1000),
            ("max_body_bytes", 1024, 100_000_000),
            ("keep_alive_s", 1, 3600),
            ("max_connections", 1, 100_000),
            ("shutdown_s", 1, 3600),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be in {low:,}..{high:,}; got {value}.")
        for name in ("time_limit_ms", "log_time_limit_ms", "body_timeout_s", "header_timeout_s"):
            if not 0 < getattr(self, name) <= 600_000:
                raise ConfigError(f"{name} must be in 0..600,000, and not 0; got {getattr(self, name)}.")
        for name, known in (("log_level", _LEVELS), ("device", ("auto", "cpu", "cuda"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        for origin in self.cors_origins:
            if not re.fullmatch(r"https?://[^/*\s]+", origin):
                raise ConfigError(
                    f"cors_origins must hold origins such as https://shop.example; got {origin!r}. "
                    "'*' is refused: name each."
                )
        from tailwise.jobs._serve_drill import drills_of
        from tailwise.serving._http_limits import parse_rate

        parse_rate("rate_limit", self.rate_limit)
        drills_of(self.drill, self.models)

    @property
    def is_local(self) -> bool:
        """The service listens on the loopback alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def keys_file(self) -> Path:
        """Where the keys are."""
        return Path(self.state) / "keys.json"


def load_serve_config(
    *, file: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> ServeConfig:
    """Lay file, environment and flags over each other, the last on top.

    Args:
        file: TOML with fields of :class:`ServeConfig`; None: no file.
        flags: Fields that the command line gave.
        environment: ``TAILWISE_SERVE_<FIELD>``, two underscores before a field of a table:
            ``TAILWISE_SERVE_ENGINE__MAX_BATCH=64``. Values in TOML; a bare word is text. None: the
            process's own.

    Raises:
        ConfigError: a name is unknown, a value of the wrong kind or out of its range.
    """
    given = os.environ if environment is None else environment
    of_environment = _from_environment(given)
    try:
        return config_from_dict(
            ServeConfig, merged({} if file is None else read_toml(file), of_environment, flags)
        )
    except ConfigError as error:
        places = [f"file {file}"] if file is not None else []
        places += ["the environment"] if of_environment else []
        places += ["flags"] if flags else []
        raise ConfigError(f"{error}\n  Read from {', '.join(places)}.") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds = typing.get_type_hints(ServeConfig)
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT):
            continue
        path = variable.removeprefix(ENVIRONMENT).lower().split("__")
        value: Any = text
        if not (len(path) == 1 and kinds.get(path[0]) is str):  # text needs no quotes
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text
        for key in reversed(path[1:]):
            value = {key: value}
        found = merged(found, {path[0]: value})
    return found


def as_text(config: ServeConfig) -> dict[str, Any]:
    """Return the settings to be shown: without the database's password and the webhook's path."""
    shown = dataclasses.asdict(config)
    shown["webhook_url"] = re.sub(r"^(\w+://[^/]*).*", r"\1/***", config.webhook_url)
    shown["database"] = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", config.database)
    return shown
