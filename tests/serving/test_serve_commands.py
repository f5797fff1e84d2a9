"""`tailwise keys` and `tailwise events`, in this process."""

import asyncio
import re

import polars as pl
import pytest

from tailwise import cli
from tailwise.events import Event, EventLog
from tailwise.serving._http_keys import KeyStore

NOW = 1_764_000_000.0


@pytest.fixture
def command(capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        status = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, " ".join(captured.err.split())

    return call


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log with a click of ann and one of bob; the commands find it through the environment."""
    url = f"sqlite:///{tmp_path / 'e.db'}"
    monkeypatch.setenv("TAILWISE_SERVE_DATABASE", url)

    async def fill() -> None:
        log = EventLog.open(url, tmp_path / "state" / "spool")
        await log.append([Event(f"e-{user}", "click", user, "a", NOW) for user in ("ann", "bob")])
        await log.close(5)

    asyncio.run(fill())
    return tmp_path / "state"


def test_a_key_is_made_shown_once_listed_without_its_secret_and_revoked(command, tmp_path):
    status, out, err = command(
        "keys", "create", "--name=shop", "--role=recommend", "--role=monitor", "--state", tmp_path
    )
    assert status == 0
    token = out.strip()
    assert re.fullmatch(r"tw_[0-9a-f]{12}_[0-9a-f]{64}", token)
    assert token not in err
    key_id, secret = token.split("_")[1:]
    _, listed, _ = command("keys", "list", "--state", tmp_path)
    assert key_id in listed
    assert secret not in listed
    assert KeyStore(tmp_path / "keys.json").find(token).roles == ("recommend", "monitor")
    status, out, _ = command("keys", "revoke", key_id, "--state", tmp_path)
    assert (status, out) == (0, f"{key_id} is revoked\n")
    assert KeyStore(tmp_path / "keys.json").find(token) is None
    assert "revoked" in command("keys", "list", "--state", tmp_path)[1]


def test_what_can_be_no_key_ends_with_status_one_and_the_reason(command, tmp_path):
    status, _, err = command("keys", "create", "--name=shop", "--role=root", "--state", tmp_path)
    assert status == 1
    assert "--role must be one of recommend, write-events, monitor, admin; got 'root'" in err
    assert command("keys", "revoke", "nope", "--state", tmp_path)[0] == 1


def test_the_log_is_exported_by_day(command, log, tmp_path):
    status, out, _ = command("events", "export", "--out", tmp_path / "lake")
    assert (status, out) == (0, "1 files written with 2 rows, 0 kept, 0 removed\n")
    table = pl.read_parquet(tmp_path / "lake" / "events" / "day=2025-11-24" / "events.parquet")
    assert sorted(table["event_id"]) == ["e-ann", "e-bob"]
    assert command("events", "export", "--out", tmp_path / "lake")[1].startswith("0 files written")
    status, _, err = command("events", "export", "--out", tmp_path / "lake", "--since=yesterday")
    assert status == 1
    assert "--since must be a day such as 2026-11-01; got 'yesterday'" in err


def test_a_user_is_deleted_from_the_log_and_nobody_else(command, log, tmp_path):
    _, out, _ = command(
        "events", "delete-user", "ann", "--by=support", "--reason=asked for it", "--state", log
    )
    assert out == "1 events and 0 lists are deleted\n"
    command("events", "export", "--out", tmp_path / "lake")
    table = pl.read_parquet(tmp_path / "lake" / "events" / "day=2025-11-24" / "events.parquet")
    assert table["event_id"].to_list() == ["e-bob"]
    status, _, err = command("events", "delete-user", "bob", "--by=bob", "--reason=x", "--state", log)
    assert status == 1
    assert "must not contain the user's id" in err


def test_what_is_old_is_deleted_and_what_is_not_stays(command, log):
    assert (
        "0 events" in command("events", "retain", "--days=1", "--by=ops", "--state", log)[1]
    )  # received now
    status, _, err = command("events", "retain", "--days=0", "--by=ops", "--state", log)
    assert status == 1
    assert "days must be > 0; got 0" in err
