"""How many requests a key may make."""

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from tailwise.errors import ConfigError

__all__ = ["RateLimits", "parse_rate"]


def parse_rate(name: str, text: str) -> RateLimitItem:
    """Read a rate such as ``100/second``.

    Raises:
        ConfigError: it is none.
    """
    try:
        rate = parse(text)
    except ValueError:
        rate = None
    if rate is None or rate.amount < 1:
        raise ConfigError(f"{name} must be a rate such as 100/second or 5000/minute; got {text!r}.")
    return rate


class RateLimits:
    """Counts the requests of each key over a sliding window, in this process.

    Each worker counts for itself: a service of ``n`` workers lets a key make up to ``n`` times the rate.

    Args:
        rate: Of a key that has none of its own.

    Raises:
        ConfigError: ``rate`` is none.
    """

    def __init__(self, rate: str) -> None:
        self._default = parse_rate("rate_limit", rate)
        self._own: dict[str, RateLimitItem] = {}
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def wait_s(self, key_id: str, rate: str | None) -> int | None:
        """Count one request; return None where it may go on, else whole seconds to wait, >= 1.

        Args:
            key_id: Whose request it is.
            rate: The key's own; None: the default.
        """
        if rate is None:
            item = self._default
        else:
            item = self._own.get(rate) or self._own.setdefault(rate, parse_rate("rate_limit", rate))
        if self._limiter.hit(item, key_id):
            return None
        reset = self._limiter.get_window_stats(item, key_id).reset_time
        return max(1, math.ceil(reset - time.time()))
