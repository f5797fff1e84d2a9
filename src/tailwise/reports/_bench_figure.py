"""The figures of a benchmark: tail gain against overall change, methods as points, knobs as curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from tailwise.reports._bench_records import Bench, Method
from tailwise.reports._bench_row_types import DEEP, POOLED, BenchRows, CurveRow, Found, K, Measure, MethodRow
from tailwise.reports._drawing import MARK_SIZE, draw_chart, inline, stand_alone
from tailwise.reports._numbers import plain, signed_percent
from tailwise.reports._palette import AXIS, INK, MUTED, SURFACE, Style, styles

__all__ = ["bench_figure", "bench_summary", "spread"]

_WIDTH, _HEIGHT, _ROOM = 310, 290, 300  # of a panel's frame, and of the labels right of it
_SPARE = 40  # right of all labels, for readers whose letters are wider than those that were measured
_LABEL_STEP = 14.0  # least distance of labels, drawing units
_STYLE_ROLES = {"eisam": "treatment", "rival": "treatment", "control": "reference", "baseline": "baseline"}


@dataclass(frozen=True)
class _Point:
    """A method, or a value of its knob, in a panel, in per cent of the baseline."""

    method: Method
    x: float
    y: float
    x_ends: tuple[float, ...]  # low, high
    y_ends: tuple[float, ...]
    is_solid: bool


@dataclass(frozen=True)
class _Curve:
    """A method at the values of its knob, ascending."""

    points: tuple[_Point, ...]
    values: tuple[float, ...]
    starts_at_baseline: bool


@dataclass(frozen=True)
class _Panel:
    """What one panel shows.

    Attributes:
        title: Above it.
        k: Length of the lists.
        points: Methods as they were chosen.
        curves: Of knobs, by the method's name.
        notes: What follows a method's label, by its name.
        is_summary: Points of curves are shown with their intervals and their value, every method in
            a colour.
    """

    title: str
    k: int
    points: Sequence[_Point]
    curves: Mapping[str, _Curve]
    notes: Mapping[str, str]
    is_summary: bool = False

    def label(self, method: Method) -> str:
        return method.label + self.notes.get(method.name, "")


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
    titles = {POOLED: "All settings, each with the same weight"} | {s.name: s.title for s in bench.settings}
    panels = []
    for setting, title in titles.items():
        points = _points(rows, setting, K)
        curves = _curves(rows, setting, K)
        if points or curves:
            notes = _coverage(bench, rows) if setting == POOLED else {}
            panels.append(_Panel(title, K, points, curves, notes))
    return _drawn(panels, bench)


def bench_summary(bench: Bench, rows: BenchRows) -> str | None:
    """Draw the methods that were run in all settings, pooled, by lists of ten and of a hundred.

    As :func:`bench_figure`, and every point of a curve with its interval and its value, in place of what
    was chosen of that knob setting by setting.

    Returns:
        The SVG; None where settings are not pooled, or no method was run in all of them.
    """
    partial = _coverage(bench, rows)
    panels = []
    for k, name in ((K, "ten"), (DEEP, "a hundred")):
        curves = {n: c for n, c in _curves(rows, POOLED, k).items() if n not in partial}
        points = [
            p
            for p in _points(rows, POOLED, k)
            if p.method.name not in partial and p.method.name not in curves
        ]
        if points or curves:
            title = f"Lists of {name}, mean over {_n_pooled(bench, rows)} settings"
            panels.append(_Panel(title, k, points, curves, {}, is_summary=True))
    return _drawn(panels, bench)


def _drawn(panels: Sequence[_Panel], bench: Bench) -> str | None:
    if not panels:
        return None
    drawn = {p.method.name for panel in panels for p in panel.points}
    drawn |= {name for panel in panels for name in panel.curves}
    ordered = sorted((m for m in bench.methods if m.name in drawn), key=lambda m: m.role != "eisam")
    is_summary = all(panel.is_summary for panel in panels)
    roles = {m.name: "treatment" if is_summary else _STYLE_ROLES[m.role] for m in ordered}
    looks = styles([{"name": name, "role": role} for name, role in roles.items()])
    columns = [_draw(panel, looks, bench) for panel in panels]
    chart = alt.concat(*columns, columns=2, spacing=44)
    chart = chart.properties(padding={"left": 2, "top": 2, "bottom": 2, "right": _SPARE})
    name = f"Tail gain against overall change, in per cent of {bench.labels[bench.baseline]}"
    return stand_alone(draw_chart(lambda wide: chart, name).wide)


def _n_pooled(bench: Bench, rows: BenchRows) -> int:
    return len(bench.settings) - len(rows.left_out)


def _coverage(bench: Bench, rows: BenchRows) -> dict[str, str]:
    """What to say of methods that were not run in all settings, by name."""
    all_of_them = _n_pooled(bench, rows)
    pooled: list[MethodRow | CurveRow] = [*rows.methods, *rows.curves]
    found = {r.method.name: r.n_settings for r in pooled if r.setting == POOLED}
    return {name: f" ({n} of {all_of_them})" for name, n in found.items() if n < all_of_them}


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


def _points(rows: BenchRows, setting: str, k: int) -> list[_Point]:
    of_setting = [r for r in rows.methods if r.setting == setting and r.method.role in _STYLE_ROLES]
    return [point for row in of_setting if (point := _point(row, k)) is not None]


def _curves(rows: BenchRows, setting: str, k: int) -> dict[str, _Curve]:
    """Each value of the knob, by method."""
    found: dict[str, list[tuple[_Point, CurveRow]]] = {}
    for row in rows.curves:
        if row.setting == setting and (point := _point(row, k)) is not None:
            found.setdefault(row.method.name, []).append((point, row))
    curves = {}
    for name, pairs in found.items():
        pairs.sort(key=lambda pair: pair[1].value)
        points, values = (p for p, _ in pairs), (r.value for _, r in pairs)
        curves[name] = _Curve(tuple(points), tuple(values), pairs[0][1].starts_at_baseline)
    return curves


def _point(row: MethodRow | CurveRow, k: int) -> _Point | None:
    measures: tuple[Measure, ...] = (("ndcg", k, "overall"), ("ndcg", k, "tail"))
    x, y = (row.found[measure] for measure in measures)
    if x.against is None or y.against is None:
        return None
    return _Point(
        *(row.method, 100 * x.against.difference, 100 * y.against.difference),
        *(_ends(x), _ends(y), y.is_gain),
    )


def _ends(found: Found) -> tuple[float, ...]:
    of = found.against
    assert of is not None  # its caller looked
    return tuple(100 * (of.difference if end is None else end) for end in (of.low, of.high))


def _marks(points: Sequence[_Point], looks: Mapping[str, Style], panel: _Panel) -> list[dict[str, Any]]:
    return [
        {
            **{"x": p.x, "y": p.y, "x_low": p.x_ends[0], "x_high": p.x_ends[1]},
            **{"y_low": p.y_ends[0], "y_high": p.y_ends[1], "label": panel.label(p.method)},
            **{"color": looks[p.method.name].color, "shape": looks[p.method.name].symbol},
            "fill": looks[p.method.name].color if p.is_solid else SURFACE,
        }
        for p in points
    ]


def _lines(curves: Mapping[str, _Curve], looks: Mapping[str, Style]) -> list[dict[str, Any]]:
    """Points to join by a line, from the baseline on where that is the knob at zero."""
    lines = []
    for name, curve in curves.items():
        on_it = [(p.x, p.y, value) for p, value in zip(curve.points, curve.values, strict=True)]
        if curve.starts_at_baseline:
            on_it.insert(0, (0.0, 0.0, 0.0))
        lines += [
            {"x": x, "y": y, "order": value, "color": looks[name].color, "curve": name}
            for x, y, value in on_it
        ]
    return lines


def _values(panel: _Panel, looks: Mapping[str, Style]) -> list[dict[str, Any]]:
    """Values of the knobs to write beside their points: of all, or the first and the last."""
    found = []
    for name, curve in panel.curves.items():
        last = len(curve.values) - 1
        for i, (p, value) in enumerate(zip(curve.points, curve.values, strict=True)):
            if panel.is_summary or i in (0, last):
                found.append({"x": p.x, "y": p.y, "text": plain(value), "color": looks[name].color})
    return found


def _named(
    marks: Sequence[dict[str, Any]], panel: _Panel, looks: Mapping[str, Style], ys: tuple[float, float]
) -> list[dict[str, Any]]:
    """What is named at the right, each with the place of its label."""
    with_point = {p.method.name for p in panel.points}
    named = [dict(m) for m in marks]
    for name, curve in panel.curves.items():
        if name not in with_point:
            last, color = curve.points[-1], looks[name].color
            label = panel.label(last.method)
            named.append(
                {"x": last.x, "y": last.y, "label": label, "color": color, "fill": color, "shape": "circle"}
            )
    step = _LABEL_STEP * (ys[1] - ys[0]) / _HEIGHT
    places = spread([m["y"] for m in named], step=step, low=ys[0], high=ys[1])
    return [dict(m, place=place) for m, place in zip(named, places, strict=True)]


def _draw(panel: _Panel, looks: Mapping[str, Style], bench: Bench) -> Any:
    baseline = bench.labels[bench.baseline]
    margin = -100 * float(bench.about["margin"])
    on_curves = [p for curve in panel.curves.values() for p in curve.points]
    with_interval = [*panel.points, *(on_curves if panel.is_summary else [])]
    shown = [*panel.points, *on_curves]
    xs = _domain([p.x for p in shown] + [margin], [p.x_ends for p in with_interval])
    ys = _domain([p.y for p in shown], [p.y_ends for p in with_interval])
    x_axis, y_axis = (
        alt.Axis(tickCount=5, domain=False, ticks=False, format="+.3~g", labelExpr=_LABEL) for _ in "xy"
    )
    x_scale, y_scale = (alt.Scale(domain=list(d), nice=False, zero=False) for d in (xs, ys))
    x_title, y_title = (f"{part} NDCG@{panel.k}, % of {baseline}" for part in ("Overall", "Tail"))
    x = alt.X("x:Q", title=x_title, scale=x_scale, axis=x_axis)
    y = alt.Y("y:Q", title=y_title, scale=y_scale, axis=y_axis)
    color = alt.Color("color:N", scale=None, legend=None)
    marks = _marks(panel.points, looks, panel)
    zero = alt.Chart(inline([{"x": 0.0, "y": 0.0}]))
    allowed = alt.Chart(
        inline([{"x": margin, "y": ys[0], "text": f"margin {signed_percent(margin / 100, 0)}"}])
    )
    labels = alt.Chart(inline(_named(marks, panel, looks, ys))).encode(color=color)
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
        labels.mark_point(size=40, strokeWidth=1.5, opacity=1).encode(
            x=alt.value(_WIDTH + 13),
            y=alt.Y("place:Q", scale=y_scale),
            shape=alt.Shape("shape:N", scale=None, legend=None),
            fill=alt.Fill("fill:N", scale=None, legend=None),
        ),
    ]
    crosses = [*marks, *_marks(on_curves, looks, panel)] if panel.is_summary else marks
    if crosses:
        ends = alt.Chart(inline(crosses)).encode(x=x, y=y, color=color)
        layers += [
            ends.mark_rule(strokeWidth=1.3, opacity=0.7, clip=True).encode(
                x=alt.X("x_low:Q", scale=x_scale, axis=x_axis, title=x_title), x2="x_high:Q"
            ),
            ends.mark_rule(strokeWidth=1.3, opacity=0.7, clip=True).encode(
                y=alt.Y("y_low:Q", scale=y_scale, axis=y_axis, title=y_title), y2="y_high:Q"
            ),
        ]
    if panel.curves:
        lines = alt.Chart(inline(_lines(panel.curves, looks)))
        lines = lines.encode(x=x, y=y, color=color, detail="curve:N", order="order:Q")
        values = alt.Chart(inline(_values(panel, looks)))
        layers += [
            lines.mark_line(strokeWidth=1.6, opacity=0.8),
            lines.mark_point(shape="circle", size=14, filled=True, opacity=0.9),
            values.mark_text(fontSize=9, dx=9, dy=-8).encode(x=x, y=y, color=color, text="text:N"),
        ]
    if marks:
        dots = alt.Chart(inline(marks)).encode(x=x, y=y, color=color)
        layers.append(
            dots.mark_point(size=MARK_SIZE, strokeWidth=1.8, opacity=1).encode(
                shape=alt.Shape("shape:N", scale=None, legend=None),
                fill=alt.Fill("fill:N", scale=None, legend=None),
            )
        )
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT, title=panel.title)


_LABEL = "datum.value == 0 ? '0' : replace(datum.label, '-', '−')"


def _domain(values: Sequence[float], ends: Sequence[tuple[float, ...]]) -> tuple[float, float]:
    """Hold zero and all values, and the intervals as far as they at most double the panel."""
    low, high = min([0.0, *values]), max([0.0, *values])
    span = max(high - low, 1.0)
    low = max(min([low, *(e[0] for e in ends)]), low - span / 2)
    high = min(max([high, *(e[1] for e in ends)]), high + span / 2)
    edge = 0.05 * (high - low)
    return low - edge, high + edge
