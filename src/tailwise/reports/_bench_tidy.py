"""Every number of a benchmark's tables, one per line (CSV), and as one object (JSON)."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from tailwise.reports._bench_records import Bench
from tailwise.reports._bench_row_types import BenchRows, Found, K, Measure

__all__ = ["COLUMNS", "bench_results", "csv_table"]

RESULTS_VERSION = 1  # of results.json; rises when a field changes its meaning or goes away
COLUMNS = (
    "table",  # methods, curves, comparisons, beyond, revenue, tuning
    "setting",  # or "pooled"
    "method",
    "against",  # the baseline, or the rival whose curve it is
    "knob",
    "knob_value",
    "quantity",  # ndcg@10, recall@10, revenue, sell-through, step_ratio, ...
    "segment",
    "value",
    "baseline_value",
    "difference",  # relative, but for revenue and sell-through, where it is of shares
    "low",
    "high",
    "p_value",
    "p_holm",
    "n_seeds",
    "n_settings",
    "variance",  # what the interval holds: users (of sell-through: items), and seeds where there are several
    "note",
)


def csv_table(bench: Bench, rows: BenchRows) -> str:
    """Write all numbers in one tidy table; empty where there is none.

    With ten digits: the last of a float's differ from one processor to the next.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for line in _lines(bench, rows):
        writer.writerow({name: _cell(value) for name, value in line.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else value


def bench_results(bench: Bench, rows: BenchRows) -> dict[str, Any]:
    """Give all statistics as plain values: the content of ``results.json``."""
    return {
        "schema_version": RESULTS_VERSION,
        **{
            name: bench.about[name]
            for name in ("question", "baseline", "margin", "rule", "n_trials", "seeds")
        },
        "settings": [
            {"name": s.name, "n_cells": s.n_expected - s.n_missing, "n_missing": s.n_missing, **s.about}
            for s in bench.settings
        ],
        "not_begun": list(bench.not_begun),
        "left_out": list(rows.left_out),
        "methods": [
            {
                "setting": row.setting,
                "method": row.method.name,
                "label": row.method.label,
                "role": row.method.role,
                "n_seeds": row.n_seeds,
                "n_settings": row.n_settings,
                "measures": _measures(row.found),
                "kept": None if row.kept is None else vars(row.kept),
                "step_ratio": row.step_ratio,
                "minutes": row.minutes,
                "gain_per_minute": row.gain_per_minute,
            }
            for row in rows.methods
        ],
        "curves": [
            {
                "setting": row.setting,
                "method": row.method.name,
                "knob": row.knob,
                "value": row.value,
                "n_seeds": row.n_seeds,
                "n_settings": row.n_settings,
                "measures": _measures(row.found),
            }
            for row in rows.curves
        ],
        "comparisons": [
            {
                "setting": row.setting,
                "method": row.comparison.method,
                "against": row.comparison.against,
                "family": row.comparison.family,
                "seeds": list(row.comparison.seeds),
                "n_seeds": row.n_seeds,
                "n_settings": row.n_settings,
                "measures": _measures(row.found),
            }
            for row in rows.comparisons
        ],
        "beyond": [
            {
                **row.result.as_dict(),
                "setting": row.setting,
                "method": row.method.name,
                "at": row.at,
                "rival": row.rival.name,
                "knob": row.knob,
                "k": row.k,
            }
            for row in rows.beyond
        ],
        "tuning": [
            {**vars(row), "method": row.method.name, "trials": [dict(trial) for trial in row.trials]}
            for row in rows.tuning
        ],
        "revenue": [
            {"setting": row.setting, "method": row.method.name, **row.share.as_dict()} for row in rows.revenue
        ],
    }


def _measures(found: Mapping[Measure, Found]) -> list[dict[str, Any]]:
    return [
        {
            "metric": metric,
            "k": k,
            "segment": part,
            "value": f.value,
            "against": None if f.against is None else f.against.as_dict(),
            "p_holm": f.p_holm,
            "is_gain": f.is_gain,
        }
        for (metric, k, part), f in found.items()
    ]


def _lines(bench: Bench, rows: BenchRows) -> Iterator[dict[str, Any]]:
    for row in rows.methods:
        start: dict[str, Any] = {"table": "methods", "setting": row.setting, "method": row.method.name}
        start |= {"against": bench.baseline, "n_seeds": row.n_seeds, "n_settings": row.n_settings}
        for measure, found in row.found.items():
            yield start | _found(measure, found)
        if row.kept is not None:
            yield start | {
                "quantity": "overall kept",
                "p_value": row.kept.p_value,
                "variance": _variance(row.found["ndcg", K, "overall"]),
                "note": f"margin {row.kept.margin}: "
                + {True: "shown", False: "not shown", None: "not known"}[row.kept.is_shown],
            }
        for quantity in ("step_ratio", "minutes", "gain_per_minute"):
            if (value := getattr(row, quantity)) is not None:
                yield start | {"quantity": quantity, "value": value}
    for curve in rows.curves:
        start = {"table": "curves", "setting": curve.setting, "method": curve.method.name}
        start |= {"against": bench.baseline, "knob": curve.knob, "knob_value": curve.value}
        start |= {"n_seeds": curve.n_seeds, "n_settings": curve.n_settings}
        for measure, found in curve.found.items():
            yield start | _found(measure, found)
    yield from _comparison_lines(rows)
    for beyond in rows.beyond:
        result = beyond.result
        yield {
            "table": "beyond",
            "setting": beyond.setting,
            "method": beyond.method.name,
            "against": beyond.rival.name,
            "knob": beyond.knob,
            "quantity": f"ndcg@{beyond.k} above the curve",
            "segment": "tail",
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "n_seeds": result.n_seeds,
            "n_settings": len(result.settings),
            "variance": result.variance,
            "note": " ".join([*([] if beyond.at is None else [_knob(*beyond.at)]), *result.positions]),
        }
    for money in rows.revenue:
        share = money.share
        yield {
            "table": "revenue",
            "setting": money.setting,
            "method": money.method.name,
            "against": bench.baseline,
            "quantity": share.quantity,
            "segment": share.segment,
            "value": share.value.value,
            "baseline_value": share.baseline.value,
            "difference": share.difference.value,
            "low": share.difference.low,
            "high": share.difference.high,
            "n_seeds": share.n_seeds,
            "n_settings": 1,
            "variance": ("users" if share.quantity == "revenue" else "items")
            + ("+seeds" if share.n_seeds > 1 else ""),
            "note": f"of {share.total:.6g}",
        }
    for tuning in rows.tuning:
        for number, trial in enumerate(tuning.trials):
            settings = " ".join(_knob(knob, value) for knob, value in trial["settings"].items())
            yield {
                "table": "tuning",
                "setting": tuning.setting,
                "method": tuning.method.name,
                "quantity": f"trial {number}",
                "value": trial["value"],
                "note": settings + (" (chosen)" if number == tuning.chosen else ""),
            }


def _comparison_lines(rows: BenchRows) -> Iterator[dict[str, Any]]:
    for row in rows.comparisons:
        start: dict[str, Any] = {"table": "comparisons", "setting": row.setting}
        start |= {"method": row.comparison.method, "against": row.comparison.against}
        start |= {"note": row.comparison.family, "n_seeds": row.n_seeds, "n_settings": row.n_settings}
        for measure, found in row.found.items():
            yield start | _found(measure, found)


def _knob(name: str, value: Any) -> str:
    return f"{name}={value}"


def _found(measure: Measure, found: Found) -> dict[str, Any]:
    d = found.against
    metric, k, part = measure
    line: dict[str, Any] = {"quantity": f"{metric}@{k}", "segment": part, "value": found.value}
    if d is not None:
        line |= {"baseline_value": d.baseline_value, "difference": d.difference, "low": d.low}
        line |= {"high": d.high, "p_value": d.p_value, "p_holm": found.p_holm}
        line |= {"variance": d.variance, "n_seeds": d.n_seeds, "n_settings": len(d.settings)}
    return line


def _variance(found: Found) -> str | None:
    return None if found.against is None else found.against.variance
