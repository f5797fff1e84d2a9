"""Settings of the service: where they come from, which are refused, and that each is documented."""

import dataclasses
import re
from pathlib import Path

import pytest

from tailwise import cli
from tailwise.errors import ConfigError
from tailwise.jobs import config_as_dict, config_from_dict
from tailwise.jobs._serve_config import ENVIRONMENT, ServeConfig, as_text, load_serve_config
from tailwise.jobs._serve_models import parse_model, parse_source
from tailwise.serving import EngineSettings

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"control": "run/adamw"}


def load(tmp_path, toml=None, environment=None, **flags):
    file = None
    if toml is not None:
        file = tmp_path / "serve.toml"
        file.write_text(toml)
    return load_serve_config(file=file, flags=flags, environment=environment or {})


def test_flags_lie_over_the_environment_and_that_over_the_file(tmp_path):
    toml = (
        'port = 1\nworkers = 2\nrate_limit = "1/second"\n[models]\ncontrol = "a/b"\n[engine]\nmax_batch = 8'
    )
    environment = {
        f"{ENVIRONMENT}PORT": "3",
        f"{ENVIRONMENT}WORKERS": "4",
        f"{ENVIRONMENT}ENGINE__QUEUE_LIMIT": "5",
        "PORT": "6",
    }
    config = load(tmp_path, toml, environment, port=7)
    assert (config.port, config.workers, config.rate_limit) == (7, 4, "1/second")
    assert (config.engine.max_batch, config.engine.queue_limit) == (8, 5)


def test_the_environment_takes_text_lists_and_tables(tmp_path):
    environment = {
        f"{ENVIRONMENT}MODELS": '{control = "a/b"}',
        f"{ENVIRONMENT}DATABASE": "postgresql://u:p@h/n",
        f"{ENVIRONMENT}RATE_LIMIT": "10/second",
        f"{ENVIRONMENT}HOST": "127.0.0.1",
        f"{ENVIRONMENT}CORS_ORIGINS": '["https://shop.example"]',
    }
    config = load(tmp_path, environment=environment)
    assert config.models == {"control": "a/b"}
    assert config.database == "postgresql://u:p@h/n"
    assert config.host == "127.0.0.1"
    assert config.cors_origins == ("https://shop.example",)


def test_models_keep_their_order_and_the_first_is_for_everybody(tmp_path):
    assert list(load(tmp_path, '[models]\nz = "a/b"\na = "a/c"').models) == ["z", "a"]


