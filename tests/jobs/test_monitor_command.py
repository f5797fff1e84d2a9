"""The monitor as a command of its own: what it prints, its exit status, where its settings come from."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tailwise.cli import app, main
from tailwise.dashboard import AlarmFile, Finding, Outbox
from tailwise.errors import ConfigError
from tailwise.jobs._monitor_config import load_monitor_config
from tailwise.jobs._serve_deployment import DeploymentFolder
from tests.dashboard.making import Sink
from tests.dashboard.test_webhook import Receiver

from .rollouts import DAY, NOW, Shop
from .test_monitor import root  # noqa: F401 - a fixture

TAIL = Finding("exposure", "tail", "alarm", "The tail share fell.")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("TAILWISE_")]:
        monkeypatch.delenv(name)
    made = Shop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def state(tmp_path):
    DeploymentFolder(tmp_path / "state").begin({"control": "run/adamw", "treatment": "run/item-knn"})
    return tmp_path / "state"


@pytest.fixture
def arguments(shop, state, root):  # noqa: F811
    at = "2025-11-25T04:00"  # half a day after NOW
    return [
        "monitor",
        "--state",
        str(state),
        "--database",
        shop.database,
        "--model-root",
        str(root),
        "--at",
        at,
    ]


def fashion(shop):
    """Enough clicks on rare items that another training would put them into the head."""
    for i in range(100):
        shop.event("click", f"u{i}", f"i{36 + i % 4}", at=NOW + i)


def ask(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, capsys.readouterr().out


def test_nothing_raised_is_status_0_and_a_report_for_a_person(shop, arguments, capsys):
    shop.list("u", at=NOW, items=("i00", "i39"))
    status, out = ask(capsys, arguments)
    assert status == 0
    for said in (
        "the last 1 days against the 7 before",
        "slots on head",
        "50.0%",
        "too few clicks",
        "Nothing is",
    ):
        assert said in out


def test_something_raised_is_status_2_also_when_it_was_raised_before(shop, arguments, capsys):
    fashion(shop)
    for n_new in (1, 0):
        status, out = ask(capsys, [*arguments, "--json"])
        plain = json.loads(out)
        assert status == 2
        assert [alarm["kind"] for alarm in plain["raised"]] == ["retrain"]
        assert len(plain["new"]) == n_new
        assert "i39" in plain["moved"]["into_head"]
    assert "Into the head: i3" in ask(capsys, arguments)[1]


def test_what_cannot_be_looked_at_is_status_1(shop, arguments, state):
    (state / "deployment.json").unlink()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1


def test_deliveries_that_are_owed_are_status_3_and_said_with_their_receiver(shop, arguments, state, capsys):
    outbox = Outbox(AlarmFile(state / "alarms.jsonl"), [Sink("hook.example-12345678", "away")])
    outbox.deliver(NOW)
    outbox.alarms.take([TAIL], NOW)
    outbox.alarms.take([], NOW + 1)
    status, out = ask(capsys, arguments)
    assert status == 3
    assert "hook.example-12345678 is owed 2 deliveries, since" in out


def test_a_webhook_hears_of_what_is_raised_signed_by_the_secret_of_the_environment(
    shop, arguments, capsys, monkeypatch
):
    monkeypatch.setenv("TAILWISE_WEBHOOK_SECRET", "0123456789abcdef")
    fashion(shop)
    with Receiver() as receiver:
        ask(capsys, [*arguments, "--webhook", receiver.url])
        ask(capsys, [*arguments, "--webhook", receiver.url])
    ((_, headers, body),) = receiver.got
    assert json.loads(body)["alarms"][0]["kind"] == "retrain"
    assert headers["x-tailwise-signature"].startswith("t=")


@pytest.mark.slow
def test_again_and_again_ends_with_status_0_at_a_signal(shop, state, root):  # noqa: F811
    command = [sys.executable, "-m", "tailwise", "monitor", "--every", "1s", "--json"]
    places = ["--state", str(state), "--database", shop.database, "--model-root", str(root)]
    process = subprocess.Popen([*command, *places], stdout=subprocess.PIPE, text=True)
    try:
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert looks[1]["at"] - looks[0]["at"] >= 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_once_and_every_exclude_each_other_and_repeated_looks_are_of_now(arguments):
    with pytest.raises(ConfigError, match=r"--once must stand without --every; got both, --every 1h"):
        app([*arguments, "--once", "--every", "1h"])
    with pytest.raises(ConfigError, match=r"--at must be now where looks are repeated; got '2025-"):
        app([*arguments, "--every", "1h"])


def test_settings_are_those_of_the_service_by_file_environment_and_flag(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text(
        'state = "s"\ndatabase = "sqlite:///a.db"\nmonitor = "every=1h"\nport = 81\n'
        'webhook_url = "https://host/a"\n[models]\na = "r/v"\n'
    )
    environment = {
        "TAILWISE_SERVE_DATABASE": "sqlite:///b.db",
        "TAILWISE_SERVE_STATE": "t",
        "TAILWISE_WEBHOOK_SECRET": "0123456789abcdef",
    }
    found = load_monitor_config(file=file, flags={"state": "u"}, environment=environment)
    assert (found.database, str(found.state), found.every_s) == ("sqlite:///b.db", "u", 3600.0)
    assert (found.webhook_url, found.secret) == ("https://host/a", b"0123456789abcdef")
    assert "0123456789abcdef" not in repr(found)


def test_no_model_needs_to_be_named_and_an_unknown_setting_is_refused(tmp_path):
    assert str(load_monitor_config(file=None, flags={}, environment={}).state) == "tailwise-state"
    file = tmp_path / "serve.toml"
    file.write_text('statte = "s"\n')
    with pytest.raises(ConfigError, match="statte"):
        load_monitor_config(file=file, flags={}, environment={})


def test_a_simulated_day_is_looked_at_by_the_logs_own_time(shop, arguments, capsys):
    shop.list("u", at=NOW - 100 * DAY, items=("i00", "i39"))
    _, out = ask(capsys, [*arguments[:-1], "log", "--json"])
    # the last moment itself is not before the end of the window
    assert json.loads(out)["at"] == NOW - 100 * DAY
