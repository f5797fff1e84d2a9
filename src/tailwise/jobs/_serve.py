"""``tailwise serve``: from settings to a service that takes requests."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tailwise.errors import ConfigError
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._serve_config import ServeConfig
from tailwise.jobs._serve_deployment import DeploymentFolder
from tailwise.jobs._serve_drill import check_may_be_drilled
from tailwise.jobs._serve_models import parse_source
from tailwise.jobs._serve_supervisor import supervise
from tailwise.jobs._serve_worker import run_worker
from tailwise.serving._http_keys import KeyStore

__all__ = ["serve"]

_HOW_TO = "tailwise keys create --name shop --role recommend --role write-events"


def serve(config: ServeConfig, *, say: Callable[[str], None] = print) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: See :class:`ServeConfig`.
        say: Given the ready line, and what else a person should know at the start.

    Returns:
        Exit status.

    Raises:
        ConfigError: a setting does not fit, the port is taken, or another service holds the state.
        DataError: a model's run is not there or not finished.
    """
    for source in config.models.values():
        _check(source, config)
    store = KeyStore(config.keys_file)
    has_keys = any(key.revoked_at is None for key in store.all_keys())
    if not has_keys and not config.is_local:
        raise ConfigError(
            f"host must be of the loopback, such as 127.0.0.1, without an API key; got {config.host!r}.\n"
            f"  Make one: {_HOW_TO} --state {config.state}"
        )
    if config.drill:
        check_may_be_drilled(is_local=config.is_local, has_keys=store.are_required())
        said = ", ".join(f"{name} ({drill})" for name, drill in config.drill.items())
        say(f"A drill: broken on purpose: {said}.")
    with _claimed(Path(config.state)), _bound(config) as listener:
        folder = DeploymentFolder(Path(config.state))
        deployment = folder.begin(config.models)
        for name, deployed in deployment.models.items():
            if deployed.source != config.models[name]:
                say(
                    f"{name}: {deployed.source}, since a swap. To go back to {config.models[name]}, remove "
                    f"{config.state}/deployment.json."
                )
        if not store.are_required():
            say(f"No API key: everybody on this machine may ask. Make one: {_HOW_TO} --state {config.state}")

        def ready() -> None:
            host, port = listener.getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            n = config.workers
            say(
                f"Tailwise serves {', '.join(config.models)} on http://{host}:{port} "
                f"({n} worker{'s' if n > 1 else ''})"
            )
            sys.stdout.flush()

        if config.workers > 1:
            return supervise(config, listener, ready)
        run_worker(config, listener, on_start=ready)
    return 0


def _check(source: str, config: ServeConfig) -> None:
    """Refuse a model that is not there before anything is loaded."""
    found = parse_source(source, Path(config.model_root))
    folder = RunFolder(found.run)
    folder.finished(folder.read_config(), found.variant, found.seed)


class _claimed:  # noqa: N801 - reads as a clause
    """Keeps other services out of a state folder."""

    def __init__(self, state: Path) -> None:
        from filelock import FileLock

        state.mkdir(parents=True, exist_ok=True)
        self._state = state
        self._lock = FileLock(state / ".serve.lock", blocking=False)

    def __enter__(self) -> None:
        from filelock import Timeout

        try:
            self._lock.acquire()
        except Timeout:
            raise ConfigError(
                f"state must be free; got {str(self._state)!r}, which another service holds. "
                "Give this one another --state."
            ) from None

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _bound(config: ServeConfig) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"host and port must be free to listen on; got {config.host}:{config.port} ({error.strerror})."
        ) from None
    return listener
