"""From the records of a benchmark to its statistics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tailwise.errors import DataError
from tailwise.evaluation import (
    NonInferiority,
    RelativeDifference,
    ResampledRuns,
    beyond_curve,
    compare_revenue,
    compare_sell_through,
    holm,
    non_inferiority,
)
from tailwise.reports._bench_gains import Gains, found_of
from tailwise.reports._bench_records import Bench, Method
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

__all__ = ["bench_rows"]

_LEAST_EXTRA = 0.1  # of the baseline's training time; less is the clock's noise
_NOTHING_AT_ZERO = ("logit_adjustment", "reweighting", "resampling", "rerank", "rho")  # knobs


def bench_rows(bench: Bench, *, n_resamples: int = 2000) -> BenchRows:
    """Compute all statistics of a benchmark from its records.

    Every comparison uses the training seeds that both sides have.

    Args:
        bench: That :func:`read_bench` read.
        n_resamples: Of the users, where a bootstrap is needed.

    Raises:
        DataError: no setting has a cell of the baseline.
    """
    compared = [s for s in bench.settings if s.cells.get(bench.baseline)]
    if not compared:
        raise DataError(
            f"{bench.folder} must hold at least one cell of the baseline {bench.baseline!r}; got none in "
            f"{', '.join(s.name for s in bench.settings)}.\n  Run its cells first."
        )
    gains = [Gains(bench, setting) for setting in compared]
    methods: list[MethodRow] = []
    curves: list[CurveRow] = []
    comparisons: list[ComparisonRow] = []
    for name, group in [(one.setting.name, [one]) for one in gains] + [(POOLED, gains)] * (len(gains) > 1):
        methods += _method_rows(bench, name, group)
        curves += _curve_rows(bench, name, group)
        comparisons += _comparison_rows(bench, name, group)
    return BenchRows(
        methods=tuple(methods),
        curves=tuple(curves),
        comparisons=tuple(comparisons),
        beyond=tuple(row for k in (K, DEEP) for row in _beyond_rows(bench, gains, k, n_resamples)),
        tuning=tuple(_tuning_rows(bench)),
        revenue=tuple(row for one in gains for row in _revenue_rows(bench, one)),
        left_out=tuple(s.name for s in bench.settings if s not in compared),
    )


def _method_rows(bench: Bench, setting: str, gains: Sequence[Gains]) -> list[MethodRow]:
    rows = []
    for method in bench.methods:
        present = [one for one in gains if one.seeds(method.name)]
        if not present:
            continue
        is_baseline = method.name == bench.baseline
        found = found_of(present, method.name, is_pooled=setting == POOLED, is_baseline=is_baseline)
        overall = found["ndcg", K, "overall"].against
        row = MethodRow(
            setting=setting,
            method=method,
            n_seeds=min(len(one.seeds(method.name)) for one in present),
            n_settings=len(present),
            found=found,
            kept=None if overall is None else _kept(overall, bench.about["margin"]),
        )
        rows.append(row if setting == POOLED else _with_cost(row, present[0]))
    return _with_holm(rows)


def _kept(overall: RelativeDifference, margin: float) -> NonInferiority:
    kept = non_inferiority(overall, margin=margin)
    return kept if overall.has_enough_seeds else replace(kept, is_shown=None)


def _with_cost(row: MethodRow, gains: Gains) -> MethodRow:
    name, seeds = row.method.name, gains.seeds(row.method.name)
    step, base_step = (gains.mean_cost(p, "seconds_per_step", seeds) for p in (name, gains.baseline))
    spent, base_spent = (gains.mean_cost(p, "train_seconds", seeds) for p in (name, gains.baseline))
    tail = row.found["ndcg", K, "tail"].against
    extra = None if spent is None or base_spent is None else (spent - base_spent) / 60
    costs_more = extra is not None and base_spent is not None and 60 * extra > _LEAST_EXTRA * base_spent
    return replace(
        row,
        step_ratio=step / base_step if step is not None and base_step else None,
        minutes=None if spent is None else spent / 60,
        gain_per_minute=tail.difference / extra if tail is not None and extra and costs_more else None,
    )


def _with_holm(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """Adjust each measure over the methods that are compared, not over those shown for scale."""
    adjusted = _adjusted([row.found for row in rows], [row.method.role != "scale" for row in rows])
    return [replace(row, found=found) for row, found in zip(rows, adjusted, strict=True)]


def _adjusted(
    rows: Sequence[Mapping[Measure, Found]], is_counted: Sequence[bool]
) -> list[dict[Measure, Found]]:
    """Holm's p of each measure over the rows that count.

    A comparison that allows no test counts as if its p were 1: left out, it would make the others'
    p values smaller. So does one of fewer than three seeds, whose p is too small.
    """
    adjusted: list[dict[Measure, Found]] = [dict(found) for found in rows]
    for measure in MEASURES:
        compared = [
            found[measure].against if counts else None for found, counts in zip(rows, is_counted, strict=True)
        ]
        counted = [None if d is None else 1.0 if (p := _tested(d)) is None else p for d in compared]
        for found, d, p in zip(adjusted, compared, holm(counted), strict=True):
            found[measure] = replace(found[measure], p_holm=None if d is None or _tested(d) is None else p)
    return adjusted


def _tested(against: RelativeDifference) -> float | None:
    """Its p value; None where it has none, or fewer than three seeds."""
    return against.p_value if against.has_enough_seeds else None


def _curve_rows(bench: Bench, setting: str, gains: Sequence[Gains]) -> list[CurveRow]:
    """Every value of every knob; pooled, the values that all settings with that curve have."""
    rows = []
    for method in bench.methods:
        of_settings = {id(one): dict(one.setting.curve(method.name)) for one in gains}
        having = [one for one in gains if any(one.seeds(p) for p in of_settings[id(one)].values())]
        if not having:
            continue
        values = set.intersection(*({v for v, p in of_settings[id(o)].items() if o.seeds(p)} for o in having))
        for value in sorted(values):
            point = of_settings[id(having[0])][value]
            found = found_of(having, point, is_pooled=setting == POOLED)
            rows.append(
                CurveRow(
                    setting=setting,
                    method=method,
                    knob=str(having[0].setting.knob(method.name)),
                    value=value,
                    n_seeds=min(len(one.seeds(point)) for one in having),
                    n_settings=len(having),
                    found=found,
                    starts_at_baseline=all(_starts_at_baseline(one, point) for one in having),
                )
            )
    return rows


def _comparison_rows(bench: Bench, setting: str, gains: Sequence[Gains]) -> list[ComparisonRow]:
    rows: list[ComparisonRow] = []
    for one in bench.comparisons:
        sides = (one.method, one.against, one.seeds)
        present = [of for of in gains if of.seeds(*sides)]
        if not present:
            continue
        rows.append(
            ComparisonRow(
                setting=setting,
                comparison=one,
                method=_label_of_point(bench, present[0], one.method),
                against=_label_of_point(bench, present[0], one.against),
                n_seeds=min(len(of.seeds(*sides)) for of in present),
                n_settings=len(present),
                found=found_of(present, *sides, is_pooled=setting == POOLED),
            )
        )
    families = dict.fromkeys(row.comparison.family for row in rows)
    of_families = [[row for row in rows if row.comparison.family == family] for family in families]
    return [
        replace(row, found=found)
        for family in of_families
        for row, found in zip(family, _adjusted([r.found for r in family], [True] * len(family)), strict=True)
    ]


def _label_of_point(bench: Bench, gains: Gains, point: str) -> str:
    name, _, value = point.partition("@")
    return bench.labels[name] + (f" ({gains.setting.knob(name)} = {value})" if value else "")


def _starts_at_baseline(gains: Gains, point: str) -> bool:
    """Whether the baseline is trained as the point is, but for a knob that does nothing at zero.

    Logit adjustment on top of SAM begins at SAM; γ of 0 weighs items evenly. Neither is the baseline.
    """
    seed = gains.seeds(point)[0]
    of_point, of_baseline = gains.cells[point][seed], gains.cells[gains.baseline][seed]
    own, base = of_point.record["settings"], of_baseline.record["settings"]
    turned = {"name", of_point.knob} | ({"optimizer"} if of_point.knob == "rho" else set())
    is_same = all(own.get(name) == value for name, value in base.items() if name not in turned)
    return of_point.knob in _NOTHING_AT_ZERO and is_same


def _beyond_rows(bench: Bench, gains: Sequence[Gains], k: int, n_resamples: int) -> list[BeyondRow]:
    """Every tried method, and every point of what is not a rival's curve, against every rival's curve.

    The baseline's curve is a rival's too: its epochs buy tail with overall quality.
    """
    tail = ("ndcg", k, "tail")
    resampled = [
        (
            one,
            ResampledRuns.from_sums(
                one.sums,
                one.users,
                setting=one.setting.name,
                population=one.population,
                k=k,
                n_resamples=n_resamples,
            ),
        )
        for one in gains
        if one.mean_value(bench.baseline, tail) and any(one.setting.curve(m.name) for m in bench.methods)
    ]
    rows: list[BeyondRow] = []
    groups = [(one.setting.name, [(one, runs)]) for one, runs in resampled]
    if len(resampled) > 1:
        groups.append((POOLED, resampled))
    for setting, group in groups:
        for rival in (m for m in bench.methods if m.role in ("baseline", "rival")):
            for method, at, point in _held_against(bench, rival, [one for one, _ in group]):
                curves: dict[str, list[str]] = {}
                usable: list[ResampledRuns] = []
                for one, runs in group:
                    points = [p for _, p in one.setting.curve(rival.name)]
                    shared = set(one.seeds(point)).intersection(*(one.seeds(p) for p in points))
                    if points and shared and one.sums_to_some(bench.baseline, tail, shared):
                        usable.append(runs)
                        curves[runs.setting] = points
                if not usable:
                    continue
                knob = next(name for one, _ in group if (name := one.setting.knob(rival.name)))
                result = beyond_curve(usable, point, curves, baseline=bench.baseline)
                rows.append(BeyondRow(setting, method, rival, knob, k, result, at))
    return rows


def _held_against(
    bench: Bench, rival: Method, gains: Sequence[Gains]
) -> Iterator[tuple[Method, tuple[str, float] | None, str]]:
    """Yield methods, points of their curves (None for a method as chosen), and the names of those."""
    for method in bench.methods:
        if method.role in ("baseline", "scale") or method.name == rival.name:
            continue
        yield method, None, method.name
        if method.role == "rival":
            continue
        points = {
            ((knob, value), point)
            for one in gains
            if (knob := one.setting.knob(method.name)) is not None
            for value, point in one.setting.curve(method.name)
        }
        for at, point in sorted(points):
            yield method, at, point


def _tuning_rows(bench: Bench) -> list[TuningRow]:
    by_name = {m.name: m for m in bench.methods}
    return [
        TuningRow(
            setting=setting.name,
            method=by_name[name],
            rule=tuning["rule"],
            n_trials=len(tuning["trials"]),
            n_declared=bench.about["n_trials"],
            chosen=tuning["chosen"],
            trials=tuning["trials"],
        )
        for setting in bench.settings
        for name, tuning in setting.tuning.items()
    ]


def _revenue_rows(bench: Bench, gains: Gains) -> list[RevenueRow]:
    setting = gains.setting
    if setting.revenue is None:
        return []
    rows: list[RevenueRow] = []
    for method in bench.methods:
        seeds = gains.seeds(method.name)
        if not seeds:
            continue
        base, own = ([gains.cells[p][s].rankings for s in seeds] for p in (gains.baseline, method.name))
        for part in ("overall", "head", "tail"):
            money = compare_revenue(base, own, setting.revenue, setting.segments, k=K, segment=part)
            items = compare_sell_through(base, own, setting.segments, k=K, segment=part)
            rows += [RevenueRow(setting.name, method, money), RevenueRow(setting.name, method, items)]
    return rows
