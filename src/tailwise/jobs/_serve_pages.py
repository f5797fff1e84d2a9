"""Dashboard and monitor inside a worker of the service."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter

from tailwise.dashboard import Access, MonitorGauges, PageCache, dashboard_routes, session_secret
from tailwise.dashboard._served_lists import ServedLists
from tailwise.errors import ConfigError
from tailwise.jobs._dashboard_source import ServiceSource
from tailwise.jobs._monitor import ServiceMonitor
from tailwise.jobs._monitor_config import MonitorConfig
from tailwise.jobs._serve_config import ServeConfig
from tailwise.serving import LiveHistory, ServiceSettings
from tailwise.serving._http_keys import KeyStore
from tailwise.serving._http_metrics import Metrics
from tailwise.serving._lineup import Lineup

__all__ = ["PAGES", "STALE_PATIENCE_S", "ServedPages"]

PAGES = "/dashboard"  # the router's prefix
STALE_PATIENCE_S = 0.5  # for newer numbers, before those from before are shown


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
        self._cache = PageCache(again_s=STALE_PATIENCE_S)
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
        monitoring = MonitorConfig.of_service(config)
        self._every_s = monitoring.every_s
        self._monitor: ServiceMonitor | None = None
        if self._every_s is not None and worker == 0:
            self._monitor = monitoring.monitor(clock=self._source.now, gauges=MonitorGauges(metrics.registry))

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
