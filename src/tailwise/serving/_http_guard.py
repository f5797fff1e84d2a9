"""What every request passes before a route sees it: host, key, rate, size and speed of its body."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.errors import DataError
from tailwise.serving._http_access import A_PAGE, NO_KEYS
from tailwise.serving._http_keys import ApiKey, KeyStore
from tailwise.serving._http_limits import RateLimits
from tailwise.serving._http_problems import ProblemError, problem_response

__all__ = ["Guard", "GuardSettings"]

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROBES = frozenset({"/healthz", "/readyz"})  # asked by address, whatever the service is called
_OPEN_PATHS = _PROBES | {"/openapi.json"}


@dataclass(frozen=True)
class GuardSettings:
    """Bounds of a request.

    Attributes:
        max_body_bytes: More is refused with 413 while it is read, whatever the header says. > 0.
        body_timeout_s: A body must have arrived by then; 408 else. > 0.
        allowed_hosts: Names that the header ``Host`` may hold, without port. Empty: any, once there
            are keys; without keys those of the loopback alone, so that no web page can point a name of
            its own at the service.
        pages: Path below which pages answer that know people by a cookie and check it themselves, such as
            ``/dashboard``: let through without a key. Empty: there are none.
    """

    max_body_bytes: int = 1_048_576
    body_timeout_s: float = 10.0
    allowed_hosts: Collection[str] = ()
    pages: str = ""


class Guard:
    """ASGI middleware that lets through who may pass, and hands on bodies that were read whole.

    Args:
        app: What it guards.
        keys: See :class:`KeyStore`.
        limits: See :class:`RateLimits`.
        settings: See :class:`GuardSettings`.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyStore, limits: RateLimits, settings: GuardSettings) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._settings = settings
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            key = self._key(scope["path"], headers)
            scope["state"]["key"] = key
            body = await self._body(headers, receive)
        except ProblemError as error:
            response = problem_response(error, scope["state"].get("request_id"))
            if error.status in (408, 413):  # the rest of the body is not read
                response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _key(self, path: str, headers: Headers) -> ApiKey:
        """Find out who asks, and whether that is too often."""
        try:
            are_required = self._keys.are_required()
            if not (are_required and path in _PROBES):
                self._check_host(headers, are_required=are_required)
            if path in _OPEN_PATHS:
                return NO_KEYS
            if are_required and self._is_page(path) and "authorization" not in headers:
                key = A_PAGE
            elif are_required:
                key = self._authenticated(headers)
            else:
                self._check_direct(headers)
                key = NO_KEYS
        except DataError:  # the reason is for the operator: it is in the log at the start and of `keys list`
            raise ProblemError(
                503, "keys-unreadable", "keys must be readable; the file is damaged."
            ) from None
        wait_s = self._limits.wait_s(key.id, key.rate_limit)
        if wait_s is not None:
            raise ProblemError(
                429,
                "rate-limit",
                f"requests of a key must stay below its rate; come back in {wait_s} s.",
                headers={"retry-after": str(wait_s)},
            )
        return key

    def _is_page(self, path: str) -> bool:
        pages = self._settings.pages
        return bool(pages) and (path == pages or path.startswith(f"{pages}/"))

    def _authenticated(self, headers: Headers) -> ApiKey:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = self._keys.find(token.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise ProblemError(
                401,
                "no-valid-key",
                "header Authorization must be `Bearer` and a good key; got none.",
                headers={"www-authenticate": 'Bearer realm="tailwise"'},
            )
        return key

    def _check_host(self, headers: Headers, *, are_required: bool) -> None:
        allowed = self._hosts or (frozenset() if are_required else _LOCAL_HOSTS)
        if not allowed:
            return
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in allowed:
            raise ProblemError(
                421, "wrong-host", "header Host must name this service; see the setting allowed_hosts."
            )

    def _check_direct(self, headers: Headers) -> None:
        """Without keys nobody may ask from elsewhere, by way of a proxy on this machine either."""
        if "x-forwarded-for" in headers or "forwarded" in headers:
            raise ProblemError(
                401,
                "no-valid-key",
                "requests by way of a proxy need a key; make one with `tailwise keys create`.",
                headers={"www-authenticate": 'Bearer realm="tailwise"'},
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Read the whole body, no further than it may be long, no longer than it may take."""
        limit = self._settings.max_body_bytes
        said = headers.get("content-length", "")
        if said.isascii() and said.isdigit() and (len(said) > 18 or int(said) > limit):
            raise _too_large(limit)
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > limit:
                        raise _too_large(limit)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise ProblemError(
                408,
                "slow-body",
                f"body must have arrived within {self._settings.body_timeout_s:g} s.",
            ) from None
        return b"".join(chunks)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        413, "body-too-large", f"body must hold at most {limit:,} bytes. Send smaller batches."
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, then what comes after it."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
