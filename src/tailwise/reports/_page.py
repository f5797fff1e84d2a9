"""The page: put results, words and drawings into the template."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from tailwise.reports import _charts, _numbers
from tailwise.reports._metrics_file import check_metrics, write_atomically
from tailwise.reports._palette import SYMBOL_PATHS, dark_rules, styles
from tailwise.reports._results import ACCURACY_LABELS, Estimate, Results
from tailwise.reports._sections import cost_rows, exposure_rows, metric_name, setting_rows, tiles
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
    return _template().render(
        m=results.metrics,
        r=results,
        looks=looks,
        symbol_paths=SYMBOL_PATHS,
        css=_css(),
        words=words_for(results),
        tiles=tiles(results),
        charts={
            "concentration": _charts.concentration_chart(results),
            "accuracy": _charts.accuracy_chart(results, looks),
            "forest": _charts.forest_chart(results, looks),
            "deciles": _charts.decile_chart(results, looks),
        },
        exposure_rows=exposure_rows(results),
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


@cache
def _css() -> Markup:
    text = resources.files("tailwise.reports").joinpath("templates/report.css").read_text(encoding="utf-8")
    return Markup(text.replace("/* dark chart colours */", dark_rules()))


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tailwise.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    for name in _numbers.__all__:
        if name.islower():
            environment.filters[name] = getattr(_numbers, name)
    environment.filters["metric_name"] = metric_name
    environment.filters["compact_json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.get_template("report.html.jinja")
