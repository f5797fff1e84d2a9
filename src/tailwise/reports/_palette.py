"""One colour and one symbol per variant, the same in every chart and in both colour schemes.

References are greys, the baseline is slate, treatments carry colour: the eye goes to what was
changed. The first four treatment colours are Okabe and Ito's, darkened until they reach 3:1
against white; the symbol tells variants apart where colour cannot.

Charts are drawn with the light colours as plain attributes, so an SVG also stands alone;
:func:`dark_rules` lists the CSS that swaps them in the dark scheme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "AXIS",
    "BAR",
    "DOWN",
    "GRID",
    "HEAT",
    "INK",
    "MUTED",
    "PLAIN",
    "SURFACE",
    "SYMBOL_PATHS",
    "UP",
    "Style",
    "dark_rules",
    "heat_class",
    "heat_rules",
    "styles",
]

INK, MUTED, AXIS, GRID, BAR, SURFACE = "#1b2431", "#5b6673", "#c3cad3", "#e8ebef", "#dce1e8", "#ffffff"
_CHROME_DARK = {
    INK: "#e9edf2",
    MUTED: "#9ba7b4",
    AXIS: "#46515e",
    GRID: "#262e38",
    BAR: "#35404c",
    SURFACE: "#171c23",
}
# (light, dark), from next to nothing to much: blue above zero, orange below. Ink stays readable on all.
HEAT = {
    "heat": (
        ("#f0f5fa", "#1b2732"),
        ("#d8e8f5", "#1c3245"),
        ("#bfdbef", "#1c3d58"),
        ("#a7ceea", "#1d486a"),
        ("#8fc0e5", "#1e547d"),
        ("#76b3df", "#1e5f90"),
        ("#5ea6da", "#1f6aa3"),
    ),
    "cool": (
        ("#fdf3ec", "#2c231d"),
        ("#fae4d7", "#3c2a1d"),
        ("#f7d6c1", "#4b301e"),
        ("#f4c8ac", "#5b361e"),
        ("#f2b996", "#6b3d1e"),
        ("#efaa80", "#7a441f"),
        ("#ec9c6b", "#8a4a1f"),
    ),
}
# (light, dark)
_BASELINE = ("#46566b", "#b4c2d3")
_REFERENCES = (("#8c96a3", "#7d8997"), ("#a39a8c", "#938a7b"), ("#7f9a96", "#6f8b87"), ("#9c8fa3", "#8d7f95"))
_TREATMENTS = (
    ("#0b6fb4", "#5cb3f0"),  # blue
    ("#c4520b", "#f2935a"),  # vermilion
    ("#0a7f5e", "#43c49c"),  # green
    ("#a84480", "#e08abd"),  # purple
    ("#87690a", "#d9b64a"),  # ochre
    ("#5a4ab5", "#a396f0"),  # indigo
    ("#9b2d3f", "#ea7f90"),  # wine
    ("#237f8e", "#63c3d2"),  # teal
)
UP, DOWN = _TREATMENTS[0][0], _TREATMENTS[1][0]  # of small signed bars
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
SYMBOL_PATHS = {  # in a box from -5 to 5, for legends
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "square": "M-3.6,-3.6h7.2v7.2h-7.2z",
    "diamond": "M0,-4.8L4.2,0L0,4.8L-4.2,0z",
    "triangle-up": "M0,-4.4L4.6,3.6L-4.6,3.6z",
    "triangle-down": "M0,4.4L4.6,-3.6L-4.6,-3.6z",
    "cross": "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}


@dataclass(frozen=True)
class Style:
    """How a variant looks."""

    color: str  # light scheme, #rrggbb
    dark: str  # dark scheme
    symbol: str  # name that Vega and SYMBOL_PATHS know


PLAIN = Style(MUTED, _CHROME_DARK[MUTED], "diamond")  # for what a maker of lists is held against


def styles(variants: Sequence[Mapping[str, Any]]) -> dict[str, Style]:
    """Give each variant (or given lists), by name, its colour and symbol; any number of them."""
    found: dict[str, Style] = {}
    n_seen = {"baseline": 0, "reference": 0, "treatment": 0}
    for variant in variants:
        role = "treatment" if variant["role"] == "lists" else variant["role"]
        position = n_seen[role]
        n_seen[role] += 1
        if role == "baseline" and position == 0:
            pair, symbol = _BASELINE, "circle"
        elif role == "reference":
            pair = _REFERENCES[position % len(_REFERENCES)]
            symbol = _SYMBOLS[(position + 3) % len(_SYMBOLS)]
        else:
            pair = _TREATMENTS[position % len(_TREATMENTS)]
            symbol = _SYMBOLS[(position + 1 + position // len(_TREATMENTS)) % len(_SYMBOLS)]
        found[variant["name"]] = Style(*pair, symbol)
    return found


def heat_class(share: float | None) -> str:
    """CSS class of a table cell: how far a value goes from 0 to 1, or down to −1; none without a value."""
    if share is None:
        return "heat-none"
    step = round(min(abs(share), 1.0) * (len(HEAT["heat"]) - 1))
    return f"{'cool' if share < 0 and step else 'heat'}-{step}"


def heat_rules(*, dark: bool) -> str:
    """CSS declarations of the cells of heat tables, in one of the two schemes."""
    return "\n".join(
        f".{name}-{step} {{ background: {pair[dark]} }}"
        for name, ramp in HEAT.items()
        for step, pair in enumerate(ramp)
    )


def dark_rules() -> str:
    """CSS declarations that map every chart colour to its dark counterpart."""
    pairs = dict(_CHROME_DARK) | dict([_BASELINE, *_REFERENCES, *_TREATMENTS])
    return "\n".join(
        f'svg [{attribute}="{light}"] {{ {attribute}: {dark} }}'
        for light, dark in pairs.items()
        for attribute in ("fill", "stroke")
    )
