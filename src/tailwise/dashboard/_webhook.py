"""Alarms to somebody else's machine: a signed POST that is tried again, and never says what it must not."""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

import requests

from tailwise.dashboard._alarms import Alarm
from tailwise.dashboard._outbox import Outcome
from tailwise.errors import ConfigError

__all__ = ["Webhook", "sign"]

_log = logging.getLogger("tailwise.monitor")
_AGAIN = frozenset({408, 425, 429})  # and all of 5xx


class Webhook:
    """Posts alarms as JSON.

    The body is ``{"alarms": [...]}`` with the fields of :class:`Alarm`. Where there is a secret, the header
    ``X-Tailwise-Signature`` is ``t=UNIX_SECONDS,v1=HEX``: HMAC-SHA256 of ``UNIX_SECONDS.BODY``. A receiver
    compares it in constant time and refuses old moments. ``X-Tailwise-Delivery`` stays the same
    over repetitions, so that it can pass over what it has. Redirects are not followed. ``name`` is the host
    and a short hash of the address: it tells two receivers apart and does not give a secret path away.

    Args:
        url: http or https, without a user or password in it. Its path may be secret and is never logged.
        secret: Of the signature; None: unsigned.
        timeout_s: For connecting, and for every wait for an answer, > 0.
        attempts: Of one delivery, >= 1.
        backoff_s: Before the second attempt; doubled before each further one, >= 0.
        clock: Unix seconds.
        sleep: Waits.

    Raises:
        ConfigError: the URL is none of these.
        ValueError: another argument is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: bytes | None = None,
        timeout_s: float = 5.0,
        attempts: int = 4,
        backoff_s: float = 1.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "webhook must be an address that begins with http:// or https://; got scheme "
                f"{parts.scheme!r}."
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "webhook must not hold a user or password; got one. Let the receiver check the signature."
            )
        if secret is not None and len(secret) < 16:
            raise ConfigError(f"webhook secret must have at least 16 bytes; got {len(secret)}.")
        if not timeout_s > 0 or attempts < 1 or backoff_s < 0:
            raise ValueError(
                "timeout_s must be > 0, attempts >= 1 and backoff_s >= 0; got "
                f"{timeout_s}, {attempts} and {backoff_s}."
            )
        self._url = url
        self._secret = secret
        self._timeout_s, self._attempts, self._backoff_s = timeout_s, attempts, backoff_s
        self._clock, self._sleep = clock, sleep
        self.host = parts.hostname
        self.name = f"{parts.hostname}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return f"Webhook(host={self.host!r})"

    def send(self, alarms: Sequence[Alarm], *, delivery: str) -> Outcome:
        """Deliver; see :class:`AlarmSink`. What was not taken is said in the log."""
        body = json.dumps({"alarms": [asdict(alarm) for alarm in alarms]}, sort_keys=True).encode()
        outcome = ""
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(self._backoff_s * 2 ** (attempt - 1))
            try:
                status = self._post(body, delivery)
            except requests.RequestException as error:
                outcome = type(error).__name__  # its text would name the address
                continue
            if 200 <= status < 300:
                return "taken"
            outcome = f"status {status}"
            if status < 500 and status not in _AGAIN:
                _log.error("webhook at %s refused %d alarms: %s", self.host, len(alarms), outcome)
                return "refused"
        _log.error("webhook at %s did not take %d alarms yet: %s", self.host, len(alarms), outcome)
        return "away"

    def _post(self, body: bytes, delivery: str) -> int:
        headers = {"content-type": "application/json", "x-tailwise-delivery": delivery}
        if self._secret is not None:
            headers["x-tailwise-signature"] = sign(body, self._secret, at=int(self._clock()))
        with requests.Session() as session:
            session.trust_env = False  # neither a proxy nor a password of ~/.netrc
            with session.post(
                self._url,
                data=body,
                headers=headers,
                timeout=self._timeout_s,
                allow_redirects=False,
                stream=True,  # the answer's body is nobody's business
            ) as response:
                return int(response.status_code)


def sign(body: bytes, secret: bytes, *, at: int) -> str:
    """Return the header that a receiver should find.

    Example:
        >>> sign(b"{}", b"0123456789abcdef", at=1)[:7]
        't=1,v1='
    """
    digest = hmac.new(secret, str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
