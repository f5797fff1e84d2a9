"""Charts as inline SVG: Altair writes the specification, vl-convert draws it, nothing runs in the page.

Static SVG rather than live Vega: a page of some hundred kB instead of a megabyte, no script,
sharp in print, readable by a screen reader. Each chart is drawn twice, for a desk and for a
phone, and CSS shows the one that fits. Legends are HTML, one for the whole page.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup, escape

from tailwise.reports._palette import AXIS, BAR, GRID, INK, MUTED, SURFACE, Style
from tailwise.reports._results import ACCURACY_LABELS, Difference, Estimate, Results

__all__ = ["Chart", "accuracy_chart", "concentration_chart", "decile_chart", "forest_chart"]

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_WIDE, _NARROW = 1000, 348  # drawing units; about CSS pixels at the sizes they are shown
_GAP = 48  # between panels
_METRICS = ("ndcg", "recall")
_N_TICKS = 5
_MARK_SIZE = 62  # square pixels
_CONFIG = {
    "background": None,
    "font": _FONT,
    "padding": 2,
    "aria": False,  # one role and one name for the whole drawing; the figures follow as a table
    "view": {"stroke": None},
    "axis": {
        "domainColor": AXIS,
        "tickColor": AXIS,
        "gridColor": GRID,
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelLimit": 110,
        "labelFlush": False,
        "titleLimit": 360,
    },
    "title": {"color": INK, "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 10},
}


@dataclass(frozen=True)
class Chart:
    """A drawing in two widths, with the name that a screen reader speaks."""

    wide: Markup
    narrow: Markup
    title: str


def concentration_chart(results: Results) -> Chart | None:
    """Lorenz curve of the training interactions, most popular items first; ``None`` without a curve."""
    curve = results.metrics["data"]["concentration"]["curve"]
    if len(curve) < 2:
        return None
    points = [{"x": x, "y": y} for x, y in curve]
    marked = [
        {"x": row["item_share"], "y": row["interaction_share"]}
        for row in results.metrics["data"]["concentration"]["top_shares"]
        if 0.05 <= row["item_share"] <= 0.5
    ]
    x = alt.X("x:Q", title="Share of the catalogue, most popular items first", axis=_percent_axis())
    y = alt.Y("y:Q", title="Share of training interactions", axis=_percent_axis())

    def draw(wide: bool) -> Any:
        base = alt.Chart(_values(points))
        equal = alt.Chart(_values([{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
        dots = alt.Chart(_values(marked)).encode(x=x, y=y)
        layers = [
            base.mark_area(color=BAR, opacity=0.7).encode(x=x, y=y),
            equal.mark_line(color=MUTED, strokeDash=[4, 4], strokeWidth=1).encode(x=x, y=y),
            base.mark_line(color=INK, strokeWidth=2).encode(x=x, y=y),
            dots.mark_point(shape="circle", size=44, color=INK, fill=SURFACE, opacity=1),
            dots.mark_text(align="left", dx=9, dy=9, color=INK, fontSize=12).encode(
                text=alt.Text("y:Q", format=".0%")
            ),
        ]
        size = (470, 300) if wide else (_NARROW - 62, 230)
        return alt.layer(*layers).properties(width=size[0], height=size[1])

    return _chart(draw, "Concentration of training interactions over the catalogue (Lorenz curve)")


def accuracy_chart(results: Results, looks: Mapping[str, Style]) -> Chart | None:
    """Accuracy of the trained variants per segment with intervals, a panel per metric."""
    shown = results.trained or results.variants
    panels = {
        metric: [
            _mark(looks[v["name"]], v["name"], segment, found, solid=True)
            for segment in results.accuracy_segments
            for v in shown
            if (found := results.accuracy(v["name"], metric, segment)) is not None and found.value is not None
        ]
        for metric in _METRICS
    }
    return _dot_panels(
        results,
        panels,
        [v["name"] for v in shown],
        x_title=lambda metric: f"{ACCURACY_LABELS[metric]}@{results.k}, 0–1, with 95\u202f% interval",
        title=f"Accuracy by segment, NDCG and Recall at {results.k}, with 95\u202f% intervals",
        zero_rule=False,
    )


def forest_chart(results: Results, looks: Mapping[str, Style]) -> Chart | None:
    """Paired differences against the baseline; hollow marks where the interval spans zero."""
    panels = {
        metric: [
            _mark(looks[v["name"]], v["name"], segment, d, solid=d.direction != "unclear")
            for segment in results.accuracy_segments
            for v in results.variants
            if (d := results.difference(v["name"], metric, segment)) is not None
        ]
        for metric in _METRICS
    }
    names = [
        v["name"]
        for v in results.variants
        if any(m["variant"] == v["name"] for p in panels.values() for m in p)
    ]
    return _dot_panels(
        results,
        panels,
        names,
        x_title=lambda metric: (
            f"Difference in {ACCURACY_LABELS[metric]}@{results.k}, with 95\u202f% interval"
        ),
        title=f"Paired differences against the baseline, NDCG and Recall at {results.k}",
        zero_rule=True,
    )


def decile_chart(results: Results, looks: Mapping[str, Style]) -> Chart | None:
    """Slot share per popularity decile; a second panel shows the rarer deciles on their own scale."""
    held: dict[int, float] = {}
    lines: list[dict[str, Any]] = []
    for v in results.variants:
        for row in v["exposure_deciles"]:
            if row["interaction_share"] is not None:
                held.setdefault(row["decile"], row["interaction_share"])
            if row["slot_share"] is not None:
                look = looks[v["name"]]
                lines.append(
                    {
                        "decile": row["decile"],
                        "y": row["slot_share"],
                        "variant": v["name"],
                        "color": look.color,
                        "shape": look.symbol,
                    }
                )
    if not lines:
        return None
    deciles = sorted(held.keys() | {row["decile"] for row in lines})
    rarer = [d for d in deciles if d > 3]

    def panel(chosen: Sequence[int], title: str, width: int) -> Any:
        order = [_decile_name(d) for d in chosen]
        rows = [dict(r, decile=_decile_name(r["decile"])) for r in lines if r["decile"] in chosen]
        bars = [{"decile": _decile_name(d), "y": held[d]} for d in chosen if d in held]
        x = alt.X(
            "decile:N",
            sort=order,
            scale=alt.Scale(domain=order, paddingInner=0.25, paddingOuter=0.15),
            title="Popularity decile of items (1 = most popular)",
            axis=alt.Axis(labelAngle=0, ticks=False, labelOverlap=False),
        )
        y = alt.Y(
            "y:Q",
            title="Share of slots; bars: of interactions",
            scale=alt.Scale(nice=_N_TICKS),
            axis=_percent_axis(".0%" if max(_ys(rows, bars)) > 0.05 else ".1%"),
        )
        points = alt.Chart(_values(rows)).encode(
            x=x, y=y, detail="variant:N", color=alt.Color("color:N", scale=None, legend=None)
        )
        return alt.layer(
            alt.Chart(_values(bars)).mark_bar(color=BAR).encode(x=x, y=y),
            points.mark_line(strokeWidth=1.5),
            points.mark_point(filled=True, size=_MARK_SIZE - 10, opacity=1).encode(
                shape=alt.Shape("shape:N", scale=None, legend=None)
            ),
        ).properties(width=width, height=240, title=title)

    def draw(wide: bool) -> Any:
        width = (_WIDE - _GAP) // 2 - 62 if wide else _NARROW - 62
        panels = [panel(deciles, "All deciles", width)]
        if len(rarer) > 1:
            numbered = [d for d in rarer if d <= 10]
            name = f"Deciles {numbered[0]}–{numbered[-1]}" if numbered else ""
            name += (" and cold" if name else "Cold") if rarer[-1] > 10 else ""
            name += ", enlarged scale"
            panels.append(panel(rarer, name, width))
        return alt.hconcat(*panels, spacing=_GAP) if wide else alt.vconcat(*panels, spacing=28)

    return _chart(draw, f"Share of recommended slots by popularity decile, lists of {results.k}")


def _dot_panels(
    results: Results,
    panels: Mapping[str, list[dict[str, Any]]],
    variants: Sequence[str],
    *,
    x_title: Callable[[str], str],
    title: str,
    zero_rule: bool,
) -> Chart | None:
    """Dots with whiskers: a row per segment, within it a line per variant, a panel per metric."""
    filled = {metric: rows for metric, rows in panels.items() if rows}
    if not filled:
        return None
    present = {row["segment"] for rows in filled.values() for row in rows}
    segments = [s for s in results.accuracy_segments if s in present]
    step = 20 if len(variants) <= 3 else 14
    # Room for the labels in the widest of the system fonts; vl-convert measures with its own.
    room = min(110, 22 + 8 * max(len(s) for s in segments))

    def panel(metric: str, width: int, labelled: bool) -> Any:
        n_ticks = 4 if width > 300 else 3
        axis = alt.Axis(
            domain=False,
            ticks=False,
            labels=labelled,
            labelColor=INK,
            labelFontSize=13,
            labelPadding=10,
            labelLimit=room - 10,
            minExtent=room if labelled else 0,
        )
        scale = alt.Scale(domain=segments, paddingInner=0.3, paddingOuter=0.15)
        base = alt.Chart(_values(filled[metric])).encode(
            y=alt.Y("segment:N", sort=segments, scale=scale, title=None, axis=axis),
            yOffset=alt.YOffset("variant:N", sort=list(variants), scale=alt.Scale(domain=list(variants))),
            color=alt.Color("color:N", scale=None, legend=None),
        )
        x = alt.X(
            "x:Q",
            title=x_title(metric),
            scale=alt.Scale(zero=True, nice=n_ticks),
            axis=alt.Axis(tickCount=n_ticks, domain=False, ticks=False, labelOverlap="greedy"),
        )
        layers = [
            base.mark_rule(strokeWidth=2, opacity=1).encode(
                x=alt.X("low:Q", title=x_title(metric)), x2="high:Q"
            ),
            base.mark_point(size=_MARK_SIZE, strokeWidth=1.8, opacity=1).encode(
                x=x,
                shape=alt.Shape("shape:N", scale=None, legend=None),
                fill=alt.Fill("fill:N", scale=None, legend=None),
            ),
        ]
        if zero_rule:
            zero = alt.Chart(_values([{"x": 0}])).mark_rule(color=INK, strokeWidth=1)
            layers.insert(0, zero.encode(x=x))
        return alt.layer(*layers).properties(
            width=width,
            height=alt.Step(step, **{"for": "offset"}) if len(variants) > 1 else 44 * len(segments),
            title=f"{ACCURACY_LABELS[metric]}@{results.k}",
        )

    def draw(wide: bool) -> Any:
        if wide:
            width = (_WIDE - room - _GAP * (len(filled) - 1)) // 2 - 6
            return alt.hconcat(*(panel(m, width, i == 0) for i, m in enumerate(filled)), spacing=_GAP)
        return alt.vconcat(*(panel(m, _NARROW - room - 14, True) for m in filled), spacing=28)

    return _chart(draw, title)


def _mark(
    look: Style, variant: str, segment: str, found: Estimate | Difference, *, solid: bool
) -> dict[str, Any]:
    x = found.difference if isinstance(found, Difference) else found.value
    low, high = found.low, found.high
    return {
        "variant": variant,
        "segment": segment,
        "x": x,
        "low": x if low is None else low,
        "high": x if high is None else high,
        "color": look.color,
        "shape": look.symbol,
        "fill": look.color if solid else SURFACE,
    }


def _ys(*tables: Sequence[Mapping[str, Any]]) -> list[float]:
    return [0.0, *(row["y"] for table in tables for row in table)]


def _decile_name(decile: int) -> str:
    return "cold" if decile > 10 else str(decile)


def _percent_axis(text_format: str = ".0%") -> Any:
    return alt.Axis(format=text_format, tickCount=_N_TICKS, domain=False, ticks=False)


def _values(rows: Sequence[Mapping[str, Any]]) -> Any:
    return alt.Data(values=[dict(row) for row in rows])


def _chart(draw: Callable[[bool], Any], title: str) -> Chart:
    return Chart(_svg(draw(True), title), _svg(draw(False), title), title)


def _svg(chart: Any, title: str) -> Markup:
    """Draw, then make the root scale with the page and carry a name."""
    spec = chart.to_dict(validate=False)
    spec["config"] = _CONFIG
    svg: str = vl_convert.vegalite_to_svg(spec)
    match = re.match(r"<svg[^>]*?viewBox=\"([^\"]+)\"[^>]*>", svg)
    if match is None:
        raise RuntimeError("vl-convert drew no <svg> with a viewBox")
    width, height = match[1].split()[2:]
    root = Markup('<svg viewBox="{}" width="{}" height="{}" role="img" aria-label="{}"><title>{}</title>')
    return root.format(match[1], width, height, title, escape(title)) + Markup(svg[match.end() :])
