"""What decides, and what the audit log keeps of it."""

import dataclasses
import threading

import pytest

from tailwise.errors import ConfigError
from tailwise.experiments import (
    ConflictError,
    EffectLimit,
    Experiment,
    Policy,
    StageRule,
    bucket,
    cohorts_of,
)
from tailwise.jobs._experiments_decider import Decider, parse_every, watch

from .rollouts import DAY, ITEMS, NOW, Shop

POLICY = Policy(
    window_days=0.5,
    first_look_users=2,
    first_look_active_users=1,
    tuned_for_users=50,
    every_stage=StageRule(minimum_days=0.0, minimum_users=5, proof="no-harm-shown"),
    effects=(EffectLimit("clicks", 0.05),),
)
EXPERIMENT = Experiment("x", "home", "control", "treatment", ramp_percent=(50.0, 100.0), policy=POLICY)


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request, tmp_path):
    is_sqlite = request.param == "sqlite"
    shop = Shop(tmp_path, None if is_sqlite else request.getfixturevalue("postgres").new_schema())
    yield shop
    shop.close()


@pytest.fixture
def decider(shop):
    decider = Decider(shop.database, lambda experiment: ITEMS, clock=lambda: NOW)
    decider.store.create(EXPERIMENT, by="person:anna")
    decider.store.act("x", "start", by="person:anna")
    yield decider
    decider.close()


class Bounded(threading.Event):
    """Does not wait, and says stop after a few rounds."""

    def __init__(self):
        super().__init__()
        self.rounds = 0

    def wait(self, timeout=None):
        self.rounds += 1
        if self.rounds > 5:
            self.set()
        return self.is_set()


def visits(shop, n, *, treatment_clicks=1, control_clicks=1):
    """Users of both cohorts in turn, who click so often; those of control on average."""
    shop.visits(
        [
            (
                f"u{number:03}",
                ("control", "treatment")[number % 2],
                NOW + 1 + number,
                (control_clicks + number // 2 % 3 - 1, treatment_clicks)[number % 2],
            )
            for number in range(n)
        ]
    )


def test_it_ramps_when_the_policy_is_met_and_writes_down_why(shop, decider):
    visits(shop, 12)
    decider.clock = lambda: NOW + DAY
    assert decider.look("x").after is None  # a look alone changes nothing
    assert decider.store.get("x").stage == 0
    look = decider.look("x", apply=True)
    assert (look.decision.action, look.after.stage) == ("ramp", 1)
    entry = decider.store.history("x", limit=1)[0]
    assert (entry.by, entry.action, entry.at) == ("machine", "ramp", NOW + DAY)
    assert entry.evidence["n_users_in_stage"] == 6
    assert [g.name for g in entry.guardrails] == [
        "clicks",
        "errors",
        "fallbacks",
        "latency_p95",
        "sample_ratio",
    ]


def test_harm_that_is_shown_is_rolled_back_with_its_numbers(shop, decider):
    visits(shop, 60, treatment_clicks=0, control_clicks=4)
    decider.clock = lambda: NOW + DAY
    look = decider.look("x", apply=True)
    assert (look.after.state, look.after.percent) == ("rolled_back", 0.0)
    entry = decider.store.history("x", limit=1)[0]
    assert "shown to be worse than a loss of 5.0%" in entry.reason
    assert entry.evidence["limits"][0]["high"] < -0.05


def test_a_hold_that_says_nothing_new_is_not_written_again_within_the_hour(shop, decider):
    visits(shop, 4)
    for minutes, n_lines in ((0, 3), (30, 3), (59, 3), (61, 4)):
        decider.clock = lambda minutes=minutes: NOW + DAY + 60 * minutes
        assert decider.look("x", apply=True).decision.action == "hold"
        assert len(decider.store.history("x")) == n_lines  # create, start, and these


def test_a_change_between_look_and_decision_stops_the_decision(shop, decider):
    visits(shop, 12)
    decider.clock = lambda: NOW + DAY
    inner = decider.store.apply

    def apply(rollout, decision, evidence):
        decider.store.act("x", "pause", by="person:bob")
        return inner(rollout, decision, evidence)

    decider.store.apply = apply
    with pytest.raises(ConflictError):
        decider.look("x", apply=True)
    assert decider.store.get("x").state == "paused"


def test_nothing_is_decided_before_the_start(decider):
    decider.store.create(dataclasses.replace(EXPERIMENT, name="draft", layer="other"), by="person:anna")
    with pytest.raises(ConfigError, match=r"'draft' must have started; got state 'draft'"):
        decider.look("draft", apply=True)


def test_watching_goes_on_over_a_failure_and_ends_with_the_experiment(shop, decider, monkeypatch):
    visits(shop, 60, treatment_clicks=0, control_clicks=4)
    decider.clock = lambda: NOW + DAY
    fails = iter([True, False])
    inner = decider.look

    def look(name, *, apply=False):
        if next(fails, False):
            raise ConfigError("segments must be there; got none.")
        return inner(name, apply=apply)

    monkeypatch.setattr(decider, "look", look)
    ends = Bounded()
    seen = [each.decision.action for each in watch(decider, every_s=1.0, names=("x",), ends=ends)]
    assert seen == ["rollback"]


@pytest.mark.parametrize(("text", "seconds"), [("every=60s", 60), ("5m", 300), ("every=1h", 3600)])
def test_how_often_is_written_with_its_unit(text, seconds):
    assert parse_every(text) == seconds


@pytest.mark.parametrize("text", ["every=60", "0s", "s", "every=2d", "every=-5s"])
def test_how_often_without_unit_or_out_of_range_is_refused(text):
    with pytest.raises(ConfigError, match="--decide must be every=60s"):
        parse_every(text)


def test_the_hash_that_assigns_can_be_recomputed():
    # What the end-to-end tests rely on: who is in which cohort follows from the names alone.
    import numpy as np

    places = np.array([bucket("experiment/x/0", f"u{i}") for i in range(2000)])
    treated, counted = cohorts_of(places, 0.25, 0.05)
    assert abs(treated.mean() - 0.25) < 0.03  # 3 standard errors of 2,000 users
    assert abs(counted.mean() - 0.5) < 0.04
