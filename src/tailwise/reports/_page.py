"""The page: put results, words and drawings into the template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailwise.reports import _charts
from tailwise.reports._metrics_file import check_metrics
from tailwise.reports._palette import styles
from tailwise.reports._result_file import write_atomically
from tailwise.reports._results import ACCURACY_LABELS, Estimate, Results
from tailwise.reports._sections import cost_rows, exposure_rows, setting_rows, tiles
from tailwise.reports._templates import style_sheet, template
from tailwise.reports._words import words_for

__all__ = ["render_report", "write_report"]


def render_report(metrics: Mapping[str, Any]) -> str:
    """Render results as one HTML page that needs nothing else: no script, no outside request.

    Args:
        metrics: The results of a run, docs/metrics-schema.md.

    Returns:
        The HTML text. Every text of the results is escaped.

    Raises:
        DataError: the results break the schema.
    """
    results = Results(check_metrics(metrics))
    looks = styles(results.variants)
    return template("report.html.jinja").render(
        m=results.metrics,
        r=results,
        file="metrics.json",
        makers=results.variants,
        labels=results.labels,
        looks=looks,
        css=style_sheet("base.css", "report.css"),
        words=words_for(results),
        tiles=tiles(results),
        charts={
            "concentration": _charts.concentration_chart(results.metrics["data"]["concentration"]),
            "accuracy": _charts.accuracy_chart(results, looks),
            "forest": _charts.forest_chart(results, looks),
            "deciles": _charts.decile_chart(results.variants, results.k, looks),
        },
        exposure_rows=exposure_rows(results.variants, results.segments, results.k),
        cost_rows=cost_rows(results),
        settings=setting_rows(results.trained),
        reference_settings=setting_rows(results.references),
        accuracy_metrics=_accuracy_metrics(results),
        nothing=Estimate(None, None, None),
    )


def write_report(metrics: Mapping[str, Any], path: str | Path) -> Path:
    """Render results and write the page; a reader never sees half a file.

    Returns:
        The path written.

    Raises:
        DataError: the results break the schema; nothing is written then.
    """
    return write_atomically(Path(path), render_report(metrics))


def _accuracy_metrics(results: Results) -> list[str]:
    seen = dict.fromkeys(row["metric"] for v in results.variants for row in v["accuracy"])
    return [m for m in ACCURACY_LABELS if m in seen] + [m for m in seen if m not in ACCURACY_LABELS]
