"""Drills of a service: which are refused where, and how every answer says that one is on."""

from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.errors import ConfigError
from tailwise.jobs._serve_alone import check_is_alone, refusal_of_forwarded
from tailwise.serving._drill import Drill
from tailwise.serving._http_problems import problem_response

__all__ = [
    "DRILL_HEADER",
    "DrillHeader",
    "check_may_be_drilled",
    "drills_in_header",
    "drills_of",
    "parse_drills",
]

DRILL_HEADER = "x-tailwise-drill"


def parse_drills(texts: Iterable[str]) -> dict[str, str]:
    """Read ``NAME=fail:SHARE``, ``NAME=slow:TIME``; of one name several are joined.

    Raises:
        ConfigError: it is no such thing.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, drill = text.partition("=")
        if not equals or not name or not drill:
            raise ConfigError(f"--drill must be NAME=fail:SHARE or NAME=slow:TIME; got {text!r}.")
        found[name] = f"{found[name]},{drill}" if name in found else drill
    return found


def drills_of(given: Mapping[str, str], models: Iterable[str]) -> dict[str, Drill]:
    """Return the drill of each model that has one.

    Args:
        given: Name -> what :meth:`Drill.parse` reads.
        models: Names of served models.

    Raises:
        ConfigError: a name is not served, or a drill cannot be read.
    """
    names = list(models)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ConfigError(f"drill must name served models, {', '.join(names)}; got {unknown[0]!r}.")
    found = {}
    for name, text in given.items():
        try:
            found[name] = Drill.parse(text)
        except ConfigError as error:
            raise ConfigError(f"drill of {name!r}: {error}") from None
    return found


def check_may_be_drilled(*, is_local: bool, has_keys: bool) -> None:
    """Refuse a drill where others may be answered by it.

    Args:
        is_local: The service listens on the loopback alone.
        has_keys: There are API keys: it is a service for others.

    Raises:
        ConfigError: it is not for this machine alone.
    """
    check_is_alone(
        "drill", "one", harm="It breaks a model on purpose", do="drill", is_local=is_local, has_keys=has_keys
    )


class DrillHeader:
    """ASGI middleware: the header ``X-Tailwise-Drill`` of every answer names the drills.

    A request that a proxy has passed on is refused: behind one, the loopback is no longer this machine.

    Args:
        app: Within.
        drills: By name of the model.
    """

    def __init__(self, app: ASGIApp, *, drills: Mapping[str, Drill]) -> None:
        self._app = app
        self._said = "; ".join(f"{name}={drill}" for name, drill in drills.items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[DRILL_HEADER] = self._said
            await send(message)

        problem = refusal_of_forwarded(Headers(scope=scope), "drill", "a model is broken on purpose")
        if problem is not None:
            await problem_response(problem, "")(scope, receive, sending)
            return
        await self._app(scope, receive, sending)


def drills_in_header(text: str) -> dict[str, str]:
    """Read what :class:`DrillHeader` writes.

    Example:
        >>> drills_in_header("treatment=fail:0.2,slow:400ms; other=slow:1000ms")
        {'treatment': 'fail:0.2,slow:400ms', 'other': 'slow:1000ms'}
    """
    parts = (part.strip().partition("=") for part in text.split(";") if part.strip())
    return {name: drill for name, _, drill in parts}
