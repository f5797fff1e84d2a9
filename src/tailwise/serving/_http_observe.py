"""Around every request: an id, a line in the log, a count, headers, and an answer whatever fails inside."""

import logging
import re
import secrets
import time
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.serving._http_log import log
from tailwise.serving._http_metrics import Metrics
from tailwise.serving._http_problems import ProblemError, problem_response

__all__ = ["Observer"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Observer:
    """ASGI middleware, outermost.

    A client may name its request in the header ``X-Request-ID`` (8 to 64 letters, digits, ``-`` and ``_``).
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "received_at": started}
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        error: Exception | None = None
        try:
            await self._app(scope, receive, sending)
        except Exception as caught:  # the last resort: no client sees a traceback
            error = caught
            if not status:
                problem = ProblemError(500, "internal", "the service failed; its log has the request's id.")
                await problem_response(problem, request_id)(scope, receive, sending)
        self._take_down(scope, status, time.perf_counter() - started, error)

    def _take_down(self, scope: Scope, status: int, seconds: float, error: Exception | None) -> None:
        # The path names users and items; its template does not.
        route = getattr(scope.get("route"), "path_format", None) or "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        state = scope["state"]
        key = state.get("key")
        level = logging.ERROR if status >= 500 else logging.INFO
        log(
            level,
            "request",
            error=error,
            request_id=state["request_id"],
            key=None if key is None else key.id,
            method=method,
            route=route,
            status=status,
            ms=round(1000 * seconds, 2),
            **state.get("log_fields", {}),
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
