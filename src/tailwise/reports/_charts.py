"""What the pages draw: accuracy, differences, concentration, exposure by popularity."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from tailwise.reports._dot_panels import Mark, dot_panels
from tailwise.reports._drawing import (
    GAP,
    MARK_SIZE,
    N_TICKS,
    NARROW,
    WIDE,
    Chart,
    draw_chart,
    inline,
    percent_axis,
)
from tailwise.reports._numbers import LEVEL
from tailwise.reports._palette import BAR, INK, MUTED, SURFACE, Style
from tailwise.reports._results import ACCURACY_LABELS, Results

__all__ = ["accuracy_chart", "concentration_chart", "decile_chart", "forest_chart"]

_METRICS = ("ndcg", "recall")


def concentration_chart(concentration: Mapping[str, Any]) -> Chart | None:
    """Lorenz curve of the training interactions, most popular items first; ``None`` without a curve."""
    curve = concentration["curve"]
    if len(curve) < 2:
        return None
    points = [{"x": x, "y": y} for x, y in curve]
    marked = [
        {"x": row["item_share"], "y": row["interaction_share"]}
        for row in concentration["top_shares"]
        if 0.05 <= row["item_share"] <= 0.5
    ]
    x = alt.X("x:Q", title="Share of the catalogue, most popular items first", axis=percent_axis())
    y = alt.Y("y:Q", title="Share of training interactions", axis=percent_axis())

    def draw(wide: bool) -> Any:
        base = alt.Chart(inline(points))
        equal = alt.Chart(inline([{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
        dots = alt.Chart(inline(marked)).encode(x=x, y=y)
        layers = [
            base.mark_area(color=BAR, opacity=0.7).encode(x=x, y=y),
            equal.mark_line(color=MUTED, strokeDash=[4, 4], strokeWidth=1).encode(x=x, y=y),
            base.mark_line(color=INK, strokeWidth=2).encode(x=x, y=y),
            dots.mark_point(shape="circle", size=44, color=INK, fill=SURFACE, opacity=1),
            dots.mark_text(align="left", dx=9, dy=9, color=INK, fontSize=12).encode(
                text=alt.Text("y:Q", format=".0%")
            ),
        ]
        size = (470, 300) if wide else (NARROW - 62, 230)
        return alt.layer(*layers).properties(width=size[0], height=size[1])

    return draw_chart(draw, "Concentration of training interactions over the catalogue (Lorenz curve)")


def accuracy_chart(results: Results, looks: Mapping[str, Style]) -> Chart | None:
    """Accuracy of the trained variants per segment with intervals, a panel per metric."""
    shown = [v["name"] for v in results.trained or results.variants]
    panels = {
        _panel(results, metric): [
            Mark(name, segment, found.value, found.low, found.high, looks[name])
            for segment in results.accuracy_segments
            for name in shown
            if (found := results.accuracy(name, metric, segment)) is not None and found.value is not None
        ]
        for metric in _METRICS
    }
    return dot_panels(
        panels,
        rows=results.accuracy_segments,
        series=shown,
        x_title=lambda panel: f"{panel}, 0–1, with {LEVEL} interval",
        title=f"Accuracy by segment, NDCG and Recall at {results.k}, with {LEVEL} intervals",
    )


def forest_chart(results: Results, looks: Mapping[str, Style]) -> Chart | None:
    """Paired differences against the baseline; hollow marks where the interval spans zero."""
    panels = {
        _panel(results, metric): [
            Mark(v["name"], segment, d.difference, d.low, d.high, looks[v["name"]], d.direction != "unclear")
            for segment in results.accuracy_segments
            for v in results.variants
            if (d := results.difference(v["name"], metric, segment)) is not None
        ]
        for metric in _METRICS
    }
    with_marks = {mark.series for marks in panels.values() for mark in marks}
    return dot_panels(
        panels,
        rows=results.accuracy_segments,
        series=[v["name"] for v in results.variants if v["name"] in with_marks],
        x_title=lambda panel: f"Difference in {panel}, with {LEVEL} interval",
        title=f"Paired differences against the baseline, NDCG and Recall at {results.k}",
        rule=0.0,
    )


def _panel(results: Results, metric: str) -> str:
    return f"{ACCURACY_LABELS[metric]}@{results.k}"


def decile_chart(makers: Sequence[Mapping[str, Any]], k: int, looks: Mapping[str, Style]) -> Chart | None:
    """Slot share per popularity decile; a second panel shows the rarer deciles on their own scale."""
    held: dict[int, float] = {}
    lines: list[dict[str, Any]] = []
    for v in makers:
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
            axis=alt.Axis(labelAngle=0, ticks=False, labelOverlap=False, labelPadding=8),
        )
        y = alt.Y(
            "y:Q",
            title="Share of slots; bars: of interactions",
            scale=alt.Scale(nice=N_TICKS),
            axis=percent_axis(".0%" if max(_ys(rows, bars)) > 0.05 else ".1%"),
        )
        points = alt.Chart(inline(rows)).encode(
            x=x, y=y, detail="variant:N", color=alt.Color("color:N", scale=None, legend=None)
        )
        return alt.layer(
            alt.Chart(inline(bars)).mark_bar(color=BAR).encode(x=x, y=y),
            points.mark_line(strokeWidth=1.5),
            points.mark_point(filled=True, size=MARK_SIZE - 10, opacity=1).encode(
                shape=alt.Shape("shape:N", scale=None, legend=None)
            ),
        ).properties(width=width, height=240, title=title)

    def draw(wide: bool) -> Any:
        width = (WIDE - GAP) // 2 - 62 if wide else NARROW - 62
        panels = [panel(deciles, "All deciles", width)]
        if len(rarer) > 1:
            numbered = [d for d in rarer if d <= 10]
            name = f"Deciles {numbered[0]}–{numbered[-1]}" if numbered else ""
            name += (" and cold" if name else "Cold") if rarer[-1] > 10 else ""
            name += ", enlarged scale"
            panels.append(panel(rarer, name, width))
        return alt.hconcat(*panels, spacing=GAP) if wide else alt.vconcat(*panels, spacing=28)

    return draw_chart(draw, f"Share of recommended slots by popularity decile, lists of {k}")


def _ys(*tables: Sequence[Mapping[str, Any]]) -> list[float]:
    return [0.0, *(row["y"] for table in tables for row in table)]


def _decile_name(decile: int) -> str:
    return "cold" if decile > 10 else str(decile)
