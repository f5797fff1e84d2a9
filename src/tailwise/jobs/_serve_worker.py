"""One process of the service: models, log and application, from the start to the last request."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch
import uvicorn

from tailwise.errors import TailwiseError
from tailwise.events._log import EventLog
from tailwise.events._routes import event_router
from tailwise.jobs._config_file import config_as_dict, config_from_dict
from tailwise.jobs._experiments_clock import ClockFromHeader
from tailwise.jobs._experiments_serving import ServedExperiments
from tailwise.jobs._language_recommender import choose_device
from tailwise.jobs._serve_config import ServeConfig, as_text
from tailwise.jobs._serve_control import WorkerControl, build_member
from tailwise.jobs._serve_deletions import Forgetter
from tailwise.jobs._serve_deployment import DeploymentFolder
from tailwise.jobs._serve_drill import DrillHeader, drills_of
from tailwise.jobs._serve_pages import PAGES, ServedPages
from tailwise.serving._engine_settings import EngineSettings
from tailwise.serving._http_app import create_app
from tailwise.serving._http_guard import GuardSettings
from tailwise.serving._http_keys import KeyStore
from tailwise.serving._http_log import log, set_up_logging
from tailwise.serving._http_metrics import Metrics
from tailwise.serving._http_protocol import bounded_protocol
from tailwise.serving._lineup import Lineup
from tailwise.serving._service import Service, ServiceSettings

__all__ = ["order", "run_worker"]

_CLOSE_S = 10.0  # for the log, once no request is left


def run_worker(
    config: ServeConfig,
    listener: socket.socket,
    *,
    worker: int = 0,
    on_start: Callable[[], None] = lambda: None,
    until: Callable[["_Server"], None] = lambda server: None,
) -> None:
    """Serve until a signal (SIGTERM, SIGINT) says to stop; begun requests are finished, the log is flushed.

    Args:
        config: See :class:`ServeConfig`; the deployment's folder has been begun.
        listener: Bound; shared with other workers.
        worker: Number of this process.
        on_start: Called when requests are taken.
        until: Given the server before it runs; may set its ``should_exit``.

    Raises:
        TailwiseError: a model cannot be loaded, or the log's spool cannot be written.
        SystemExit: 0 after a signal.
    """
    for told in (signal.SIGTERM, signal.SIGINT):  # the server takes their place while it runs
        signal.signal(told, _leave)
    set_up_logging(config.log_level, worker=worker)
    if worker == 0:
        log(logging.INFO, "settings", **as_text(config))
    drills = drills_of(config.drill, config.models)
    for name, drill in drills.items():
        log(logging.WARNING, "drill: a model is broken on purpose", name=name, drill=str(drill))
    folder = DeploymentFolder(Path(config.state))
    deployment = folder.read()
    changes, offset, number = folder.changes_after(0)
    device, engine_settings = choose_device(config.device), _engine_settings(config)
    root = Path(config.model_root)
    members = {
        name: build_member(
            name,
            deployed,
            root=root,
            device=device,
            settings=engine_settings,
            changes=changes,
            drill=drills.get(name),
        )
        for name, deployed in deployment.models.items()
    }
    lineup = Lineup(members, drain_s=float(config.shutdown_s))
    event_log = EventLog.open(config.database, Path(config.state) / "spool")
    metrics = Metrics()
    control = WorkerControl(
        folder,
        lineup,
        root=root,
        device=device,
        settings=engine_settings,
        event_log=event_log,
        metrics=metrics,
        worker=worker,
        changes=(changes, offset, number),
        drills=drills,
    )
    experiments = ServedExperiments(config, default=lineup.default, worker=worker)
    service = Service(
        lineup,
        sink=experiments.sink(event_log),
        live=event_log,
        assignment=experiments.assignment,
        clock=experiments.clock,
        settings=ServiceSettings(
            time_limit_ms=config.time_limit_ms,
            log_time_limit_ms=config.log_time_limit_ms,
            explore_share=config.explore_share,
            explore_seed=config.explore_seed,
        ),
    )

    pages = ServedPages(config, lineup, event_log, settings=service.settings, metrics=metrics, worker=worker)

    # A request waits for the log, then for a model; a second for what is between.
    again_s = (config.time_limit_ms + config.log_time_limit_ms) / 1000 + 1.0
    forgetter = Forgetter(lineup, event_log, again_s=again_s)

    @asynccontextmanager
    async def living() -> AsyncIterator[None]:
        await asyncio.gather(*(member.engine.start() for member in lineup.members().values()))
        following = [asyncio.create_task(work) for work in (control.follow(), forgetter.follow())]
        try:
            async with experiments.running(), pages.running():
                yield
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await lineup.close(1.0)  # no request is left
            await service.refusals.close(_CLOSE_S)
            await event_log.close(_CLOSE_S)

    app = create_app(
        service,
        control,
        keys=KeyStore(config.keys_file),
        rate_limit=config.rate_limit,
        guard=GuardSettings(config.max_body_bytes, config.body_timeout_s, config.allowed_hosts, pages=PAGES),
        cors_origins=config.cors_origins,
        metrics=metrics,
        routers=[
            event_router(event_log, max_batch=config.max_batch_events, forget=forgetter.forget),
            pages.router,
        ],
        lifespan=living,
    )

    if config.clock_from_header:
        app.add_middleware(ClockFromHeader)
    if drills:
        app.add_middleware(DrillHeader, drills=drills)

    def started() -> None:
        control.announce()
        on_start()

    server = _Server(_uvicorn_config(config, app), started, control)
    until(server)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


class _Server(uvicorn.Server):
    """Says when it takes requests, and when it no longer does."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], control: WorkerControl) -> None:
        super().__init__(config)
        self._say_started = started
        self._control = control

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so, then stop."""
        self._control.is_ready = False
        await super().shutdown(sockets=sockets)


def _uvicorn_config(config: ServeConfig, app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=bounded_protocol(config.header_timeout_s),
        ws="none",
        lifespan="on",
        access_log=False,  # the observer writes a line without personal data
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=config.keep_alive_s,
        timeout_graceful_shutdown=config.shutdown_s,
        limit_concurrency=config.max_connections,
    )


def _engine_settings(config: ServeConfig) -> EngineSettings:
    """Several workers share the cores, where nothing else is said."""
    if config.engine.threads is None and config.workers > 1:
        return replace(config.engine, threads=max(1, torch.get_num_threads() // config.workers))
    return config.engine


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def order(config: ServeConfig, worker: int, descriptor: int) -> str:
    """Write down what :func:`main` reads: one line."""
    return json.dumps({"config": config_as_dict(config), "worker": worker, "descriptor": descriptor})


def main() -> None:
    """Run a worker that a supervisor has started: its order is the first line of standard input.

    The pipe stays open; when it ends, the supervisor is gone, and the worker finishes too.
    """
    given = json.loads(sys.stdin.buffer.readline())
    config = config_from_dict(ServeConfig, given["config"])
    listener = socket.socket(fileno=given["descriptor"])

    descriptor = sys.stdin.fileno()

    def watch(server: _Server) -> None:
        def wait() -> None:
            while os.read(descriptor, 1024):  # not the buffered stream: its lock would outlive this thread
                pass
            server.should_exit = True

        threading.Thread(target=wait, name="supervisor-watch", daemon=True).start()

    try:
        run_worker(config, listener, worker=given["worker"], until=watch)
    except TailwiseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - nobody else will say it
        sys.stderr.flush()
        os._exit(1)  # the thread that waits for the supervisor would hold the process
    sys.exit(0)


if __name__ == "__main__":
    main()
