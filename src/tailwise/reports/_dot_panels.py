"""Dots with whiskers: a row per thing, within it a line per maker, a panel per measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from tailwise.reports._drawing import GAP, MARK_SIZE, NARROW, WIDE, Chart, draw_chart, inline
from tailwise.reports._palette import INK, SURFACE, Style

__all__ = ["Mark", "dot_panels"]

_LABEL_ROOM = 110


@dataclass(frozen=True)
class Mark:
    """One value with its interval.

    Attributes:
        series: Whose it is: a line within the row.
        row: What it is of.
        x: The value.
        low: Lower end; None draws no whisker.
        high: Upper end; None likewise.
        look: Colour and symbol.
        is_solid: Filled; hollow marks are those that show nothing.
    """

    series: str
    row: str
    x: float | None
    low: float | None
    high: float | None
    look: Style
    is_solid: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Give what the drawing needs."""
        return {
            "variant": self.series,
            "segment": self.row,
            "x": self.x,
            "low": self.x if self.low is None else self.low,
            "high": self.x if self.high is None else self.high,
            "color": self.look.color,
            "shape": self.look.symbol,
            "fill": self.look.color if self.is_solid else SURFACE,
        }


def dot_panels(
    panels: Mapping[str, Sequence[Mark]],
    *,
    rows: Sequence[str],
    series: Sequence[str],
    x_title: Callable[[str], str],
    title: str,
    rule: float | None = None,
    percent: bool = False,
    label_room: int = _LABEL_ROOM,
    wide: int = WIDE,
    n_columns: int = 2,
) -> Chart | None:
    """Draw panels, by their titles; None where no panel has a mark.

    Args:
        panels: Title of the panel -> its marks. An empty title is not drawn.
        rows: Their order, from the top; those without a mark are left out. A line break in a row's
            name breaks its label.
        series: Their order within a row.
        x_title: Of the axis of a panel, given the panel's title.
        title: Name of the whole chart.
        rule: Draw a line here.
        percent: Label the axis in percent.
        label_room: Most width of the labels.
        wide: Width of the wide drawing.
        n_columns: Panels that the wide drawing has room for.
    """
    filled = {name: marks for name, marks in panels.items() if marks}
    if not filled:
        return None
    present = {mark.row for marks in filled.values() for mark in marks}
    shown = [row for row in rows if row in present]
    step = 20 if len(series) <= 3 else 14
    # Room for the labels in the widest of the system fonts; vl-convert measures with its own.
    longest = max(len(line) for row in shown for line in row.split("\n"))
    room = min(label_room, 22 + 8 * longest)

    def panel(name: str, width: int, labelled: bool) -> Any:
        n_ticks = 4 if width > 300 else 3
        axis = alt.Axis(
            domain=False,
            ticks=False,
            labels=labelled,
            labelColor=INK,
            labelFontSize=13,
            labelPadding=10,
            labelLimit=room - 10,
            labelExpr="split(datum.label, '\\n')",
            minExtent=room if labelled else 0,
        )
        scale = alt.Scale(domain=shown, paddingInner=0.3, paddingOuter=0.15)
        base = alt.Chart(inline([mark.as_dict() for mark in filled[name]])).encode(
            y=alt.Y("segment:N", sort=shown, scale=scale, title=None, axis=axis),
            yOffset=alt.YOffset("variant:N", sort=list(series), scale=alt.Scale(domain=list(series))),
            color=alt.Color("color:N", scale=None, legend=None),
        )
        numbers = {"format": ".0%"} if percent else {}
        x = alt.X(
            "x:Q",
            title=x_title(name),
            scale=alt.Scale(zero=True, nice=n_ticks),
            axis=alt.Axis(tickCount=n_ticks, domain=False, ticks=False, labelOverlap="greedy", **numbers),
        )
        layers = [
            base.mark_rule(strokeWidth=2, opacity=1).encode(
                x=alt.X("low:Q", title=x_title(name)), x2="high:Q"
            ),
            base.mark_point(size=MARK_SIZE, strokeWidth=1.8, opacity=1).encode(
                x=x,
                shape=alt.Shape("shape:N", scale=None, legend=None),
                fill=alt.Fill("fill:N", scale=None, legend=None),
            ),
        ]
        if rule is not None:
            line = alt.Chart(inline([{"x": rule}])).mark_rule(color=INK, strokeWidth=1)
            layers.insert(0, line.encode(x=x))
        titled = {"title": name} if name else {}
        return alt.layer(*layers).properties(
            width=width,
            height=alt.Step(step, **{"for": "offset"}) if len(series) > 1 else 44 * len(shown),
            **titled,
        )

    def draw(is_wide: bool) -> Any:
        if is_wide:
            width = (wide - room - GAP * (len(filled) - 1)) // max(n_columns, len(filled)) - 6
            return alt.hconcat(*(panel(m, width, i == 0) for i, m in enumerate(filled)), spacing=GAP)
        return alt.vconcat(*(panel(m, NARROW - room - 14, True) for m in filled), spacing=28)

    return draw_chart(draw, title)
