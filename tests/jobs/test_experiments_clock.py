"""A clock that requests tell: exact, marked in the log, and refused wherever others could tell it."""

import asyncio
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tailwise.errors import ConfigError
from tailwise.jobs._experiments_clock import (
    CLOCK_HEADER,
    ClockFromHeader,
    MarkingSink,
    check_may_be_told,
    told_time,
)
from tailwise.jobs._experiments_serving import ServedExperiments
from tailwise.jobs._serve_config import ServeConfig
from tailwise.serving import Answer, Assigned, ServedList
from tailwise.serving._http_keys import KeyStore

from .rollouts import NOW


class Kept:
    def __init__(self):
        self.lists = []

    async def record(self, served):
        self.lists.append(served)


@pytest.fixture
def client():
    kept = Kept()

    async def answer(request):
        await asyncio.sleep(0)
        answer = Answer((), "model")
        await MarkingSink(kept).record(
            ServedList("a" * 32, told_time(), "home", None, Assigned("c"), "m", answer, 1.0)
        )
        return JSONResponse({})

    app = Starlette(routes=[Route("/", answer)])
    app.add_middleware(ClockFromHeader)
    with TestClient(app) as client:
        client.kept = kept
        yield client


def test_a_list_is_stamped_by_the_time_that_its_request_tells_and_says_so(client):
    answer = client.get("/", headers={CLOCK_HEADER: f"{NOW:.3f}"})
    (served,) = client.kept.lists
    assert (served.served_at, served.context) == (NOW, {"clock": "told"})
    assert answer.headers[CLOCK_HEADER] == "told"


def test_a_request_that_tells_no_time_has_the_machines(client):
    before = time.time()
    answer = client.get("/")
    (served,) = client.kept.lists
    assert before <= served.served_at <= time.time()
    assert served.context == {}
    assert answer.headers[CLOCK_HEADER] == "own"


def test_the_time_of_one_request_is_not_that_of_the_next(client):
    client.get("/", headers={CLOCK_HEADER: str(NOW)})
    client.get("/")
    assert client.kept.lists[1].served_at > NOW + 3600


@pytest.mark.parametrize("told", ["soon", "nan", "-1", "1e300", "4102444800", ""])
def test_a_time_that_is_none_is_refused(client, told):
    answer = client.get("/", headers={CLOCK_HEADER: told})
    assert (answer.status_code, client.kept.lists) == (400, [])


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_what_a_proxy_passes_on_is_refused(client, header):
    answer = client.get("/", headers={header: "203.0.113.9", CLOCK_HEADER: str(NOW)})
    assert (answer.status_code, client.kept.lists) == (403, [])


def test_beyond_the_loopback_or_with_keys_no_service_takes_its_time_from_requests():
    check_may_be_told(is_local=True, has_keys=False)
    with pytest.raises(ConfigError, match="clock_from_header must be off where the service listens beyond"):
        check_may_be_told(is_local=False, has_keys=False)
    with pytest.raises(ConfigError, match="clock_from_header must be off where there are API keys"):
        check_may_be_told(is_local=True, has_keys=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_worker_refuses_to_start_where_the_clock_may_not_be_told(tmp_path, host):
    config = ServeConfig(
        models={"control": "run/a"},
        host=host,
        database=f"sqlite:///{tmp_path / 'log.db'}",
        state=str(tmp_path / "state"),
        clock_from_header=True,
    )
    KeyStore(config.keys_file).create("shop", ["recommend"])
    with pytest.raises(ConfigError, match="clock_from_header must be off"):
        ServedExperiments(config, default="control", worker=0)


def test_a_service_whose_requests_tell_the_time_does_not_decide_by_its_own(tmp_path):
    config = ServeConfig(
        models={"control": "run/a"},
        database=f"sqlite:///{tmp_path / 'log.db'}",
        state=str(tmp_path / "state"),
        clock_from_header=True,
        decide="every=60s",
    )
    with pytest.raises(ConfigError, match="decide must be left out where requests tell the time"):
        ServedExperiments(config, default="control", worker=0)


def test_without_the_setting_lists_are_stamped_by_the_machine_and_the_log_is_asked_directly(tmp_path):
    config = ServeConfig(
        models={"control": "run/a"},
        database=f"sqlite:///{tmp_path / 'log.db'}",
        state=str(tmp_path / "state"),
    )
    wired = ServedExperiments(config, default="control", worker=0)
    kept = Kept()
    assert wired.clock is time.time
    assert wired.sink(kept) is kept
