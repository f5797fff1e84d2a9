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

__all__ = ["AXIS", "BAR", "GRID", "INK", "MUTED", "SURFACE", "SYMBOL_PATHS", "Style", "dark_rules", "styles"]

INK, MUTED, AXIS, GRID, BAR, SURFACE = "#1b2431", "#5b6673", "#c3cad3", "#e8ebef", "#dce1e8", "#ffffff"
_CHROME_DARK = {
    INK: "#e9edf2",
    MUTED: "#9ba7b4",
    AXIS: "#46515e",
    GRID: "#262e38",
    BAR: "#35404c",
    SURFACE: "#171c23",
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


def dark_rules() -> str:
    """CSS declarations that map every chart colour to its dark counterpart."""
    pairs = dict(_CHROME_DARK) | dict([_BASELINE, *_REFERENCES, *_TREATMENTS])
    return "\n".join(
        f'svg [{attribute}="{light}"] {{ {attribute}: {dark} }}'
        for light, dark in pairs.items()
        for attribute in ("fill", "stroke")
    )
