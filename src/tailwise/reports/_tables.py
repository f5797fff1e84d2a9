"""The results as a table: for the terminal (80 columns suffice) and for a README."""

import textwrap
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.containers import Lines
from rich.table import Table
from rich.text import Text

from tailwise.reports._metrics_file import check_metrics
from tailwise.reports._numbers import NOTHING, interval, number, percent, ratio, signed
from tailwise.reports._results import ACCURACY_LABELS, Difference, Estimate, Results

__all__ = ["escape_markdown", "markdown_table", "summary_table"]

_METRICS = ("ndcg", "recall")
_MARKS = {"up": " ▲", "down": " ▼", "unclear": ""}
_STYLES = {"up": "bold cyan", "down": "bold yellow", "unclear": "dim"}  # tell apart without red and green


def summary_table(metrics: Mapping[str, Any]) -> Table:
    """Lay results out for the terminal: a row per variant, then a row per paired difference.

    Differences whose 95 % interval excludes zero carry ▲ or ▼; the others are dimmed.

    Raises:
        DataError: the results break the schema.
    """
    results = Results(check_metrics(metrics))
    segments = _segments(results)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        title=Text(f"{results.metrics['data']['name']}: test accuracy and exposure, lists of {results.k}"),
        title_justify="left",
        title_style="bold",
        caption=Text(_caption(results)),
        caption_justify="left",
    )
    table.add_column("", overflow="fold", min_width=10)
    table.add_column("", style="dim", no_wrap=True)
    for segment in segments:
        table.add_column(Text(segment.capitalize()), justify="right", no_wrap=True)
    tail_header = Text(f"{(results.tail or 'tail').capitalize()}\nslots")
    for header in (tail_header, Text("Cover-\nage"), Text("Train\ntime")):
        table.add_column(header, justify="right", no_wrap=True)

    ordered = [*results.references, *results.trained]
    for variant in ordered:
        name = variant["name"]
        cells = [_value_cell([results.accuracy(name, m, s) for m in _METRICS]) for s in segments]
        slots, coverage = results.slot_share(name, results.tail), results.coverage(name)
        table.add_row(
            _Label(results.labels[name]),
            _metric_names(),
            *cells,
            percent(slots.value if slots else None).replace("\u202f", ""),
            percent(coverage.value if coverage else None).replace("\u202f", ""),
            ratio(results.cost_ratio(variant)),
        )
        if variant is ordered[-1]:
            table.add_section()
    for variant in results.variants:
        name = variant["name"]
        found = [[results.difference(name, m, s) for m in _METRICS] for s in segments]
        if any(d is not None for pair in found for d in pair):
            table.add_row(
                _Label(f"{results.labels[name]} − {_baseline_label(results)}"),
                _metric_names(),
                *(_difference_cell(pair) for pair in found),
                _point_cell(results.compared_slot_share(name)),
                _point_cell(results.compared_coverage(name)),
                "",
            )
    return table


class _Label(Text):
    """A variant's label, which a narrow column breaks after a hyphen rather than within a word."""

    def wrap(self, console: Console, width: int, **_: Any) -> Lines:
        return Lines(Text(line) for line in textwrap.wrap(self.plain, width))


def markdown_table(metrics: Mapping[str, Any]) -> str:
    """Lay the same figures out as a Markdown table, for a README.

    Differences whose 95 % interval excludes zero are bold.

    Raises:
        DataError: the results break the schema.
    """
    results = Results(check_metrics(metrics))
    segments = _segments(results)
    columns = [(m, s) for m in _METRICS for s in segments]
    header = [
        "Variant",
        *(f"{ACCURACY_LABELS[m]}@{results.k} {s}" for m, s in columns),
        f"{results.tail or 'tail'} slot share@{results.k}",
        f"coverage@{results.k}",
        "training time",
    ]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for variant in [*results.references, *results.trained]:
        name = variant["name"]
        slots, coverage = results.slot_share(name, results.tail), results.coverage(name)
        values = [results.accuracy(name, m, s) for m, s in columns]
        lines.append(
            [
                results.labels[name],
                *(_with_interval(e) for e in values),
                percent(slots.value if slots else None),
                percent(coverage.value if coverage else None),
                ratio(results.cost_ratio(variant)),
            ]
        )
    for variant in results.variants:
        name = variant["name"]
        found = [results.difference(name, m, s) for m, s in columns]
        found += [results.compared_slot_share(name), results.compared_coverage(name)]
        if any(found[: len(columns)]):
            label = f"{results.labels[name]} − {_baseline_label(results)}"
            lines.append([label, *(_markdown_difference(d) for d in found), ""])
    escaped = [[escape_markdown(cell) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped) + "\n"


def _segments(results: Results) -> list[str]:
    ends = [s for s in (results.head, results.tail) if s is not None]
    return ["overall", *(s for s in ends if s in results.accuracy_segments)]


def _baseline_label(results: Results) -> str:
    return results.labels[results.baseline["name"]] if results.baseline else "baseline"


def _caption(results: Results) -> str:
    split = results.metrics["data"]["split"]
    lines = [
        f"Segments: {results.metrics['segments']['rule']}. Split: {split['method']}.",
        f"{split['n_test_targets']:,} test targets, {split['n_tied_test_targets']:,} of them tied;"
        f" {split['n_excluded_test_targets']:,} left out.",
    ]
    if results.metrics["comparisons"]:
        lines.append("Differences are paired by user; ▲ ▼: the 95 % interval excludes zero.")
        if max(row["n_seeds"] for row in results.metrics["comparisons"]) <= 1:
            lines.append("One training seed: intervals do not cover the luck of training.")
    return "\n".join(lines)


def _metric_names() -> Text:
    return Text("\n\n".join(ACCURACY_LABELS[m] for m in _METRICS))


def _value_cell(estimates: list[Estimate | None]) -> Text:
    lines: list[Text] = []
    for e in estimates:
        lines.append(Text(_short(number(e.value)) if e else NOTHING))
        has_interval = e is not None and e.low is not None and e.high is not None
        lines.append(
            Text(f"{_short(number(e.low))}–{_short(number(e.high))}" if e and has_interval else "", "dim")
        )
    return Text("\n").join(lines)


def _difference_cell(differences: list[Difference | None]) -> Text:
    lines: list[Text] = []
    for d in differences:
        if d is None:
            lines += [Text(NOTHING, "dim"), Text("")]
            continue
        lines.append(Text(_short(signed(d.difference)) + _MARKS[d.direction], _STYLES[d.direction]))
        has_interval = d.low is not None and d.high is not None
        lines.append(Text(f"{_short(signed(d.low))}…{_short(signed(d.high))}" if has_interval else "", "dim"))
    return Text("\n").join(lines)


def _point_cell(d: Difference | None) -> Text:
    if d is None or d.difference is None:
        return Text("")
    return Text(signed(100 * d.difference, 1) + _MARKS[d.direction], _STYLES[d.direction])


def _short(text: str) -> str:
    """``.0639`` instead of ``0.0639``: three columns with intervals fit a terminal of 80."""
    return text.replace("0.", ".", 1) if text.lstrip("+−").startswith("0.") else text


def _with_interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    return f"{number(estimate.value)} ({interval(estimate.low, estimate.high)})"


def _markdown_difference(d: Difference | None) -> str:
    if d is None:
        return ""
    text = f"{signed(d.difference)} ({interval(d.low, d.high, with_sign=True)})"
    return text if d.direction == "unclear" else f"**{text}**"


def escape_markdown(text: str) -> str:
    """Write a text so that it neither ends a table's cell nor begins an HTML tag."""
    for old, new in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(old, new)
    return text
