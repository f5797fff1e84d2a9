"""Does the rollout decide as rightly over real HTTP as in the engine?

::

    python benchmarks/does_the_rollout_decide_rightly_over_http.py --output benchmarks/results
    python benchmarks/does_the_rollout_decide_rightly_over_http.py --setting tiny --only broken --repeats 1

Each row is one experiment from its creation to its end: ``tailwise serve`` in a process of its own,
simulated people who visit it over HTTP for at most 14 days of simulated time, a machine that decides by the
policy of ``recipes/rollout_demo.py`` (unequal cohorts end it: ``on_sample_ratio = "rollback"``). Models are
those of that recipe, on ml-100k: control as trained; ``lifted``, popular items pushed down a little;
``overdone``, far too much. Repeats differ in the seed: other people, other cohorts.

Declared beforehand, of five repeats each:

* ``over-correction`` (``overdone``, people who like rare items half as much): rolled back;
* ``real-uplift`` (``lifted``, people who like them three times as much): reaches the last stage;
* ``a-a`` (one model twice): no roll-back, and no metric of the experiment shown to be better;
* ``broken`` (``lifted``, a fifth of its rankings fail, each takes 600 ms longer: ``--drill``): rolled back;
* ``lost`` (``lifted``, a fifth of its lists never reach the screen): rolled back. Most users come again and
  are exposed after all, so few are missing: with 3,000 users, as in the others, the sample-ratio test cannot
  tell, with 40,000 it does within days (reckoned beforehand from visits alone).

Reported and not judged: ``as-fitted``, ``novelty``, ``drift``, ``bots``, all with ``lifted``.

Beside each: when it was decided (days of simulated time, stage), why, and for each metric whether the
interval that holds at any look covers the truth, which is what both models' lists bring by expectation.
Latency is that of the machine at hand: where other work slows it, the treatment is blamed for it.

Every row is kept at once as ``rows/<scenario>-<seed>.json``, and is not made again (``--date`` names the
folder to go on with). ``tiny``: a random model and a made-up shop of 600 people, two stages, offline.
"""

import argparse
import importlib.util
import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from _record import aligned, keep, rounded, surroundings
from _tiny_shop import TINY_RUN, write_tiny_model, write_tiny_shop
from tailwise import jobs
from tailwise.experiments import EffectLimit, Experiment, Policy, StageOverride, StageRule
from tailwise.jobs._experiments import act, create, latest_in_log
from tailwise.jobs._experiments_decider import Decider
from tailwise.jobs._experiments_serving import POLL_S
from tailwise.jobs._experiments_status import status_of
from tailwise.jobs._simulate import SimulateConfig, people_of, simulate
from tailwise.jobs._simulate_client import ServiceClient
from tailwise.jobs._simulate_truth import truth_of

QUESTION = "Does the rollout decide as rightly over real HTTP as in the engine?"
SLUG = "does-the-rollout-decide-rightly-over-http"
BY = "person:benchmark"
_START_S = 600.0  # on a machine that has much else to do
DRILL = "fail:0.2,slow:600ms"
HEADER = ("scenario", "seed", "ended", "stage", "day", "visits", "covered", "expected", "as")


def _recipe() -> ModuleType:
    file = Path(__file__).parents[1] / "recipes" / "rollout_demo.py"
    spec = importlib.util.spec_from_file_location("rollout_demo", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} must be there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = _recipe()


@dataclass(frozen=True)
class Play:
    """What is served in a scenario, and what is expected of it.

    Attributes:
        treatment: Variant of the run.
        expected: ``rolled back``, ``last stage``, ``no alarm``; empty: nothing.
        drill: Of the treatment; empty: none.
        times_users: People, as a multiple of the setting's.
    """

    treatment: str = "adamw+lifted"
    expected: str = ""
    drill: str = ""
    times_users: float = 1.0


PLAYS = {
    "as-fitted": Play(),
    "real-uplift": Play(expected="last stage"),
    "a-a": Play("adamw", "no alarm"),
    "over-correction": Play("adamw+overdone", "rolled back"),
    "broken": Play(expected="rolled back", drill=DRILL),
    "lost": Play(expected="rolled back", times_users=40 / 3),
    "novelty": Play(),
    "drift": Play(),
    "bots": Play(),
}


@dataclass(frozen=True)
class Setting:
    """How large it all is.

    Attributes:
        policy: Of every experiment.
        ramp: In percent.
        course: Of every simulation.
        serve: Further arguments of ``tailwise serve``.
        n_people: Who are asked for the truth.
    """

    policy: Policy
    ramp: tuple[float, ...]
    course: dict[str, Any]
    serve: tuple[str, ...] = ()
    n_people: int = 300


