"""Settings of the monitor: those of the service, whether it runs inside or by itself."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailwise.dashboard import MonitorGauges, Webhook
from tailwise.jobs._config_file import read_toml
from tailwise.jobs._experiments_decider import parse_every
from tailwise.jobs._monitor import ServiceMonitor
from tailwise.jobs._serve_config import ENVIRONMENT, ServeConfig, load_serve_config

__all__ = ["WEBHOOK_SECRET", "MonitorConfig", "load_monitor_config"]

WEBHOOK_SECRET = "TAILWISE_WEBHOOK_SECRET"


@dataclass(frozen=True)
class MonitorConfig:
    """How a monitor works.

    Attributes:
        database: URL of the event log.
        state: Folder of the service's state, which names the models; alarms are kept in it.
        root: Folder under which the models lie.
        every_s: From one look to the next; None: not said.
        webhook_url: Told of alarms; empty: nobody is told.
        secret: Signs what is told; None: unsigned.
    """

    database: str
    state: Path
    root: Path
    every_s: float | None = None
    webhook_url: str = ""
    secret: bytes | None = field(default=None, repr=False)

    @classmethod
    def of_service(cls, config: ServeConfig, environment: Mapping[str, str] | None = None) -> "MonitorConfig":
        """Take what concerns the monitor from a service's settings, and the secret from the environment.

        Args:
            config: Of the service.
            environment: None: the process's own.

        Raises:
            ConfigError: ``monitor`` cannot be read.
        """
        given = os.environ if environment is None else environment
        return cls(
            config.database,
            Path(config.state),
            Path(config.model_root),
            parse_every(config.monitor, "monitor") if config.monitor else None,
            config.webhook_url,
            given.get(WEBHOOK_SECRET, "").encode() or None,
        )

    def monitor(
        self, *, clock: Callable[[], float], gauges: MonitorGauges | None = None, **of_webhook: Any
    ) -> ServiceMonitor:
        """Make the monitor.

        Args:
            clock: Unix seconds.
            gauges: For Prometheus; None: none.
            of_webhook: Further arguments of the :class:`Webhook`.

        Raises:
            ConfigError: the webhook's address or secret is none.
        """
        url, secret = self.webhook_url, self.secret
        return ServiceMonitor(
            self.database,
            state=self.state,
            root=self.root,
            sinks=[Webhook(url, secret=secret, **of_webhook)] if url else (),
            gauges=gauges,
            clock=clock,
        )


def load_monitor_config(
    *, file: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> MonitorConfig:
    """Read the settings that ``tailwise serve`` reads; which models are served, the state says.

    Args:
        file: TOML, as of the service; None: no file.
        flags: Fields of :class:`ServeConfig` that the command line gave.
        environment: As of :func:`load_serve_config`; None: the process's own.

    Raises:
        ConfigError: a name is unknown, a value of the wrong kind or out of its range.
    """
    given = os.environ if environment is None else environment
    names_models = (file is not None and "models" in read_toml(file)) or any(
        variable.startswith(f"{ENVIRONMENT}MODELS") for variable in given
    )
    unread = {} if names_models else {"models": {"any": "any"}}  # a service has to name one
    config = load_serve_config(file=file, flags={**unread, **flags}, environment=environment)
    return MonitorConfig.of_service(config, environment)
