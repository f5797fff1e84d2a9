"""What every table, figure and file of a benchmark shows: the statistics, as rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailwise.evaluation import BeyondCurve, CapturedShare, NonInferiority, RelativeDifference
from tailwise.reports._bench_records import Comparison, Method

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
]

K = 10  # length of the judged list
DEEP = 100  # beside it: rare items are hit more often there, so less of what is seen is chance
LEVEL = 0.05  # of the Holm-adjusted tests
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
