"""What the audit's page draws beside the charts that it shares with the report."""

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tailwise.reports._audit_results import ALPHA, Audit, clear_ratios, estimate, sharpness_changes, versus
from tailwise.reports._dot_panels import Mark, dot_panels
from tailwise.reports._drawing import Chart
from tailwise.reports._numbers import LEVEL
from tailwise.reports._palette import INK, PLAIN, Style
from tailwise.reports._results import Estimate

__all__ = [
    "attribution_chart",
    "column_chart",
    "drift_chart",
    "segment_chart",
    "sharpness_chart",
    "taste_chart",
]

Looks = Mapping[str, Style]

_HALF, _ONE = 476, 780  # drawing units: half of a page; a chart of one panel
_SHARES = {  # in the order of the rows
    "data": "Log: its share",
    "prior": "Prior: its share",
    "v_both": "Both together",
    "data_alone": "Only the log",
    "prior_alone": "Only the prior",
    "interaction": "Interaction\n(not a share)",
}
_N_VALUES = 6  # of a column, at either end
_TASTES = {"niche": "like rare\nitems most", "mixed": "in between", "mainstream": "like them least"}


def attribution_chart(audit: Audit, looks: Looks) -> Chart | None:
    """Shares of the differences between items; hollow marks are not told from nothing."""
    subjects = [s for s in audit.subjects if s["attribution"] and s["attribution"]["is_measurable"]]
    marks = []
    for subject in subjects:
        found = subject["attribution"]
        shares = found["corrected"] or found["uncorrected"]
        for name, row in _SHARES.items():
            share, side = estimate(shares[name]), name.removesuffix("_alone")
            tested = side in ("data", "prior")  # by permutation: intervals are too wide around zero
            is_told = found[f"p_{side}"] <= ALPHA if tested else versus(share, 0.0) != "unclear"
            marks += _mark(subject["name"], row, share, looks[subject["name"]], is_solid=is_told)
    return dot_panels(
        {"": marks},
        rows=list(_SHARES.values()),
        series=[s["name"] for s in subjects],
        x_title=lambda _: f"Share of the differences, {LEVEL} interval",
        title=f"What goes with the differences in accuracy between items, with {LEVEL} intervals",
        rule=0.0,
        percent=True,
        label_room=132,
        wide=_ONE,
        n_columns=1,
    )


def segment_chart(audit: Audit, looks: Looks) -> Chart | None:
    """Share of the places per segment, beside its share of the choices."""
    marks = []
    for segment in audit.segments:
        held = audit.interaction_share(segment)
        marks += _mark("choices", segment, Estimate(held, None, None), PLAIN, is_solid=False)
        for subject in audit.subjects:
            shown = audit.exposure(subject, "slot_share", segment)
            marks += _mark(subject["name"], segment, shown, looks[subject["name"]])
    return dot_panels(
        {"": marks},
        rows=audit.segments,
        series=["choices", *(s["name"] for s in audit.subjects)],
        x_title=lambda _: "Share of the places",
        title=f"Share of the places by segment, lists of {audit.k}, beside the share of the choices",
        percent=True,
        wide=_HALF,
        n_columns=1,
    )


def taste_chart(audit: Audit, looks: Looks) -> Chart | None:
    """Tail share of users' own choices and of their lists, by how much they like rare items."""
    marks = []
    told = [s for s in audit.subjects if s["taste"] is not None]
    for name, row in _TASTES.items():
        for index, subject in enumerate(told):
            group = next((g for g in subject["taste"]["groups"] if g["name"] == name), None)
            if group is None:
                continue
            if index == 0:
                marks += _mark("own", row, estimate(group["own_tail_share"]), PLAIN, is_solid=False)
            shown = estimate(group["shown_tail_share"])
            marks += _mark(subject["name"], row, shown, looks[subject["name"]])
    return dot_panels(
        {"": marks},
        rows=list(_TASTES.values()),
        series=["own", *(s["name"] for s in told)],
        x_title=lambda _: "Share of rare items",
        title="Rare items among what users chose and among what they are shown, by their taste",
        percent=True,
        wide=_HALF,
        n_columns=1,
    )


def column_chart(audit: Audit, column: str, looks: Looks) -> Chart | None:
    """Values of a column that are shown least and most for what is chosen of them."""
    shown = [s for s in (audit.main, audit.treatment) if s is not None]
    tables = {s["name"]: _column(s, column) for s in shown}
    main = tables[audit.main["name"]]
    if main is None:
        return None
    names = _extremes(main)
    labels = _wrapped(names)
    marks = []
    for subject in shown:
        table = tables[subject["name"]]
        clear = [] if table is None else [row["value"] for side in clear_ratios(table) for row in side]
        for row in () if table is None else table["values"]:
            if row["kind"] == "value" and row["value"] in labels:
                ratio = Estimate(row["exposure_ratio"], row["exposure_ratio_low"], row["exposure_ratio_high"])
                look, is_clear = looks[subject["name"]], row["value"] in clear
                marks += _mark(subject["name"], labels[row["value"]], ratio, look, is_solid=is_clear)
    return dot_panels(
        {"": marks},
        rows=list(labels.values()),
        series=[s["name"] for s in shown],
        x_title=lambda _: f"Places over choices, {LEVEL} interval",
        title=f"Places in the lists over choices, by {column}",
        rule=1.0,
        label_room=150,
        wide=_ONE,
        n_columns=1,
    )


