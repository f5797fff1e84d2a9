"""Look things up in an audit: one place that knows how its parts are keyed."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

from tailwise.reports._results import Estimate, ends

__all__ = [
    "ALPHA",
    "POPULARITY",
    "PRIOR",
    "Audit",
    "Case",
    "Side",
    "Z",
    "attribution_case",
    "clear_ratios",
    "estimate",
    "sharpness_changes",
    "told_apart",
    "versus",
]

Subject = Mapping[str, Any]
Side = Literal["below", "above", "unclear"]
Case = Literal["data-more", "prior-more", "both", "data", "prior", "together", "neither", "not-measurable"]
PRIOR, POPULARITY = "title-likelihood", "popularity"  # what the file calls the estimate, and the counts
ALPHA = 0.05  # of every test, as in the attribution's own sentence
Z = NormalDist().inv_cdf(1 - ALPHA / 2)  # half width of a 95 % interval, in standard errors


class Audit:
    """Read access to checked results of an audit.

    Attributes:
        content: All of it.
        subjects: Whose lists, in the file's order: the baseline first, references last.
        main: The subject that the words speak of: the first that is no reference, else the first.
        treatment: The treatment that the words hold against the baseline: the first whose name
            starts with ``eisam``, else the first; None where there is no baseline or no treatment.
        k: Places of each list that count.
        tail, head: Segments that the words call rare and popular.
        segments: Names, most popular first.
        labels: What people call a subject, by name.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self.subjects: list[dict[str, Any]] = list(content["subjects"])
        self.main = next((s for s in self.subjects if s["role"] != "reference"), self.subjects[0])
        treatments = [s for s in self.subjects if s["role"] == "treatment"]
        named = [s for s in treatments if s["name"].lower().startswith("eisam")]
        compared = self.main["role"] == "baseline"
        self.treatment: dict[str, Any] | None = next(iter(named or treatments), None) if compared else None
        self.k: int = self.main["k"]
        rows: list[dict[str, Any]] = list(content["segments"]["segments"])
        self.tail, self.head = ends(rows)
        self.segments: list[str] = [row["name"] for row in rows]
        self.labels: dict[str, str] = {s["name"]: s["label"] or s["name"] for s in self.subjects}
        self._held = {row["name"]: row for row in rows}

    @property
    def agreement_with_log(self) -> Estimate | None:
        """Rank correlation over items of what the attribution takes as the prior with the counts."""
        return self.agreement(PRIOR, POPULARITY)

    def agreement(self, first: str, second: str) -> Estimate | None:
        """Rank correlation of two estimates of the prior, or of one with the log's counts."""
        for row in self.content["prior_side"]["agreements"]:
            if {row["first"], row["second"]} == {first, second}:
                return estimate(row["spearman"])
        return None

    def label(self, subject: Subject) -> str:
        """What people call a subject."""
        return self.labels[subject["name"]]

    def interaction_share(self, segment: str | None) -> float | None:
        """Share of the training interactions that a segment holds, 0–1."""
        return self._held[segment]["interaction_share"] if segment in self._held else None

    def exposure(self, subject: Subject, metric: str, segment: str | None = None) -> Estimate | None:
        """One exposure metric at the subject's own cut-off; None if it was not measured."""
        for row in subject["exposure"]:
            if row["metric"] == metric and row["k"] == subject["k"] and row["segment"] == segment:
                return None if row["value"] is None else Estimate(row["value"], row["low"], row["high"])
        return None

    def accuracy(self, rows: Sequence[Mapping[str, Any]], segment: str, k: int) -> Estimate | None:
        """NDCG of a segment (or ``overall``) among rows of accuracy; None if it was not measured."""
        for row in rows:
            if (row["metric"], row["k"], row["segment"]) == ("ndcg", k, segment):
                return Estimate(row["value"], row["low"], row["high"], row["n_targets"], row["n_users"])
        return None

    def top_share(self, item_share: float) -> float | None:
        """Share of the interactions that the most popular items hold, so many of the catalogue."""
        for row in self.content["data"]["concentration"]["top_shares"]:
            if abs(row["item_share"] - item_share) < 1e-9:
                return float(row["interaction_share"])
        return None

    def grid(self, subject: Subject, n_groups: int) -> Mapping[str, Any] | None:
        """The grid with so many groups of the prior."""
        return next((g for g in subject["grids"] if len(g["prior_groups"]) == n_groups), None)


