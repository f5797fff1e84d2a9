"""The tables of a benchmark, laid out for a page (Markdown) and for a paper (LaTeX)."""

from collections.abc import Iterable
from itertools import groupby

from tailwise.reports._bench_records import Bench, Setting
from tailwise.reports._bench_row_types import LEVEL, POOLED, BenchRows
from tailwise.reports._bench_tables import FEW_SEEDS, Entry, bench_tables
from tailwise.reports._numbers import LEVEL as CONFIDENCE
from tailwise.reports._numbers import count, percent, plain

__all__ = ["latex_tables", "markdown_tables"]


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
        is_marked = any(FEW_SEEDS in entry.text for row in table.rows for entry in row)
        note = f" ({FEW_SEEDS}: fewer than three seeds)" if is_marked else ""
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
        f"each must be bold. {FEW_SEEDS}: fewer than three seeds (pooled: in some setting). Of one seed "
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