SETTINGS = {
    "ml-100k": Setting(
        replace(demo.POLICY, on_sample_ratio="rollback"),
        demo.RAMP,
        {"users": 3_000, "days": 14.0, "visits_per_day": 0.5, "rate": 400.0},
    ),
    "tiny": Setting(
        Policy(
            look_every_hours=6.0,
            window_days=0.5,
            first_look_users=20,
            first_look_active_users=10,
            tuned_for_users=200,
            on_sample_ratio="rollback",
            every_stage=StageRule(minimum_days=0.5, minimum_users=20),
            stages=(StageOverride(100.0, minimum_users=2),),
            effects=(EffectLimit("clicks", 0.20),),
        ),
        (50.0, 100.0),
        {"users": 600, "days": 4.0, "visits_per_day": 0.8, "rate": 1000.0},
        ("--set=engine.warm_up=false",),
        n_people=40,
    ),
}


def train(setting: str, folder: Path) -> Path:
    """Train the models where they are not yet there; return the run's folder."""
    run = folder / "run"
    if setting == "ml-100k":
        command = [sys.executable, "-m", "tailwise", "run", *demo.TRAINING, "--out", str(run), "--resume"]
        demo.subprocess.run(command, check=True)
    elif not run.exists():
        folder.mkdir(parents=True, exist_ok=True)
        log, items = write_tiny_shop(folder)
        overrides = {
            "data": {"interactions": str(log), "items": str(items)},
            "model": {"model": str(write_tiny_model(folder / "model"))},
        }
        config = jobs.load_config(preset="quick", file=None, overrides=overrides, settings=TINY_RUN)
        jobs.run(config, run, quiet=True)
    return run


