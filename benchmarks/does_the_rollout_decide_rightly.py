"""Does a rollout that decides by itself stop what harms, let through what helps, and leave the rest alone?

::

    OMP_NUM_THREADS=1 python benchmarks/does_the_rollout_decide_rightly.py --output benchmarks/results
    python benchmarks/does_the_rollout_decide_rightly.py --scenarios aa --runs 5   # seconds

Whole experiments in a shop whose truth is known (``tailwise.experiments.SCENARIOS``): 200,000 users who
return, drift of 1 % a day, a swing over the week. The experiment and its policy stand in
``benchmarks/does_the_rollout_decide_rightly.toml``. The machine looks every hour for at most 42 days, with
the same functions as in service. Declared beforehand, of 1,000 runs each:

* over-correction (tail clicks +53 %, head purchases -29 %, all clicks -17 %) is rolled back before it
  reaches 25 % of the users in >= 95 %;
* a real uplift (tail clicks +25 %, all clicks unchanged, head purchases -4 %) reaches 100 % in >= 80 %;
* with two equal models (28 days) the rule raises a false alarm in <= 5 %: it rolls back, pauses, or says
  that the treatment is better. Beside it, on the same data: whether |z| > 1.96 for total clicks at any look,
  and for any of the policy's and the experiment's metrics;
* a broken treatment is rolled back; after how many hours.

Not judged, 200 runs each: a smaller over-correction (head purchases -14 %, all clicks -9 %), a treatment
exactly as much worse as is accepted in clicks ("at-the-margin"), a novelty that fades, bots, a quickly
drifting shop.

Frequencies come with Clopper-Pearson intervals. What the traffic can tell is asked of ``plan_duration``
first, for every effect limit at 5 % exposure and for the first metric at 50 %. With ``--output`` every run is
kept at once and is not run again.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from _record import aligned, keep, rounded, surroundings
from tailwise.experiments import (
    METRICS,
    SCENARIOS,
    BurnIn,
    Experiment,
    OutcomeArrays,
    PrePeriod,
    SimulatedRollout,
    anytime_path,
    plan_duration,
    population,
    read_experiment,
    run_experiment,
    simulate_windows,
)

QUESTION = "Does a rollout that decides by itself stop what harms and let through what helps?"
SLUG = "does-the-rollout-decide-rightly"
DEFINITION = Path(__file__).with_suffix(".toml")
RUNS = {
    "over-correction": 1000,
    "uplift": 1000,
    "broken": 1000,
    "aa": 1000,
    "mild-over-correction": 200,
    "at-the-margin": 200,
    "novelty": 200,
    "bots": 200,
    "drift": 200,
}
DAYS = {"aa": 28.0, "bots": 28.0, "drift": 28.0, "at-the-margin": 28.0}  # 42 for the others
HEADER = ("scenario", "runs", "what", "share", "95 %", "goal")


def one_run(name: str, experiment: Experiment, seed: int) -> dict[str, Any]:
    """Run one experiment and say how it ended."""
    found = run_experiment(SCENARIOS[name], experiment, seed=seed, days=DAYS.get(name, 42.0))
    record: dict[str, Any] = {
        "scenario": name,
        "seed": seed,
        "state": found.state,
        "days": found.days,
        "highest_percent": found.highest_percent,
        "decisions": [[d.day, d.percent, d.decision.action] for d in found.decisions],
        "red": [g.name for d in found.decisions for g in d.decision.guardrails if g.light == "red"],
        "users": int(found.enrolled.treated.size),
        "looks": found.looks,
    }
    if name in ("aa", "bots", "drift"):
        record["naive"] = naive(found, experiment)
    return record


def naive(found: SimulatedRollout, experiment: Experiment) -> dict[str, bool]:
    """Metric -> |z| > 1.96 at some hourly look at the same users."""
    policy, enrolled = experiment.policy, found.enrolled
    closes = enrolled.exposed_at + policy.window_days * 86_400
    hours = np.arange(1, found.looks + 1) * policy.look_every_hours * 3600
    looks = np.searchsorted(closes, hours, side="right")
    crossed = {}
    for metric in {*(limit.metric for limit in policy.effects), *experiment.metrics}:
        arrays = OutcomeArrays.of(
            enrolled.treated, enrolled.stage, enrolled.columns[METRICS[metric].numerator]
        )
        path = anytime_path(arrays, looks, burn_in=BurnIn(200, 50))
        with np.errstate(invalid="ignore", divide="ignore"):
            z = path.difference / path.standard_error
        crossed[metric] = bool((np.abs(z[path.is_warm]) > 1.96).any())
    return crossed


def what_traffic_tells(experiment: Experiment) -> list[dict[str, Any]]:
    """Ask the calculator, from users under control, what can be shown at 5 % and at 50 %."""
    scenario, policy = SCENARIOS["aa"], experiment.policy
    rng = np.random.default_rng(0)
    people = population(scenario.world, rng)
    before = simulate_windows(
        scenario,
        people,
        np.zeros(scenario.world.n_users, dtype=np.bool_),
        np.zeros(scenario.world.n_users),
        window_days=policy.window_days,
        service_window_days=policy.service.window_hours / 24,
        rng=rng,
    )
    answers = []
    asked = [
        (limit.metric, 5.0, 0.0, limit.margin, policy.alpha / len(policy.effects)) for limit in policy.effects
    ]
    asked.append((experiment.metrics[0], 50.0, 0.25, None, policy.alpha_effect / len(experiment.metrics)))
    for metric, percent, effect, margin, alpha in asked:
        share = 2 * percent / 100
        plan = plan_duration(
            PrePeriod.of(before[METRICS[metric].numerator]),
            users_per_day=scenario.world.n_users * 0.2,  # about a fifth of those left come on a day
            share=share,
            window_days=policy.window_days,
            relative_effect=effect,
            relative_margin=margin,
            alpha=alpha,
            max_days=28,
            max_users=scenario.world.n_users * share,
        )
        answers.append(
            {
                "metric": metric,
                "percent": percent,
                "margin": margin,
                "effect": effect,
                "users": plan.users_anytime,
                "within_reach": plan.within_reach,
                "sentence": plan.sentence,
            }
        )
    return answers


def judged(name: str, runs: list[dict[str, Any]]) -> list[tuple[str, int, float | None, bool | None]]:
    """What is counted: words, how many, the share that was declared, and whether more is better."""

    def count(true: Any) -> int:
        return sum(bool(true(run)) for run in runs)

    rolled = count(lambda r: r["state"] == "rolled_back")
    harmful = name in ("over-correction", "mild-over-correction", "broken")
    rows: list[tuple[str, int, float | None, bool | None]] = []
    if harmful:
        goal = 0.95 if name == "over-correction" else None
        early = count(lambda r: r["state"] == "rolled_back" and r["highest_percent"] < 25)
        rows += [("rolled back before 25 %", early, goal, True), ("rolled back", rolled, None, True)]
    elif name in ("uplift", "novelty"):
        goal = 0.8 if name == "uplift" else None
        rows.append(("reached 100 %", count(lambda r: r["highest_percent"] >= 95), goal, True))
        rows.append(("rolled back", rolled, None, False))
    else:

        def shown(run: dict[str, Any]) -> bool:
            return bool(run["highest_percent"] > 50)

        alarms = count(lambda r: r["state"] in ("rolled_back", "paused") or shown(r))
        rows.append(("false alarm", alarms, 0.05 if name == "aa" else None, False))
        rows.append(("of these: said to be better", count(shown), None, False))
        rows.append(("reached 50 %", count(lambda r: r["highest_percent"] >= 50), None, True))
    if "naive" in runs[0]:
        rows.append(("naive z, total clicks", count(lambda r: r["naive"]["clicks"]), None, False))
        rows.append(("naive z, any metric", count(lambda r: any(r["naive"].values())), None, False))
    return rows


def summary(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares with intervals, and times to the end."""
    counted = []
    for what, n, goal, more in judged(name, runs):
        chance = stats.binomtest(n, len(runs)).proportion_ci(0.95)
        share = n / len(runs)
        met = None if goal is None else (share >= goal if more else share <= goal)
        counted.append(
            rounded(
                {"what": what, "n": n, "share": share, "low": float(chance.low), "high": float(chance.high)},
                4,
            )
            | {"goal": goal, "met": met}
        )
    ended = [run["days"] for run in runs if run["state"] in ("rolled_back", "completed")]
    days = None
    if ended:
        quantiles = np.quantile(ended, (0.05, 0.5, 0.95))
        days = rounded(dict(zip(("p05", "p50", "p95"), map(float, quantiles), strict=True)), 4)
    return {
        "scenario": name,
        "n_runs": len(runs),
        "truth": rounded(
            {
                column: SCENARIOS[name].effect(column, window_days=3.0)
                for column in ("clicks", "gmv", "head_purchases", "tail_clicks", "tail_purchases")
            },
            3,
        ),
        "counted": counted,
        "days_to_the_end": days,
        "red": dict(Counter(name for run in runs for name in set(run["red"]))),
        "mean_users": round(float(np.mean([run["users"] for run in runs]))),
        "mean_looks": round(float(np.mean([run["looks"] for run in runs]))),
    }


