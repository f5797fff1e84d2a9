"""What the audit's page shows beside its charts: key figures, tables, and what they say in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailwise.reports._audit_results import ALPHA, Audit, Z, estimate, versus
from tailwise.reports._numbers import LEVEL, between, count, duration, number, percent, plain, signed
from tailwise.reports._results import Estimate
from tailwise.reports._sections import Tile
from tailwise.reports._words import segment_name

__all__ = [
    "Effect",
    "NeglectedRows",
    "attribution_rows",
    "audit_tiles",
    "check_rows",
    "column_rows",
    "neglect_notes",
    "neglected_rows",
    "second_rows",
]

_SHARE_NAMES = {
    "data": "Share of the log",
    "prior": "Share of the prior",
    "v_both": "Both together",
    "v_data": "The log by itself",
    "v_prior": "The prior by itself",
    "data_alone": "What only the log explains",
    "prior_alone": "What only the prior explains",
    "interaction": "Interaction (not a share)",
}
_DIRECTIONS = {"below": "down", "above": "up", "unclear": "unclear"}
_FEW_EXAMPLES = 20  # neglected items; of fewer, a split by halves says nothing


@dataclass(frozen=True)
class NeglectedRows:
    """Items with the bars of what weighs on them.

    Attributes:
        items: Row of the file, bar of the log, bar of the prior.
        has_effects: Whether any item has bars.
    """

    items: tuple[tuple[Mapping[str, Any], "Effect", "Effect"], ...]
    has_effects: bool


@dataclass(frozen=True)
class Effect:
    """A signed bar: from ``left``, ``width`` wide, both in 0..100 with zero at 50; and its number."""

    left: float
    width: float
    text: str
    direction: str  # up, down or none


def audit_tiles(audit: Audit) -> list[Tile]:
    """Key figures of the log, of the lists that the words speak of, and of the prior."""
    skew, main = audit.content["data_side"]["skew"], audit.main
    intervals = skew["intervals"]
    gini = audit.content["data"]["concentration"]["gini"]
    found = [
        Tile(
            "Gini of the choices",
            number(gini, 2),
            "0: all items alike, 1: one has all",
            _interval(None if intervals is None else estimate(intervals["gini"]), lambda v: number(v, 2)),
        )
    ]
    if (top := audit.top_share(0.2)) is not None:
        rows = [] if intervals is None else intervals["top_shares"]
        of_top = [row["interaction_share"] for row in rows if row["item_share"] == 0.2]
        found.append(
            Tile(
                "Choices on the top 20\u202f%",
                percent(top),
                "most popular fifth of the items",
                _interval(estimate(of_top[0]) if of_top else None, percent),
            )
        )
    covered = audit.exposure(main, "coverage", audit.tail) if audit.tail else None
    if covered is not None and covered.value is not None:
        name = segment_name(audit.tail)
        after = None if audit.treatment is None else audit.exposure(audit.treatment, "coverage", audit.tail)
        found.append(
            Tile(
                f"{name[:1].upper()}{name[1:]} in nobody’s list",
                percent(1 - covered.value),
                f"lists of {main['k']}, {audit.label(main)}",
                ""
                if after is None or after.value is None or audit.treatment is None
                else f"{audit.label(audit.treatment)}: {percent(1 - after.value)}",
            )
        )
    shown, held = audit.exposure(main, "slot_share", audit.tail), audit.interaction_share(audit.tail)
    if audit.tail is not None and shown is not None and held is not None:
        side = versus(shown, held)
        found.append(
            Tile(
                f"Places of {segment_name(audit.tail)}",
                percent(shown.value),
                f"{percent(held)} of the choices",
                _interval(shown, percent),
                {"below": "less than chosen", "above": "more than chosen"}.get(side, "no clear difference"),
                _DIRECTIONS[side],
            )
        )
    agreement = audit.agreement_with_log
    if agreement is not None and agreement.value is not None:
        side = versus(agreement, 0.0)
        found.append(
            Tile(
                "Prior’s agreement with the log",
                signed(agreement.value, 2),
                "−1: opposite, 0: none, 1: same order",
                _interval(agreement, lambda v: signed(v, 2)),
                {"below": "opposite", "above": "agrees"}.get(side, "not told from none"),
                _DIRECTIONS[side],
            )
        )
    attribution = main["attribution"]
    if attribution is not None and attribution["is_measurable"]:
        shares = attribution["corrected"] or attribution["uncorrected"]
        data, prior = (estimate(shares[side]) for side in ("data", "prior"))
        found.append(
            Tile(
                "Who is found: log / prior",
                f"{percent(data.value, 0)} / {percent(prior.value, 0)}",
                "shares of the differences between items",
                "; ".join(
                    [f"the {side}’s could be chance" for side in _untold(attribution)]
                    + ([] if attribution["corrected"] else ["not corrected for errors of the prior"])
                ),
            )
        )
    return found


def attribution_rows(found: Mapping[str, Any]) -> list[tuple[str, Estimate | None, Estimate]]:
    """Every share by its name: corrected (None where nothing is) and uncorrected."""
    corrected = found["corrected"]
    return [
        (
            label,
            None if corrected is None else estimate(corrected[name]),
            estimate(found["uncorrected"][name]),
        )
        for name, label in _SHARE_NAMES.items()
    ]


def neglected_rows(rows: Sequence[Mapping[str, Any]], shown: slice) -> NeglectedRows:
    """A part of the neglected items; bars are on one scale for all of them."""
    sides = ("data_effect", "prior_effect")
    largest = max((abs(row[side]) for row in rows for side in sides if row[side] is not None), default=0.0)
    return NeglectedRows(
        tuple(
            (row, _effect(row["data_effect"], largest), _effect(row["prior_effect"], largest))
            for row in rows[shown]
        ),
        any(row[side] is not None for row in rows for side in sides),
    )


def _effect(value: float | None, largest: float) -> Effect:
    if value is None:
        return Effect(50.0, 0.0, "", "none")
    length = 50 * abs(value) / largest if largest else 0.0
    return Effect(
        50.0 - length if value < 0 else 50.0, length, signed(value, 3), "down" if value < 0 else "up"
    )


def neglect_notes(subject: Mapping[str, Any]) -> list[str]:
    """Whether it is the items little known to the language model that are neglected; which bars to trust."""
    return _known_notes(subject["neglected"]) + _effect_notes(subject)


def _effect_notes(subject: Mapping[str, Any]) -> list[str]:
    """Bars of a side that is not shown to matter are as likely chance."""
    found = subject["attribution"]
    if found is None or all(row["data_effect"] is None for row in subject["neglected"]):
        return []
    untold = [f"the {side}’s (p = {number(p, 2)})" for side, p in _untold(found).items()]
    if not untold:
        return []
    return [
        f"Bars that could be chance, because that side is not shown to add anything: {' and '.join(untold)}."
    ]


def _untold(attribution: Mapping[str, Any]) -> dict[str, float]:
    """Sides that are not shown to add anything, with their p values."""
    p_values = {"log": attribution["p_data"], "prior": attribution["p_prior"]}
    return {side: p for side, p in p_values.items() if p > ALPHA}


def _known_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    clear = [row for row in rows if row["shown_ratio_high"] < 1]
    known = [row["prior_percentile"] for row in clear if row["prior_percentile"] is not None]
    if len(known) < _FEW_EXAMPLES:
        return []
    n_less = sum(value < 0.5 for value in known)
    by_chance = abs(n_less - len(known) / 2) <= Z * len(known) ** 0.5 / 2
    text = (
        f"Of the {count(len(known))} items that are neglected most clearly, the language model knows"
        f" {count(n_less)} less well than its median item"
    )
    return [text + (", about as many as chance would give." if by_chance else ".")]


def column_rows(audit: Audit, column: str) -> list[dict[str, Any]]:
    """Values of a column: who holds what of catalogue and log, what each maker of lists shows of it.

    Returns:
        A row per value: ``value``, ``n_items``, ``interaction_share``, ``tail_share`` (of its items;
        None if unknown), and ``shown``: per subject that has the column, its share of the places and
        the ratio to the choices.
    """
    tables = [[c for c in s["columns"] if c["column"] == column] for s in audit.subjects]
    by_value = [{row["value"]: row for c in found for row in c["values"]} for found in tables if found]
    tails = {
        row["value"]: row.get(f"{audit.tail}_share")
        for one in audit.content["data_side"]["columns"]
        if one["column"] == column
        for row in one["values"]
    }
    return [
        {
            **{key: row[key] for key in ("value", "kind", "n_items", "interaction_share")},
            "tail_share": tails.get(value),
            "shown": [_shown(rows.get(value)) for rows in by_value],
        }
        for value, row in (by_value[0] if by_value else {}).items()
    ]


def _shown(row: Mapping[str, Any] | None) -> tuple[float | None, Estimate]:
    if row is None:
        return None, Estimate(None, None, None)
    ratio = Estimate(row["exposure_ratio"], row["exposure_ratio_low"], row["exposure_ratio_high"])
    return row["slot_share"], ratio


def check_rows(checks: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything that was counted of given lists: name, value."""
    return [(key, _checked(value)) for key, value in checks.items()]


def _checked(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(", ".join(f"{k} {_checked(v)}" for k, v in row.items()) for row in value) or "none"
    return count(value) if isinstance(value, int) and not isinstance(value, bool) else plain(value)


def second_rows(audit: Audit) -> list[tuple[str, str, bool]]:
    """What each part took when it was computed, longest first; whether it came from an earlier audit."""
    kept = set(audit.content["from_cache"])
    seconds = audit.content["seconds"]
    return [
        (part, duration(seconds[part]), part in kept)
        for part in sorted(seconds, key=lambda part: -seconds[part])
    ]


def _interval(found: Estimate | None, show: Callable[[float], str]) -> str:
    ends = "" if found is None else between(found.low, found.high, show)
    return f"{LEVEL} interval {ends}" if ends else ""
