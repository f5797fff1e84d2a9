"""Whether the database is worth waiting for: after a failure nobody waits until a probe has succeeded."""

import threading
import time

__all__ = ["Breaker"]

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


class Breaker:
    """Open after a failure; it says when to probe, later each time until a write succeeds again.

    Its clock only goes forward, so a change of the machine's time has no part in it.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._pause_s = FIRST_PAUSE_S
        self._next_probe = 0.0
        self._is_open = False
        self.last_error: str | None = None

    @property
    def is_open(self) -> bool:
        """The database is taken to be down."""
        return self._is_open

    def trip(self, error: str) -> None:
        """Note a failure."""
        with self._guard:
            self._is_open = True
            self.last_error = error
            self._next_probe = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def close(self) -> None:
        """Let writes through again; the next one shows whether it was right."""
        self._is_open = False

    def succeed(self) -> None:
        """Note a write that was committed."""
        self._pause_s = FIRST_PAUSE_S

    def wait_s(self) -> float:
        """Seconds until the next probe, 0 where it is due."""
        return max(0.0, self._next_probe - time.monotonic())
