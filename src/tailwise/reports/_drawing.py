"""Drawings as inline SVG: Altair writes the specification, vl-convert draws it, nothing runs in the page.

Static SVG rather than live Vega: a page of some hundred kB instead of a megabyte, no script,
sharp in print, readable by a screen reader. Each chart is drawn twice, for a desk and for a
phone, and CSS shows the one that fits. Legends are HTML, one for the whole page.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup, escape

from tailwise.reports._palette import AXIS, GRID, INK, MUTED, SURFACE

__all__ = [
    "GAP",
    "MARK_SIZE",
    "NARROW",
    "N_TICKS",
    "WIDE",
    "Chart",
    "draw_chart",
    "inline",
    "percent_axis",
    "stand_alone",
]

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
WIDE, NARROW = 1000, 348  # drawing units; about CSS pixels at the sizes they are shown
GAP = 48  # between panels
N_TICKS = 5
MARK_SIZE = 62  # square pixels
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


def draw_chart(draw: Callable[[bool], Any], title: str) -> Chart:
    """Draw a chart in both widths; ``draw`` is told whether it is the wide one."""
    return Chart(_svg(draw(True), title), _svg(draw(False), title), title)


def stand_alone(drawing: Markup) -> str:
    """Turn a drawing of a page into a file of its own: named as SVG, on a white ground."""
    svg = str(drawing)
    start = svg.index("</title>") + len("</title>")
    return (
        svg[:start].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        + f'<rect width="100%" height="100%" fill="{SURFACE}"/>'
        + svg[start:]
        + "\n"
    )


def percent_axis(text_format: str = ".0%") -> Any:
    """An axis without a line, labelled in percent."""
    return alt.Axis(format=text_format, tickCount=N_TICKS, domain=False, ticks=False)


def inline(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as the data of a chart."""
    return alt.Data(values=[dict(row) for row in rows])


def _svg(chart: Any, title: str) -> Markup:
    """Draw, then make the root scale with the page and carry a name."""
    spec = chart.to_dict(validate=False)
    spec["config"] = _CONFIG
    svg = _drawn(json.dumps(spec))
    match = re.match(r"<svg[^>]*?viewBox=\"([^\"]+)\"[^>]*>", svg)
    if match is None:
        raise RuntimeError("vl-convert drew no <svg> with a viewBox")
    width, height = match[1].split()[2:]
    root = Markup('<svg viewBox="{}" width="{}" height="{}" role="img" aria-label="{}"><title>{}</title>')
    return root.format(match[1], width, height, title, escape(title)) + Markup(svg[match.end() :])


@lru_cache(maxsize=64)  # a third of a second each; a page that is made again mostly draws the same
def _drawn(spec: str) -> str:
    svg: str = vl_convert.vegalite_to_svg(spec)
    return svg