def one_row(name: str, seed: int, setting: Setting, run: Path, folder: Path) -> dict[str, Any]:
    """Serve, create, start, let people come and the machine decide; return what happened.

    Args:
        name: Of the scenario.
        seed: Of people and cohorts.
        setting: See :class:`Setting`.
        run: Whose variants are served.
        folder: For log and state; empty.
    """
    play, root = PLAYS[name], run.parent
    models = {"control": f"{run.name}/adamw", "treatment": f"{run.name}/{play.treatment}"}
    drill = [f"--drill=treatment={play.drill}"] if play.drill else []
    database, state = f"sqlite:///{folder / 'events.db'}", folder / "state"
    course = setting.course | {"users": round(setting.course["users"] * play.times_users)}
    defined = Experiment(
        f"{name}-{seed}",
        "discovery",
        "control",
        "treatment",
        ramp_percent=setting.ramp,
        policy=setting.policy,
    )
    began = time.perf_counter()
    service = demo.Service(folder, models, root, *setting.serve, *drill)
    decider: Decider | None = None
    try:
        url = _ready(service)
        create(database, defined, by=BY, reason=QUESTION, state=state)
        begins = latest_in_log(database)
        act(
            database, defined.name, "start",
            by=BY, reason=QUESTION, state=state, root=root, clock=lambda: begins,
        )  # fmt: skip
        time.sleep(POLL_S + 1.0)  # until the service has seen it
        decider = Decider.of_service(database, state=state, root=root)
        people = people_of(defined, data=None, run=None, state=state, root=root)
        config = SimulateConfig(url=url, decides=True, scenario=name, seed=seed, **course)
        found = simulate(
            defined.name, config, people, decider, state=state, say=lambda line: print(line, file=sys.stderr)
        )
        if not found.is_finished:
            raise SystemExit("Stopped; what is finished is kept.")
        decider.clock = lambda: found.now
        status = status_of(decider, defined.name)
        client = ServiceClient(url, rate=config.rate)
        try:
            truth = truth_of(
                client, found.crowd, defined, k=config.k, at=found.now, n_people=setting.n_people
            )
        finally:
            client.close()
    finally:
        if decider is not None:
            decider.close()
        service.stop()
    intervals = {
        effect.metric.name: effect.deciding
        for effect in (() if status.effects is None else status.effects.metrics)
        if effect.metric.name in truth.relative
    }
    goals = () if status.look is None else status.look.evidence.goals
    return {
        "scenario": name,
        "seed": seed,
        "words": found.crowd.scenario.words,
        "treatment": play.treatment,
        "drill": play.drill,
        "users": course["users"],
        "state": status.rollout.state,
        "percent": max(
            [setting.ramp[0], *(look.after.percent for look in found.looks if look.after is not None)]
        ),
        "days": (found.now - found.began_at) / 86_400,
        "decisions": [
            {
                "day": (look.evidence.at - found.began_at) / 86_400,
                "percent": look.rollout.percent,
                "action": look.decision.action,
                "reason": look.decision.reason,
                "red": [each.name for each in look.decision.guardrails if each.light == "red"],
            }
            for look in found.looks
        ],
        "shown_better": [goal.metric for goal in goals if goal.low > 0],
        "effects": {
            metric: _finite(
                {"truth": value, "truth_error": truth.standard_error[metric]}
                | ({} if metric not in intervals else _numbers(intervals[metric]))
            )
            for metric, value in truth.relative.items()
        },
        "visits": found.n_visits,
        "events": found.n_events,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _ready(service: Any) -> str:
    """The service's URL; where it does not start, its last words, as its folder goes."""
    try:
        return str(service.wait(_START_S))
    except SystemExit:
        words = service.out.with_suffix(".err").read_text()[-2000:]
        raise SystemExit(f"The service did not start: {words}") from None


def _numbers(estimate: Any) -> dict[str, float]:
    interval = estimate.relative_interval
    return {"estimate": estimate.relative, "low": interval.low, "high": interval.high}


def _finite(values: dict[str, float]) -> dict[str, float]:
    """Rounded, without what is not finite: JSON has no word for it."""
    return rounded({name: value for name, value in values.items() if math.isfinite(value)}, 4)


def is_as_expected(row: dict[str, Any]) -> bool | None:
    """Whether a row ended as was declared; None where nothing was."""
    expected = PLAYS[row["scenario"]].expected
    return {
        "": None,
        "rolled back": row["state"] == "rolled_back",
        "last stage": row["percent"] >= 95,
        "no alarm": row["state"] not in ("rolled_back", "paused") and not row["shown_better"],
    }[expected]


def covered(row: dict[str, Any]) -> tuple[int, int]:
    """How many intervals cover the truth, of those that say anything."""
    said = [each for each in row["effects"].values() if {"truth", "low", "high"} <= each.keys()]
    return sum(each["low"] <= each["truth"] <= each["high"] for each in said), len(said)


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out, then why each ended, then how many ended as expected."""
    lines, notes = [], []
    for row in rows:
        verdict = is_as_expected(row)
        lines.append(
            (
                row["scenario"],
                str(row["seed"]),
                row["state"],
                f"{row['percent']:g} %",
                f"{row['days']:.1f}",
                f"{row['visits']:,}",
                "{} of {}".format(*covered(row)),
                PLAYS[row["scenario"]].expected or "-",
                "" if verdict is None else "yes" if verdict else "NO",
            )
        )
        last = row["decisions"][-1] if row["decisions"] else {"reason": "nothing was decided"}
        notes.append(f"{row['scenario']} {row['seed']}: {last['reason']}")
    counts = [
        f"{each['scenario']}: {each['n_as_expected']} of {each['n']} as expected ({each['expected']})"
        for each in summaries(rows)
        if each["expected"]
    ]
    return "\n".join([aligned(HEADER, lines, n_left=3), "", *notes, "", *counts])


def summaries(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count each scenario's rows."""
    found = []
    for name, play in PLAYS.items():
        own = [row for row in rows if row["scenario"] == name]
        if own:
            verdicts = [is_as_expected(row) for row in own]
            found.append(
                {
                    "scenario": name,
                    "n": len(own),
                    "expected": play.expected,
                    "n_as_expected": sum(v is True for v in verdicts) if play.expected else None,
                    "days": [round(row["days"], 2) for row in own],
                    "percent": [row["percent"] for row in own],
                }
            )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the rows that are missing, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--setting", choices=SETTINGS, default="ml-100k")
    parser.add_argument("--only", nargs="+", choices=PLAYS, default=list(PLAYS), metavar="SCENARIO")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", type=Path, help="folder of the run; default runs/rollout-demo")
    parser.add_argument("--output", type=Path, help="folder for results/<date>-<question>")
    parser.add_argument("--date", help="of a folder to go on with; default today")
    chosen = parser.parse_args(arguments)
    if chosen.repeats < 1:
        parser.error(f"--repeats must be >= 1; got {chosen.repeats}")
    around = surroundings()
    setting = SETTINGS[chosen.setting]
    with tempfile.TemporaryDirectory() as scratch:
        temporary = Path(scratch)
        kept = temporary
        if chosen.output:
            tiny = "" if chosen.setting == "ml-100k" else f"-{chosen.setting}"
            kept = chosen.output / f"{chosen.date or around['date']}-{SLUG}{tiny}"
        (kept / "rows").mkdir(parents=True, exist_ok=True)
        files = {
            (name, seed): kept / "rows" / f"{name}-{seed}.json"
            for name in chosen.only
            for seed in range(chosen.repeats)
        }
        missing = {key: file for key, file in files.items() if not file.exists()}
        if missing:
            where = Path("runs/rollout-demo") if chosen.setting == "ml-100k" else temporary / "models"
            run = train(chosen.setting, (chosen.models or where).resolve())
            for number, ((name, seed), file) in enumerate(missing.items(), 1):
                print(f"{number} of {len(missing)}: {name}, seed {seed}", file=sys.stderr)
                work = temporary / f"{name}-{seed}"
                work.mkdir()
                row = one_row(name, seed, setting, run, work)
                part = file.with_suffix(".part")
                part.write_text(json.dumps(row, indent=1) + "\n")
                part.replace(file)
        rows = [json.loads(file.read_text()) for file in files.values()]
    text = table(rows)
    record = {"question": QUESTION, **around, "setting": chosen.setting, "scenarios": summaries(rows)}
    print(text)
    print(json.dumps(record, ensure_ascii=False))
    if chosen.output:
        config = {
            "plays": {name: vars(play) for name, play in PLAYS.items()},
            "course": setting.course,
            "ramp": setting.ramp,
        }
        keep(kept, record, config, text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no service is left behind
    main()
