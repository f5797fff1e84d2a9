"""People who visit: whom they are copies of, when they come, what they do, how they ask."""

import dataclasses
import http.server
import json
import signal
import threading
import time

import numpy as np
import polars as pl
import pytest

from tailwise.errors import ConfigError, DataError, TailwiseError
from tailwise.experiments import Experiment
from tailwise.interactions import Catalogue, build_dataset, load_catalogue, load_interactions, split_by_time
from tailwise.jobs._experiments_clock import CLOCK_HEADER
from tailwise.jobs._experiments_decider import Decider
from tailwise.jobs._run_data import RunData
from tailwise.jobs._serve_drill import DRILL_HEADER
from tailwise.jobs._simulate import SimulateConfig, simulate
from tailwise.jobs._simulate_client import ServiceClient
from tailwise.jobs._simulate_scenarios import SCENARIOS, find_scenario
from tailwise.jobs._simulate_users import fit_shoppers
from tailwise.jobs._simulate_visits import Visit, plan_visits
from tailwise.segments import popularity

from .rollouts import DAY, ITEMS, NOW, write_shop


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> RunData:
    log, items = write_shop(tmp_path_factory.mktemp("shop"))
    dataset = build_dataset(load_interactions(log), load_catalogue(items))
    split = split_by_time(dataset, test_share=0.2)
    counts = popularity(split.train, split.n_items)
    return RunData(dataset.catalogue, split, counts, {"name": "shop"})


@pytest.fixture(scope="module")
def shoppers(data):
    return fit_shoppers(data)


def plan(shoppers, scenario="as-fitted", **named):
    settings = {"n_users": 300, "days": 10.0, "visits_per_day": 0.5, "began_at": NOW, "seed": 3} | named
    return plan_visits(shoppers, find_scenario(scenario), **settings)


def test_what_recommenders_were_trained_on_has_no_part_in_tastes(data, shoppers):
    rng = np.random.default_rng(1)
    train = data.split.train
    shuffled = train.with_columns(pl.Series("item_index", rng.permutation(train["item_index"].to_numpy())))
    other = dataclasses.replace(data, split=dataclasses.replace(data.split, train=shuffled))
    refitted = fit_shoppers(other)
    assert refitted.histories != shoppers.histories  # what they ask from is their past
    for person in range(0, shoppers.n_people, 7):
        assert (
            refitted.click_chance(person, shoppers.item_ids).tolist()
            == shoppers.click_chance(person, shoppers.item_ids).tolist()
        )


def test_people_who_chose_a_kind_click_on_it_more(tmp_path):
    # The model knows tastes by category: give the shop its four kinds.
    log, items = write_shop(tmp_path)
    table = pl.read_csv(items)
    table.with_columns(
        category=pl.Series([f"kind{int(item[1:]) % 4}" for item in table["item_id"]])
    ).write_csv(items)
    dataset = build_dataset(load_interactions(log), load_catalogue(items))
    split = split_by_time(dataset, test_share=0.3)
    found = fit_shoppers(RunData(dataset.catalogue, split, popularity(split.train, split.n_items), {}))
    ratios = []
    for person, name in enumerate(found.people):
        chances = found.click_chance(person, found.item_ids)
        is_own = np.array([int(item[1:]) % 4 == int(name[1:]) % 4 for item in found.item_ids])
        ratios.append(chances[is_own].mean() / chances[~is_own].mean())
    assert np.median(ratios) > 1.1  # 1 would be indifference


def test_prices_are_the_catalogues_else_those_of_the_log_else_drawn(data, shoppers):
    assert shoppers.prices_from == "catalogue"
    nameless = dataclasses.replace(data, catalogue=Catalogue(data.catalogue.items.drop("price")))
    drawn = fit_shoppers(nameless)
    assert (drawn.prices_from, drawn.price("i03") > 0) == ("drawn", True)
    parts = {
        part: getattr(data.split, part).with_columns(price=pl.col("item_index").cast(pl.Float64) + 2.0)
        for part in ("train", "validation", "test")
    }
    paid = fit_shoppers(dataclasses.replace(nameless, split=dataclasses.replace(data.split, **parts)))
    assert (paid.prices_from, paid.price(data.catalogue.item_ids()[3])) == ("log", 5.0)


def test_a_test_part_that_is_too_small_is_refused(data):
    few = dataclasses.replace(data, split=dataclasses.replace(data.split, test=data.split.test.head(30)))
    with pytest.raises(DataError, match="must hold 20 users and 100 rows"):
        fit_shoppers(few)


def test_one_seed_is_one_plan_and_another_has_other_users(shoppers):
    crowd, visits = plan(shoppers)
    again, same = plan(shoppers)
    assert [(v.user, v.at) for v in visits] == [(v.user, v.at) for v in same]
    assert (crowd.person == again.person).all()
    other, _ = plan(shoppers, seed=4)
    assert other.user_id(0) != crowd.user_id(0)


