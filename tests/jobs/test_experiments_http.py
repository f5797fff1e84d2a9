"""Experiments on a real service, over HTTP: who is served what, through ramps, restarts and the end."""

import contextlib
import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tailwise import cli, jobs
from tailwise.errors import ConfigError
from tailwise.events import LogReader
from tailwise.experiments import (
    EffectLimit,
    Experiment,
    ExperimentStore,
    Policy,
    StageOverride,
    StageRule,
    bucket,
)
from tailwise.jobs._experiments_decider import Decider
from tailwise.jobs._experiments_serving import POLL_S
from tailwise.jobs._run_data import load_run_data
from tailwise.jobs._serve_models import ModelSource, load_served

from .builders import tiny_config
from .rollouts import write_shop
from .servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tailwise_cache")]

SETTINGS = (
    "variants=[{name='adamw'}]",
    "rescorings=[{name='lifted',popularity_penalty=0.05},{name='overdone',popularity_penalty=5.0}]",
    "training.max_epochs=2",
    "training.checkpoint_seconds=60",
    "data.split='global-time'",
    "data.test_share=0.2",
)
FOLLOWS_S = POLL_S + 1.5  # a busy machine
USERS = [f"u{number}" for number in range(16)]


@pytest.fixture(scope="module")
def run(tiny_model, session_cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rollout")
    log, items = write_shop(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(tiny_config(log, items, tiny_model, *SETTINGS), folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def start(run, session_cache):
    started = []

    def begin(folder: Path, *arguments: object) -> Server:
        models = ("--model=control=run/adamw", "--model=treatment=run/adamw+overdone")
        server = Server(
            folder,
            *models,
            f"--model-root={run.parent}",
            "--set=engine.warm_up=false",
            *arguments,
            environment={"TAILWISE_CACHE": str(session_cache)},
        )
        started.append(server)
        return server.wait_until_ready()

    yield begin
    for server in started:
        server.end()


@pytest.fixture(scope="module")
def server(start, tmp_path_factory) -> Server:
    return start(tmp_path_factory.mktemp("experiments"), "--workers", "2")


def database(server: Server) -> str:
    return f"sqlite:///{server.folder / 'tailwise-events.db'}"


@contextlib.contextmanager
def running(server, name, ramp):
    """A store with an experiment that runs; stopped at the end."""
    store = ExperimentStore(database(server))
    store.create(Experiment(name, "home", "control", "treatment", ramp_percent=ramp), by="person:anna")
    store.act(name, "start", by="person:anna")
    time.sleep(FOLLOWS_S)
    try:
        yield store
    finally:
        if store.get(name).is_live:
            store.act(name, "stop", by="person:anna")
        store.close()
        time.sleep(FOLLOWS_S)


def served(server, users=USERS):
    """Who is answered by which models; each asks twice, over connections of their own, so of any worker."""
    found = {}
    for user in users:
        answers = set()
        for _ in range(2):
            server.http.close()
            server.http = type(server.http)(timeout=30)
            answers.add(server.listed(user_id=user, history=["i01"])["variant"])
        found[user] = " and ".join(sorted(answers))
    return found


def settles(server, expected):
    """Wait, not long, until all workers answer like this."""
    until = time.monotonic() + 15  # a second is promised; a busy machine is slow to do anything
    while (found := served(server)) != expected and time.monotonic() < until:
        time.sleep(0.2)
    assert found == expected


def cohorts(name, percent):
    places = {user: bucket(f"experiment/{name}/0", user) for user in USERS}
    return {user: "treatment" if place < percent / 100 else "control" for user, place in places.items()}


def test_workers_agree_with_the_hash_through_ramps_and_restart_and_roll_back_within_seconds(server, start):
    with running(server, "ramped", (25.0, 50.0, 100.0)) as store:
        settles(server, cohorts("ramped", 25))
        store.act("ramped", "ramp", by="person:anna")
        settles(server, cohorts("ramped", 50))
        server.stop()
        again = start(server.folder, "--workers", "2")
        server.http.close()
        server.http, server.url, server.process = again.http, again.url, again.process
        assert served(server) == cohorts("ramped", 50)  # from the first request on
        store.act("ramped", "ramp", by="person:anna")
        settles(server, cohorts("ramped", 95))  # the hold-out stays
        store.act("ramped", "rollback", by="person:bob", reason="head sells less")
        settles(server, dict.fromkeys(USERS, "control"))
        assert [entry.action for entry in store.history("ramped")][:2] == ["rollback", "ramp"]
    # Nobody of control at 25 % was ever to get the treatment before 100 %; the log says what was served.
    lists = pl.concat(LogReader(database(server)).slots()).filter(pl.col("experiment") == "ramped")
    counted = lists.filter(pl.col("in_experiment") & (pl.col("stage") < 2))
    assert counted.group_by("user_id").agg(pl.col("variant").n_unique())["variant"].max() == 1
    assert counted["variant"].n_unique() == 2


def test_a_service_without_an_experiment_answers_by_its_first_model_and_counts_nobody(server):
    answer = server.listed(user_id="u1", history=["i01"])
    assert (answer["variant"], answer["experiment"], answer["stage"]) == ("control", None, None)


def test_the_command_line_tells_what_was_seen_and_decided(server, run, capsys, monkeypatch):
    monkeypatch.chdir(server.folder)

    def command(*words):
        with contextlib.suppress(SystemExit):
            cli.main(["experiment", *words])
        return capsys.readouterr().out

    words = (
        "told",
        "--control",
        "control",
        "--treatment",
        "treatment",
        "--surface",
        "home",
        "--ramp",
        "50,100",
    )
    assert "told: draft" in command("create", *words)
    assert "running, 50 %" in command("start", "told", "--model-root", str(run.parent), "--reason", "a look")
    time.sleep(FOLLOWS_S)
    for user in USERS:
        answer = server.listed(user_id=user, history=["i01"])
        event = {
            "event_id": f"told-{user}",
            "type": "impression",
            "user_id": user,
            "item_id": answer["items"][0]["item_id"],
            "occurred_at": time.time(),
            "recommendation_id": answer["recommendation_id"],
        }
        assert server.ask("POST", "/v1/events", {"events": [event]}).status_code == 200
    status = json.loads(command("status", "told", "--json", "--model-root", str(run.parent)))
    exposed = {each["variant"]: each["exposed"] for each in status["cohorts"]}
    places = [bucket("experiment/told/0", user) for user in USERS]
    assert exposed["treatment"] == sum(place < 0.5 for place in places)
    assert exposed["treatment"] + exposed["control"] == len(USERS)
    assert status["next"]["action"] == "hold"
    assert {each["name"] for each in status["guardrails"]} >= {"clicks", "gmv", "errors", "sample_ratio"}
    assert "The machine would hold" in command("status", "told", "--model-root", str(run.parent))
    assert "Done and written down" in command("decide", "told", "--apply", "--model-root", str(run.parent))
    lines = [json.loads(line) for line in command("audit", "told", "--json").splitlines()]
    assert [line["action"] for line in lines] == ["create", "start", "hold"]
    assert lines[2]["by"] == "machine"
    assert lines[2]["evidence"]["sample"]["n_treatment"] == exposed["treatment"]
    assert "stopped, 0 %" in command("stop", "told")
    assert "told" in command("list")
    time.sleep(FOLLOWS_S)


def test_a_service_that_decides_rolls_back_by_itself(start, run, tmp_path):
    server = start(tmp_path / "deciding", "--decide", "every=1s")
    policy = Policy(
        window_days=1 / 86_400,
        first_look_users=5,
        first_look_active_users=1,
        tuned_for_users=50,
        every_stage=StageRule(minimum_days=0.5, maximum_days=9.0),
        effects=(EffectLimit("clicks", 0.05),),
    )
    store = ExperimentStore(database(server))
    store.create(
        Experiment("x", "home", "control", "treatment", ramp_percent=(50.0, 100.0), policy=policy),
        by="person:a",
    )
    store.act("x", "start", by="person:a")
    time.sleep(FOLLOWS_S)
    events, rng = [], np.random.default_rng(0)
    for number in range(80):
        answer = server.listed(user_id=f"v{number}", history=["i01"])
        n_clicks = int(rng.integers(2, 5)) if answer["variant"] == "control" else 0
        events += [
            {
                "event_id": f"{number}-{n}",
                "type": "click" if n else "impression",
                "user_id": f"v{number}",
                "item_id": answer["items"][0]["item_id"],
                "occurred_at": time.time() + 0.01 * n,
                "recommendation_id": answer["recommendation_id"],
            }
            for n in range(n_clicks + 1)
        ]
    assert server.ask("POST", "/v1/events", {"events": events}).status_code == 200
    server.wait_for(lambda: store.get("x").state == "rolled_back", 60)
    entry = store.history("x", limit=1)[0]
    assert (entry.by, entry.action) == ("machine", "rollback")
    assert "shown to be worse than a loss of 5.0%" in entry.reason
    assert entry.evidence["n_users"] > 10
    server.wait_for(lambda: server.listed(user_id="v1", history=["i01"])["variant"] == "control", 10)
    store.close()
    server.stop()


def test_the_demo_in_small_ramps_what_helps_and_rolls_back_what_overcorrects(run, tmp_path, monkeypatch):
    path = Path(__file__).parents[2] / "recipes" / "rollout_demo.py"
    spec = importlib.util.spec_from_file_location("rollout_demo", path)
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    policy = Policy(
        look_every_hours=6.0,
        window_days=0.5,
        first_look_users=20,
        first_look_active_users=10,
        tuned_for_users=200,
        every_stage=StageRule(minimum_days=0.5, minimum_users=20, proof="no-harm-seen"),
        stages=(StageOverride(100.0, minimum_users=2),),
        effects=(EffectLimit("clicks", 0.20),),
    )
    config = {"users": 600, "days": 6.0, "visits_per_day": 0.8, "rate": 1000.0, "scenario": "over-correction"}
    summary = demo.play(
        "run",
        tmp_path / "demo",
        run.parent,
        config,
        "--set=engine.warm_up=false",
        policy=policy,
        ramp=(50.0, 100.0),
    )
    first, second = summary["experiments"]
    assert first["status"]["percent"] == 95  # everybody but the hold-out
    assert [entry["action"] for entry in first["timeline"]][:2] == ["start", "ramp"]
    assert second["state"] == "rolled_back"
    assert second["timeline"][-1]["by"] == "machine"
    assert (
        json.loads((tmp_path / "demo" / "summary.json").read_text())["experiments"][1]["state"]
        == "rolled_back"
    )
    # The log itself says that its time was told, and that no control user was ever shown the treatment.
    decider = Decider.of_service(
        f"sqlite:///{tmp_path / 'demo' / 'events.db'}", state=tmp_path / "demo" / "state", root=run.parent
    )
    reader = decider.reader(decider.store.get("lifted").experiment)
    reader.refresh()
    exposures = reader.exposures()
    assert exposures["user_id"].is_unique().all()
    assert exposures.height > 50
    decider.close()


def test_a_variant_scored_another_way_is_served_as_what_it_says(run):
    cpu = torch.device("cpu")
    models = {
        name: load_served(name, ModelSource(run, f"adamw{name}", None), cpu).model
        for name in ("", "+lifted", "+overdone")
    }
    assert len({model.digest for model in models.values()}) == 3
    counts = torch.from_numpy(load_run_data(run / "data").counts).float()
    history = [np.array([1, 2])]
    lowered = models[""].recommender.scores(history) - 5.0 * torch.log1p(counts)
    torch.testing.assert_close(models["+overdone"].recommender.scores(history), lowered)
    with pytest.raises(ConfigError, match=r"must be one of the run's .*adamw\+lifted.*; got 'adamw\+other'"):
        load_served("x", ModelSource(run, "adamw+other", None), cpu)
