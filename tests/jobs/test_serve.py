"""`tailwise serve` as users start it: a real process, real models, a real log."""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import polars as pl
import pytest

from tailwise import jobs
from tailwise.errors import ConfigError, DataError
from tailwise.events import EventLog, LogReader
from tailwise.jobs._run_data import load_run_data
from tailwise.jobs._serve import serve
from tailwise.jobs._serve_config import ServeConfig
from tailwise.recommenders import load_recommender, recommend
from tailwise.serving._http_keys import KeyStore

from .builders import tiny_config
from .servers import Server

pytestmark = pytest.mark.usefixtures("tailwise_cache")

SETTINGS = ("variants=[{name='adamw'}]", "training.max_epochs=1", "training.checkpoint_seconds=60")
NOW = 1_764_000_000.0


@pytest.fixture(scope="module")
def run(tiny_log, tiny_model, session_cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("served") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, *SETTINGS), out, quiet=True)
    return out


@pytest.fixture(scope="module")
def start(run, session_cache):
    """Start services; all are ended when the module is done."""
    started = []

    def begin(folder: Path, *arguments: object) -> Server:
        models = ("--model=control=run/adamw", "--model=treatment=run/item-knn", f"--model-root={run.parent}")
        server = Server(folder, *models, *arguments, environment={"TAILWISE_CACHE": str(session_cache)})
        started.append(server)
        return server

    yield begin
    for server in started:
        server.end()


@pytest.fixture(scope="module")
def server(start, tmp_path_factory) -> Server:
    return start(
        tmp_path_factory.mktemp("one"),
        "--set=header_timeout_s=1",
        "--set=engine.warm_up=false",
        "--monitor=1h",
    ).wait_until_ready()


@pytest.fixture(scope="module")
def data(run):
    return load_run_data(run / "data")


def event(event_id, **fields):
    return {
        "event_id": event_id,
        "type": "purchase",
        "user_id": "new-user",
        "item_id": "i07",
        "occurred_at": NOW,
        "revenue": "19.90",
        "currency": "EUR",
    } | fields


def logged_events(folder):
    found = list(LogReader(f"sqlite:///{folder / 'tailwise-events.db'}").events())
    return pl.concat(found)["event_id"].to_list() if found else []


def test_without_a_key_it_says_who_may_ask_and_how_to_change_that(server):
    out = server.out.read_text()
    assert "No API key: everybody on this machine may ask" in out
    assert "tailwise keys create" in out
    assert server.url.startswith("http://127.0.0.1:")


def test_the_dashboard_is_served_and_sends_no_browser_elsewhere(server):
    answer = server.ask("GET", "/dashboard")
    assert answer.status_code == 200
    assert "No experiment yet" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_monitor_has_looked_and_says_when(server):
    server.wait_for(lambda: "tailwise_monitor_last_look_seconds" in server.ask("GET", "/metrics").text)


def test_a_users_list_is_the_runs_own_recommendation(server, run, data):
    rows = pl.concat([data.split.train, data.split.validation, data.split.test])
    user = rows["user_id"][0]
    history = rows.filter(pl.col("user_id") == user)["item_index"].to_list()
    (best,) = recommend(load_recommender(run / "adamw" / "seed-0" / "model"), [history], k=5)
    answer = server.listed(user_id=user, k=5)
    ids = data.catalogue.item_ids()
    assert [item["item_id"] for item in answer["items"]] == [ids[index] for index in best]
    assert answer["items"][0]["title"] == data.catalogue.titles()[best[0]]
    assert answer["user"] == {"is_known": True, "history_length": len(history), "unknown_items": []}
    assert answer["logged"] is True


def test_a_purchase_is_in_the_log_when_it_is_answered_and_in_the_users_next_list(server):
    assert server.listed(user_id="new-user")["reason"] == "no-history"
    assert server.ask("POST", "/v1/events", {"events": [event("first")]}).json()["n_new"] == 1
    assert "first" in logged_events(server.folder)
    after = server.listed(user_id="new-user")
    assert (after["method"], after["user"]["history_length"]) == ("model", 1)
    assert "i07" not in [item["item_id"] for item in after["items"]]