def test_visits_come_in_order_within_the_days_and_as_often_as_declared(shoppers):
    _, visits = plan(shoppers, n_users=2000)
    moments = np.array([visit.at for visit in visits])
    assert (np.diff(moments) >= 0).all()
    assert moments[0] >= NOW
    assert moments[-1] < NOW + 10 * DAY
    # 2,000 users, 0.5 a day, of whom 30 % are there half of the ten days on average.
    assert len(visits) == pytest.approx(2000 * 0.5 * 10 * 0.85, rel=0.1)
    assert min(visit.day for visit in visits) == 0


def test_the_same_visit_acts_the_same_and_acts_are_as_expected_on_average(shoppers):
    crowd, _ = plan(shoppers)
    items, segments = shoppers.item_ids[:10], ["head"] * 3 + ["tail"] * 7
    acts = [crowd.act(Visit(n, 5, NOW, 0.0), NOW, items, segments) for n in range(4000)]
    again = crowd.act(Visit(0, 5, NOW, 0.0), NOW, items, segments)
    assert all((acts[0][name] == again[name]).all() for name in again)
    expected = crowd.expect(5, items, segments)
    drawn = np.mean([len(act["clicked"]) for act in acts])
    # Four standard errors of the mean of 4,000 lists, whose clicks are at most Poisson.
    assert drawn == pytest.approx(expected["clicks"], abs=4 * np.sqrt(expected["clicks"] / 4000))
    looked = np.mean([len(act["looked"]) for act in acts])
    assert looked == pytest.approx(float((np.arange(1, 11) ** -0.7).sum()), rel=0.02)
    assert all(set(act["bought"]) <= set(act["clicked"]) <= set(act["looked"]) for act in acts)


def test_worlds_change_what_they_say(shoppers):
    items, segments = shoppers.item_ids[:10], ["head"] * 5 + ["tail"] * 5
    fitted = plan(shoppers)[0].expect(5, items, segments)
    lifted = plan(shoppers, "real-uplift")[0].expect(5, items, segments)
    fallen = plan(shoppers, "over-correction")[0].expect(5, items, segments)
    assert lifted["tail_clicks"] == pytest.approx(3 * fitted["tail_clicks"])
    assert fallen["tail_clicks"] == pytest.approx(0.5 * fitted["tail_clicks"])
    assert lifted["head_purchases"] == fallen["head_purchases"] == fitted["head_purchases"]
    bots = plan(shoppers, "bots", n_users=2000)[0].is_bot
    assert 0.01 < bots.mean() < 0.03  # 2 %, four standard errors
    novel, _ = plan(shoppers, "novelty")
    early, late = (
        sum(len(novel.act(Visit(n, 5, NOW, day), NOW, items, segments)["clicked"]) for n in range(1500))
        for day in (0.0, 30.0)
    )
    assert early > late


def test_every_world_is_known_by_its_name_and_no_other():
    assert [find_scenario(name).name for name in SCENARIOS] == list(SCENARIOS)
    with pytest.raises(ConfigError, match=r"--scenario must be one of as-fitted, .*; got 'paradise'"):
        find_scenario("paradise")


@pytest.mark.parametrize(
    ("field", "value"),
    [("users", 0), ("k", 501), ("concurrency", 65), ("days", 0.0), ("visits_per_day", -1.0)],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"--{field.replace('_', '-')} must be"):
        SimulateConfig(**{field: value})


class Service(http.server.BaseHTTPRequestHandler):
    """Busy at first, then answers; notes what it was asked."""

    asked: list[float]
    busy = 0
    tells = True
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/recommendations":
            slots = [{"item_id": f"i{n:02}", "segment": "head" if n < 5 else "tail"} for n in range(10)]
            self.answer(200, {"recommendation_id": "a" * 32, "variant": "control", "items": slots})
            return
        if self.path == "/v1/events":
            self.server.events += [json.dumps(event, sort_keys=True) for event in body["events"]]
        self.server.asked.append((time.monotonic(), self.headers[CLOCK_HEADER]))
        if self.server.busy > 0:
            self.server.busy -= 1
            self.answer(503, {}, ("retry-after", "0"))
        elif self.path == "/refused":
            self.answer(422, {"detail": "k must be >= 1"})
        else:
            self.answer(200, {"ok": True})

    def answer(self, status, body, *headers):
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(sent)))
        if self.server.tells:
            self.send_header(CLOCK_HEADER, "told")
        if self.server.drill:
            self.send_header(DRILL_HEADER, self.server.drill)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    server.asked, server.events, server.busy, server.tells, server.drill = [], [], 0, True, ""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_a_busy_service_is_asked_again_and_one_that_refuses_is_not(service):
    client = ServiceClient(service.url, rate=1000)
    service.busy = 3
    assert client.post("/x", {}, NOW) == {"ok": True}
    assert len(service.asked) == 4
    assert {told for _, told in service.asked} == {f"{NOW:.3f}"}
    with pytest.raises(TailwiseError, match=r"must answer /refused with 200; got 422 .*k must be >= 1"):
        client.post("/refused", {}, NOW)
    assert len(service.asked) == 5
    client.close()


