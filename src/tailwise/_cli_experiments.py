"""The command line of experiments: `tailwise experiment ...` and `tailwise simulate`."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

__all__ = ["experiment_app", "simulate"]

experiment_app = App(
    name="experiment", help="Staged A/B tests on the running service: create, start, watch, decide, end."
)

Flag = Parameter(negative=())
_STATE = Path("tailwise-state")
_DATABASE = "sqlite:///tailwise-events.db"
_ROOT = Path()


@experiment_app.command
def create(
    name: str,
    *,
    control: str | None = None,
    treatment: str | None = None,
    surface: Literal["home", "discovery", "similar"] | None = None,
    ramp: str | None = None,
    hold_out: float | None = None,
    metric: Annotated[list[str] | None, Flag] = None,
    layer: str | None = None,
    seed: int | None = None,
    policy: Path | None = None,
    config: Path | None = None,
    reason: str = "",
    by: str | None = None,
    database: str = _DATABASE,
    state: Path = _STATE,
) -> None:
    """Define an experiment; nothing is served before it is started, and it never changes afterwards.

    Args:
        name: Lower-case letters, digits, '.', '_' and '-'.
        control: Name of the served model in use.
        treatment: Name of the served model that is tried.
        surface: Where the lists are shown.
        ramp: Stages in percent of users, such as 1,5,25,50,100.
        hold_out: Percent of users who stay with control at 100 %.
        metric: What the experiment is for, such as tail_clicks. Repeat for several.
        layer: Experiments of one layer share its users; see docs/rollout.md.
        seed: Another one deals the users anew.
        policy: TOML file of the rules by which the machine decides; `tailwise experiment policy` shows all.
        config: TOML file with any field of the definition.
        reason: Kept in the audit log.
        by: Who; by default the login name.
        database: Of the service's log.
        state: The service's state folder.
    """
    from tailwise.jobs import _experiments as jobs

    settings = {
        "control": control,
        "treatment": treatment,
        "surface": surface,
        "hold_out_percent": hold_out,
        "metrics": metric,
        "layer": layer,
        "seed": seed,
    }
    defined = jobs.definition(name, file=config, policy=policy, ramp=ramp, settings=settings)
    jobs.create(database, defined, by=by or jobs.person(), reason=reason, state=state)
    _say(f"{name}: draft. Start it: tailwise experiment start {name}")


def _act(
    name: str,
    action: Any,
    *,
    reason: str,
    by: str | None,
    at: str,
    database: str,
    state: Path,
    model_root: Path = _ROOT,
) -> None:
    from tailwise.jobs import _experiments as jobs

    moment = jobs.parse_at(at, database)
    rollout = jobs.act(
        database,
        name,
        action,
        by=by or jobs.person(),
        reason=reason,
        state=state,
        root=model_root,
        clock=lambda: moment,
    )
    treatment = rollout.experiment.treatment
    _say(f"{name}: {rollout.state}, {rollout.percent:g} % of users get {treatment!r}.")


@experiment_app.command
def start(
    name: str,
    *,
    reason: str = "",
    by: str | None = None,
    at: str = "now",
    database: str = _DATABASE,
    state: Path = _STATE,
    model_root: Path = _ROOT,
) -> None:
    """Serve the first stage, and count; segments of items are fixed now.

    Args:
        name: Of the experiment.
        reason: Kept in the audit log.
        by: Who; by default the login name.
        at: now; log, the latest moment that the log knows, for simulations; or a time in UTC.
        database: Of the service's log.
        state: The service's state folder.
        model_root: As of the service.
    """
    _act(name, "start", reason=reason, by=by, at=at, database=database, state=state, model_root=model_root)


@experiment_app.command
def ramp(
    name: str,
    *,
    reason: str = "",
    by: str | None = None,
    at: str = "now",
    database: str = _DATABASE,
    state: Path = _STATE,
) -> None:
    """Take the next stage by hand, whatever the evidence says.

    Args:
        name: Of the experiment.
        reason: Kept in the audit log.
        by: Who; by default the login name.
        at: now, log, or a time in UTC.
        database: Of the service's log.
        state: The service's state folder.
    """
    _act(name, "ramp", reason=reason, by=by, at=at, database=database, state=state)


@experiment_app.command
def pause(
    name: str,
    *,
    reason: str = "",
    by: str | None = None,
    at: str = "now",
    database: str = _DATABASE,
    state: Path = _STATE,
) -> None:
    """Serve control to everybody and count nobody, until it is resumed.

    Args:
        name: Of the experiment.
        reason: Kept in the audit log.
        by: Who; by default the login name.
        at: now, log, or a time in UTC.
        database: Of the service's log.
        state: The service's state folder.
    """
    _act(name, "pause", reason=reason, by=by, at=at, database=database, state=state)


@experiment_app.command
def resume(
    name: str,
    *,
    reason: str = "",
    by: str | None = None,
    at: str = "now",
    database: str = _DATABASE,
    state: Path = _STATE,
) -> None:
    """Go on with a paused experiment in its stage.

    Args:
        name: Of the experiment.
        reason: Kept in the audit log.
        by: Who; by default the login name.
        at: now, log, or a time in UTC.
        database: Of the service's log.
        state: The service's state folder.
    """
    _act(name, "resume", reason=reason, by=by, at=at, database=database, state=state)


@experiment_app.command
def stop(
    name: str,
    *,
    reason: str = "",
    by: str | None = None,
    at: str = "now",
    database: str = _DATABASE,
    state: Path = _STATE,
) -> None:
    """End an experiment without a verdict: everybody gets control.

    Args:
        name: Of the experiment.
        reason: Kept in the audit log.
        by: Who; by default the login name.
        at: now, log, or a time in UTC.
        database: Of the service's log.
        state: The service's state folder.
    """
    _act(name, "stop", reason=reason, by=by, at=at, database=database, state=state)


@experiment_app.command
def rollback(
    name: str,
    *,
    reason: str = "",
    by: str | None = None,
    at: str = "now",
    database: str = _DATABASE,
    state: Path = _STATE,
) -> None:
    """End an experiment because the treatment harms: everybody gets control within a second or two.

    Args:
        name: Of the experiment.
        reason: Kept in the audit log.
        by: Who; by default the login name.
        at: now, log, or a time in UTC.
        database: Of the service's log.
        state: The service's state folder.
    """
    _act(name, "rollback", reason=reason, by=by, at=at, database=database, state=state)


@experiment_app.command
def status(
    name: str,
    *,
    at: str = "now",
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    database: str = _DATABASE,
    state: Path = _STATE,
    model_root: Path = _ROOT,
) -> None:
    """Show stage, cohorts, effects, guardrails, and what the machine would do now and why.

    Args:
        name: Of the experiment.
        at: now, log (the latest moment that the log knows), or a time in UTC.
        as_json: For programs.
        database: Of the service's log.
        state: The service's state folder.
        model_root: As of the service.
    """
    from tailwise.jobs._experiments_status import status_of, status_tables

    with _decider(at, database, state, model_root) as decider:
        found = status_of(decider, name)
    if as_json:
        _say(json.dumps(found.as_plain(), allow_nan=False))
    else:
        Console(highlight=False).print(status_tables(found))


@experiment_app.command
def decide(
    name: str,
    *,
    apply: Annotated[bool, Flag] = False,
    at: str = "now",
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    database: str = _DATABASE,
    state: Path = _STATE,
    model_root: Path = _ROOT,
) -> None:
    """Say what the machine would do now; with --apply, do it and write it down with its evidence.

    Args:
        name: Of the experiment.
        apply: Carry it out.
        at: now, log, or a time in UTC.
        as_json: For programs.
        database: Of the service's log.
        state: The service's state folder.
        model_root: As of the service.
    """
    from tailwise.experiments import evidence_as_plain

    with _decider(at, database, state, model_root) as decider:
        look = decider.look(name, apply=apply)
    made = look.decision
    if as_json:
        plain = {
            "action": made.action,
            "reason": made.reason,
            "needs_person": made.needs_person,
            "is_applied": look.after is not None,
            "guardrails": [vars(result) for result in made.guardrails],
            "evidence": evidence_as_plain(look.evidence),
        }
        _say(json.dumps(plain, allow_nan=False))
        return
    _say(f"{name}: {made.action}. {made.reason}")
    for result in made.guardrails:
        _say(f"  {result.light:5} {result.reason}")
    if look.after is not None:
        _say(f"Done and written down: {look.after.state}, {look.after.percent:g} %.")
    elif apply:
        _say("Nothing new to write down.")


@experiment_app.command
def watch(
    name: str,
    *,
    every: str = "60s",
    database: str = _DATABASE,
    state: Path = _STATE,
    model_root: Path = _ROOT,
) -> None:
    """Decide again and again until the experiment has ended; Ctrl-C stops the watching alone.

    Args:
        name: Of the experiment.
        every: Between two looks, such as 60s, 5m, 1h.
        database: Of the service's log.
        state: The service's state folder.
        model_root: As of the service.
    """
    from tailwise.jobs._experiments_decider import parse_every
    from tailwise.jobs._experiments_decider import watch as look_again
    from tailwise.jobs._experiments_status import moment

    every_s = parse_every(every)
    with _decider(None, database, state, model_root) as decider:
        decider.store.get(name)  # refuses an unknown name
        for look in look_again(decider, every_s=every_s, names=(name,)):
            _say(f"{moment(look.evidence.at)} {look.decision.action}: {look.decision.reason}")
        _say(f"{name}: {decider.store.get(name).state}; nothing more to decide.")


@experiment_app.command
def audit(
    name: str,
    *,
    limit: int | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    database: str = _DATABASE,
) -> None:
    """Show every decision, by machine or by hand, and its reason; --json has the evidence too.

    Args:
        name: Of the experiment.
        limit: The latest so many.
        as_json: One line of JSON each, with guardrails and evidence.
        database: Of the service's log.
    """
    from tailwise.experiments import ExperimentStore
    from tailwise.jobs._experiments_status import audit_table

    store = ExperimentStore(database)
    entries, defined = store.history(name, limit=limit), store.get(name).experiment
    store.close()
    if not as_json:
        Console(highlight=False).print(audit_table(entries, defined))
        return
    for entry in reversed(entries):
        _say(json.dumps(vars(entry) | {"guardrails": [vars(g) for g in entry.guardrails]}, allow_nan=False))


@experiment_app.command(name="list")
def list_command(*, database: str = _DATABASE) -> None:
    """Show every experiment and where it stands.

    Args:
        database: Of the service's log.
    """
    from tailwise.experiments import ExperimentStore

    store = ExperimentStore(database)
    table = Table("experiment", "state", "treatment gets", "surface", "control", "treatment")
    for rollout in store.all():
        e = rollout.experiment
        table.add_row(e.name, rollout.state, f"{rollout.percent:g} %", e.surface, e.control, e.treatment)
    store.close()
    Console(highlight=False).print(table)


@experiment_app.command
def policy() -> None:
    """Print a policy file with every setting at its default, to begin one's own from."""
    from tailwise.experiments import Policy, policy_as_toml

    _say(policy_as_toml(Policy()))


