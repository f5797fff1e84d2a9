"""The whole rollout in one command: serve, experiment, two simulated weeks, a ramp, and a roll-back.

Trains one small recommender (item tokens over one layer of SmolLM2-135M, on ml-100k), serves it under three
names on a free port of the loopback, and lets simulated people visit it over HTTP:

* ``control``: as trained.
* ``lifted``: popular items pushed down a little. The first experiment ramps it 1, 5, 25, 50, 100 %.
* ``overdone``: pushed down so much that the head collapses. The machine rolls the second experiment back.

    python recipes/rollout_demo.py --out runs/rollout-demo

What it leaves: the run, the log with every list, event and decision (``events.db``), ``summary.json``.
"""

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tailwise.experiments import EffectLimit, Experiment, Policy, StageOverride, StageRule
from tailwise.experiments._rollout import Action
from tailwise.jobs._experiments import act, create, latest_in_log
from tailwise.jobs._experiments_decider import Decider
from tailwise.jobs._experiments_status import status_of
from tailwise.jobs._simulate import SimulateConfig, Simulation, people_of, simulate
from tailwise.jobs._simulate_report import finish

TRAINING = (
    "--data", "ml-100k", "--model", "smollm2-135m", "--optimizer", "adamw", "--split", "global-time",
    "--set", "model.depth=1", "--set", "recommender.max_length=12", "--set", "training.max_epochs=2",
    "--set",
    "rescorings=[{name='lifted', popularity_penalty=0.3}, {name='overdone', popularity_penalty=1.0}]",
)  # fmt: skip

# Small traffic, so a day's window, few users per stage, and margins that this traffic can tell. A shop has
# more users, waits longer, and accepts less: see docs/rollout.md.
POLICY = Policy(
    look_every_hours=3.0,
    window_days=1.0,
    first_look_users=60,
    first_look_active_users=30,
    tuned_for_users=1_000,
    every_stage=StageRule(minimum_days=1.0, minimum_users=150, proof="no-harm-seen"),
    stages=(
        StageOverride(1.0, minimum_users=4, proof="no-harm-shown"),
        StageOverride(5.0, minimum_users=25, proof="no-harm-shown"),
        StageOverride(100.0, minimum_users=2),  # almost everybody was exposed before
    ),
    effects=(EffectLimit("clicks", 0.10), EffectLimit("gmv", 0.35), EffectLimit("head_purchases", 0.35)),
)


RAMP = (1.0, 5.0, 25.0, 50.0, 100.0)


class Service:
    """``tailwise serve`` in a process of its own."""

    def __init__(self, folder: Path, models: dict[str, str], root: Path, *settings: str) -> None:
        named = [f"--model={name}={source}" for name, source in models.items()]
        command = [sys.executable, "-m", "tailwise", "serve", "--port=0", *named, f"--model-root={root}"]
        command += [f"--state={folder / 'state'}", f"--database=sqlite:///{folder / 'events.db'}"]
        command += ["--clock-from-header", "--log-level=warning", *settings]
        self.out = folder / "serve.out"
        with self.out.open("w") as out, (folder / "serve.err").open("w") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)
        self.url = ""

    def wait(self, seconds: float = 180.0) -> str:
        """Return the URL when the service takes requests."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(r"Tailwise serves .* on (http://\S+)", self.out.read_text()):
                self.url = found[1]
                return self.url
            time.sleep(0.1)
        raise SystemExit(f"The service did not start; see {self.out.with_suffix('.err')}.")

    def swap(self, name: str, source: str) -> None:
        """Let another model answer under a name."""
        body = json.dumps({"source": source}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/models/{name}", body, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()

    def stop(self) -> None:
        """End this process, and no other."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def experiment(
    service: Service, folder: Path, root: Path, defined: Experiment, config: dict[str, Any]
) -> dict[str, Any]:
    """Create, start, let people come, let the machine decide; return what happened."""
    database, state = f"sqlite:///{folder / 'events.db'}", folder / "state"
    create(database, defined, by="person:demo", reason="the demo", state=state)
    begins = latest_in_log(database)
    act(
        database, defined.name, "start",
        by="person:demo", reason="the demo", state=state, root=root, clock=lambda: begins,
    )  # fmt: skip
    time.sleep(2.0)  # until the service has seen it
    settings = SimulateConfig(url=service.url, decides=True, **config)
    decider = Decider.of_service(database, state=state, root=root)
    try:
        people = people_of(defined, data=None, run=None, state=state, root=root)
        began = time.monotonic()
        found: Simulation = simulate(defined.name, settings, people, decider, state=state, say=say)
        if not found.is_finished:
            raise SystemExit("Stopped.")
        for line in finish(defined.name, settings, found, decider):
            say(line)
        status = status_of(decider, defined.name).as_plain()
        audit = [
            {"day": (e.at - found.began_at) / 86_400, "by": e.by, "action": e.action, "reason": e.reason}
            for e in reversed(decider.store.history(defined.name))
            if e.action not in ("hold", "create")
        ]
        return {
            "name": defined.name,
            "state": status["state"],
            "timeline": audit,
            "status": status,
            "visits": found.n_visits,
            "seconds": round(time.monotonic() - began, 1),
        }
    finally:
        decider.close()


