"""The command line of experiments: `tailwise experiment ...`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from tailwise._cli_place import FOLDERS, LOG, MODELS, AsJson, Flag, Folders, Log, Models, say

__all__ = ["experiment_app"]

experiment_app = App(
    name="experiment", help="Staged A/B tests on the running service: create, start, watch, decide, end."
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Signed:
    """Why something is done, and by whom.

    Attributes:
        reason: Kept in the audit log.
        by: Who; by default the login name.
    """

    reason: str = ""
    by: str | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Deed(Signed):
    """The same, and when.

    Attributes:
        reason: Kept in the audit log.
        by: Who; by default the login name.
        at: now, log (the latest moment that the log knows), or a time in UTC.
    """

    at: str = "now"


SIGNED, DEED = Signed(), Deed()


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
    deed: Signed = SIGNED,
    place: Folders = FOLDERS,
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
    jobs.create(place.database, defined, by=deed.by or jobs.person(), reason=deed.reason, state=place.state)
    say(f"{name}: draft. Start it: tailwise experiment start {name}")


def _act(name: str, action: Any, deed: Deed, place: Folders, *, model_root: Path = MODELS.model_root) -> None:
    from tailwise.jobs import _experiments as jobs

    moment = jobs.parse_at(deed.at, place.database)
    rollout = jobs.act(
        place.database,
        name,
        action,
        by=deed.by or jobs.person(),
        reason=deed.reason,
        state=place.state,
        root=model_root,
        clock=lambda: moment,
    )
    treatment = rollout.experiment.treatment
    say(f"{name}: {rollout.state}, {rollout.percent:g} % of users get {treatment!r}.")


@experiment_app.command
def start(
    name: str,
    *,
    deed: Deed = DEED,
    place: Models = MODELS,
) -> None:
    """Serve the first stage, and count; segments of items are fixed now.

    Args:
        name: Of the experiment.
    """
    _act(name, "start", deed, place, model_root=place.model_root)


_BY_HAND = {
    "ramp": "Take the next stage by hand, whatever the evidence says.",
    "pause": "Serve control to everybody and count nobody, until it is resumed.",
    "resume": "Go on with a paused experiment in its stage.",
    "stop": "End an experiment without a verdict: everybody gets control.",
    "rollback": (
        "End an experiment because the treatment harms: everybody gets control within a second or two."
    ),
}


def _by_hand(action: Any, what: str) -> None:
    """Make the command of an action that needs nothing but a reason."""

    def command(name: str, *, deed: Deed = DEED, place: Folders = FOLDERS) -> None:
        _act(name, action, deed, place)

    command.__name__ = action
    command.__doc__ = f"{what}\n\nArgs:\n    name: Of the experiment.\n"
    experiment_app.command(command)


for _action, _what in _BY_HAND.items():
    _by_hand(_action, _what)


@experiment_app.command
def status(
    name: str,
    *,
    at: str = "now",
    as_json: AsJson = False,
    place: Models = MODELS,
) -> None:
    """Show stage, cohorts, effects, guardrails, and what the machine would do now and why.

    Args:
        name: Of the experiment.
        at: now, log (the latest moment that the log knows), or a time in UTC.
        as_json: For programs.
    """
    from tailwise.jobs._experiments_status import status_of, status_tables

    with place.decider(at) as decider:
        found = status_of(decider, name)
    if as_json:
        say(json.dumps(found.as_plain(), allow_nan=False))
    else:
        Console(highlight=False).print(status_tables(found))


@experiment_app.command
def decide(
    name: str,
    *,
    apply: Annotated[bool, Flag] = False,
    at: str = "now",
    as_json: AsJson = False,
    place: Models = MODELS,
) -> None:
    """Say what the machine would do now; with --apply, do it and write it down with its evidence.

    Args:
        name: Of the experiment.
        apply: Carry it out.
        at: now, log (the latest moment that the log knows), or a time in UTC.
        as_json: For programs.
    """
    from tailwise.experiments import evidence_as_plain

    with place.decider(at) as decider:
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
        say(json.dumps(plain, allow_nan=False))
        return
    say(f"{name}: {made.action}. {made.reason}")
    for result in made.guardrails:
        say(f"  {result.light:5} {result.reason}")
    if look.after is not None:
        say(f"Done and written down: {look.after.state}, {look.after.percent:g} %.")
    elif apply:
        say("Nothing new to write down.")


@experiment_app.command
def watch(
    name: str,
    *,
    every: str = "60s",
    place: Models = MODELS,
) -> None:
    """Decide again and again until the experiment has ended; Ctrl-C stops the watching alone.

    Args:
        name: Of the experiment.
        every: Between two looks, such as 60s, 5m, 1h.
    """
    from tailwise.jobs._experiments_decider import parse_every
    from tailwise.jobs._experiments_decider import watch as look_again
    from tailwise.jobs._experiments_status import moment

    every_s = parse_every(every)
    with place.decider() as decider:
        decider.store.get(name)  # refuses an unknown name
        for look in look_again(decider, every_s=every_s, names=(name,)):
            say(f"{moment(look.evidence.at)} {look.decision.action}: {look.decision.reason}")
        say(f"{name}: {decider.store.get(name).state}; nothing more to decide.")


@experiment_app.command
def audit(
    name: str,
    *,
    limit: int | None = None,
    as_json: AsJson = False,
    place: Log = LOG,
) -> None:
    """Show every decision, by machine or by hand, and its reason; --json has the evidence too.

    Args:
        name: Of the experiment.
        limit: The latest so many.
        as_json: One line of JSON each, with guardrails and evidence.
    """
    from tailwise.experiments import ExperimentStore
    from tailwise.jobs._experiments_status import audit_table

    store = ExperimentStore(place.database)
    entries, defined = store.history(name, limit=limit), store.get(name).experiment
    store.close()
    if not as_json:
        Console(highlight=False).print(audit_table(entries, defined))
        return
    for entry in reversed(entries):
        say(json.dumps(vars(entry) | {"guardrails": [vars(g) for g in entry.guardrails]}, allow_nan=False))


@experiment_app.command(name="list")
def list_command(*, place: Log = LOG) -> None:
    """Show every experiment and where it stands."""
    from tailwise.experiments import ExperimentStore

    store = ExperimentStore(place.database)
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

    say(policy_as_toml(Policy()))