def test_a_swap_changes_what_answers_and_one_that_cannot_be_loaded_does_not(server, run):
    before = server.listed(user_id="new-user")["model"]
    assert server.ask("PUT", "/v1/models/control", {"source": "run/item-knn"}).json()["is_settled"]
    swapped = server.listed(user_id="new-user")["model"]
    assert swapped != before
    for source, reason in (
        ("run/nothing", "got 'nothing'"),
        ("run/adamw/seed-9", "got 9"),
        ("elsewhere/adamw", "config.json"),
        ("../../etc/passwd", "must lie under the model root"),
        ("/etc/passwd", "must lie under the model root"),
        ("run", "must"),
        ("..", "must"),
    ):
        answer = server.ask("PUT", "/v1/models/control", {"source": source})
        assert answer.status_code == 409, source
        assert reason in answer.json()["detail"], source
    assert server.listed(user_id="new-user")["model"] == swapped
    assert server.ask("PUT", "/v1/models/control", {"source": "run/adamw/seed-0"}).status_code == 200
    assert server.listed(user_id="new-user")["model"] == before
    assert [line["name"] for line in server.lines() if line["event"] == "model swapped"] == ["control"] * 2


def test_a_damaged_model_is_not_swapped_in(server, run):
    import shutil

    broken = run.parent / "broken"
    shutil.copytree(run, broken)
    weights = broken / "adamw" / "seed-0" / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    answer = server.ask("PUT", "/v1/models/control", {"source": "broken/adamw"})
    assert answer.status_code == 409
    assert "weights.safetensors" in answer.json()["detail"]
    (broken / "adamw" / "seed-0" / "model" / "recommender.json").write_text("{}")
    answer = server.ask("PUT", "/v1/models/control", {"source": "broken/adamw"})
    assert answer.status_code == 409
    assert server.listed(user_id="new-user")["method"] == "model"


def test_changes_of_the_catalogue_decide_filters_and_outlive_a_swap(server):
    items = [
        {"item_id": "i03", "price": 5.0, "category": "lamp"},
        {"item_id": "i04", "price": 50.0},
        {"item_id": "i05", "in_stock": False},
        {"item_id": "nowhere", "price": 1.0},
    ]
    changed = server.ask("PUT", "/v1/catalogue", {"items": items}).json()
    assert (changed["n_changed"], changed["unknown_items"]) == (3, ["nowhere"])

    def listed(**filters):
        return {item["item_id"] for item in server.listed(history=["i01"], k=40, filters=filters)["items"]}

    for swap in (None, "run/item-knn", "run/adamw"):
        if swap is not None:
            assert server.ask("PUT", "/v1/models/control", {"source": swap}).status_code == 200
        assert listed(max_price=10.0) == {"i03"}
        assert listed(min_price=1.0) == {"i03", "i04"}
        assert listed(category=["lamp"]) == {"i03"}
        assert "i05" not in listed(in_stock=True)
        assert "i05" in listed()
    server.ask("PUT", "/v1/catalogue", {"items": [{"item_id": "i03", "price": None}]})
    assert listed(max_price=10.0) == set()
    assert listed(category=["lamp"]) == {"i03"}  # what is absent stays


def test_a_deleted_user_leaves_the_engines_whoever_deleted(server):
    def n_kept():
        text = server.ask("GET", "/metrics").text
        lines = [line for line in text.splitlines() if 'name="control",number="n_queries_kept"' in line]
        return float(lines[0].split()[-1])

    def ask_for(*users):
        for user in users:
            assert server.listed(user_id=user, history=["i01"])["variant"] == "control"

    ask_for("u-stays")
    server.wait_for(lambda: n_kept() >= 1, 20)  # metrics are taken every two seconds
    before = n_kept()
    ask_for("u-http", "u-elsewhere")
    server.wait_for(lambda: n_kept() == before + 2, 20)
    assert server.ask("DELETE", "/v1/users/u-http").json() == {"n_events": 0, "n_lists": 1}
    server.wait_for(lambda: n_kept() == before + 1, 20)

    async def delete():  # as `tailwise events delete-user` does
        log = EventLog.open(
            f"sqlite:///{server.folder / 'tailwise-events.db'}", server.folder / "other-spool"
        )
        await log.delete_user("u-elsewhere", by="support", reason="asked")
        await log.close(5)

    asyncio.run(delete())
    server.wait_for(lambda: n_kept() == before, 20)


