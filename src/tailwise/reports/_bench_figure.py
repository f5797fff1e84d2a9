"""The figure of a benchmark: tail gain against overall change, methods as points, knobs as curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from tailwise.reports._bench_records import Bench, Method
from tailwise.reports._bench_rows import POOLED, BenchRows, K
from tailwise.reports._drawing import MARK_SIZE, draw_chart, inline, stand_alone
from tailwise.reports._numbers import plain, signed_percent
from tailwise.reports._palette import AXIS, INK, MUTED, SURFACE, Style, styles

__all__ = ["bench_figure", "spread"]

_WIDTH, _HEIGHT, _ROOM = 310, 290, 205  # of a panel's frame, and of the labels right of it
_LABEL_STEP = 14.0  # least distance of labels, drawing units
_STYLE_ROLES = {"eisam": "treatment", "rival": "treatment", "control": "reference", "baseline": "baseline"}


@dataclass(frozen=True)
class _Point:
    """A method in a panel, in per cent of the baseline."""

    method: Method
    x: float
    y: float
    x_ends: tuple[float, ...]  # low, high
    y_ends: tuple[float, ...]
    is_solid: bool


def bench_figure(bench: Bench, rows: BenchRows) -> str | None:
    """Draw a panel for all settings together and one for each, as a stand-alone SVG.

    Right of zero overall quality rises, above zero tail quality does, both in per cent of the
    baseline with 95 % intervals. Solid marks are tail gains, of three seeds or more, that remain after
    counting the comparisons. The dashed vertical rule is the non-inferiority margin. Curves begin at
    the baseline where that is their knob at zero; small numbers are the knob's first and last value.
    Methods shown for scale lie far outside and are left out.
    An interval that would squeeze the panel runs out of its frame.

    Returns:
        The SVG; None where no method can be compared.
    """
    shown = [m for m in bench.methods if m.role in _STYLE_ROLES]
    ordered = sorted(shown, key=lambda m: m.role != "eisam")
    looks = styles([{"name": m.name, "role": _STYLE_ROLES[m.role]} for m in ordered])
    titles = {POOLED: "All settings, each with the same weight"} | {s.name: s.title for s in bench.settings}
    panels = []
    for setting, title in titles.items():
        points = _points(rows, setting)
        curves = _curves(rows, setting)
        if points or curves:
            panels.append(_panel(points, curves, looks, bench, title))
    if not panels:
        return None
    chart = alt.concat(*panels, columns=2, spacing=44)
    name = f"Tail gain against overall change, in per cent of {bench.labels[bench.baseline]}"
    return stand_alone(draw_chart(lambda wide: chart, name).wide)


def spread(wanted: Sequence[float], *, step: float, low: float, high: float) -> list[float]:
    """Move labels as little as needed so that neighbours stand at least ``step`` apart within low..high.

    Where they do not fit at all, they stand evenly.

    Args:
        wanted: Their places, in any order.
        step: Least distance.
        low: Lowest place.
        high: Highest place.

    Returns:
        The places in the order of ``wanted``.

    Example:
        >>> spread([5.0, 5.0, 20.0], step=4.0, low=0.0, high=30.0)
        [3.0, 7.0, 20.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    step = min(step, (high - low) / max(1, len(wanted) - 1))
    groups: list[list[float]] = []  # [sum of wanted first places, number of labels]
    for position, i in enumerate(order):
        groups.append([wanted[i] - position * step, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, n = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += n
    firsts = [total / n for total, n in groups for _ in range(int(n))]
    room = high - step * (len(wanted) - 1)
    places = [0.0] * len(wanted)
    for position, i in enumerate(order):
        places[i] = min(max(firsts[position], low), room) + position * step
    return places


def _points(rows: BenchRows, setting: str) -> list[_Point]:
    found = []
    for row in rows.methods:
        x, y = row.found["ndcg", K, "overall"].against, row.found["ndcg", K, "tail"].against
        if row.setting != setting or row.method.role not in _STYLE_ROLES or x is None or y is None:
            continue
        ends = [
            (
                100 * (d.difference if d.low is None else d.low),
                100 * (d.difference if d.high is None else d.high),
            )
            for d in (x, y)
        ]
        solid = row.found["ndcg", K, "tail"].is_gain
        found.append(_Point(row.method, 100 * x.difference, 100 * y.difference, ends[0], ends[1], solid))
    return found


def _curves(rows: BenchRows, setting: str) -> dict[str, list[dict[str, Any]]]:
    """Each value of the knob, by method."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in rows.curves:
        x, y = row.found["ndcg", K, "overall"].against, row.found["ndcg", K, "tail"].against
        if row.setting == setting and x is not None and y is not None:
            point: dict[str, Any] = {"x": 100 * x.difference, "y": 100 * y.difference, "order": row.value}
            point |= {"text": plain(row.value), "label": row.method.label}
            point |= {"starts_at_baseline": row.starts_at_baseline}
            curves.setdefault(row.method.name, []).append(point)
    return {name: sorted(points, key=lambda p: p["order"]) for name, points in curves.items()}


def _lines(curves: Mapping[str, list[dict[str, Any]]], looks: Mapping[str, Style]) -> list[dict[str, Any]]:
    """Points to join by a line, from the baseline on where that is the knob at zero."""
    start = {"x": 0.0, "y": 0.0, "order": 0.0}
    return [
        dict(p, color=looks[name].color, curve=name)
        for name, curve in curves.items()
        for p in ([start] if curve[0]["starts_at_baseline"] else []) + curve
    ]


def _panel(
    points: Sequence[_Point],
    curves: Mapping[str, list[dict[str, Any]]],
    looks: Mapping[str, Style],
    bench: Bench,
    title: str,
) -> Any:
    baseline = bench.labels[bench.baseline]
    margin = -100 * float(bench.about["margin"])
    on_curves = [p for line in curves.values() for p in line]
    xs = _domain([p.x for p in points] + [p["x"] for p in on_curves] + [margin], [p.x_ends for p in points])
    ys = _domain([p.y for p in points] + [p["y"] for p in on_curves], [p.y_ends for p in points])
    x_axis, y_axis = (
        alt.Axis(tickCount=5, domain=False, ticks=False, format="+.3~g", labelExpr=_LABEL) for _ in "xy"
    )
    x_scale, y_scale = (alt.Scale(domain=list(d), nice=False, zero=False) for d in (xs, ys))
    x_title, y_title = (f"{part} NDCG@10, % of {baseline}" for part in ("Overall", "Tail"))
    x = alt.X("x:Q", title=x_title, scale=x_scale, axis=x_axis)
    y = alt.Y("y:Q", title=y_title, scale=y_scale, axis=y_axis)
    color = alt.Color("color:N", scale=None, legend=None)
    marks: list[dict[str, Any]] = [
        {
            **{"x": p.x, "y": p.y, "x_low": p.x_ends[0], "x_high": p.x_ends[1]},
            **{"y_low": p.y_ends[0], "y_high": p.y_ends[1], "label": p.method.label},
            **{"color": looks[p.method.name].color, "shape": looks[p.method.name].symbol},
            "fill": looks[p.method.name].color if p.is_solid else SURFACE,
        }
        for p in points
    ]
    with_point = {p.method.name for p in points}
    named = [dict(m) for m in marks]
    named += [
        dict(c[-1], color=looks[n].color, fill=looks[n].color, shape="circle")
        for n, c in curves.items()
        if n not in with_point
    ]
    per_unit = (ys[1] - ys[0]) / _HEIGHT
    places = spread([m["y"] for m in named], step=_LABEL_STEP * per_unit, low=ys[0], high=ys[1])
    named = [dict(m, place=place) for m, place in zip(named, places, strict=True)]
    lines = _lines(curves, looks)
    ends = [
        dict(p, color=looks[name].color)
        for name, curve in curves.items()
        for p in (curve if len(curve) == 1 else (curve[0], curve[-1]))
    ]
    zero = alt.Chart(inline([{"x": 0.0, "y": 0.0}]))
    allowed = alt.Chart(
        inline([{"x": margin, "y": ys[0], "text": f"margin {signed_percent(margin / 100, 0)}"}])
    )
    dots = alt.Chart(inline(marks)).encode(x=x, y=y, color=color)
    labels = alt.Chart(inline(named)).encode(color=color)
    layers = [
        zero.mark_rule(color=AXIS, strokeWidth=1.2).encode(x=x),
        zero.mark_rule(color=AXIS, strokeWidth=1.2).encode(y=y),
        allowed.mark_rule(color=INK, strokeDash=[5, 4], strokeWidth=1.2).encode(x=x),
        allowed.mark_text(align="left", baseline="bottom", dx=4, dy=-2, fontSize=10, color=MUTED).encode(
            x=x, y=y, text="text:N"
        ),
        labels.mark_rule(strokeWidth=0.8, opacity=0.6, strokeDash=[1, 3]).encode(
            x=x, x2=alt.value(_WIDTH + 6), y=y, y2="place:Q"
        ),
        labels.mark_text(align="left", baseline="middle", fontSize=12, limit=_ROOM).encode(
            x=alt.value(_WIDTH + 21), y=alt.Y("place:Q", scale=y_scale), text="label:N"
        ),
    ]
    layers.append(
        labels.mark_point(size=40, strokeWidth=1.5, opacity=1).encode(
            x=alt.value(_WIDTH + 13),
            y=alt.Y("place:Q", scale=y_scale),
            shape=alt.Shape("shape:N", scale=None, legend=None),
            fill=alt.Fill("fill:N", scale=None, legend=None),
        )
    )
    if lines:
        drawn = alt.Chart(inline(lines)).encode(x=x, y=y, color=color, detail="curve:N", order="order:Q")
        layers += [
            drawn.mark_line(strokeWidth=1.6, opacity=0.8),
            drawn.mark_point(shape="circle", size=14, filled=True, opacity=0.9),
            alt.Chart(inline(ends)).mark_text(fontSize=9, dy=-8).encode(x=x, y=y, color=color, text="text:N"),
        ]
    if marks:
        layers += [
            dots.mark_rule(strokeWidth=1.3, opacity=0.7, clip=True).encode(
                x=alt.X("x_low:Q", scale=x_scale, axis=x_axis, title=x_title), x2="x_high:Q"
            ),
            dots.mark_rule(strokeWidth=1.3, opacity=0.7, clip=True).encode(
                y=alt.Y("y_low:Q", scale=y_scale, axis=y_axis, title=y_title), y2="y_high:Q"
            ),
            dots.mark_point(size=MARK_SIZE, strokeWidth=1.8, opacity=1).encode(
                shape=alt.Shape("shape:N", scale=None, legend=None),
                fill=alt.Fill("fill:N", scale=None, legend=None),
            ),
        ]
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT, title=title)


_LABEL = "datum.value == 0 ? '0' : replace(datum.label, '-', '−')"


def _domain(values: Sequence[float], ends: Sequence[tuple[float, ...]]) -> tuple[float, float]:
    """Hold zero and all values, and the intervals as far as they at most double the panel."""
    low, high = min([0.0, *values]), max([0.0, *values])
    span = max(high - low, 1.0)
    low = max(min([low, *(e[0] for e in ends)]), low - span / 2)
    high = min(max([high, *(e[1] for e in ends)]), high + span / 2)
    edge = 0.05 * (high - low)
    return low - edge, high + edge
