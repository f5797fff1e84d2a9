"""The cells of a setting, paired by user and seed."""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from tailwise.evaluation import PairedRuns, RelativeDifference, UserSums, relative_difference, user_gains
from tailwise.reports._bench_records import Bench, Cell, Setting
from tailwise.reports._bench_row_types import DEEP, MEASURES, Found, K, Measure
from tailwise.schema import USER_INDEX

__all__ = ["Gains", "found_of"]


class Gains:
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


def found_of(
    gains: Sequence[Gains],
    point: str,
    against: str | None = None,
    among: Sequence[int] = (),
    *,
    is_pooled: bool,
    is_baseline: bool = False,
) -> dict[Measure, Found]:
    """Every measure of a point, and its difference from the baseline or another point."""
    alone = None if is_pooled else gains[0]
    every = [] if is_baseline else [one.paired(point, against, among) for one in gains]
    pairs = [pair for pair in every if pair is not None]
    return {
        measure: Found(
            value=alone.mean_value(point, measure, against, among) if alone else None,
            against=_compare(pairs, measure) if pairs else None,
        )
        for measure in MEASURES
    }
