"""Experiments from outside: definitions, acts, moments, what is shown, and the page that tells of it."""

import json
import re
import shlex
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tailwise import cli
from tailwise.errors import ConfigError
from tailwise.experiments import EffectLimit, Experiment, ExperimentStore, IllegalTransitionError, Policy
from tailwise.jobs._experiments import act, create, definition, latest_in_log, parse_at
from tailwise.jobs._experiments_decider import Decider
from tailwise.jobs._experiments_items import experiment_items
from tailwise.jobs._experiments_status import audit_table, status_of, status_tables
from tailwise.jobs._serve_deployment import DeploymentFolder
from tailwise.jobs._simulate_scenarios import SCENARIOS

from .rollouts import DAY, ITEMS, NOW, Shop

PAGE = (Path(__file__).parents[2] / "docs" / "rollout.md").read_text(encoding="utf-8")
BASIC = {"control": "control", "treatment": "treatment", "surface": "home"}


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def defined(**named):
    settings = {"file": None, "policy": None, "ramp": None, "settings": BASIC} | named
    return definition("x", **settings)


def test_flags_lie_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file, policy = tmp_path / "x.toml", tmp_path / "policy.toml"
    file.write_text('control = "old"\nhold_out_percent = 10\nramp_percent = [2, 50]\n')
    policy.write_text("window_days = 7\n")
    found = defined(file=file, policy=policy, ramp="1,5", settings=BASIC | {"layer": None})
    assert (found.control, found.hold_out_percent, found.ramp_percent) == ("control", 10, (1, 5))
    assert (found.policy.window_days, found.layer) == (7, "default")
    assert defined(file=file).ramp_percent == (2, 50)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({}, "experiment.surface must be given"),
        (BASIC | {"treatment": "control"}, "must be two served models"),
    ],
)
def test_a_definition_that_is_none_is_refused(settings, what):
    with pytest.raises(ConfigError, match=what):
        defined(settings=settings)


def test_models_that_are_not_served_are_refused_before_anything_is_kept(tmp_path, shop):
    DeploymentFolder(tmp_path / "state").begin({"control": "run/a", "eisam": "run/b"})
    experiment = Experiment("x", "home", "control", "treatment")
    with pytest.raises(ConfigError, match=r"treatment must be a model served from .*; got 'treatment'"):
        create(shop.database, experiment, by="person:a", reason="", state=tmp_path / "state")
    store = ExperimentStore(shop.database)
    assert store.all() == ()
    store.close()


def test_what_is_done_by_hand_is_written_down_with_its_moment_and_illegal_acts_are_refused(tmp_path, shop):
    named = {"by": "person:anna", "reason": "why not", "state": tmp_path / "none", "root": tmp_path}
    create(
        shop.database,
        Experiment("x", "home", "control", "treatment"),
        by="person:anna",
        reason="",
        state=tmp_path / "none",
    )
    act(shop.database, "x", "start", clock=lambda: NOW, **named)
    assert act(shop.database, "x", "pause", clock=lambda: NOW + 1, **named).percent == 0
    with pytest.raises(IllegalTransitionError, match=r"must be .*resume.*; got 'ramp'"):
        act(shop.database, "x", "ramp", **named)
    store = ExperimentStore(shop.database)
    paused = store.history("x", limit=1)[0]
    assert (paused.at, paused.by, paused.reason) == (NOW + 1, "person:anna", "why not")
    store.close()


def test_moments_are_now_that_of_the_log_or_a_date_in_utc(shop):
    assert parse_at("2026-01-02T03:00+01:00", shop.database) == parse_at("2026-01-02T02:00", shop.database)
    shop.list("u", at=NOW + 5)
    shop.event("click", "u", "h1", at=NOW + 9)
    assert parse_at("log", shop.database) == latest_in_log(shop.database) == NOW + 9
    with pytest.raises(ConfigError, match=r"--at must be now, log, or a time .*; got 'noon'"):
        parse_at("noon", shop.database)


def test_the_division_of_the_catalogue_stays_that_of_the_start(tmp_path):
    kept = tmp_path / "experiments" / "x.items.parquet"
    kept.parent.mkdir()
    ITEMS.write_parquet(kept)
    # No deployment, no run: what was kept is all there is.
    assert experiment_items("x", "control", state=tmp_path, root=tmp_path).equals(ITEMS)
    DeploymentFolder(tmp_path).begin({"other": "run/a"})
    with pytest.raises(ConfigError, match="control of 'y' must be a served model; got 'control'"):
        experiment_items("y", "control", state=tmp_path, root=tmp_path)


