"""The tables of a benchmark, for a page (Markdown) and for a paper (LaTeX)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tailwise.evaluation import BeyondCurve, RelativeDifference
from tailwise.reports._bench_records import Bench, Setting
from tailwise.reports._bench_rows import (
    DEEP,
    LEVEL,
    MEASURES,
    POOLED,
    BenchRows,
    BeyondRow,
    ComparisonRow,
    CurveRow,
    Found,
    K,
    Measure,
    MethodRow,
    RevenueRow,
    TuningRow,
)
from tailwise.reports._numbers import LEVEL as CONFIDENCE
from tailwise.reports._numbers import (
    NOTHING,
    count,
    duration,
    number,
    percent,
    plain,
    ratio,
    signed,
    signed_percent,
)

__all__ = ["Entry", "Table", "bench_tables", "latex_tables", "markdown_tables"]

_METRICS = {"ndcg": "NDCG", "recall": "Recall"}
_PARTS = ("overall", "head", "tail")
_FEW_SEEDS = "†"
_TOO_FEW = {1: "one seed", 2: "two seeds"}  # for a verdict
_POSITIONS = {"within": "within", "above": "above: held against the best", "below": "below: no claim"}


@dataclass(frozen=True)
class Entry:
    """One cell of a table."""

    text: str
    is_bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table, before it is laid out.

    Attributes:
        section: Name of the setting, or :data:`POOLED`.
        title: What it shows.
        header: Names of the columns; the first is set flush left, others flush right.
        rows: Of entries, as many as columns.
    """

    section: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]


def bench_tables(bench: Bench, rows: BenchRows) -> list[Table]:
    """Lay all statistics out: the pooled tables first, then those of each setting."""
    baseline = bench.labels[bench.baseline]
    tables: list[Table] = []
    for section in (POOLED, *(setting.name for setting in bench.settings)):
        methods = [row for row in rows.methods if row.setting == section]
        if section == POOLED:
            tables += _if_rows(_pooled_table(section, methods, baseline))
        else:
            tables += _if_rows(_headline_table(section, methods, baseline))
            for metric, k in (("recall", K), ("ndcg", DEEP)):
                tables += _if_rows(_measure_table(section, methods, baseline, metric, k))
        for k in (K, DEEP):
            beyond = [r for r in rows.beyond if (r.setting, r.k) == (section, k)]
            tables += _if_rows(_beyond_table(section, beyond, baseline, k))
        tables += _if_rows(_curve_table(section, [r for r in rows.curves if r.setting == section], baseline))
        compared = [r for r in rows.comparisons if r.setting == section]
        for family in dict.fromkeys(r.comparison.family for r in compared):
            tables += _if_rows(
                _comparison_table(section, family, [r for r in compared if r.comparison.family == family])
            )
        tables += _if_rows(_revenue_table(section, [r for r in rows.revenue if r.setting == section]))
        tables += _if_rows(_tuning_table(section, [r for r in rows.tuning if r.setting == section], bench))
    return tables


def markdown_tables(bench: Bench, rows: BenchRows, *, figure: str | None = None) -> str:
    """Write all tables as one Markdown page, with what a reader must know beside them."""
    by_name = {setting.name: setting for setting in bench.settings}
    parts = [f"# {_markdown(bench.about['question'])}", "\n".join(_about(bench, rows)), _reading(bench)]
    if figure is not None:
        parts.append(f"![Tail gain against overall change, every method with its intervals]({figure})")
    for section, tables in groupby(bench_tables(bench, rows), key=lambda table: table.section):
        if section == POOLED:
            n_settings = len(bench.settings) - len(rows.left_out)
            parts += [f"## Pooled over {n_settings} settings"]
        else:
            parts += [
                f"## {_markdown(by_name[section].title)}",
                "\n".join(f"- {line}" for line in _facts(by_name[section])),
            ]
        for table in tables:
            lines = [
                " | ".join(map(_markdown, table.header)),
                " | ".join(["---", *["---:"] * (len(table.header) - 1)]),
                *(" | ".join(_bold_markdown(entry) for entry in row) for row in table.rows),
            ]
            parts += [f"### {_markdown(table.title)}", "\n".join(f"| {line} |" for line in lines)]
    return "\n\n".join(parts) + "\n"


