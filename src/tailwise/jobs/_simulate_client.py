"""A client of the service for simulations: kept connections, a bounded rate, patience with a busy service."""

import http.client
import json
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from tailwise.errors import ConfigError, TailwiseError
from tailwise.jobs._experiments_clock import CLOCK_HEADER
from tailwise.jobs._serve_drill import DRILL_HEADER, drills_in_header

__all__ = ["ServiceClient"]

_TIMEOUT_S = 30.0
_TRIES = 20


class ServiceClient:
    """Asks a service; may be used by several threads, each with a connection of its own.

    Args:
        url: ``http://host:port``.
        rate: Most requests per second, of all threads together; > 0.

    Raises:
        ConfigError: the URL is no such thing.
    """

    def __init__(self, url: str, *, rate: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ConfigError(f"--url must be http://host:port; got {url!r}.")
        if not rate > 0:
            raise ConfigError(f"--rate must be > 0 requests per second; got {rate}.")
        self.url = url
        self._place = (parts.hostname, parts.port or 80)
        self._pause_s = 1 / rate
        self._mine = threading.local()
        self._guard = threading.Lock()
        self._next_at = 0.0
        self._open: list[http.client.HTTPConnection] = []

    def check(self, at: float) -> dict[str, str]:
        """Refuse a service that is not there, or does not take its time from requests.

        Returns:
            The drills that it runs: name of a model -> what it does wrong.

        Raises:
            ConfigError: with what to do.
        """
        try:
            _, headers, _ = self._exchange("GET", "/healthz", None, at)
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError(
                f"--url must be a running service; got {self.url!r} ({error}). Start it: "
                "tailwise serve --model control=RUN/VARIANT --model treatment=RUN/VARIANT --clock-from-header"
            ) from None
        if CLOCK_HEADER not in headers:
            raise ConfigError(
                f"the service on {self.url} must take its time from requests; it does not. Start one for "
                "simulations with --clock-from-header: two weeks would take two weeks otherwise."
            )
        return drills_in_header(headers.get(DRILL_HEADER, ""))

    def post(self, path: str, body: Any, at: float) -> Any:
        """Send a request and return the answer; a service that is busy is asked again.

        Args:
            path: Such as ``/v1/events``.
            body: Written as JSON.
            at: Simulated time, unix seconds.

        Raises:
            TailwiseError: it was refused, or the service did not recover.
        """
        sent = json.dumps(body).encode()
        problem = "nothing"
        for attempt in range(_TRIES):
            self._wait()
            try:
                status, headers, text = self._exchange("POST", path, sent, at)
            except (OSError, http.client.HTTPException) as error:
                self._forget()
                problem, pause = str(error) or type(error).__name__, 0.2 * (attempt + 1)
            else:
                if status == 200:
                    return json.loads(text)
                problem = f"{status} {text.decode(errors='replace')[:300]}"
                if status not in (429, 503):
                    break
                pause = min(5.0, float(headers.get("retry-after", "1")))
            time.sleep(pause)
        raise TailwiseError(f"the service must answer {path} with 200; got {problem}.")

    def close(self) -> None:
        """Close every connection; no thread may be at work."""
        for connection in self._open:
            connection.close()
        self._open.clear()

    def _wait(self) -> None:
        """Keep to the rate."""
        with self._guard:
            now = time.monotonic()
            turn = max(now, self._next_at)
            self._next_at = turn + self._pause_s
        if turn > now:
            time.sleep(turn - now)

    def _exchange(
        self, method: str, path: str, body: bytes | None, at: float
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self._connection()
        headers = {"content-type": "application/json", CLOCK_HEADER: f"{at:.3f}"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def _connection(self) -> http.client.HTTPConnection:
        found = getattr(self._mine, "connection", None)
        if isinstance(found, http.client.HTTPConnection):
            return found
        made = http.client.HTTPConnection(*self._place, timeout=_TIMEOUT_S)
        self._mine.connection = made
        with self._guard:
            self._open.append(made)
        return made

    def _forget(self) -> None:
        """Drop this thread's connection: it may hold half an answer."""
        self._connection().close()
        self._mine.connection = None
