"""Do the experiment statistics lie: to those who peek, under a ramp, about skewed money, about planned power?

::

    OMP_NUM_THREADS=1 python benchmarks/do_the_statistics_lie.py --output benchmarks/results
    python benchmarks/do_the_statistics_lie.py --runs 20   # seconds

Each part simulates whole experiments whose truth is known.

* ``aa``: no effect; 14 days, a look every hour, users who come back for days, zero-inflated log-normal
  revenue. How often does an experiment ever show an effect that is not there? Beside it the z-test that is
  repeated every hour on all that users did so far.
* ``ramp``: 1, 5, 25, 50 % of the traffic while the base rate falls. How often does an interval hold the
  truth: of all treatment against all control users, and of ours?
* ``cover``: effects of several sizes and kinds. How often do intervals hold the truth, at one look and
  at all of 150?
* ``sample-ratio``: a split of 48 to 52. After how many users is it found; how often is one found that
  is not there?
* ``power``: the number of users that the calculator asks for. How often do they suffice?

Every frequency comes with its Clopper-Pearson interval. The last line of the output is one JSON object.
With ``--output``, table, JSON and settings are kept in a folder named after date and question.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from _record import aligned, keep, rounded, surroundings
from tailwise.experiments import (
    AnytimePath,
    OutcomeArrays,
    PrePeriod,
    anytime_path,
    fixed_effect,
    follow_sample_ratio,
    plan_duration,
)
from tailwise.experiments.reference import pooled_z_test

QUESTION = "Do the experiment statistics lie to those who peek, under a ramp, about money, about power?"
SLUG = "do-the-statistics-lie"
PARTS = ("aa", "ramp", "cover", "sample-ratio", "power")
HEADER = ("part", "what", "how often", "interval", "runs", "note")

Floats = NDArray[np.float64]
DAY_H = 24


@dataclass(frozen=True)
class Visits:
    """A shop's users and what they do on each visit; times in hours from the start.

    Attributes:
        n_users: First exposed within the experiment.
        days: Of the experiment.
        window_days: Of each user's window.
        visits_per_day: Mean of the returning visits of a user; users differ (gamma, shape 0.7).
        conversion: Probability of an order per visit.
        sigma: Of the logarithm of an order's revenue.
        lift: Of the orders' size under treatment, relative.
    """

    n_users: int = 3_000
    days: int = 14
    window_days: float = 3.0
    visits_per_day: float = 0.4
    conversion: float = 0.05
    sigma: float = 1.2
    lift: float = 0.0

    def draw(self, seed: int) -> "Drawn":
        """Draw one experiment."""
        rng = np.random.default_rng(seed)
        exposed = np.sort(rng.uniform(0, self.days * DAY_H, self.n_users))
        treated = rng.random(self.n_users) < 0.5
        taste = rng.gamma(0.7, 1 / 0.7, self.n_users)
        n_visits = 1 + rng.poisson(taste * self.visits_per_day * (self.days - exposed / DAY_H))
        user = np.repeat(np.arange(self.n_users), n_visits)
        at = exposed[user] + rng.random(user.size) * (self.days * DAY_H - exposed[user])
        first = np.concatenate([[0], np.cumsum(n_visits)[:-1]])
        at[first] = exposed  # the visit of the first exposure
        ordered = rng.random(user.size) < np.minimum(self.conversion * (0.5 + taste[user] / 2), 1.0)
        size = rng.lognormal(3.0, self.sigma, user.size) * (1 + self.lift * treated[user])
        before = rng.poisson(taste * self.visits_per_day * 7)
        return Drawn(self, exposed, treated, user, at, ordered, size * ordered, before.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Drawn:
    """One experiment: users ``[n]`` in order of exposure, their visits ``[v]``, earlier visits ``[n]``."""

    world: Visits
    exposed: Floats
    treated: NDArray[np.bool_]
    user: NDArray[np.int64]
    at: Floats
    ordered: NDArray[np.bool_]
    revenue: Floats
    before: Floats

    @property
    def hours(self) -> Floats:
        """The looks."""
        return np.arange(1.0, self.world.days * DAY_H + 1)

    def looks(self) -> NDArray[np.int64]:
        """Users whose windows have closed, at every hour."""
        return np.searchsorted(self.exposed + self.world.window_days * DAY_H, self.hours, side="right")

    def outcomes(self, metric: str, *, cuped: bool = False) -> OutcomeArrays:
        """Outcomes within the windows."""
        inside = self.at < self.exposed[self.user] + self.world.window_days * DAY_H

        def add(values: Floats) -> Floats:
            return np.bincount(self.user[inside], weights=values[inside], minlength=self.exposed.size)

        orders = add(self.ordered.astype(np.float64))
        visits, gmv = add(np.ones(self.user.size)), add(self.revenue)
        columns = {
            "visits": (visits, None),
            "conversion": ((orders > 0).astype(np.float64), None),
            "gmv": (gmv, None),
            "session_gmv": (gmv, visits),
            "average_order_value": (gmv, orders),
        }[metric]
        return OutcomeArrays.of(self.treated, 0, *columns, self.before if cuped else None)

    def repeated_z(self) -> Floats:
        """P-value of the z-test of revenue per user, every hour, over all that users did so far."""
        order = np.lexsort((self.at, self.user))
        user, revenue = self.user[order], self.revenue[order]
        running = np.cumsum(revenue) - revenue
        earlier = running - running[np.searchsorted(user, np.arange(self.exposed.size))][user]
        hour = np.minimum(self.at[order].astype(np.int64), self.hours.size - 1)
        joined = np.minimum(self.exposed.astype(np.int64), self.hours.size - 1)
        parts = []
        for variant in (True, False):
            mine = self.treated[user] == variant

            def by_hour(values: Floats, mine: NDArray[np.bool_] = mine) -> Floats:
                return np.cumsum(np.bincount(hour[mine], weights=values[mine], minlength=self.hours.size))

            n = np.cumsum(np.bincount(joined[self.treated == variant], minlength=self.hours.size))
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = by_hour(revenue) / n
                # A user's square grows by 2·(so far)·(new) + (new)².
                square = by_hour(2 * earlier * revenue + revenue**2)
                parts.append((mean, (square - n * mean**2) / (n - 1) / n))
        with np.errstate(invalid="ignore", divide="ignore"):
            z = (parts[0][0] - parts[1][0]) / np.sqrt(parts[0][1] + parts[1][1])
        return np.where(np.isfinite(z), 2 * stats.norm.sf(np.abs(z)), 1.0)


def draw_ramp(seed: int, *, users_per_stage: int = 20_000, effect: float = 0.04) -> dict[str, Any]:
    """One ramp: 1, 5, 25, 50 % treated, a control cohort of the same size, the rest served control too.

    The share of users who buy falls from 30 to 12 % over the stages and drifts within them; treatment adds
    ``effect`` at any time.

    Returns:
        ``treated`` and ``values`` of everybody, ``stage``, ``in_cohort``, ``truth``.
    """
    rng = np.random.default_rng(seed)
    shares = np.array([0.01, 0.05, 0.25, 0.5])
    stage = np.repeat(np.arange(4), users_per_stage)
    place = rng.random(stage.size)
    treated, control = place < shares[stage], place >= 1 - shares[stage]
    rate = 0.12 + 0.18 * (1 - np.arange(stage.size) / stage.size)
    values = (rng.random(stage.size) < rate + effect * treated).astype(np.float64)
    return {
        "treated": treated,
        "values": values,
        "stage": stage,
        "in_cohort": treated | control,
        "truth": effect,
    }


def draw_money(
    rng: np.random.Generator, n: int, *, orders: float, sigma: float, lift: float
) -> dict[str, Any]:
    """Users with Poisson orders of log-normal size, and a covariate; orders and sizes grow by half the lift.

    Returns:
        ``outcomes`` and ``truth`` per metric: (difference, relative difference).
    """
    treated = rng.random(n) < 0.5
    more = np.sqrt(1 + lift)
    taste = rng.gamma(1.0, 1.0, n)
    n_orders = rng.poisson(orders * taste * np.where(treated, more, 1.0))
    owner = np.repeat(np.arange(n), n_orders)
    size = rng.lognormal(3.0, sigma, owner.size) * np.where(treated[owner], more, 1.0)
    gmv = np.bincount(owner, weights=size, minlength=n)
    before = rng.poisson(4 * taste).astype(np.float64)
    mean = float(np.exp(3.0 + sigma**2 / 2))
    converted = [r / (1 + r) for r in (orders, orders * more)]  # 1 − E exp(−r·taste), taste exponential
    return {
        "gmv": (OutcomeArrays.of(treated, 0, gmv), orders * mean * lift, lift),
        "gmv, CUPED": (OutcomeArrays.of(treated, 0, gmv, None, before), orders * mean * lift, lift),
        "average_order_value": (
            OutcomeArrays.of(treated, 0, gmv, n_orders),
            mean * (more - 1),
            float(more - 1),
        ),
        "conversion": (
            OutcomeArrays.of(treated, 0, n_orders > 0),
            converted[1] - converted[0],
            converted[1] / converted[0] - 1,
        ),
    }


def frequency(part: str, what: str, hits: int, runs: int, note: str = "") -> dict[str, Any]:
    """A share of runs with its Clopper-Pearson interval."""
    chance = stats.binomtest(hits, runs).proportion_ci(0.95)
    return rounded(
        {
            "part": part,
            "what": what,
            "share": hits / runs,
            "low": float(chance.low),
            "high": float(chance.high),
            "runs": runs,
            "note": note,
        },
        4,
    )


def measure_aa(runs: int) -> list[dict[str, Any]]:
    """Count the experiments that ever show an effect that is not there."""
    world, found = Visits(), dict.fromkeys((*_AA, "any of five, Holm"), 0)
    naive = once = 0
    for seed in range(runs):
        drawn = world.draw(seed)
        looks, p_values = drawn.looks(), []
        for metric in _AA:
            outcomes = drawn.outcomes(metric.removesuffix(", CUPED"), cuped=metric.endswith("CUPED"))
            p = anytime_path(outcomes, looks, tuned_for=world.n_users).p_value
            found[metric] += bool((p <= 0.05).any())
            p_values.append(p)
        five = [p_values[i] for i, metric in enumerate(_AA) if not metric.endswith("CUPED")]
        found["any of five, Holm"] += bool((np.min(five, axis=0) * 5 <= 0.05).any())
        z = drawn.repeated_z()
        naive += bool((z[DAY_H:] <= 0.05).any())
        once += bool(z[-1] <= 0.05)
    note = f"{world.n_users:,} users, {world.days * DAY_H} looks"
    return [
        frequency("aa", "repeated z-test, gmv", naive, runs, note + ", from the second day"),
        frequency("aa", "z-test, last look alone", once, runs, note),
        *(frequency("aa", name, hits, runs, note) for name, hits in found.items()),
    ]


_AA = ("visits", "conversion", "gmv", "gmv, CUPED", "session_gmv", "average_order_value")


def measure_ramp(runs: int) -> list[dict[str, Any]]:
    """Count the intervals that hold the truth under a ramp."""
    hits = dict.fromkeys(("pooled", "stratified", "all looks"), 0)
    bias = {"pooled": 0.0, "stratified": 0.0}
    for seed in range(runs):
        ramp = draw_ramp(seed)
        cohort, truth = ramp["in_cohort"], ramp["truth"]
        value, low, high = pooled_z_test(ramp["treated"], ramp["values"])
        hits["pooled"] += low <= truth <= high
        bias["pooled"] += (value - truth) / runs
        outcomes = OutcomeArrays.of(ramp["treated"][cohort], ramp["stage"][cohort], ramp["values"][cohort])
        fixed = fixed_effect(outcomes)
        assert fixed is not None
        hits["stratified"] += not fixed.interval.excludes(truth)
        bias["stratified"] += (fixed.difference - truth) / runs
        path = anytime_path(outcomes, _every(outcomes.n_users, 200), tuned_for=outcomes.n_users / 2)
        hits["all looks"] += _covers(path, truth)
    return [
        frequency(
            "ramp", "pooled holds the truth", hits["pooled"], runs, f"bias {bias['pooled']:+.4f} of 0.04"
        ),
        frequency("ramp", "ours, one look", hits["stratified"], runs, f"bias {bias['stratified']:+.4f}"),
        frequency("ramp", "ours, all 200 looks", hits["all looks"], runs),
    ]


def measure_cover(runs: int) -> list[dict[str, Any]]:
    """Count the intervals that hold the truth, per metric, effect and skew."""
    rows = []
    for sigma, lift in ((1.0, 0.0), (1.0, 0.1), (1.0, 0.5), (1.5, 0.1), (1.5, 1.0)):
        hits: dict[str, int] = {}
        for seed in range(runs):
            drawn = draw_money(np.random.default_rng(seed), 8_000, orders=0.08, sigma=sigma, lift=lift)
            for metric, (outcomes, truth, relative) in drawn.items():
                fixed = fixed_effect(outcomes)
                assert fixed is not None
                path = anytime_path(outcomes, _every(8_000, 150), tuned_for=4_000)
                for name, hit in (
                    ("one look", not fixed.interval.excludes(truth)),
                    ("one look, relative", not fixed.relative_interval.excludes(relative)),
                    ("all looks", _covers(path, truth)),
                    ("all looks, relative", _covers(path, relative, relative=True)),
                    ("all looks, lower bound", bool((path.lower <= truth).all())),
                    ("all looks, upper bound", bool((path.upper >= truth).all())),
                    ("all looks, relative lower bound", bool((path.relative_lower <= relative).all())),
                    ("all looks, relative upper bound", bool((path.relative_upper >= relative).all())),
                ):
                    key = f"{metric}: {name}"
                    hits[key] = hits.get(key, 0) + hit
        note = f"sigma {sigma}, lift {lift:.0%}"
        rows += [frequency("cover", key, count, runs, note) for key, count in hits.items()]
    return rows


def measure_sample_ratio(runs: int) -> list[dict[str, Any]]:
    """Find a split of 48 to 52, and none where there is none."""
    n, alpha = 20_000, 0.01
    rows = []
    for share in (0.5, 0.52):
        when = []
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            stage = np.repeat(np.arange(4), n // 4)
            p = follow_sample_ratio(rng.random(n) < share, stage)
            when.append(int(np.argmax(p <= alpha)) + 1 if p[-1] <= alpha else n + 1)
        found = int(np.count_nonzero(np.array(when) <= n))
        note = f"alpha {alpha}, looked at after each of {n:,} users"
        if share != 0.5:
            note += f"; median {np.median(when):,.0f} users, 90 % within {np.quantile(when, 0.9):,.0f}"
        rows.append(frequency("sample-ratio", f"alarm at {1 - share:.0%} to {share:.0%}", found, runs, note))
    return rows


def measure_power(runs: int) -> list[dict[str, Any]]:
    """Run experiments of the planned size."""
    rows = []
    for name, lift, margin in (("superiority", 0.25, None), ("non-inferiority", 0.0, 0.2)):
        past = draw_money(np.random.default_rng(99), 200_000, orders=0.08, sigma=1.0, lift=0.0)
        before = PrePeriod.of(past["conversion"][0].values[:, 0])
        effect = draw_money(np.random.default_rng(0), 100, orders=0.08, sigma=1.0, lift=lift)["conversion"][2]
        plan = plan_duration(before, users_per_day=1_000, relative_effect=effect, relative_margin=margin)
        once = at_end = ever = 0
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            outcomes = draw_money(rng, plan.users_anytime, orders=0.08, sigma=1.0, lift=lift)["conversion"][0]
            path = anytime_path(outcomes, _every(outcomes.n_users, 100), tuned_for=plan.users_anytime)
            wins = (path.low > 0) | (path.high < 0) if margin is None else path.relative_lower > -margin
            at_end, ever = at_end + bool(wins[-1]), ever + bool(wins.any())
            alpha = 0.05 if margin is None else 0.1  # one side of a 90 % interval
            fixed = fixed_effect(outcomes.first(plan.users_fixed), alpha=alpha)
            assert fixed is not None
            interval = fixed.relative_interval
            once += interval.excludes(0.0) if margin is None else interval.low > -margin
        rows += [
            frequency("power", f"{name}: one look", once, runs, f"{plan.users_fixed:,} users"),
            frequency(
                "power", f"{name}: sequence, at the end", at_end, runs, f"{plan.users_anytime:,} users"
            ),
            frequency("power", f"{name}: sequence, ever", ever, runs, f"{plan.users_anytime:,} users"),
        ]
    return rows


def _every(n: int, looks: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(1, n, looks).astype(np.int64))


def _covers(path: AnytimePath, truth: float, *, relative: bool = False) -> bool:
    low, high = (path.relative_low, path.relative_high) if relative else (path.low, path.high)
    return bool(((low <= truth) & (truth <= high)).all())


MEASURES: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "aa": measure_aa,
    "ramp": measure_ramp,
    "cover": measure_cover,
    "sample-ratio": measure_sample_ratio,
    "power": measure_power,
}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--output", type=Path, help="folder for results/<date>-<question>")
    chosen = parser.parse_args(arguments)
    rows = []
    for part in chosen.parts:
        began = time.perf_counter()
        rows += MEASURES[part](chosen.runs)
        print(f"{part}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    text = aligned(
        HEADER,
        [
            (
                row["part"],
                row["what"],
                f"{row['share']:.3f}",
                f"{row['low']:.3f} to {row['high']:.3f}",
                str(row["runs"]),
                row["note"],
            )
            for row in rows
        ],
        n_left=2,
    )
    record = {"question": QUESTION, **surroundings(), "rows": rows}
    print(text)
    print(json.dumps(record, ensure_ascii=False))
    if chosen.output:
        config = {k: str(v) if isinstance(v, Path) else v for k, v in vars(chosen).items()}
        keep(chosen.output / f"{record['date']}-{SLUG}", record, config, text)
    return record


if __name__ == "__main__":
    main()
