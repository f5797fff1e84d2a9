"""From the records of a benchmark to its statistics: what every table, figure and file shows."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailwise.errors import DataError
from tailwise.evaluation import (
    BeyondCurve,
    CapturedShare,
    NonInferiority,
    PairedRuns,
    RelativeDifference,
    ResampledRuns,
    UserSums,
    beyond_curve,
    compare_revenue,
    compare_sell_through,
    holm,
    non_inferiority,
    relative_difference,
    user_gains,
)
from tailwise.reports._bench_records import Bench, Cell, Comparison, Method, Setting
from tailwise.schema import USER_INDEX

__all__ = [
    "DEEP",
    "LEVEL",
    "MEASURES",
    "POOLED",
    "BenchRows",
    "BeyondRow",
    "ComparisonRow",
    "CurveRow",
    "Found",
    "K",
    "Measure",
    "MethodRow",
    "RevenueRow",
    "TuningRow",
    "bench_rows",
]

K = 10  # length of the judged list
DEEP = 100  # beside it: rare items are hit more often there, so less of what is seen is chance
_LEAST_EXTRA = 0.1  # of the baseline's training time; less is the clock's noise
LEVEL = 0.05  # of the Holm-adjusted tests
_NOTHING_AT_ZERO = ("logit_adjustment", "reweighting", "resampling", "rerank", "rho")  # knobs
POOLED = "pooled"  # stands for a setting's name
Measure = tuple[str, int, str]  # metric, length of the list, segment
MEASURES: tuple[Measure, ...] = tuple(
    (metric, k, part)
    for metric, k in (("ndcg", K), ("recall", K), ("ndcg", DEEP))
    for part in ("overall", "head", "tail")
)


@dataclass(frozen=True)
class Found:
    """One measure of one method.

    Attributes:
        value: Mean over the seeds shared with the baseline; None when pooled, and where nothing was
            measured.
        against: Relative difference from the baseline; None for the baseline itself and where it
            has nothing to be relative to.
        p_holm: Adjusted over the methods compared in this column; None for methods that are shown
            for scale, for curve points, and where the comparison allows no test or has fewer than
            three seeds.
    """

    value: float | None
    against: RelativeDifference | None = None
    p_holm: float | None = None

    @property
    def is_gain(self) -> bool:
        """The interval, of three seeds or more, lies above zero, also after counting the comparisons."""
        if self.against is None or self.against.low is None or self.p_holm is None:
            return False
        return self.against.has_enough_seeds and self.against.low > 0 and self.p_holm < LEVEL


@dataclass(frozen=True)
class MethodRow:
    """A method in one setting, or pooled.

    Attributes:
        setting: Its name, or :data:`POOLED`.
        method: The method.
        n_seeds: Training seeds shared with the baseline; pooled, of the setting with the fewest.
        n_settings: 1, or how many settings the method was run in; a measure is averaged over fewer
            where the baseline has nothing of it (``against.settings``).
        found: By (metric, length of the list, segment).
        kept: Non-inferiority of overall NDCG, without a verdict where there are fewer than three
            seeds; None for the baseline.
        step_ratio: Seconds per step over the baseline's; None where not trained, or pooled.
        minutes: Of training, mean over seeds; None likewise.
        gain_per_minute: Relative gain in tail NDCG per minute of training beyond the baseline's;
            None where there are no such minutes, or less than a tenth of the baseline's.
    """

    setting: str
    method: Method
    n_seeds: int
    n_settings: int
    found: Mapping[Measure, Found]
    kept: NonInferiority | None = None
    step_ratio: float | None = None
    minutes: float | None = None
    gain_per_minute: float | None = None


@dataclass(frozen=True)
class CurveRow:
    """One value of a method's knob, in one setting or pooled.

    Attributes:
        setting: Its name, or :data:`POOLED`.
        method: The method.
        knob: Name of the knob.
        value: Of the knob.
        n_seeds: Training seeds shared with the baseline; pooled, of the setting with the fewest.
        n_settings: As of :class:`MethodRow`.
        found: By (metric, length of the list, segment).
        starts_at_baseline: With the knob at zero the method is the baseline.
    """

    setting: str
    method: Method
    knob: str
    value: float
    n_seeds: int
    n_settings: int
    found: Mapping[Measure, Found]
    starts_at_baseline: bool = False


@dataclass(frozen=True)
class ComparisonRow:
    """A difference between two methods, in one setting or pooled.

    Attributes:
        setting: Its name, or :data:`POOLED`.
        comparison: Which.
        method: What tables call the one, with the value of its knob.
        against: And the other, to which differences are relative.
        n_seeds: Training seeds of both; pooled, of the setting with the fewest.
        n_settings: As of :class:`MethodRow`.
        found: By (metric, length of the list, segment); ``value`` is the method's, ``p_holm`` counts the
            comparisons of the same family here.
    """

    setting: str
    comparison: Comparison
    method: str
    against: str
    n_seeds: int
    n_settings: int
    found: Mapping[Measure, Found]


@dataclass(frozen=True)
class BeyondRow:
    """A method held against the curve of a rival's knob, in one setting or pooled.

    Attributes:
        setting: Its name, or :data:`POOLED`.
        method: The method.
        rival: Whose curve it is.
        knob: The rival's.
        k: Length of the lists.
        result: By how much the tail lies above the curve.
        at: Knob and value of the method's own curve; None for the method as chosen.
    """

    setting: str
    method: Method
    rival: Method
    knob: str
    k: int
    result: BeyondCurve
    at: tuple[str, float] | None = None


@dataclass(frozen=True)
class TuningRow:
    """How a method was tuned in one setting.

    Attributes:
        setting: Its name.
        method: The method.
        rule: Choice rule in words.
        n_trials: That were run.
        n_declared: That every method was promised.
        chosen: The chosen trial; None when none was admissible.
        trials: All of them.
    """

    setting: str
    method: Method
    rule: str
    n_trials: int
    n_declared: int
    chosen: int | None
    trials: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RevenueRow:
    """Held-out revenue, or held-out items, that a method captures in one setting."""

    setting: str
    method: Method
    share: CapturedShare


@dataclass(frozen=True)
class BenchRows:
    """All statistics of a benchmark.

    Attributes:
        methods: Per setting in declared order, then pooled; within each, methods in declared order.
        curves: Per setting, then pooled.
        comparisons: Per setting, then pooled; within each, in declared order.
        beyond: Per setting, then pooled.
        tuning: Per setting.
        revenue: Per setting with known revenue.
        left_out: Settings without a baseline cell, which cannot be compared.
    """

    methods: tuple[MethodRow, ...]
    curves: tuple[CurveRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    beyond: tuple[BeyondRow, ...]
    tuning: tuple[TuningRow, ...]
    revenue: tuple[RevenueRow, ...]
    left_out: tuple[str, ...]


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
    gains = [_Gains(bench, setting) for setting in compared]
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


class _Gains:
    """The gains per user of every cell of a setting, summed once."""

    def __init__(self, bench: Bench, setting: Setting) -> None:
        self.setting = setting
        self.baseline = bench.baseline
        self.cells: dict[str, dict[int, Cell]] = {point: dict(c) for point, c in setting.cells.items()}
        base_seeds = self.cells[self.baseline]
        for m in bench.methods:  # a reference without training holds for every seed
            found = self.cells.get(m.name, {})
            if m.role == "scale" and found and all(c.record["cost"] is None for c in found.values()):
                self.cells[m.name] = dict.fromkeys(base_seeds, found[min(found)])
        summed: dict[int, UserSums] = {}
        self.sums: dict[tuple[str, int], UserSums] = {}
        for point, seeds in self.cells.items():
            for seed, cell in seeds.items():
                if id(cell) not in summed:
                    summed[id(cell)] = user_gains(cell.rankings, setting.segments, ks=(K, DEEP))
                self.sums[point, seed] = summed[id(cell)]
        self.users = next(iter(base_seeds.values())).rankings.lists[USER_INDEX].to_numpy()
        # Amounts of training histories of one data set share their test users.
        self.population = (
            f"{setting.about['data']}, {self.users.size} users, {zlib.crc32(self.users.tobytes()):x}"
        )

    def seeds(self, point: str, against: str | None = None, among: Sequence[int] = ()) -> list[int]:
        """Seeds that a point and the baseline, or another point, both have; among some, if any are given."""
        shared = self.cells.get(point, {}).keys() & self.cells.get(against or self.baseline, {}).keys()
        return sorted(shared & set(among) if among else shared)

    def paired(self, point: str, against: str | None = None, among: Sequence[int] = ()) -> PairedRuns | None:
        """The point against the baseline, or another point; None without a common seed."""
        seeds = self.seeds(point, against, among)
        if not seeds:
            return None
        return PairedRuns(
            setting=self.setting.name,
            population=self.population,
            users=self.users,
            baseline=tuple(self.sums[against or self.baseline, s] for s in seeds),
            treatment=tuple(self.sums[point, s] for s in seeds),
        )

    def mean_value(
        self, point: str, measure: Measure, against: str | None = None, among: Sequence[int] = ()
    ) -> float | None:
        """Mean over the seeds that are compared; None without targets in the segment."""
        values = []
        for seed in self.seeds(point, against, among):
            sums = self.sums[point, seed]
            i = sums.column(measure)
            values.append(sums.values()[i])
        return None if not values or np.isnan(values).any() else float(np.mean(values))

    def sums_to_some(self, point: str, measure: Measure, seeds: Iterable[int]) -> bool:
        """Whether a point hits anything at all with these seeds."""
        found = [self.sums[point, seed] for seed in seeds]
        return any(sums.numerators[:, sums.column(measure)].sum() > 0 for sums in found)

    def mean_cost(self, point: str, name: str, seeds: Iterable[int]) -> float | None:
        """Mean over seeds of a field of the cost; None where any is not known."""
        found = [self.cells[point][s].cost(name) for s in seeds]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known and len(known) == len(found) else None


def _compare(pairs: Sequence[PairedRuns], measure: Measure) -> RelativeDifference | None:
    """Pool the settings whose baseline has something to be relative to; None without any."""
    usable = []
    for one in pairs:
        i = one.baseline[0].column(measure)
        if sum(float(s.numerators[:, i].sum()) for s in one.baseline) > 0:
            usable.append(one)
    if not usable:
        return None
    metric, k, part = measure
    return relative_difference(usable, metric=metric, k=k, segment=part)


def _found(
    gains: Sequence[_Gains], point: str, *, is_pooled: bool, is_baseline: bool = False
) -> dict[Measure, Found]:
    alone = None if is_pooled else gains[0]
    pairs = [] if is_baseline else [pair for one in gains if (pair := one.paired(point)) is not None]
    return {
        measure: Found(
            value=alone.mean_value(point, measure) if alone else None,
            against=_compare(pairs, measure) if pairs else None,
        )
        for measure in MEASURES
    }


def _method_rows(bench: Bench, setting: str, gains: Sequence[_Gains]) -> list[MethodRow]:
    rows = []
    for method in bench.methods:
        present = [one for one in gains if one.seeds(method.name)]
        if not present:
            continue
        is_baseline = method.name == bench.baseline
        found = _found(present, method.name, is_pooled=setting == POOLED, is_baseline=is_baseline)
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


def _with_cost(row: MethodRow, gains: _Gains) -> MethodRow:
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


def _curve_rows(bench: Bench, setting: str, gains: Sequence[_Gains]) -> list[CurveRow]:
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
            found = _found(having, point, is_pooled=setting == POOLED)
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


def _comparison_rows(bench: Bench, setting: str, gains: Sequence[_Gains]) -> list[ComparisonRow]:
    rows: list[ComparisonRow] = []
    for one in bench.comparisons:
        sides = (one.method, one.against, one.seeds)
        present = [of for of in gains if of.seeds(*sides)]
        if not present:
            continue
        pairs = [pair for of in present if (pair := of.paired(*sides)) is not None]
        found = {
            measure: Found(
                value=None if setting == POOLED else present[0].mean_value(one.method, measure, *sides[1:]),
                against=_compare(pairs, measure),
            )
            for measure in MEASURES
        }
        rows.append(
            ComparisonRow(
                setting=setting,
                comparison=one,
                method=_label_of_point(bench, present[0], one.method),
                against=_label_of_point(bench, present[0], one.against),
                n_seeds=min(len(of.seeds(*sides)) for of in present),
                n_settings=len(present),
                found=found,
            )
        )
    families = dict.fromkeys(row.comparison.family for row in rows)
    of_families = [[row for row in rows if row.comparison.family == family] for family in families]
    return [
        replace(row, found=found)
        for family in of_families
        for row, found in zip(family, _adjusted([r.found for r in family], [True] * len(family)), strict=True)
    ]


def _label_of_point(bench: Bench, gains: _Gains, point: str) -> str:
    name, _, value = point.partition("@")
    return bench.labels[name] + (f" ({gains.setting.knob(name)} = {value})" if value else "")


def _starts_at_baseline(gains: _Gains, point: str) -> bool:
    """Whether the baseline is trained as the point is, but for a knob that does nothing at zero.

    Logit adjustment on top of SAM begins at SAM; γ of 0 weighs items evenly. Neither is the baseline.
    """
    seed = gains.seeds(point)[0]
    of_point, of_baseline = gains.cells[point][seed], gains.cells[gains.baseline][seed]
    own, base = of_point.record["settings"], of_baseline.record["settings"]
    turned = {"name", of_point.knob} | ({"optimizer"} if of_point.knob == "rho" else set())
    is_same = all(own.get(name) == value for name, value in base.items() if name not in turned)
    return of_point.knob in _NOTHING_AT_ZERO and is_same


def _beyond_rows(bench: Bench, gains: Sequence[_Gains], k: int, n_resamples: int) -> list[BeyondRow]:
    """Every tried method, and every point of what is not a rival's curve, against every rival's curve."""
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
        for rival in (m for m in bench.methods if m.role == "rival"):
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
    bench: Bench, rival: Method, gains: Sequence[_Gains]
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


def _revenue_rows(bench: Bench, gains: _Gains) -> list[RevenueRow]:
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