def latex_tables(bench: Bench, rows: BenchRows) -> str:
    """Write all tables for LaTeX; they need the packages booktabs and graphicx."""
    titles = {setting.name: setting.title for setting in bench.settings}
    parts = ["% Written by `tailwise bench` from its records. \\usepackage{booktabs,graphicx}"]
    for table in bench_tables(bench, rows):
        where = "Pooled" if table.section == POOLED else titles[table.section]
        is_marked = any(_FEW_SEEDS in entry.text for row in table.rows for entry in row)
        note = f" ({_FEW_SEEDS}: fewer than three seeds)" if is_marked else ""
        body = [" & ".join(map(_latex, table.header)), "\\midrule"]
        body += [" & ".join(_bold_latex(entry) for entry in row) for row in table.rows]
        parts.append(
            "\n".join(
                [
                    "\\begin{table}",
                    f"\\caption{{{_latex(f'{where}: {table.title}{note}')}}}",
                    "\\resizebox{\\textwidth}{!}{%",
                    f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
                    "\\toprule",
                    *(line if line == "\\midrule" else f"{line} \\\\" for line in body),
                    "\\bottomrule",
                    "\\end{tabular}}",
                    "\\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def _if_rows(table: Table) -> list[Table]:
    return [table] if table.rows else []


def _headline_table(section: str, rows: Sequence[MethodRow], baseline: str) -> Table:
    return Table(
        section,
        f"NDCG@10 and cost; differences in per cent of {baseline}",
        (
            "method",
            "seeds",
            *(f"{part} NDCG@10" for part in _PARTS),
            "Holm p, tail",
            "overall kept",
            f"step time, × {baseline}",
            "training, min",
            "tail gain per extra minute",
        ),
        tuple(
            (
                Entry(row.method.label),
                Entry(str(row.n_seeds)),
                *(_measured(row.found["ndcg", K, part]) for part in _PARTS),
                Entry(_p(row.found["ndcg", K, "tail"])),
                Entry(_kept(row)),
                Entry(ratio(row.step_ratio)),
                Entry(number(row.minutes, 1)),
                Entry(signed_percent(row.gain_per_minute, 2)),
            )
            for row in rows
        ),
    )


def _measure_table(section: str, rows: Sequence[MethodRow], baseline: str, metric: str, k: int) -> Table:
    name = f"{_METRICS[metric]}@{k}"
    return Table(
        section,
        f"{name}; differences in per cent of {baseline}",
        ("method", "seeds", *(f"{part} {name}" for part in _PARTS), "Holm p, tail"),
        tuple(
            (
                Entry(row.method.label),
                Entry(str(row.n_seeds)),
                *(_measured(row.found[metric, k, part]) for part in _PARTS),
                Entry(_p(row.found[metric, k, "tail"])),
            )
            for row in rows
        ),
    )


def _pooled_table(section: str, rows: Sequence[MethodRow], baseline: str) -> Table:
    return Table(
        section,
        f"Mean relative difference from {baseline} over settings, each with the same weight",
        (
            "method",
            "settings",
            "seeds",
            *(f"{part} {_METRICS[metric]}@{k}" for metric, k, part in MEASURES),
            "Holm p, tail NDCG@10",
            "overall NDCG@10 kept",
        ),
        tuple(
            (
                Entry(row.method.label),
                Entry(str(row.n_settings)),
                Entry(str(row.n_seeds)),
                *(_relative(row.found[measure], row.n_settings) for measure in MEASURES),
                Entry(_p(row.found["ndcg", K, "tail"])),
                Entry(_kept(row)),
            )
            for row in rows
            if row.kept is not None
        ),
    )


def _curve_table(section: str, rows: Sequence[CurveRow], baseline: str) -> Table:
    def show(row: CurveRow, measure: Measure) -> Entry:
        found = row.found[measure]
        return _relative(found, row.n_settings) if section == POOLED else _measured(found)

    return Table(
        section,
        f"Curves over each knob; differences in per cent of {baseline}",
        ("method", "knob", "settings", "seeds", *(f"{part} NDCG@{k}" for k in (K, DEEP) for part in _PARTS)),
        tuple(
            (
                Entry(row.method.label),
                Entry(_knob(row.knob, row.value)),
                Entry(str(row.n_settings)),
                Entry(str(row.n_seeds)),
                *(show(row, ("ndcg", k, part)) for k in (K, DEEP) for part in _PARTS),
            )
            for row in rows
        ),
    )


def _comparison_table(section: str, family: str, rows: Sequence[ComparisonRow]) -> Table:
    return Table(
        section,
        f"Comparisons, {family}; differences in per cent of the second method",
        (
            "method",
            "against",
            "settings",
            "seeds",
            *(
                name
                for k in (K, DEEP)
                for name in (*(f"{part} NDCG@{k}" for part in _PARTS), f"Holm p, tail NDCG@{k}")
            ),
        ),
        tuple(
            (
                Entry(row.method),
                Entry(row.against),
                Entry(str(row.n_settings)),
                Entry(_seeds(row)),
                *(
                    entry
                    for k in (K, DEEP)
                    for entry in (
                        *(_relative(row.found["ndcg", k, part], row.n_settings) for part in _PARTS),
                        Entry(_p(row.found["ndcg", k, "tail"])),
                    )
                ),
            )
            for row in rows
        ),
    )


def _seeds(row: ComparisonRow) -> str:
    """How many, and which where the comparison asks for some."""
    asked = row.comparison.seeds
    return f"{row.n_seeds} of {', '.join(map(str, asked))}" if asked else str(row.n_seeds)


def _beyond_table(section: str, rows: Sequence[BeyondRow], baseline: str, k: int) -> Table:
    return Table(
        section,
        f"Tail NDCG@{k} above a rival's curve at the same overall NDCG@{k}, in per cent of {baseline}'s tail",
        ("method", "curve of", "knob", "above the curve", "overall, against the curve's range", "seeds"),
        tuple(
            (
                Entry(row.method.label + ("" if row.at is None else f" ({_knob(*row.at)})")),
                Entry(row.rival.label),
                Entry(row.knob),
                Entry(_difference(row.result), row.result.is_beyond),
                Entry(_positions(row.result.positions)),
                Entry(str(row.result.n_seeds)),
            )
            for row in rows
        ),
    )


def _revenue_table(section: str, rows: Sequence[RevenueRow]) -> Table:
    by_method: dict[str, dict[tuple[str, str], RevenueRow]] = {}
    for row in rows:
        by_method.setdefault(row.method.label, {})[row.share.quantity, row.share.segment] = row
    columns = [(quantity, part) for quantity in ("revenue", "sell-through") for part in _PARTS]
    return Table(
        section,
        "Held-out revenue captured and held-out items found in the top 10; differences in percentage points",
        ("method", *(f"{quantity}, {part}" for quantity, part in columns)),
        tuple(
            (Entry(label), *(_captured(found.get(column)) for column in columns))
            for label, found in by_method.items()
        ),
    )


def _tuning_table(section: str, rows: Sequence[TuningRow], bench: Bench) -> Table:
    own_rules = any(row.rule != bench.about["rule"] for row in rows)  # else it stands on top of the page
    return Table(
        section,
        "Tuning on validation",
        (
            "method",
            "trials",
            "chosen",
            *(f"validation {part}" for part in _PARTS),
            "time of all trials",
            *(["rule"] if own_rules else []),
        ),
        tuple(
            (
                Entry(row.method.label),
                Entry(f"{row.n_trials} of {row.n_declared}"),
                Entry("none was admissible" if row.chosen is None else _settings(row)),
                *(
                    Entry(
                        NOTHING if row.chosen is None else number(row.trials[row.chosen]["validation"][part])
                    )
                    for part in _PARTS
                ),
                Entry(duration(sum(trial["seconds"] or 0.0 for trial in row.trials))),
                *([Entry(row.rule)] if own_rules else []),
            )
            for row in rows
        ),
    )


def _settings(row: TuningRow) -> str:
    chosen = row.trials[row.chosen or 0]["settings"]
    return ", ".join(_knob(knob, value) for knob, value in chosen.items()) or "nothing to tune"


def _knob(name: str, value: Any) -> str:
    return f"{name} = {plain(value)}"


def _measured(found: Found) -> Entry:
    if found.against is None:
        return Entry(number(found.value))
    return Entry(f"{number(found.value)} ({_difference(found.against)})", found.is_gain)


def _relative(found: Found, n_settings: int) -> Entry:
    """The difference, and over how many settings where the baseline of some has nothing of this measure."""
    if found.against is None:
        return Entry(NOTHING)
    n_averaged = len(found.against.settings)
    fewer = "" if n_averaged == n_settings else f" ({n_averaged} of {n_settings} settings)"
    return Entry(_difference(found.against) + fewer, found.is_gain)


def _difference(d: RelativeDifference | BeyondCurve) -> str:
    return f"{signed_percent(d.difference)}{_ends(d.low, d.high, d.has_enough_seeds)}"


def _ends(low: float | None, high: float | None, has_enough_seeds: bool) -> str:
    if low is None or high is None:
        return ""
    return f", {signed(100 * low, 1)} to {signed(100 * high, 1)}{'' if has_enough_seeds else _FEW_SEEDS}"


def _captured(row: RevenueRow | None) -> Entry:
    if row is None or row.share.value.value is None:
        return Entry(NOTHING)
    d = row.share.difference
    if d.value is None or (d.value, d.low, d.high) == (0.0, 0.0, 0.0):
        return Entry(percent(row.share.value.value))
    ends = _ends(d.low, d.high, row.share.has_enough_seeds)
    return Entry(f"{percent(row.share.value.value)} ({signed(100 * d.value, 1)}{ends})")


def _p(found: Found) -> str:
    if found.p_holm is None:
        return NOTHING
    return "< 0.001" if found.p_holm < 0.001 else number(found.p_holm, 3)


def _kept(row: MethodRow) -> str:
    """Yes, no, or not shown: the interval lies above the margin, below it, or spans it.

    Of fewer than three seeds no verdict, but their number.
    """
    overall = row.found["ndcg", K, "overall"].against
    if row.kept is None or overall is None or overall.high is None:
        return NOTHING
    if not overall.has_enough_seeds:
        return _TOO_FEW[overall.n_seeds]
    if row.kept.is_shown:
        return "yes"
    return "no" if overall.high < -row.kept.margin else "not shown"


def _positions(positions: Sequence[str]) -> str:
    if len(positions) == 1:
        return _POSITIONS[positions[0]]
    return ", ".join(f"{name} in {positions.count(name)}" for name in _POSITIONS if name in positions)


def _about(bench: Bench, rows: BenchRows) -> Iterable[str]:
    missing = sum(setting.n_missing for setting in bench.settings)
    expected = sum(setting.n_expected for setting in bench.settings)
    yield f"- Seeds: {', '.join(map(str, bench.about['seeds']))}."
    rule = _markdown(bench.about["rule"]).rstrip(".")
    yield f"- Trials per tuned method: {bench.about['n_trials']}. Choice rule: {rule}."
    yield f"- Cells: {expected - missing:,} of {expected:,}" + (
        ". Comparisons use the seeds that both sides have." if missing else "."
    )
    if bench.not_begun:
        yield f"- Not begun: {', '.join(bench.not_begun)}."
    if rows.left_out:
        yield f"- Without a cell of the baseline, so not compared: {', '.join(rows.left_out)}."


def _reading(bench: Bench) -> str:
    baseline, margin = bench.labels[bench.baseline], percent(bench.about["margin"], 0)
    level = percent(LEVEL, 0)
    return (
        f"Differences are paired by user and seed, relative to {baseline}, with {CONFIDENCE} intervals "
        "over users and, where there are several, training seeds. Intervals hold one by one; Holm's p "
        "values count the methods compared in a column, not those shown for scale; of comparisons between "
        "other methods, those of the same table. **Bold**: the interval "
        f"lies above zero and Holm's p is below {level}; for curves, the interval lies above zero and the "
        "curve reaches the method's overall quality. Those hold rival by rival: to be beyond all of them, "
        f"each must be bold. {_FEW_SEEDS}: fewer than three seeds (pooled: in some setting). Of one seed "
        "the interval holds the chance of users alone, of two it is too narrow where seeds differ much: "
        "never bold, no Holm p, no verdict on overall. A method without a single hit has a difference, "
        "but neither interval nor p: what never varies says nothing of chance. Holm counts both kinds "
        "with p = 1. "
        f"Overall is kept where its interval lies above −{margin}, lost (no) where it lies below."
    )


def _facts(setting: Setting) -> Iterable[str]:
    about = setting.about
    yield (
        f"{count(about['n_users'])} users, {count(about['n_items'])} items, "
        f"{count(about['n_interactions'])} interactions; {_markdown(about['backbone'])}."
    )
    yield (
        f"Split: {_markdown(about['split']['method'])}; {count(about['test']['n_targets'])} test targets of "
        f"{count(about['test']['n_users'])} users, {count(about['test']['n_tied'])} of them tied in time."
    )
    parameters = ", ".join(f"{k} = {plain(v)}" for k, v in about["segments"]["parameters"].items())
    rule = f"{about['segments']['rule']}{f' ({parameters})' if parameters else ''}"
    yield f"Segments: {_markdown(rule)}."
    if setting.n_missing:
        yield f"Cells missing: {setting.n_missing} of {setting.n_expected}."


def _markdown(text: str) -> str:
    for old, new in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("\n", " ")):
        text = text.replace(old, new)
    return text


def _bold_markdown(entry: Entry) -> str:
    return f"**{_markdown(entry.text)}**" if entry.is_bold else _markdown(entry.text)


_LATEX = {
    "\\": "\\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "−": "$-$",
    "×": "$\\times$",
    "≥": "$\\geq$",
    "≤": "$\\leq$",
    "<": "$<$",
    ">": "$>$",
    "–": "--",
    "†": "$\\dagger$",
    "\u202f": "\\,",
    "\n": " ",
    "α": "$\\alpha$",
    "β": "$\\beta$",
    "γ": "$\\gamma$",
    "ε": "$\\varepsilon$",
    "λ": "$\\lambda$",
    "ρ": "$\\rho$",
    "τ": "$\\tau$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _bold_latex(entry: Entry) -> str:
    return f"\\textbf{{{_latex(entry.text)}}}" if entry.is_bold else _latex(entry.text)