class _decider:  # noqa: N801 - reads as a clause
    """A decider for a service, closed at the end."""

    def __init__(self, at: str | None, database: str, state: Path, root: Path) -> None:
        from tailwise.jobs._experiments import parse_at
        from tailwise.jobs._experiments_decider import Decider

        moment = None if at is None else parse_at(at, database)
        clock = time.time if moment is None else lambda: moment
        self._decider = Decider.of_service(database, state=state, root=root, clock=clock)

    def __enter__(self) -> Any:
        return self._decider

    def __exit__(self, *_: object) -> None:
        self._decider.close()


def simulate(
    name: str,
    *,
    data: str | None = None,
    users: int | None = None,
    days: float | None = None,
    scenario: str | None = None,
    visits_per_day: float | None = None,
    url: str | None = None,
    rate: float | None = None,
    concurrency: int | None = None,
    seed: int | None = None,
    decide: Annotated[bool, Flag] = False,
    resume: Annotated[bool, Flag] = False,
    run: Path | None = None,
    database: str = _DATABASE,
    state: Path = _STATE,
    model_root: Path = _ROOT,
) -> None:
    """Let simulated people visit the running service for days that pass in minutes; see docs/rollout.md.

    The service must be started with --clock-from-header, and the experiment too. People are fitted on the
    test part of the run that is served, which its models have never seen. Ctrl-C keeps the place.

    Args:
        name: Of a running experiment.
        data: The data set that the run must be of, such as completejourney; a check, nothing is loaded.
        users: People who may visit; by default 20,000.
        days: Of simulated time; by default 14.
        scenario: as-fitted, real-uplift, a-a, over-correction, broken, novelty, drift or bots.
        visits_per_day: Of a user, on average; by default 0.4.
        url: Of the service; by default http://127.0.0.1:8000.
        rate: Most requests per second; by default 200.
        concurrency: Requests at a time; by default 8.
        seed: One seed, one course of events.
        decide: Let the machine decide in simulated time, as often as the policy says.
        resume: Go on with a simulation that was stopped.
        run: Whose test part people are fitted on; by default the run of the control model.
        database: Of the service's log.
        state: The service's state folder.
        model_root: As of the service.
    """
    from tailwise.jobs import _simulate as jobs
    from tailwise.jobs._simulate_report import finish

    given: dict[str, Any] = {
        "url": url,
        "users": users,
        "days": days,
        "visits_per_day": visits_per_day,
        "scenario": scenario,
        "rate": rate,
        "concurrency": concurrency,
        "seed": seed,
    }
    settings = {key: value for key, value in given.items() if value is not None}
    config = jobs.SimulateConfig(**settings, decides=decide, resume=resume)
    with _decider(None, database, state, model_root) as decider:
        shoppers = jobs.people_of(
            decider.store.get(name).experiment, data=data, run=run, state=state, root=model_root
        )
        found = jobs.simulate(name, config, shoppers, decider, state=state, say=_say)
        if not found.is_finished:
            _say("Stopped. Go on with the same command and --resume.")
            return
        for line in finish(name, config, found, decider):
            _say(line)


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the command's result