def test_requests_keep_to_the_rate(service):
    client = ServiceClient(service.url, rate=50)
    started = time.monotonic()
    for _ in range(11):
        client.post("/x", {}, NOW)
    assert time.monotonic() - started >= 10 / 50
    client.close()


def test_a_service_that_keeps_its_own_time_is_not_simulated_against(service):
    client = ServiceClient(service.url, rate=100)
    client.check(NOW)
    service.tells = False
    with pytest.raises(ConfigError, match="must take its time from requests"):
        client.check(NOW)
    client.close()


def test_a_service_that_is_not_there_is_named_with_how_to_start_one():
    client = ServiceClient("http://127.0.0.1:9", rate=100)  # the discard port: nobody listens
    with pytest.raises(ConfigError, match=r"--url must be a running service; .*--clock-from-header"):
        client.check(NOW)
    client.close()


@pytest.fixture
def decider(tmp_path):
    decider = Decider(f"sqlite:///{tmp_path / 'log.db'}", lambda experiment: ITEMS, clock=lambda: NOW)
    decider.store.create(Experiment("x", "home", "control", "treatment"), by="person:a")
    yield decider
    decider.close()


def test_a_simulation_that_was_stopped_and_resumed_says_what_an_uninterrupted_one_says(
    service, decider, shoppers, tmp_path
):
    decider.store.act("x", "start", by="person:a")
    config = SimulateConfig(service.url, users=60, days=3.0, rate=5000.0, concurrency=2, seed=5)

    def go(say, **changes):
        return simulate(
            "x", dataclasses.replace(config, **changes), shoppers, decider, state=tmp_path, say=say
        )

    whole = go(lambda line: None)
    assert whole.is_finished
    uninterrupted, service.events = sorted(service.events), []
    assert len(uninterrupted) > 100

    def interrupt(line):
        signal.raise_signal(signal.SIGINT)

    first = go(interrupt)
    assert (first.is_finished, first.n_visits < whole.n_visits) == (False, True)
    n_first = len(service.events)
    assert 0 < n_first < len(uninterrupted)
    with pytest.raises(ConfigError, match="--resume needs the settings of the simulation that was stopped"):
        go(print, resume=True, users=61)
    resumed = go(lambda line: None, resume=True)
    assert resumed.is_finished
    assert (resumed.n_visits, resumed.n_events) == (whole.n_visits, whole.n_events)
    assert sorted(service.events) == uninterrupted
    with pytest.raises(ConfigError, match="--resume needs a simulation that was stopped; got none"):
        go(print, resume=True)


def test_only_an_experiment_that_runs_is_simulated(service, decider, shoppers, tmp_path):
    with pytest.raises(ConfigError, match="experiment 'x' must be running; got draft"):
        simulate("x", SimulateConfig(service.url), shoppers, decider, state=tmp_path)


@pytest.mark.parametrize("drill", ["", "control=fail:0.5"])
def test_a_treatment_that_the_service_does_not_break_is_not_called_broken(
    service, decider, shoppers, tmp_path, drill
):
    decider.store.act("x", "start", by="person:a")
    service.drill = drill
    config = SimulateConfig(service.url, users=20, days=0.5, rate=5000.0, scenario="broken")
    words = "scenario broken needs a service that breaks 'treatment'; got (none|control) broken.*"
    with pytest.raises(ConfigError, match=words + "--drill treatment=fail:0.2,slow:600ms"):
        simulate("x", config, shoppers, decider, state=tmp_path)
    assert service.events == []


def test_a_service_that_breaks_the_treatment_is_simulated_and_what_it_breaks_is_said(
    service, decider, shoppers, tmp_path
):
    decider.store.act("x", "start", by="person:a")
    service.drill = "treatment=fail:0.2,slow:600ms"
    said = []
    config = SimulateConfig(service.url, users=20, days=0.5, rate=5000.0, scenario="broken")
    assert simulate("x", config, shoppers, decider, state=tmp_path, say=said.append).is_finished
    assert said[0] == "The service breaks treatment on purpose: fail:0.2,slow:600ms."


def test_lists_are_lost_in_the_world_that_says_so_and_in_no_other():
    assert {name for name, world in SCENARIOS.items() if world.lost_share} == {"lost"}
    assert {name for name, world in SCENARIOS.items() if world.needs_drill} == {"broken"}