def test_a_client_that_is_slow_with_the_head_of_its_request_is_cut_off(server):
    host, port = server.url.removeprefix("http://").split(":")
    for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost: x"):
        with socket.create_connection((host, int(port)), timeout=20) as client:
            began = time.monotonic()
            client.sendall(sent)
            assert client.recv(100) == b""
            assert 0.5 < time.monotonic() - began < 15
    with socket.create_connection((host, int(port)), timeout=20) as client:  # a second request
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while b"alive" not in answer:
            answer += client.recv(4096)
        client.sendall(b"GET /hea")
        assert client.recv(100) == b""


def test_a_request_whose_head_has_no_end_is_cut_off(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        n_sent = 0
        with contextlib.suppress(ConnectionError):
            while n_sent < 20_000_000:
                client.sendall(b"x-filler: " + b"a" * 9_000 + b"\r\n")
                n_sent += 9_000
            assert client.recv(100) == b""
        assert n_sent < 20_000_000
    assert server.ask("GET", "/healthz").status_code == 200


def test_the_settings_of_the_start_are_in_the_log(server):
    (settings,) = [line for line in server.lines() if line["event"] == "settings"]
    assert settings["models"] == {"control": "run/adamw", "treatment": "run/item-knn"}
    assert settings["header_timeout_s"] == 1


def test_the_log_of_the_process_is_json_and_names_no_user(server):
    server.listed(user_id="secret-user")
    text = server.err.read_text()
    assert all(line.startswith("{") for line in text.splitlines())
    assert "secret-user" not in text
    assert "new-user" not in text


def test_another_service_cannot_take_the_same_state(server, run):
    config = ServeConfig(
        models={"a": "run/adamw"},
        model_root=str(run.parent),
        state=str(server.folder / "tailwise-state"),
        port=0,
    )
    with pytest.raises(ConfigError, match=r"state must be free; got .*another service"):
        serve(config)


@pytest.mark.slow
def test_sigterm_finishes_what_has_begun_and_ends_with_status_zero(start, tmp_path):
    server = start(tmp_path, "--set=engine.warm_up=false").wait_until_ready()
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"surface":"home","history":["i01"]}'

    def is_closed():
        try:
            httpx.get(f"{server.url}/healthz")
        except httpx.ConnectError:
            return True
        except httpx.TransportError:  # accepted and dropped before its request was read: it is closing
            return False
        return False

    with socket.create_connection((host, int(port)), timeout=30) as client:
        head = b"POST /v1/recommendations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
        assert b"100 Continue" in client.recv(4096)  # the request has begun
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(is_closed)
        client.sendall(body)
        answer = b""
        while b'"propensities"' not in answer:
            answer += client.recv(65536)
    assert b"200 OK" in answer
    assert b'"logged":true' in answer
    assert server.process.wait(60) == 0


