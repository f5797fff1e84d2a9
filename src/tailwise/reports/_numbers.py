"""Numbers as people read them: real minus signs, units, a dash where there is none."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "LEVEL",
    "NOTHING",
    "amount",
    "between",
    "count",
    "day",
    "duration",
    "interval",
    "moment",
    "number",
    "percent",
    "plain",
    "ratio",
    "signed",
    "signed_percent",
]

NOTHING = "–"  # shown where a value is null
_MINUS = "−"
_SPACE = "\u202f"  # narrow, no line break: between a number and its unit
LEVEL = f"95{_SPACE}%"  # of every interval


def number(value: float | None, digits: int = 4) -> str:
    """``0.0639``; a dash for null."""
    return NOTHING if value is None else f"{value:,.{digits}f}".replace("-", _MINUS)


def signed(value: float | None, digits: int = 4) -> str:
    """``+0.0043`` or ``−0.0043``; an exact or rounded zero carries no sign."""
    if value is None:
        return NOTHING
    text = f"{value:+,.{digits}f}"
    return text[1:] if not text.strip("+-0.,") else text.replace("-", _MINUS)


def interval(low: float | None, high: float | None, *, with_sign: bool = False, digits: int = 4) -> str:
    """``0.0612 to 0.0667``; with signs for differences."""
    if low is None or high is None:
        return NOTHING
    show = signed if with_sign else number
    return f"{show(low, digits)} to {show(high, digits)}"


def between(low: float | None, high: float | None, show: Callable[[float], str]) -> str:
    """``6.0 % to 7.8 %``, each end as ``show`` writes it; empty where one is missing."""
    return "" if low is None or high is None else f"{show(low)} to {show(high)}"


def percent(share: float | None, digits: int = 1) -> str:
    """``12.3 %`` of a fraction in 0–1."""
    return NOTHING if share is None else f"{number(100 * share, digits)}{_SPACE}%"


def signed_percent(fraction: float | None, digits: int = 1) -> str:
    """``+17.0 %`` of a relative change."""
    return NOTHING if fraction is None else f"{signed(100 * fraction, digits)}{_SPACE}%"


def ratio(value: float | None) -> str:
    """``1.93×``."""
    return NOTHING if value is None else f"{number(value, 2)}×"


def count(value: float | None) -> str:
    """``10,204``."""
    return NOTHING if value is None else f"{value:,.0f}"


def amount(value: float | None) -> str:
    """``41``, ``0.3``: a mean of counts, with a decimal only where it is small."""
    return NOTHING if value is None else number(value, 0 if value >= 9.5 or value == int(value) else 1)


def day(unix_seconds: int) -> str:
    """``31 January 2026`` in UTC."""
    when = datetime.fromtimestamp(unix_seconds, UTC)
    return f"{when.day} {when:%B %Y}"


def duration(seconds: float | None) -> str:
    """``42.1 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f}{_SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{_SPACE}min {whole % 60:02d}{_SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{_SPACE}h {minutes % 60:02d}{_SPACE}min"


def moment(text: str) -> str:
    """``31 January 2026, 12:00 UTC`` of an ISO 8601 time."""
    when = datetime.fromisoformat(text)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def plain(value: Any) -> str:
    """Show a setting as the reader would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", _MINUS) if abs(value) >= 1e-4 or value == 0 else f"{value:g}"
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value) or "none"
    return str(value)