def table(results: list[dict[str, Any]], answers: list[dict[str, Any]]) -> str:
    """Lay the results out, then what the calculator says."""
    rows, notes = [], []
    for result in results:
        for row in result["counted"]:
            goal = "" if row["goal"] is None else f"{row['goal']:.0%} {'met' if row['met'] else 'missed'}"
            rows.append(
                (
                    result["scenario"],
                    str(result["n_runs"]),
                    row["what"],
                    f"{row['share']:.1%}",
                    f"{row['low']:.1%} to {row['high']:.1%}",
                    goal,
                )
            )
        days = result["days_to_the_end"]
        took = (
            "none ended"
            if days is None
            else (f"ended after {days['p50']:.1f} days (5 % {days['p05']:.1f}, 95 % {days['p95']:.1f})")
        )
        truth = ", ".join(f"{column} {value:+.1%}" for column, value in result["truth"].items())
        notes.append(f"{result['scenario']}: {truth}; {took}; red: {result['red'] or 'never'}")
    asked = [f"{a['metric']} at {a['percent']:g} %: {a['sentence']}" for a in answers]
    return "\n".join([aligned(HEADER, rows, n_left=3), "", *notes, "", *asked])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--scenarios", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--runs", type=int, help="of each scenario; default as declared")
    parser.add_argument("--output", type=Path, help="folder for results/<date>-<question>")
    parser.add_argument("--date", help="of a folder to go on with; default today")
    chosen = parser.parse_args(arguments)
    experiment = read_experiment(DEFINITION)
    around = surroundings()
    folder = chosen.output / f"{chosen.date or around['date']}-{SLUG}" if chosen.output else None
    done: dict[tuple[str, int], dict[str, Any]] = {}
    if folder and (folder / "runs.jsonl").exists():
        for line in (folder / "runs.jsonl").read_text().splitlines():
            record = json.loads(line)
            done[record["scenario"], record["seed"]] = record
    for name in chosen.scenarios:
        began = time.perf_counter()
        for seed in range(chosen.runs or RUNS[name]):
            if (name, seed) in done:
                continue
            done[name, seed] = one_run(name, experiment, seed)
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / "runs.jsonl").open("a") as file:
                    file.write(json.dumps(done[name, seed]) + "\n")
            if (seed + 1) % 100 == 0:
                print(f"{name}: {seed + 1} runs, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    kept = {
        name: [run for (other, _), run in sorted(done.items()) if other == name] for name in chosen.scenarios
    }
    results = [summary(name, runs) for name, runs in kept.items() if runs]
    answers = what_traffic_tells(experiment)
    text = table(results, answers)
    record = {"question": QUESTION, **around, "scenarios": results, "what_traffic_tells": answers}
    print(text)
    print(json.dumps(record, ensure_ascii=False))
    if folder:
        keep(folder, record, {"definition": DEFINITION.read_text(), "runs": RUNS, "days": DAYS}, text)


if __name__ == "__main__":
    main()