@pytest.mark.slow
def test_two_workers_swap_together_and_lose_nothing_when_one_is_killed_under_load(start, tmp_path):
    server = start(tmp_path, "--workers=2", "--set=engine.warm_up=false").wait_until_ready()

    def workers():
        return {each["worker"]: each for each in server.ask("GET", "/v1/models").json()["workers"]}

    assert sorted(workers()) == [0, 1]
    server.ask("PUT", "/v1/models/control", {"source": "run/item-knn"})
    server.wait_for(lambda: server.ask("GET", "/v1/models").json()["is_settled"], 20)
    digests = {each["models"][0]["digest"] for each in workers().values()}
    assert len(digests) == 1
    assert {each["generation"] for each in workers().values()} == {1}

    acknowledged, sent, failures = set(), set(), []
    is_over = threading.Event()

    def load(number):
        count = 0
        while not is_over.is_set():
            count += 1
            names = [f"{number}-{count}-{i}" for i in range(3)]
            sent.update(names)
            batch = {"events": [event(name, user_id=f"u{number}") for name in names]}
            for _ in range(40):  # until it is acknowledged, as docs/serving.md says
                try:  # a connection each, so that both workers are met
                    answer = httpx.post(f"{server.url}/v1/events", json=batch, timeout=20, verify=False)
                    listed = httpx.post(
                        f"{server.url}/v1/recommendations",
                        json={"surface": "home", "user_id": f"u{number}"},
                        timeout=20,
                        verify=False,  # certificates that nobody asks for take long to read
                    )
                except httpx.TransportError:
                    continue  # it was with the worker that died
                if answer.status_code == listed.status_code == 200:
                    acknowledged.update(names)
                    break
                failures.append((answer.status_code, listed.status_code))
                time.sleep(0.1)
            else:
                failures.append(("given up", names))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        server.wait_for(lambda: len(acknowledged) > 30)
        victim = workers()[1]["pid"]
        os.kill(victim, signal.SIGKILL)
        n_before = len(acknowledged)
        server.wait_for(lambda: len(acknowledged) > n_before + 30)  # the other goes on
        server.wait_for(lambda: workers().get(1, {"pid": victim})["pid"] != victim, 120)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    reborn = workers()[1]
    assert (reborn["generation"], reborn["models"][0]["digest"]) == (1, digests.pop())  # what was swapped in
    kept = logged_events(server.folder)
    assert acknowledged <= set(kept) <= sent
    assert len(kept) == len(set(kept))
    text = server.ask("GET", "/metrics").text
    assert text.count("tailwise_deployment_generation{pid=") == 2  # not that of the dead one
    total = [line for line in text.splitlines() if 'route="/v1/events",status="200"} ' in line]
    assert float(total[0].split()[-1]) >= len(acknowledged) / 3  # of all workers, the dead one included
    assert server.stop() == 0


@pytest.mark.slow
def test_a_server_killed_under_load_has_kept_what_it_acknowledged_when_it_is_started_again(start, tmp_path):
    first = start(tmp_path, "--set=engine.warm_up=false").wait_until_ready()
    url = first.url
    acknowledged, lists, statuses = set(), set(), set()
    is_over = threading.Event()

    def load(number):
        http = httpx.Client(timeout=20)
        for count in range(2_000):
            names = [f"{number}-{count}-{i}" for i in range(3)]
            batch = {"events": [event(name, user_id=f"u{number}") for name in names]}
            body = {"surface": "home", "user_id": f"u{number}"}
            while not is_over.is_set():  # until it is acknowledged, as docs/serving.md says
                try:
                    answer = http.post(f"{url}/v1/events", json=batch)
                    if answer.status_code == 200:
                        acknowledged.update(names)
                    listed = http.post(f"{url}/v1/recommendations", json=body)
                except httpx.TransportError:
                    is_over.wait(0.5)  # it is dead
                    continue
                statuses.update((answer.status_code, listed.status_code))
                if listed.json()["logged"]:
                    lists.add(listed.json()["recommendation_id"])
                break
            if is_over.is_set():
                break
        http.close()

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        first.wait_for(lambda: len(acknowledged) > 60)
        first.process.kill()
        first.process.wait(30)
        n_before = len(acknowledged)
        second = start(tmp_path, "--set=engine.warm_up=false").wait_until_ready()
        url = second.url
        second.wait_for(lambda: len(acknowledged) > n_before + 30)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)
    assert statuses == {200}
    kept = logged_events(tmp_path)
    assert acknowledged <= set(kept)
    assert len(kept) == len(set(kept))
    reader = LogReader(f"sqlite:///{tmp_path / 'tailwise-events.db'}")
    assert lists <= set(pl.concat(list(reader.slots()))["recommendation_id"])
    reader.close()
    assert second.stop() == 0