def estimate(found: Mapping[str, Any]) -> Estimate:
    """An *uncertain* number of the file."""
    return Estimate(found["value"], found["low"], found["high"])


def versus(found: Estimate, known: float) -> Side:
    """On which side of a known number an interval lies; ``unclear`` where it holds the number."""
    if found.high is not None and found.high < known:
        return "below"
    if found.low is not None and found.low > known:
        return "above"
    return "unclear"


def told_apart(before: Estimate, after: Estimate) -> Side:
    """Where the interval of ``after`` lies beside that of ``before``; ``unclear`` where they touch.

    Two 95 % intervals that do not touch tell the numbers apart with room to spare; that
    they do touch does not show that nothing changed.
    """
    if None in (before.low, before.high, after.low, after.high):
        return "unclear"
    if after.high < before.low:  # type: ignore[operator]
        return "below"
    if after.low > before.high:  # type: ignore[operator]
        return "above"
    return "unclear"


def attribution_case(found: Mapping[str, Any] | None) -> Case | None:
    """Which sides are shown to matter; None without an attribution.

    ``data-more`` and ``prior-more``: both are, and the intervals of their shares do not touch;
    ``both``: both are, neither is told to have the larger share; ``data``, ``prior``: one is;
    ``together``: what both explain is told from nothing, what either adds to the other is not;
    ``neither``; ``not-measurable``: items do not differ beyond chance.
    """
    if found is None:
        return None
    if not found["is_measurable"]:
        return "not-measurable"
    shares = found["corrected"] or found["uncorrected"]
    data, prior, both = (estimate(shares[name]) for name in ("data", "prior", "v_both"))
    told_data, told_prior = found["p_data"] <= ALPHA, found["p_prior"] <= ALPHA
    if told_data and told_prior:
        apart: dict[Side, Case] = {"above": "data-more", "below": "prior-more", "unclear": "both"}
        return apart[told_apart(prior, data)]
    if told_data:
        return "data"
    if told_prior:
        return "prior"
    return "together" if versus(both, 0.0) == "above" else "neither"


def clear_ratios(column: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Values of a column that are shown less, and more, than chosen, allowing for having looked at all.

    Of fifty values with 95 % intervals two or three miss 1 by chance, so each must be clear at
    0.05 over their number (Bonferroni): on the scale of logarithms, with the standard error that
    the half of the interval shows which faces 1. A value that is never shown must have been
    expected often enough.

    Returns:
        Those below 1, the smallest first; those above 1, the largest first.
    """
    rows = [row for row in column["values"] if row["kind"] == "value" and row["exposure_ratio"] is not None]
    line = NormalDist().inv_cdf(1 - ALPHA / 2 / max(len(rows), 1))
    found: dict[Side, list[Mapping[str, Any]]] = {"below": [], "above": [], "unclear": []}
    for row in rows:
        found[_clear_side(row, column, line, ALPHA / max(len(rows), 1))].append(row)
    return (
        sorted(found["below"], key=lambda row: row["exposure_ratio"]),
        sorted(found["above"], key=lambda row: -row["exposure_ratio"]),
    )


def _clear_side(row: Mapping[str, Any], column: Mapping[str, Any], line: float, alpha: float) -> Side:
    value, low, high = (row[f"exposure_ratio{end}"] for end in ("", "_low", "_high"))
    if value == 0:  # the chance of none, where as many are expected as the choices give
        return "below" if math.exp(-row["interaction_share"] * column["n_slots"]) < alpha / 2 else "unclear"
    # The half of the interval that faces 1 decides; the other may be cut off at 0.
    facing = low if value > 1 else high
    if facing is None or facing <= 0 or facing == value:
        return "unclear"
    z = math.log(value) / (abs(math.log(facing / value)) / Z)
    return "above" if z > line else "below" if z < -line else "unclear"


def sharpness_changes(sharpness: Mapping[str, Any] | None, variant: str) -> dict[str, Mapping[str, Any]]:
    """What a variant did to the sharpness of each group, by name; empty where it was not measured."""
    for comparison in () if sharpness is None else sharpness["comparisons"]:
        if comparison["variant"] == variant:
            return {group["name"]: group for group in comparison["groups"]}
    return {}
