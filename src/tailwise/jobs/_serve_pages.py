"""Dashboard and monitor inside a worker of the service."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter

from tailwise.dashboard import Access, MonitorGauges, PageCache, Webhook, dashboard_routes, session_secret
from tailwise.dashboard._served_lists import ServedLists
from tailwise.errors import ConfigError
from tailwise.jobs._dashboard_source import ServiceSource
from tailwise.jobs._experiments_decider import parse_every
from tailwise.jobs._monitor import ServiceMonitor
from tailwise.jobs._serve_config import ServeConfig
from tailwise.serving import LiveHistory, ServiceSettings
from tailwise.serving._http_keys import KeyStore
from tailwise.serving._http_metrics import Metrics
from tailwise.serving._lineup import Lineup

__all__ = ["PAGES", "WEBHOOK_SECRET", "ServedPages"]

PAGES = "/dashboard"  # the router's prefix

WEBHOOK_SECRET = "TAILWISE_WEBHOOK_SECRET"


class ServedPages:
    """The pages of a service and, in the first worker, the monitor if the settings ask for it.

    Args:
        config: Of the service.
        lineup: Its models.
        live: What users chose lately.
        settings: Its limits.
        metrics: Where the monitor's gauges go.
        worker: Number of this process; number 0 monitors.

    Raises:
        ConfigError: ``monitor`` or ``webhook_url`` cannot be read, or a webhook has no monitor behind it.
    """

    def __init__(
        self,
        config: ServeConfig,
        lineup: Lineup,
        live: LiveHistory,
        *,
        settings: ServiceSettings,
        metrics: Metrics,
        worker: int,
    ) -> None:
        state, root = Path(config.state), Path(config.model_root)
        self._cache = PageCache()
        # Where requests tell the time, now is the moment of the last list.
        self._source = ServiceSource.of_service(
            config.database, state=state, root=root, clock=None if config.clock_from_header else time.time
        )
        self.router: APIRouter = dashboard_routes(
            self._source,
            Access(KeyStore(config.keys_file), session_secret(state / "dashboard.secret")),
            lists=ServedLists(lineup, live, settings=settings),
            cache=self._cache,
            clock=self._source.now,
        )
        if config.webhook_url and not config.monitor:
            raise ConfigError(
                "webhook_url must be left out without a monitor; got one. Set monitor, such as 'every=1h'."
            )
        self._every_s = parse_every(config.monitor, "monitor") if config.monitor else None
        self._monitor: ServiceMonitor | None = None
        if self._every_s is not None and worker == 0:
            secret = os.environ.get(WEBHOOK_SECRET, "").encode() or None
            self._monitor = ServiceMonitor(
                config.database,
                state=state,
                root=root,
                sinks=[Webhook(config.webhook_url, secret=secret)] if config.webhook_url else (),
                gauges=MonitorGauges(metrics.registry),
                clock=self._source.now,
            )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Monitor inside the block; afterwards let go of the database."""
        with contextlib.ExitStack() as stack:
            if self._monitor is not None and self._every_s is not None:
                stack.enter_context(self._monitor.running(every_s=self._every_s))
            try:
                yield
            finally:
                await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._cache.close()
        self._source.close()