@pytest.fixture
def status(shop):
    policy = Policy(
        window_days=0.5,
        first_look_users=5,
        first_look_active_users=2,
        tuned_for_users=100,
        effects=(EffectLimit("clicks", 0.5),),
    )
    decider = Decider(shop.database, lambda experiment: ITEMS, clock=lambda: NOW)
    decider.store.create(
        Experiment("x", "home", "control", "treatment", ramp_percent=(50, 100), policy=policy), by="a"
    )
    decider.store.act("x", "start", by="person:anna")
    shop.visits(
        [
            (f"u{n}", ("control", "treatment")[n % 2], NOW + 1 + n, (1 + n // 2 % 2) * (1 + n % 2))
            for n in range(60)
        ]
    )
    shop.shown("late", at=NOW + DAY - 60)
    decider.clock = lambda: NOW + DAY
    yield status_of(decider, "x")
    decider.close()


def test_the_status_counts_cohorts_and_estimates_what_was_planted(status):
    counts = [(each.variant, each.exposed, each.closed) for each in status.cohorts]
    assert counts == [("control", 31, 30), ("treatment", 30, 30)]
    clicks = status.effects["clicks"].deciding
    assert (clicks.control, clicks.treatment) == pytest.approx(
        (1.5, 3.0), abs=0.35
    )  # centred by what is known
    assert clicks.relative_interval.low > 0
    plain = json.loads(json.dumps(status.as_plain(), allow_nan=False))
    assert {each["metric"] for each in plain["effects"]} >= {"tail_clicks", "session_gmv", "head_purchases"}
    assert plain["next"]["action"] == status.look.decision.action


def test_the_status_says_in_words_what_the_machine_would_do_and_why(status):
    out = StringIO()
    Console(file=out, width=160).print(status_tables(status))
    text = out.getvalue()
    assert "x: running, 50 % of users get 'treatment', the others 'control', on home." in text
    assert f"The machine would {status.look.decision.action}: {status.look.decision.reason[:40]}" in text
    assert re.search(r"clicks .*green|clicks .*amber", text)


def test_the_audit_log_is_shown_oldest_first(shop, status):
    store = ExperimentStore(shop.database)
    out = StringIO()
    experiment = store.get("x").experiment
    Console(file=out, width=120).print(audit_table(store.history("x"), experiment))
    store.close()
    assert out.getvalue().index("create") < out.getvalue().index("start")


def commands():
    blocks = re.findall(r"```\n(.*?)```", PAGE, flags=re.DOTALL)
    texts = [block.replace("\\\n", " ") for block in blocks]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("tailwise ")]
    return [shlex.split(line)[1:] for line in lines]


def test_the_page_shows_commands():
    assert len(commands()) > 8


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_page_is_one(words):
    function, bound, _ = cli.app.parse_args(words, exit_on_error=False)
    assert function.__name__ in words
    assert bound.arguments


@pytest.mark.parametrize("action", ["start", "ramp", "pause", "resume", "stop", "rollback"])
def test_flags_of_a_deed_are_the_same_for_every_action(action):
    words = f"experiment {action} x --reason why --by ann --at log --database sqlite:///d.db --state s"
    _, bound, _ = cli.app.parse_args(shlex.split(words), exit_on_error=False)
    deed, place = bound.arguments["deed"], bound.arguments["place"]
    assert (deed.reason, deed.by, deed.at) == ("why", "ann", "log")
    assert (place.database, place.state) == ("sqlite:///d.db", Path("s"))


@pytest.mark.parametrize(
    "command", ["experiment status", "experiment decide", "experiment watch", "simulate"]
)
def test_what_is_not_said_of_the_service_has_its_default(command):
    _, bound, _ = cli.app.parse_args([*command.split(), "x", "--state", "s"], exit_on_error=False)
    place = bound.arguments["place"]
    assert (place.database, place.state, place.model_root) == (
        "sqlite:///tailwise-events.db",
        Path("s"),
        Path(),
    )


def test_the_page_names_every_world():
    assert set(re.findall(r"^\| `([a-z-]+)` \| ", PAGE.split("`--scenario`")[1], flags=re.MULTILINE)) >= set(
        SCENARIOS
    )
