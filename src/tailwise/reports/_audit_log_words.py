"""What the log's own shape says, in words: power law and drift."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from tailwise.reports._audit_words import in_percent
from tailwise.reports._numbers import between, count, number

__all__ = ["drift_sentence", "power_law_sentences"]

_DRIFTS = 0.05  # of the choices: less than that is hardly a drift


def power_law_sentences(data_side: Mapping[str, Any]) -> list[str]:
    """Whether the counts of the popular items follow a power law, as far as was tested."""
    law = data_side["power_law"]
    if law is None:
        why = " ".join(str(data_side["omitted"].get("power_law", "")).split())
        return [f"No power law was fitted: {why}"] if why else []
    ends = between(law["low"], law["high"], lambda value: number(value, 2))
    scope = (
        f"among the {in_percent(law['fitted_item_share'])} of the trained items with {count(law['x_min'])}"
        f" choices or more (exponent {number(law['exponent'], 2)}{', ' if ends else ''}{ends})"
    )
    if law["support"] is None:
        return [f"A power law was fitted {scope}, but not tested."]
    if law["support"] == "none":
        better = [r["name"] for r in law["rivals"] if r["p"] <= 0.1 and r["statistic"] < 0]
        if better:
            curve = f"a {' and an '.join(better)} curve {'fits' if len(better) == 1 else 'fit'} them better"
            return [f"The counts do not follow a power law {scope}: {curve}."]
        return [
            f"The counts do not follow a power law {scope}: they lie farther from it than chance explains."
        ]
    if law["support"] == "moderate":
        rivals = " or an ".join(r["name"] for r in law["rivals"] if r["p"] > 0.1)
        return [f"The counts may follow a power law {scope}; a {rivals} curve cannot be ruled out either."]
    return [f"The counts follow a power law {scope}, as far as such a log can show."]


def drift_sentence(data_side: Mapping[str, Any]) -> str:
    """Whether yesterday's bestsellers are still today's."""
    drift = data_side["drift"]
    if drift is None:
        why = " ".join(str(data_side["omitted"].get("drift", "")).split())
        return f"Drift was not measured: {why}" if why else ""
    changes = [c for c in drift["changes"] if c["previous_head_share"] is not None]
    still = [c["previous_head_share_without_drift"] for c in changes]
    if not changes:
        return ""
    measured = fmean(c["previous_head_share"] for c in changes)
    text = (
        f"The most popular {in_percent(drift['head_share'])} of the items of one stretch of time still take"
        f" {in_percent(measured)} of the choices in the next, on average"
    )
    if any(value is None for value in still):
        return text + "."
    without = fmean(still)
    verdict = (
        "the head hardly drifts"
        if without - measured < _DRIFTS
        else "the head drifts: lists made of old logs age"
    )
    return f"{text}; if nothing changed over time it would be {in_percent(without)}. So {verdict}."
