"""Several workers behind one socket: started, watched, replaced when they die, stopped together."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from tailwise.errors import TailwiseError
from tailwise.jobs._serve_config import ServeConfig
from tailwise.jobs._serve_deployment import DeploymentFolder
from tailwise.jobs._serve_worker import order
from tailwise.serving._http_log import log, set_up_logging

__all__ = ["supervise"]

_LOOK_S = 0.05
_KILL_S = 15.0  # beyond the time that requests have, for the log and the engines
_LEAST_LIFE_S = 10.0  # who dies sooner is started again later and later
_LONGEST_PAUSE_S = 30.0


class _Worker:
    """A process with a number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at = 0.0  # time.monotonic of the next start
        self.pause_s = 0.0

    def start(self, config: ServeConfig, listener: socket.socket, environment: dict[str, str]) -> None:
        descriptor = listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tailwise.jobs._serve_worker"],
            stdin=subprocess.PIPE,
            pass_fds=(descriptor,),
            env=environment,
            start_new_session=True,  # Ctrl-C is the supervisor's, who tells the workers
        )
        assert self.process.stdin is not None  # asked for
        with contextlib.suppress(BrokenPipeError):  # it died at once; the watch sees it
            self.process.stdin.write(f"{order(config, self.number, descriptor)}\n".encode())
            self.process.stdin.flush()
        self.started_at = time.monotonic()

    def died(self) -> None:
        """Plan the next start."""
        lived = time.monotonic() - self.started_at
        self.pause_s = 0.0 if lived >= _LEAST_LIFE_S else min(_LONGEST_PAUSE_S, max(0.5, 2 * self.pause_s))
        self.start_at = time.monotonic() + self.pause_s
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.process = None


def supervise(config: ServeConfig, listener: socket.socket, on_start: Callable[[], None]) -> int:
    """Run the workers until a signal says to stop.

    A worker that dies is replaced; one that dies within ten seconds of its start, after a pause that
    doubles up to half a minute. The others go on meanwhile.

    Args:
        config: See :class:`ServeConfig`; the deployment's folder has been begun.
        listener: Bound.
        on_start: Called once, when every worker takes requests.

    Returns:
        Exit status: 0 if every worker stopped as it was told.

    Raises:
        TailwiseError: a worker could not start; it has said why.
    """
    set_up_logging(config.log_level, worker=-1)
    is_stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        is_stopping = True

    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, stop)
    crew = _Crew(config, listener)
    try:
        crew.start()
        is_ready = False
        while not is_stopping:
            time.sleep(_LOOK_S)
            crew.look_after(is_ready=is_ready)
            if not is_ready and crew.is_ready():
                is_ready = True
                on_start()
    finally:
        status = crew.stop()
    return status


class _Crew:
    """All workers."""

    def __init__(self, config: ServeConfig, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self._folder = DeploymentFolder(Path(config.state))
        self._metrics = Path(config.state) / "metrics"
        self._workers = [_Worker(number) for number in range(config.workers)]
        self._environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics.resolve())}

    def start(self) -> None:
        """Start every worker; numbers of an earlier service are forgotten."""
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(parents=True)
        for worker in self._workers:
            worker.start(self._config, self._listener, self._environment)

    def look_after(self, *, is_ready: bool) -> None:
        """Notice deaths, and start others when their time has come."""
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                status, pid = worker.process.returncode, worker.process.pid
                self._folder.forget_worker(worker.number)
                mark_process_dead(pid, str(self._metrics))  # type: ignore[no-untyped-call]
                worker.died()
                if not is_ready:
                    raise TailwiseError(
                        f"every worker must start; number {worker.number} ended with status {status}.\n"
                        "  It said why above."
                    )
                log(logging.ERROR, "worker died", number=worker.number, pid=pid, status=status)
            if worker.process is None and time.monotonic() >= worker.start_at:
                worker.start(self._config, self._listener, self._environment)
                log(logging.INFO, "worker started", number=worker.number)

    def is_ready(self) -> bool:
        """Every worker takes requests."""
        said = {state.get("worker"): state.get("pid") for state in self._folder.read_workers()}
        return all(w.process is not None and said.get(w.number) == w.process.pid for w in self._workers)

    def stop(self) -> int:
        """Tell every worker to stop, wait, and end those that do not."""
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + self._config.shutdown_s + _KILL_S
        status = 0
        for process in running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log(logging.ERROR, "worker did not stop", pid=process.pid)
                process.kill()
                process.wait()
            status = status or (1 if process.returncode else 0)
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        return status
