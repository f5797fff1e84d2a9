"""Drills are refused where others could be answered by them, and said in every answer where they run."""

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tailwise import cli
from tailwise.errors import ConfigError
from tailwise.jobs import config_as_dict, config_from_dict
from tailwise.jobs._serve import serve
from tailwise.jobs._serve_config import ENVIRONMENT, ServeConfig, load_serve_config
from tailwise.jobs._serve_drill import (
    DRILL_HEADER,
    DrillHeader,
    check_may_be_drilled,
    drills_in_header,
    drills_of,
    parse_drills,
)
from tailwise.serving._drill import Drill
from tailwise.serving._http_keys import KeyStore

MODELS = {"control": "run/a", "treatment": "run/b"}


def test_flags_of_one_name_are_joined():
    found = parse_drills(["treatment=fail:0.2", "other=slow:1s", "treatment=slow:400ms"])
    assert found == {"treatment": "fail:0.2,slow:400ms", "other": "slow:1s"}
    function, bound, _ = cli.app.parse_args(["serve", "--model", "a=b/c", "--drill", "a=fail:1"])
    assert (function.__name__, bound.arguments["drill"]) == ("serve", ["a=fail:1"])


@pytest.mark.parametrize("text", ["treatment", "=fail:1", "treatment="])
def test_a_flag_without_a_name_or_a_drill_is_refused(text):
    with pytest.raises(ConfigError, match=f"--drill must be NAME=fail:SHARE or .*; got '{text}'"):
        parse_drills([text])


def test_file_environment_and_flags_may_all_tell_a_drill(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text('[drill]\ntreatment = "fail:0.5"\n')
    environment = {f"{ENVIRONMENT}DRILL__CONTROL": "slow:5ms"}
    config = load_serve_config(file=file, flags={"models": MODELS}, environment=environment)
    assert config.drill == {"treatment": "fail:0.5", "control": "slow:5ms"}
    flags = {"models": MODELS, "drill": {"treatment": "fail:1"}}
    assert load_serve_config(file=file, flags=flags, environment={}).drill == {"treatment": "fail:1"}
    assert config_from_dict(ServeConfig, config_as_dict(config)) == config


@pytest.mark.parametrize(
    ("drill", "message"),
    [
        ({"treatmnet": "fail:1"}, "drill must name served models, control, treatment; got 'treatmnet'"),
        ({"treatment": "fail:2"}, "drill of 'treatment': fail must be a share .*; got 2"),
        ({"treatment": ""}, "drill of 'treatment': drill must be fail:SHARE or slow:TIME; got ''"),
    ],
)
def test_a_drill_of_no_served_model_or_of_nothing_is_refused(drill, message):
    with pytest.raises(ConfigError, match=message):
        ServeConfig(models=MODELS, drill=drill)


def test_beyond_the_loopback_or_with_keys_nothing_is_broken_on_purpose():
    check_may_be_drilled(is_local=True, has_keys=False)
    with pytest.raises(ConfigError, match="drill must be off where the service listens beyond the loopback"):
        check_may_be_drilled(is_local=False, has_keys=False)
    with pytest.raises(ConfigError, match="drill must be off where there are API keys"):
        check_may_be_drilled(is_local=True, has_keys=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_service_for_others_refuses_to_start_with_a_drill(tmp_path, host, monkeypatch):
    monkeypatch.setattr("tailwise.jobs._serve._check", lambda source, config: None)
    state = tmp_path / "state"
    config = ServeConfig(models=MODELS, host=host, state=str(state), drill={"treatment": "fail:1"})
    KeyStore(config.keys_file).create("shop", ["recommend"])
    with pytest.raises(ConfigError, match="drill must be off"):
        serve(config)


@pytest.fixture
def client():
    async def answer(request):
        return JSONResponse({})

    app = Starlette(routes=[Route("/", answer)])
    app.add_middleware(
        DrillHeader, drills=drills_of({"a": "fail:0.2,slow:400ms", "b": "slow:1s"}, ["b", "a"])
    )
    with TestClient(app) as client:
        yield client


def test_every_answer_names_the_drills(client):
    for path in ("/", "/nowhere"):
        said = client.get(path).headers[DRILL_HEADER]
        assert drills_in_header(said) == {"a": "fail:0.2,slow:400ms", "b": "slow:1000ms"}
    assert Drill.parse(drills_in_header(said)["b"]) == Drill(slow_ms=1000)
    assert drills_in_header("") == {}


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_what_a_proxy_passes_on_is_refused(client, header):
    answer = client.get("/", headers={header: "203.0.113.9"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:tailwise:problem:drill")
