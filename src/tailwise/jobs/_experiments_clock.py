"""A service whose time is told by its requests: for simulations on one machine, refused anywhere else."""

import dataclasses
import time
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.jobs._serve_alone import check_is_alone, refusal_of_forwarded
from tailwise.serving import ListSink, ServedList
from tailwise.serving._http_problems import ProblemError, problem_response

__all__ = ["CLOCK_HEADER", "ClockFromHeader", "MarkingSink", "check_may_be_told", "told_time"]

CLOCK_HEADER = "x-tailwise-clock"
_EARLIEST, _LATEST = 946_684_800.0, 4_102_444_800.0  # 2000-01-01 and 2100-01-01, as of events

_told: ContextVar[float | None] = ContextVar("tailwise_clock", default=None)


def told_time() -> float:
    """Return the time that the request at hand tells, unix seconds; the machine's where it tells none."""
    told = _told.get()
    return time.time() if told is None else told


def check_may_be_told(*, is_local: bool, has_keys: bool) -> None:
    """Refuse to take the time from requests where they may come from elsewhere.

    Args:
        is_local: The service listens on the loopback alone.
        has_keys: There are API keys: it is a service for others.

    Raises:
        ConfigError: it is not for this machine alone.
    """
    check_is_alone(
        "clock_from_header",
        "on",
        harm="It lets every request say when it was served",
        do="simulate against",
        is_local=is_local,
        has_keys=has_keys,
    )


class ClockFromHeader:
    """ASGI middleware: the header ``X-Tailwise-Clock``, unix seconds, is the time of its request.

    Every answer carries that header too, so a client sees that its time counts. A request that a proxy has
    passed on is refused: behind one, the loopback is no longer this machine.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = refusal_of_forwarded(headers, "clock-told", "the service takes its time from them")
        told: float | None = None
        if problem is None and CLOCK_HEADER in headers:
            told = _moment(headers[CLOCK_HEADER])
            if told is None:
                problem = ProblemError(
                    400, "clock-invalid", f"{CLOCK_HEADER} must be unix seconds of the years 2000 to 2099."
                )
        if problem is not None:
            await problem_response(problem, "")(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[CLOCK_HEADER] = "told" if told is not None else "own"
            await send(message)

        token = _told.set(told)
        try:
            await self._app(scope, receive, sending)
        finally:
            _told.reset(token)


def _moment(text: str) -> float | None:
    try:
        moment = float(text)
    except ValueError:
        return None
    return moment if _EARLIEST <= moment < _LATEST else None


class MarkingSink:
    """Keeps lists, and writes into the context of each that its time was told: the log never hides it.

    Args:
        sink: The log.
    """

    def __init__(self, sink: ListSink) -> None:
        self._sink = sink

    async def record(self, served: ServedList) -> None:
        """Keep a list; see :class:`tailwise.serving.ListSink`."""
        if _told.get() is not None:
            served = dataclasses.replace(served, context={**served.context, "clock": "told"})
        await self._sink.record(served)