@pytest.mark.slow
def test_workers_go_when_their_supervisor_is_killed(start, tmp_path):
    server = start(tmp_path, "--workers=2", "--set=engine.warm_up=false").wait_until_ready()
    pids = [each["pid"] for each in server.ask("GET", "/v1/models").json()["workers"]]
    server.process.kill()
    server.process.wait(30)

    def is_gone(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    server.wait_for(lambda: all(map(is_gone, pids)))


def configured(run, tmp_path, **fields):
    return ServeConfig(
        **{
            "models": {"control": "run/adamw"},
            "model_root": str(run.parent),
            "state": str(tmp_path / "state"),
            "database": f"sqlite:///{tmp_path / 'e.db'}",
            **fields,
        }
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
def test_nobody_beyond_this_machine_is_served_without_a_key(run, tmp_path, host):
    with pytest.raises(ConfigError, match=rf"host must be of the loopback.*got '{host}'"):
        serve(configured(run, tmp_path, host=host))
    key, _ = KeyStore(tmp_path / "state" / "keys.json").create("a", ["admin"])
    KeyStore(tmp_path / "state" / "keys.json").revoke(key.id)
    with pytest.raises(ConfigError, match="host must be of the loopback"):
        serve(configured(run, tmp_path, host=host))


def test_a_port_that_is_taken_is_named(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"must be free to listen on; got 127.0.0.1:{port}"):
            serve(configured(run, tmp_path, port=port))


@pytest.mark.parametrize(
    ("source", "error", "named"),
    [
        ("run/sasrec", ConfigError, "'sasrec'"),
        ("none/adamw", DataError, "config.json"),
        ("../x/adamw", ConfigError, "model root"),
    ],
)
def test_a_model_that_is_not_there_is_refused_before_anything_is_loaded(run, tmp_path, source, error, named):
    with pytest.raises(error, match=named):
        serve(configured(run, tmp_path, models={"control": source}))
    assert not (tmp_path / "e.db").exists()


@pytest.mark.slow
def test_a_drill_breaks_the_model_that_it_names_and_is_said_wherever_one_looks(start, tmp_path):
    server = start(tmp_path, "--drill=treatment=fail:1", "--set=engine.warm_up=false").wait_until_ready()
    broken = server.listed(history=["i01"], variant="treatment")
    assert (broken["method"], broken["reason"]) == ("most-popular", "model-error")
    whole = server.listed(history=["i01"], variant="control")
    assert whole["method"] == "model"
    ready = server.ask("GET", "/readyz")
    assert ready.headers["x-tailwise-drill"] == "treatment=fail:1"
    drills = {model["name"]: model["drill"] for model in ready.json()["models"]}
    assert drills == {"control": None, "treatment": "fail:1"}
    assert "broken on purpose: treatment (fail:1)" in server.out.read_text()
    (line,) = [line for line in server.lines() if line["event"].startswith("drill")]
    assert (line["level"], line["name"], line["drill"]) == ("warning", "treatment", "fail:1")
    swapped = server.ask("PUT", "/v1/models/treatment", {"source": "run/adamw"})
    assert swapped.status_code == 200
    assert server.listed(history=["i01"], variant="treatment")["reason"] == "model-error"
    assert server.stop() == 0


@pytest.mark.slow
def test_requests_that_a_slow_model_turns_away_are_in_the_log_when_the_service_has_stopped(start, tmp_path):
    server = start(
        tmp_path,
        "--drill=control=slow:500ms",
        "--set=engine.warm_up=false",
        "--set=engine.max_batch=1",
        "--set=engine.queue_limit=1",
    ).wait_until_ready()

    def ask(number: int) -> int:
        body = {"user_id": f"v{number}", "history": ["i01"]}
        return server.ask("POST", "/v1/recommendations", {"surface": "home", **body}).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(ask, range(6)))
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "tailwise-events.db")) as database:
        rows = database.execute(
            "select user_id, variant, method, reason, slots, context from lists"
        ).fetchall()
    refused = [f"v{number}" for number, status in enumerate(statuses) if status == 429]
    assert refused
    assert sorted(row[0] for row in rows if row[2] == "refused") == refused
    told = {row[1:] for row in rows if row[2] == "refused"}
    assert told == {("control", "refused", "overload", "[]", '{"drill":"slow:500ms"}')}
    assert len(rows) == 6
