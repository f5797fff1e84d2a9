"""Who may look: a key of role ``admin``, typed into a form once, then a signed cookie for a while.

Pages only read, and the cookie is ``SameSite=Strict``, so that another site can neither change anything nor
read an answer.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from tailwise.errors import DataError
from tailwise.serving._http_keys import ApiKey, KeyStore

__all__ = ["COOKIE", "Access", "session_secret"]

COOKIE = "tailwise_dashboard"
_BYTES = 32


class Access:
    """Lets people in and remembers them without keeping anything.

    A session ends after ``hours``, or at once when its key is revoked.

    Args:
        keys: Of the service; while none was ever made, everybody may look who asks directly.
        secret: Signs sessions; the same in every worker. See :func:`session_secret`.
        hours: How long a session lasts, > 0.
        path: Pages below it are sent the cookie.
        clock: Unix seconds.

    Raises:
        ValueError: ``secret`` has fewer than 32 bytes, or ``hours`` is not positive.
    """

    def __init__(
        self,
        keys: KeyStore,
        secret: bytes,
        *,
        hours: float = 12.0,
        path: str = "/dashboard",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if len(secret) < _BYTES:
            raise ValueError(f"secret must have at least {_BYTES} bytes; got {len(secret)}.")
        if not hours > 0:
            raise ValueError(f"hours must be > 0; got {hours}.")
        self._keys = keys
        self._secret = secret
        self._seconds = int(3600 * hours)
        self._path = path
        self._clock = clock

    def is_open(self) -> bool:
        """True while no key was ever made.

        Raises:
            DataError: the file of keys is damaged.
        """
        return not self._keys.are_required()

    def may_look(self, request: Request) -> bool:
        """Say whether a request may see pages.

        Raises:
            DataError: the file of keys is damaged.
        """
        if self.is_open():
            return not {"x-forwarded-for", "forwarded"} & set(request.headers)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_admin(self._keys.find(token.strip()))
        return self._is_session(request.cookies.get(COOKIE, ""))

    def begin(self, token: str, response: Response, *, is_https: bool) -> bool:
        """Begin a session with the text of a key; False where it is not one of role ``admin``.

        Args:
            token: What a person typed.
            response: Is given the cookie.
            is_https: The cookie is then never sent without.
        """
        key = self._keys.find(token)
        if key is None or not self._is_admin(key):
            return False
        value = self._signed(key.id, int(self._clock()) + self._seconds)
        response.set_cookie(
            COOKIE,
            value,
            max_age=self._seconds,
            path=self._path,
            secure=is_https,
            httponly=True,
            samesite="strict",
        )
        return True

    def end(self, response: Response) -> None:
        """Take the cookie back."""
        response.delete_cookie(COOKIE, path=self._path, httponly=True, samesite="strict")

    @staticmethod
    def is_own_form(request: Request) -> bool:
        """Say whether a form was sent by a page of ours; browsers tell, other clients need not."""
        site = request.headers.get("sec-fetch-site")
        if site is not None and site not in ("same-origin", "none"):
            return False
        origin = request.headers.get("origin")
        return origin is None or origin.partition("://")[2] == request.headers.get("host")

    def _is_admin(self, key: ApiKey | None) -> bool:
        return key is not None and key.may("admin")

    def _is_session(self, cookie: str) -> bool:
        key_id, _, rest = cookie.partition(".")
        until, _, _ = rest.partition(".")
        if not (until.isascii() and until.isdigit() and len(until) <= 12):
            return False
        if not hmac.compare_digest(self._signed(key_id, int(until)).encode(), cookie.encode()):
            return False
        if self._clock() >= int(until):
            return False
        found = next((key for key in self._keys.all_keys() if key.id == key_id), None)
        return found is not None and found.revoked_at is None and self._is_admin(found)

    def _signed(self, key_id: str, until: int) -> str:
        text = f"{key_id}.{until}"
        return f"{text}.{hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()}"


def session_secret(file: Path) -> bytes:
    """Return the secret that signs sessions, made at the first call; all workers get the same.

    Args:
        file: Readable for its owner alone; removing it ends every session.

    Raises:
        DataError: the file holds something else.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        partial = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):  # another worker was first: its secret is taken
                os.link(partial, file)
        finally:
            partial.unlink()
    secret = file.read_bytes()
    if len(secret) != _BYTES:
        raise DataError(
            f"{str(file)!r} must hold {_BYTES} bytes that the dashboard wrote; got {len(secret)}.\n"
            "  Remove it; people then have to give their key again."
        )
    return secret
