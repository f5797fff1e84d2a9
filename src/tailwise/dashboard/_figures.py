"""Drawings as inline SVG, without a script, a style attribute or a colour: the style sheet colours classes.

Drawn by hand rather than by Vega: a page of live numbers changes with every event, and a drawing there
takes a third of a second.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from markupsafe import Markup, escape

from tailwise.dashboard._experiment_page import EffectPath, EffectRow
from tailwise.dashboard._live_page import DailyShare, day_text
from tailwise.reports._numbers import percent, signed_percent

__all__ = ["interval_mark", "path_figure", "reach_of", "shares_figure"]

_MARK_WIDTH, _MARK_HEIGHT = 180.0, 20.0
_SIZES = {"wide": (940.0, 250.0), "narrow": (340.0, 220.0)}
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 14.0, 22.0, 26.0
_SERIES = ("a", "b", "c", "d")  # classes of the style sheet; each has a dash of its own


def reach_of(rows: Sequence[EffectRow]) -> float:
    """How far from zero the marks of a table reach, so that all have one scale: 5 % to 100 %.

    Example:
        >>> reach_of([])
        0.05
    """
    ends = [
        abs(end)
        for row in rows
        for end in (row.low, row.high, row.fixed_low, row.fixed_high, row.margin)
        if end is not None
    ]
    return min(1.0, max([0.05, *ends]))


def interval_mark(row: EffectRow, reach: float) -> Markup:
    """Draw a row's two intervals; for the eyes alone, as the numbers stand beside it."""
    middle = _MARK_HEIGHT / 2

    def x(value: float) -> float:
        held = max(-reach, min(reach, value))
        return _MARK_WIDTH / 2 + held / reach * (_MARK_WIDTH / 2 - 6)

    parts = [_line(x(0), 0, x(0), _MARK_HEIGHT, "zero")]
    if row.margin is not None:
        parts.append(_line(x(-row.margin), 2, x(-row.margin), _MARK_HEIGHT - 2, "margin"))
    if row.low is not None and row.high is not None:
        parts.append(_line(x(row.low), middle, x(row.high), middle, "sequence"))
        parts += [_end(x, end, reach) for end in (row.low, row.high)]
    if row.fixed_low is not None and row.fixed_high is not None:
        parts.append(_line(x(row.fixed_low), middle, x(row.fixed_high), middle, "fixed"))
    if row.change is not None:
        parts.append(f'<circle class="dot" cx="{x(row.change):.1f}" cy="{middle:.1f}" r="4"/>')
    return Markup(
        f'<svg class="mark {row.verdict}" viewBox="0 0 {_MARK_WIDTH:g} {_MARK_HEIGHT:g}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def _end(x: Callable[[float], float], value: float, reach: float) -> str:
    """A cap, or an arrow head where the interval goes on beyond the drawing."""
    at, middle = x(value), _MARK_HEIGHT / 2
    if abs(value) <= reach:
        return _line(at, middle - 4, at, middle + 4, "sequence")
    tip = math.copysign(6, value)
    points = f"M{at:.1f},{middle - 4:.1f}L{at + tip:.1f},{middle:.1f}L{at:.1f},{middle + 4:.1f}z"
    return f'<path class="beyond" d="{points}"/>'


def path_figure(path: EffectPath, stages: Sequence[tuple[float, str]]) -> Markup:
    """Draw a confidence sequence over time, in two widths; the style sheet shows the one that fits.

    Args:
        path: See :class:`EffectPath`.
        stages: Moments at which stages began, unix seconds, and what to call them.
    """
    known = [
        (low, high)
        for low, high in zip(path.low, path.high, strict=True)
        if low is not None and high is not None
    ]
    if not known:
        return Markup("")
    widest = sorted(max(abs(low), abs(high)) for low, high in known)
    # The first, very wide looks may leave the drawing, so that the later ones can be read.
    reach = _round_up(min(widest[-1], max(1.5 * widest[0], 2 * (path.margin or 0.0), 0.05)))
    title = f"{path.metric.name}: relative change with confidence sequence over time"
    return _two_widths(title, lambda size: _path_body(path, stages, reach, size))


def _path_body(
    path: EffectPath, stages: Sequence[tuple[float, str]], reach: float, size: tuple[float, float]
) -> str:
    width, height = size
    first, last = path.at[0], max(path.at[-1], path.at[0] + 1)

    def x(at: float) -> float:
        return _LEFT + (at - first) / (last - first) * (width - _LEFT - _RIGHT)

    def y(value: float) -> float:
        held = max(-reach, min(reach, value))
        return _TOP + (reach - held) / (2 * reach) * (height - _TOP - _BOTTOM)

    parts = _y_axis([-reach, -reach / 2, 0.0, reach / 2, reach], y, width, _digits(signed_percent, reach))
    labelled = -math.inf
    for at, name in stages:
        if first <= at <= last:
            parts.append(_line(x(at), _TOP, x(at), height - _BOTTOM, "stage"))
            if x(at) > labelled:
                parts.append(_text(x(at) + 4, _TOP - 7, name, "start"))
                labelled = x(at) + 12 + 7 * len(name)
    if path.margin is not None and path.margin <= reach:
        parts.append(_line(_LEFT, y(-path.margin), width - _RIGHT, y(-path.margin), "margin"))
    parts.append(_line(_LEFT, y(0), width - _RIGHT, y(0), "zero"))
    band = [
        (x(at), y(low), y(high))
        for at, low, high in zip(path.at, path.low, path.high, strict=True)
        if low is not None and high is not None
    ]
    outline = [f"{at:.1f},{high:.1f}" for at, _, high in band]
    outline += [f"{at:.1f},{low:.1f}" for at, low, _ in reversed(band)]
    parts.append(f'<polygon class="band" points="{" ".join(outline)}"/>')
    line = [
        f"{x(at):.1f},{y(value):.1f}"
        for at, value in zip(path.at, path.change, strict=True)
        if value is not None
    ]
    parts.append(f'<polyline class="estimate" points="{" ".join(line)}"/>')
    parts += _x_axis(first, last, x, size)
    return "".join(parts)


def shares_figure(by_name: dict[str, Sequence[DailyShare]], segment: str) -> Markup:
    """Draw the share of one segment's slots over days, a line per name, in two widths."""
    series = {name: days for name, days in by_name.items() if len(days) > 1}
    if not series:
        return Markup("")
    title = f"Share of slots on {segment} items by day, for {', '.join(series)}"
    return _two_widths(title, lambda size: _shares_body(series, segment, size))


def _shares_body(series: dict[str, Sequence[DailyShare]], segment: str, size: tuple[float, float]) -> str:
    width, height = size
    days = [day.day for each in series.values() for day in each]
    first, last = min(days), max(days)
    top = _round_up(max([0.01, *(day.shares.get(segment, 0.0) for each in series.values() for day in each)]))

    def x(at: float) -> float:
        return _LEFT + (at - first) / max(1, last - first) * (width - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (1 - value / top) * (height - _TOP - _BOTTOM)

    parts = _y_axis([0.0, top / 2, top], y, width, _digits(percent, top))
    for kind, each in zip(_SERIES * len(series), series.values(), strict=False):
        points = [(x(day.day), y(day.shares.get(segment, 0.0))) for day in each]
        line = " ".join(f"{at:.1f},{value:.1f}" for at, value in points)
        parts.append(f'<polyline class="series {kind}" points="{line}"/>')
        parts += [
            f'<circle class="series {kind}" cx="{at:.1f}" cy="{value:.1f}" r="3"/>' for at, value in points
        ]
    parts += _x_axis(first, last, x, size)
    return "".join(parts)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 times a power of ten, so that halves are short numbers too."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if value <= step * power * (1 + 1e-9))


def _digits(show: Callable[[float, int], str], largest: float) -> Callable[[float], str]:
    digits = 0 if largest >= 0.1 else 1
    return lambda value: show(value, digits)


def _two_widths(title: str, body: Callable[[tuple[float, float]], str]) -> Markup:
    drawings = []
    for name, (width, height) in _SIZES.items():
        root = Markup('<svg class="{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">')
        drawings.append(root.format(name, width, height, title) + Markup(body((width, height)) + "</svg>"))
    return Markup("".join(drawings))


def _y_axis(
    values: Sequence[float], y: Callable[[float], float], width: float, show: Callable[[float], str]
) -> list[str]:
    parts = []
    for value in values:
        parts.append(_line(_LEFT, y(value), width - _RIGHT, y(value), "grid"))
        parts.append(_text(_LEFT - 6, y(value) + 4, show(value), "end"))
    return parts


def _x_axis(first: float, last: float, x: Callable[[float], float], size: tuple[float, float]) -> list[str]:
    """Days, or hours where there are but two; as many as have room."""
    width, height = size
    most = max(2, int((width - _LEFT - _RIGHT) // 64))
    is_day = last - first >= 2 * 86_400
    unit = 86_400 if is_day else 3600
    step = unit * max(1, math.ceil((last - first) / unit / most))
    ticks = [at * step for at in range(math.ceil(first / step), int(last // step) + 1)]
    parts = []
    for at in ticks:
        parts.append(_line(x(at), height - _BOTTOM, x(at), height - _BOTTOM + 4, "grid"))
        if x(at) <= width - 24:  # what would stick out has no label
            parts.append(_text(x(at), height - 8, _tick(at, is_day=is_day), "middle"))
    return parts


def _tick(at: float, *, is_day: bool) -> str:
    return day_text(int(at)) if is_day else f"{datetime.fromtimestamp(at, UTC):%H:%M}"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
