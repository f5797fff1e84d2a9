"""The store: durable, shared, one decider at a time, and an audit log that nobody rewrites."""

import json
import multiprocessing
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tailwise.errors import ConfigError, DataError, LogUnavailableError
from tailwise.experiments import (
    ConflictError,
    ExperimentStore,
    IllegalTransitionError,
    StoredAssignment,
    decide,
    evidence_as_plain,
)
from tests.experiments.rollouts import POLICY, effect, evidence, experiment

HARM = evidence(limits=(effect("clicks", -0.2, -0.3, -0.06), evidence().limits[1]))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def store(url):
    opened = ExperimentStore(url, clock=iter(range(1_000, 9_000)).__next__)
    yield opened
    opened.close()


@pytest.fixture
def light(tmp_path):
    """On SQLite alone, for rules that no database knows of."""
    opened = ExperimentStore(f"sqlite:///{tmp_path}/events.db", clock=iter(range(1_000, 9_000)).__next__)
    yield opened
    opened.close()


def raw(url: str, statement: str) -> None:
    """Run a statement behind the store's back."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def started(store, name="shelf", **changes):
    store.create(experiment(name, **changes), by="person:anna")
    return store.act(name, "start", by="person:anna", reason="begin")


def test_what_was_done_is_there_after_a_restart(url, store):
    rollout = started(store)
    rollout = store.act("shelf", "ramp", by="person:anna")
    store.close()
    again = ExperimentStore(url)
    assert again.get("shelf") == rollout
    assert rollout.stage == 1
    again.close()


def test_every_decision_is_logged_with_who_what_why_and_its_numbers(store):
    rollout = started(store)
    decision = decide(HARM, POLICY, rollout)
    ended = store.apply(rollout, decision, HARM)
    assert ended.state == "rolled_back"
    newest, start, create = store.history("shelf")
    assert (create.action, start.action, start.by, start.reason) == (
        "create",
        "start",
        "person:anna",
        "begin",
    )
    assert (newest.by, newest.action, newest.reason) == ("machine", "rollback", decision.reason)
    assert (newest.state_before, newest.state_after, newest.version_after) == ("running", "rolled_back", 2)
    assert newest.guardrails == decision.guardrails
    assert newest.evidence == json.loads(json.dumps(evidence_as_plain(HARM)))
    assert newest.at == HARM.at


def test_holding_is_logged_and_changes_nothing(light):
    rollout = started(light)
    seen = evidence(n_users_in_stage=3)
    assert light.apply(rollout, decide(seen, POLICY, rollout), seen) == rollout
    assert [entry.action for entry in light.history("shelf", limit=1)] == ["hold"]
    assert light.get("shelf") == rollout


def test_a_decision_about_an_older_state_is_refused_and_leaves_no_trace(store):
    rollout = started(store)
    store.act("shelf", "ramp", by="person:anna")
    with pytest.raises(ConflictError, match=r"'shelf' must still be at version 1"):
        store.apply(rollout, decide(evidence(), POLICY, rollout), evidence())
    assert store.get("shelf").stage == 1
    assert len(store.history("shelf")) == 3


def test_rolling_back_twice_is_safe_and_both_are_logged(light):
    started(light)
    first = light.act("shelf", "rollback", by="machine")
    assert light.act("shelf", "rollback", by="person:anna") == first
    assert [entry.by for entry in light.history("shelf", limit=2)] == ["person:anna", "machine"]


def test_an_illegal_action_is_refused_and_leaves_no_trace(light):
    light.create(experiment(), by="person:anna")
    before = light.version()
    with pytest.raises(IllegalTransitionError, match=r"must be start or stop.*got 'ramp'"):
        light.act("shelf", "ramp", by="person:anna")
    assert light.version() == before


def test_names_are_used_once_and_unknown_ones_get_the_nearest(light):
    light.create(experiment(), by="person:anna")
    with pytest.raises(ConfigError, match=r"name must be new; got 'shelf'"):
        light.create(experiment(), by="person:anna")
    with pytest.raises(ConfigError, match=r"got 'shelv'. Did you mean 'shelf'"):
        light.get("shelv")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({}, r"must not overlap with a live experiment; got 'shelf', which is running on discovery"),
        ({"layer_percent": (40.0, 100.0)}, r"must not overlap"),
        ({"layer_percent": (50.0, 100.0), "control": "older"}, r"control of 'second' .*got 'older'"),
    ],
)
def test_an_experiment_that_would_meet_a_live_one_does_not_start(light, second, message):
    started(light, layer_percent=(0.0, 50.0))
    light.create(experiment("second", **second), by="person:anna")
    with pytest.raises(ConfigError, match=message):
        light.act("second", "start", by="person:anna")
    assert light.get("second").state == "draft"


def test_an_experiment_starts_beside_another_and_after_one_that_ended(light):
    started(light, layer_percent=(0.0, 50.0))
    assert started(light, "second", layer_percent=(50.0, 100.0)).state == "running"
    light.act("shelf", "rollback", by="machine")
    assert started(light, "third", layer_percent=(0.0, 50.0)).state == "running"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE experiment_decisions SET reason = 'nothing happened'",
        "DELETE FROM experiment_decisions",
        "UPDATE experiments SET definition = '{}'",
    ],
)
def test_the_audit_log_and_definitions_cannot_be_rewritten(url, store, statement):
    started(store)
    with pytest.raises(DBAPIError):
        raw(url, statement)
    assert store.history("shelf")[0].reason == "begin"


def test_tables_of_a_later_version_are_refused(url, store):
    store.all()
    raw(url, "UPDATE experiment_format SET version = 99")
    later = ExperimentStore(url)
    with pytest.raises(DataError, match=r"experiment_format must be 1; got 99"):
        later.all()
    later.close()


def _decide_once(url, barrier, results) -> None:
    own = ExperimentStore(url)
    rollout = own.get("shelf")
    decision = decide(evidence(), POLICY, rollout)
    barrier.wait(20)
    try:
        results.put(own.apply(rollout, decision, evidence()).stage)
    except ConflictError:
        results.put("conflict")
    own.close()


def test_of_two_processes_that_decide_at_once_one_ramps_and_one_is_told(url, store):
    started(store)
    store.close()  # nothing open may be inherited
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_decide_once, args=(url, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert sorted(map(str, found)) == ["1", "conflict"]
    assert store.get("shelf").stage == 1
    assert [entry.action for entry in store.history("shelf")] == ["ramp", "start", "create"]


def _first_use(url, barrier, results) -> None:
    barrier.wait(20)
    own = ExperimentStore(url)
    results.put(len(own.all()))
    own.close()


def test_processes_that_come_first_at_once_make_the_tables_once(url):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_first_use, args=(url, barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=30) for _ in workers] == [0, 0, 0]
    for worker in workers:
        worker.join(30)


def test_a_worker_follows_the_store_from_another_connection(url, store):
    own = ExperimentStore(url)
    worker = StoredAssignment(own, default="basic", poll_s=0.02)
    worker.start()
    try:
        assert worker.assign("u1", "discovery").variant == "basic"
        started(store, ramp_percent=(50.0,))
        last = time.monotonic() + 10
        while worker.assign("u1", "discovery").experiment is None and time.monotonic() < last:
            time.sleep(0.02)
        assert worker.assign("u1", "discovery").experiment == "shelf"
        assert worker.age_s < 10
    finally:
        worker.close()
        own.close()


class Unreachable:
    """A store whose database is down until it is told otherwise."""

    def __init__(self, store=None) -> None:
        self.store, self.is_down = store, True

    def all(self):
        if self.is_down:
            raise LogUnavailableError("The experiments' database must answer; got OperationalError.")
        return self.store.all()


def test_serving_goes_on_with_the_last_known_state_while_the_database_is_down(light):
    rollout = started(light, ramp_percent=(50.0,))
    reached = Unreachable(light)
    reached.is_down = False
    worker = StoredAssignment(reached)
    assert worker.refresh()
    before = [worker.assign(f"u{i}", "discovery") for i in range(50)]
    reached.is_down = True
    assert not worker.refresh()
    assert [worker.assign(f"u{i}", "discovery") for i in range(50)] == before
    assert {assigned.variant for assigned in before} == {"control", "treatment"}
    assert worker.rollouts == (rollout,)


def test_a_killed_postgresql_is_survived_and_followed_again_when_it_is_back(new_postgres):
    server = new_postgres()
    own = ExperimentStore(server.new_database())
    rollout = started(own, ramp_percent=(50.0,))
    worker = StoredAssignment(own)
    assert worker.refresh()
    server.kill()
    assert not worker.refresh()
    with pytest.raises(LogUnavailableError):
        own.act("shelf", "rollback", by="person:anna")
    assert worker.rollouts == (rollout,)
    server.start()
    own.act("shelf", "rollback", by="person:anna")
    assert worker.refresh()
    assert worker.rollouts[0].state == "rolled_back"
    own.close()


def test_a_worker_that_starts_while_the_database_is_down_takes_the_remembered_state(light, tmp_path):
    started(light, ramp_percent=(50.0,))
    file = tmp_path / "experiments.json"
    StoredAssignment(light, remember=file).refresh()
    late = StoredAssignment(Unreachable(), remember=file)
    late.refresh()
    assert late.assign("u1", "discovery").experiment == "shelf"
    assert late.age_s is None
    unknowing = StoredAssignment(Unreachable())
    unknowing.refresh()
    assert unknowing.assign("u1", "discovery").variant == "control"
    assert not unknowing.assign("u1", "discovery").in_experiment


def test_a_damaged_memory_is_passed_over(tmp_path, caplog):
    file = tmp_path / "experiments.json"
    file.write_text('[{"experiment": 3}]')
    worker = StoredAssignment(Unreachable(), remember=file)
    worker.refresh()
    assert worker.rollouts == ()
    assert "not recalled from experiments.json" in caplog.text


def test_a_database_that_cannot_be_reached_is_said_so_without_its_password():
    down = ExperimentStore("postgresql://anna:secret@127.0.0.1:1/none")
    with pytest.raises(LogUnavailableError, match=r"must answer; got OperationalError") as told:
        down.all()
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("bad", ["mysql://host/name", "sqlite://", "sqlite:///:memory:", "nothing at all"])
def test_a_url_that_keeps_nothing_is_refused(bad):
    with pytest.raises(ConfigError, match=r"database's URL must"):
        ExperimentStore(bad)