def drift_chart(audit: Audit) -> Chart | None:
    """How much of the head stays from one stretch of time to the next, beside a log without drift."""
    drift = audit.content["data_side"]["drift"]
    if drift is None:
        return None
    rows = [f"{change['earlier'] + 1} → {change['earlier'] + 2}" for change in drift["changes"]]
    measured = Style(INK, INK, "circle")

    def marks(name: str) -> list[Mark]:
        found = []
        for row, change in zip(rows, drift["changes"], strict=True):
            still = Estimate(change[f"{name}_without_drift"], None, None)
            found += _mark("without drift", row, still, PLAIN, is_solid=False)
            found += _mark("measured", row, Estimate(change[name], None, None), measured)
        return found

    return dot_panels(
        {
            "Most popular items that stay": marks("jaccard"),
            "Choices that fall on yesterday’s": marks("previous_head_share"),
        },
        rows=rows,
        series=["measured", "without drift"],
        x_title=lambda panel: (
            "Items in both heads over items in either"
            if panel.startswith("Most")
            else "Share on the head of the time before"
        ),
        title="Drift of the most popular items from one stretch of time to the next",
        percent=True,
    )


def sharpness_chart(audit: Audit, looks: Looks) -> Chart | None:
    """Rise of the loss of each group where the model is at its worst nearby; and what treatments changed."""
    sharpness = audit.content["sharpness"]
    if sharpness is None:
        return None
    rises: list[Mark] = []
    changes: list[Mark] = []
    for model in sharpness["models"]:
        look = looks[model["name"]]
        for segment in audit.segments:
            groups = [g for one in model["measured"] for g in one["groups"] if g["name"] == segment]
            rises += _mark(model["name"], segment, _mean([g["held_out"] for g in groups]), look)
            by_chance = _mean([g["random"] for g in groups])
            control = Style(look.color, look.dark, "cross")
            rises += _mark(f"{model['name']} random", segment, by_chance, control, is_solid=False)
        for segment, change in sharpness_changes(sharpness, model["name"]).items():
            is_told = change["verdict"] != "unclear"
            changes += _mark(model["name"], segment, estimate(change["difference"]), look, is_solid=is_told)
    series = [name for m in sharpness["models"] for name in (m["name"], f"{m['name']} random")]
    return dot_panels(
        {"Sharpness": rises, "Change against the baseline": changes},
        rows=audit.segments,
        series=series,
        x_title=lambda panel: (
            "Rise of the loss, nats per target" if panel == "Sharpness" else "Difference; left is flatter"
        ),
        title=f"Sharpness of the loss by segment, with {LEVEL} intervals",
        rule=0.0,
    )


def _mark(series: str, row: str, found: Estimate | None, look: Style, *, is_solid: bool = True) -> list[Mark]:
    """One mark, or none where there is no value."""
    if found is None or found.value is None:
        return []
    return [Mark(series, row, found.value, found.low, found.high, look, is_solid)]


def _column(subject: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((column for column in subject["columns"] if column["column"] == name), None)


def _extremes(table: Mapping[str, Any]) -> list[str]:
    """Values at either end of the ratio, the most shown first."""
    rows = [r for r in table["values"] if r["kind"] == "value" and r["exposure_ratio"] is not None]
    rows.sort(key=lambda row: -row["exposure_ratio"])
    chosen = rows if len(rows) <= 2 * _N_VALUES else rows[:_N_VALUES] + rows[-_N_VALUES:]
    return [row["value"] for row in chosen]


def _wrapped(names: Sequence[str]) -> dict[str, str]:
    """Labels of at most two lines, no two alike."""
    labels: dict[str, str] = {}
    for name in names:
        label = "\n".join(textwrap.wrap(" ".join(name.split()), 18, max_lines=2, placeholder=" …")) or "–"
        while label in labels.values():
            label += "′"
        labels[name] = label
    return labels


def _mean(found: Sequence[Mapping[str, Any]]) -> Estimate | None:
    """Over trainings; the interval is that of one training, which is about as wide."""
    if not found or any(one["value"] is None for one in found):
        return None
    low, high = (
        fmean(one[end] for one in found) if all(one[end] is not None for one in found) else None
        for end in ("low", "high")
    )
    return Estimate(fmean(one["value"] for one in found), low, high)
