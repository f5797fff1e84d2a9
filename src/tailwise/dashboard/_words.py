"""Words of the pages: what a state, a light and a number are called."""

import math
from datetime import UTC, datetime

from tailwise.experiments import Metric
from tailwise.reports._numbers import NOTHING, number

__all__ = [
    "GIVEN_UP",
    "LIGHTS",
    "STATES",
    "VERDICTS",
    "ago",
    "finite",
    "metric_label",
    "metric_value",
    "money",
    "months",
    "when",
]

STATES = {
    "draft": "Draft",
    "running": "Running",
    "paused": "Paused",
    "completed": "Completed",
    "rolled_back": "Rolled back",
    "stopped": "Stopped",
}
LIGHTS = {"green": "Fine", "amber": "Watch", "red": "Harm"}
VERDICTS = {"better": "better", "worse": "worse", "unclear": "not shown", "early": "too early"}
GIVEN_UP = {
    "refused": "the receiver refused for good",
    "age": "owed for too long",
    "count": "too many were owed",
    "forgotten": "no monitor sends to this receiver any more",
}
_UPPER = {"gmv": "GMV", "ctr": "CTR"}


def metric_label(name: str) -> str:
    """``Tail clicks``, ``Session GMV``.

    Example:
        >>> metric_label("session_gmv")
        'Session GMV'
    """
    words = [_UPPER.get(word, word) for word in name.split("_")]
    return words[0][:1].upper() + words[0][1:] + "".join(f" {word}" for word in words[1:])


def metric_value(value: float | None, metric: Metric) -> str:
    """A metric's value with as many digits as it bears; shares in percent."""
    if value is None:
        return NOTHING
    if metric.unit.startswith("share"):
        return f"{number(100 * value, 2)}\u202f%"
    if value == 0:
        return "0"
    return number(value, max(0, min(5, 3 - math.floor(math.log10(abs(value))))))


def money(value: float) -> str:
    """``12,300``; ``unknown`` where an interval has no end."""
    if not math.isfinite(value):
        return "unknown"
    return number(value, 0 if abs(value) >= 100 or value == 0 else 2)


def months(value: float) -> str:
    """``2.5 months``, ``never``."""
    if not math.isfinite(value):
        return "never"
    return "less than a month" if 0 < value < 1 else f"{number(value, 1)} months"


def when(unix_seconds: float | None) -> str:
    """``3 Nov 2026, 14:05 UTC``."""
    if unix_seconds is None:
        return NOTHING
    moment = datetime.fromtimestamp(unix_seconds, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def ago(unix_seconds: float, now: float) -> str:
    """``3 days ago``.

    Example:
        >>> ago(0.0, 7200.0), ago(0.0, 30.0)
        ('2 hours ago', 'just now')
    """
    seconds = now - unix_seconds
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        n = int(seconds // length)
        if n >= 1:
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"


def finite(value: object) -> bool:
    """Whether a number is there and has an end."""
    return isinstance(value, int | float) and math.isfinite(value)
