"""The tables of a benchmark, before they are laid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailwise.evaluation import BeyondCurve, RelativeDifference
from tailwise.reports._bench_records import Bench
from tailwise.reports._bench_row_types import (
    DEEP,
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
from tailwise.reports._numbers import (
    NOTHING,
    duration,
    number,
    percent,
    plain,
    ratio,
    signed,
    signed_percent,
)

__all__ = ["FEW_SEEDS", "Entry", "Table", "bench_tables"]

_METRICS = {"ndcg": "NDCG", "recall": "Recall"}
_PARTS = ("overall", "head", "tail")
FEW_SEEDS = "†"
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
    return f", {signed(100 * low, 1)} to {signed(100 * high, 1)}{'' if has_enough_seeds else FEW_SEEDS}"


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
