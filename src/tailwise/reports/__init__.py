"""Turn the results of a run into things that people read.

In: the results of a run, one dict of the schema in ``docs/metrics-schema.md``.
Out: ``metrics.json``, a self-contained ``report.html``, a terminal table, a Markdown table.

    >>> write_report(read_metrics("runs/first/metrics.json"), "runs/first/report.html")  # doctest: +SKIP
"""

from tailwise.reports._metrics_file import SCHEMA_VERSION, check_metrics, read_metrics, write_metrics
from tailwise.reports._page import render_report, write_report
from tailwise.reports._tables import markdown_table, summary_table
from tailwise.reports._words import Summary, summarize

__all__ = [
    "SCHEMA_VERSION",
    "Summary",
    "check_metrics",
    "markdown_table",
    "read_metrics",
    "render_report",
    "summarize",
    "summary_table",
    "write_metrics",
    "write_report",
]