def end(folder: Path, root: Path, name: str, state: str) -> None:
    """Give the surface free for the next experiment."""
    database = f"sqlite:///{folder / 'events.db'}"
    now = latest_in_log(database)
    action: Action = "rollback" if state == "rolled_back" else "stop"
    by, reason = "person:demo", "the next experiment begins"
    act(
        database, name, action, by=by, reason=reason, state=folder / "state", root=root, clock=lambda: now
    )  # fmt: skip


def play(
    run: str,
    folder: Path,
    root: Path,
    config: dict[str, Any],
    *settings: str,
    policy: Policy = POLICY,
    ramp: tuple[float, ...] = RAMP,
) -> dict[str, Any]:
    """Serve a run's ``adamw``, ``adamw+lifted`` and ``adamw+overdone``, and do both experiments.

    Args:
        run: The run's folder, under ``root``.
        folder: For log, state and summary; new.
        root: The model root.
        config: Of both simulations.
        *settings: Further arguments of ``tailwise serve``.
        policy: Of both experiments.
        ramp: Of both, in percent.
    """
    folder.mkdir(parents=True)
    models = {"control": f"{run}/adamw", "lifted": f"{run}/adamw+lifted", "overdone": f"{run}/adamw+overdone"}
    service = Service(folder, models, root, *settings)
    try:
        say(f"Serving {', '.join(models)} on {service.wait()}")
        say("\n1. lifted against control")
        defined = Experiment("lifted", "discovery", "control", "lifted", ramp_percent=ramp, policy=policy)
        first = experiment(service, folder, root, defined, config)
        if first["state"] == "completed":  # what won becomes control for everybody, and the test is over
            service.swap("control", models["lifted"])
        end(folder, root, "lifted", first["state"])
        say("\n2. overdone against control")
        defined = Experiment("overdone", "discovery", "control", "overdone", ramp_percent=ramp, policy=policy)
        second = experiment(service, folder, root, defined, config | {"seed": config.get("seed", 0) + 1})
    finally:
        service.stop()
    summary = {"experiments": [first, second]}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    return summary


def timeline(summary: dict[str, Any]) -> str:
    """Write what the machine and people did, day by day."""
    lines = []
    for each in summary["experiments"]:
        lines.append(
            f"\n{each['name']}: {each['state']} ({each['visits']:,} visits in {each['seconds']:.0f} s)"
        )
        for entry in each["timeline"]:
            reason = entry["reason"] if len(entry["reason"]) <= 150 else entry["reason"][:147] + "..."
            lines.append(f"  day {entry['day']:5.1f}  {entry['action']:9} {reason}")
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def main() -> None:
    """Read the command line, train what is not trained, and play."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/rollout-demo"))
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--days", type=float, default=14.0)
    parser.add_argument("--rate", type=float, default=400.0, help="most requests per second")
    given = parser.parse_args()
    began = time.monotonic()
    out = given.out.resolve()
    subprocess.run(
        [sys.executable, "-m", "tailwise", "run", *TRAINING, "--out", str(out / "run"), "--resume"],
        check=True,
    )
    say(f"Trained, {time.monotonic() - began:.0f} s")
    folder = out / f"play-{time.strftime('%Y%m%d-%H%M%S')}"
    config = {
        "users": given.users,
        "days": given.days,
        "rate": given.rate,
        "visits_per_day": 0.5,
        "scenario": "real-uplift",
    }
    summary = play("run", folder, out, config)
    say(timeline(summary))
    minutes = (time.monotonic() - began) / 60
    say(f"\nAll in {minutes:.1f} minutes; {folder / 'summary.json'}, and events.db beside it.")


if __name__ == "__main__":
    main()