@pytest.mark.parametrize(
    ("toml", "environment", "flags", "message"),
    [
        ("prot = 1", {}, {}, r"setting prot must exist.*Did you mean 'port'\?\n.*serve.toml"),
        ("", {f"{ENVIRONMENT}WORKER": "2"}, {}, r"setting worker must exist.*'workers'.*\n.*environment"),
        ("[engine]\nmax_bach = 1", {}, {}, r"setting engine.max_bach must exist.*'max_batch'"),
        ("port = '1'", {}, {}, r"setting port must be of kind int; got '1'"),
        ("engine.item_dtype = 'int4'", {}, {}, r"engine.item_dtype must be one of .*; got 'int4'"),
        ("", {}, {"port": 65536}, r"port must be in 0..65,535; got 65536"),
        ("", {}, {"workers": 0}, r"workers must be in 1..64; got 0"),
        ("", {}, {"explore_share": 1.5}, r"explore_share must be in 0..1; got 1.5"),
        ("", {}, {"max_batch_events": 1001}, r"max_batch_events must be in 1..1,000; got 1001"),
        ("", {}, {"time_limit_ms": 0.0}, r"time_limit_ms must be .*; got 0"),
        ("", {}, {"body_timeout_s": float("nan")}, r"body_timeout_s must be .*; got nan"),
        ("", {}, {"rate_limit": "fast"}, r"rate_limit must be a rate .*; got 'fast'"),
        ("", {}, {"cors_origins": ["*"]}, r"cors_origins must hold origins .*; got '\*'"),
        ("", {}, {"cors_origins": ["https://a/b"]}, r"cors_origins must .*; got 'https://a/b'"),
        ("", {}, {"log_level": "loud"}, r"log_level must be one of .*; got 'loud'"),
        ("", {}, {"device": "tpu"}, r"device must be one of .*; got 'tpu'"),
        ("", {}, {"models": {}}, r"models must name 1 to 8 models; got 0.*--model NAME=RUN/VARIANT"),
        ("", {}, {"models": {"a b": "x/y"}}, r"models must have names .*; got 'a b'"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_its_place(tmp_path, toml, environment, flags, message):
    with pytest.raises(ConfigError, match=re.compile(message, re.DOTALL)):
        load(tmp_path, toml, environment, **{"models": MODELS, **flags})


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_the_loopback_is_told_from_the_rest(host, is_local):
    assert ServeConfig(models=MODELS, host=host).is_local is is_local


def test_a_worker_reads_back_the_settings_that_it_is_handed():
    config = ServeConfig(
        models={"b": "x/y", "a": "x/z"}, cors_origins=("https://a",), engine=EngineSettings(threads=2)
    )
    assert config_from_dict(ServeConfig, config_as_dict(config)) == config


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:secret@host/name", "postgresql://user:***@host/name"),
        ("postgresql://host/name", "postgresql://host/name"),
        ("sqlite:///tailwise-events.db", "sqlite:///tailwise-events.db"),
    ],
)
def test_settings_are_shown_without_the_password(url, shown):
    assert as_text(ServeConfig(models=MODELS, database=url))["database"] == shown


@pytest.mark.parametrize("text", ["control", "=run/adamw", "control="])
def test_what_is_no_named_model_is_refused(text):
    with pytest.raises(ConfigError, match=f"--model must be NAME=RUN/VARIANT; got '{text}'"):
        parse_model(text)


def test_a_source_is_a_run_a_variant_and_perhaps_a_seed(tmp_path):
    for source, run, variant, seed in (
        ("runs/first/adamw", "runs/first", "adamw", None),
        ("runs/first/adamw/seed-3", "runs/first", "adamw", 3),
        ("run/seed-x", "run", "seed-x", None),
        (str(tmp_path / "run" / "adamw"), "run", "adamw", None),
    ):
        found = parse_source(source, tmp_path)
        assert (found.run, found.variant, found.seed) == (tmp_path / run, variant, seed)


def test_a_link_cannot_lead_out_of_the_model_root(tmp_path):
    (tmp_path / "elsewhere" / "run").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "run").symlink_to(tmp_path / "elsewhere" / "run")
    with pytest.raises(ConfigError, match="model must lie under the model root"):
        parse_source("run/adamw", tmp_path / "root")


def rows(section):
    """Field -> default of one table of docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text()
    body = text.split(f"### {section}\n")[1].split("\n#")[0]
    return {
        name: default.strip()
        for name, default in re.findall(r"^\| `(\w+)` \|([^|]*)\|", body, flags=re.MULTILINE)
    }


@pytest.mark.parametrize(("section", "cls"), [("Settings", ServeConfig), ("`[engine]`", EngineSettings)])
def test_every_setting_is_documented_with_its_default(section, cls):
    documented = rows(section)
    fields = {f.name: f.default for f in dataclasses.fields(cls)}
    assert documented.keys() == fields.keys()
    for name, default in fields.items():
        written = documented[name]
        if isinstance(default, bool):
            assert written == str(default).lower(), name
        elif isinstance(default, int | float):
            assert float(written.replace(",", "")) == default, name
        elif isinstance(default, str):
            assert written == f"`{default}`", name
        elif default is None:
            assert written == "none", name


def test_every_flag_of_serve_is_a_setting(tmp_path):
    flags = "--model a=b/c --database d --state s --model-root m --host h --port 1 --workers 2 --device cpu "
    flags += "--explore-share 0.1 --time-limit-ms 5 --rate-limit 1/second --allowed-host a --cors-origin o "
    flags += "--log-level info --config c.toml --set a=b"
    function, bound, _ = cli.app.parse_args(["serve", *flags.split()], exit_on_error=False)
    assert function.__name__ == "serve"
    plural = {"model": "models", "allowed_host": "allowed_hosts", "cors_origin": "cors_origins"}
    names = {plural.get(name, name) for name in bound.arguments} - {"config", "set_"}
    assert names <= {field.name for field in dataclasses.fields(ServeConfig)}
