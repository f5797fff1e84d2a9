"""Turn the results of a run or of an audit into things that people read.

In: the results of a run, one dict of the schema in ``docs/metrics-schema.md``; those of an audit,
``docs/audit-schema.md``. Out: ``metrics.json``, a self-contained ``report.html``, a terminal table, a
Markdown table; ``audit.json`` and a self-contained ``audit.html``. From the records of a benchmark:
tables, a figure, ``results.json``. From a tuning: a table of its trials and their front. From an exported
training: its model card.

    >>> write_report(read_metrics("runs/first/metrics.json"), "runs/first/report.html")  # doctest: +SKIP
    >>> write_audit_page(read_audit("audits/first/audit.json"), "audits/first/audit.html")  # doctest: +SKIP
"""

from tailwise.reports._audit_file import AUDIT_SCHEMA_VERSION, check_audit, read_audit, write_audit
from tailwise.reports._audit_page import audit_summary, render_audit, write_audit_page
from tailwise.reports._bench import write_bench
from tailwise.reports._bench_records import Bench, read_bench
from tailwise.reports._metrics_file import SCHEMA_VERSION, check_metrics, read_metrics, write_metrics
from tailwise.reports._model_card import ExportFacts, model_card
from tailwise.reports._page import render_report, write_report
from tailwise.reports._tables import markdown_table, summary_table
from tailwise.reports._tuning import tuning_page, write_tuning
from tailwise.reports._words import Summary, summarize

__all__ = [
    "AUDIT_SCHEMA_VERSION",
    "SCHEMA_VERSION",
    "Bench",
    "ExportFacts",
    "Summary",
    "audit_summary",
    "check_audit",
    "check_metrics",
    "markdown_table",
    "model_card",
    "read_audit",
    "read_bench",
    "read_metrics",
    "render_audit",
    "render_report",
    "summarize",
    "summary_table",
    "tuning_page",
    "write_audit",
    "write_audit_page",
    "write_bench",
    "write_metrics",
    "write_report",
    "write_tuning",
]
