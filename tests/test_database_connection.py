"""Both users of the database connect in the same way."""

import sqlite3

import pytest
from sqlalchemy.engine import make_url

from tailwise._database_connection import postgresql_arguments, prepare_sqlite, read_database_url
from tailwise.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "must name a file; got 'sqlite://'"),
        ("sqlite:///:memory:", "must name a file; got"),
        ("sqlite:///file:x?mode=memory&uri=true", "must name a file; got"),
        ("mysql://localhost/x", "must begin with sqlite: or postgresql:; got mysql:"),
        ("postgresql+asyncpg://localhost/x", r"must begin with .*; got postgresql\+asyncpg:"),
    ],
)
def test_what_is_not_a_durable_database_is_refused(url, said):
    with pytest.raises(ConfigError, match=said):
        read_database_url(url)


def test_a_url_that_cannot_be_read_is_not_repeated_for_it_may_hold_a_password():
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        read_database_url("postgresql//ann:secret@host")
    assert "secret" not in str(refused.value)


def test_the_folder_of_a_file_is_made(tmp_path):
    read_database_url(f"sqlite:///{tmp_path}/new/events.db")
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize("name", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_name_of_postgresql_means_one_driver(name):
    assert read_database_url(f"{name}://ann@host/x").drivername == "postgresql+psycopg"


def test_of_a_setting_that_the_url_names_too_ours_comes_last_and_so_holds():
    url = make_url("postgresql://host/x?options=-csearch_path%3Ds%20-c%20synchronous_commit%3Doff")
    options = postgresql_arguments(url, lock_timeout=2000, synchronous_commit="on")["options"]
    assert options.startswith("-csearch_path=s -c synchronous_commit=off ")
    assert options.endswith(" -c lock_timeout=2000 -c synchronous_commit=on")
    assert postgresql_arguments(make_url("postgresql://host/x"), lock_timeout=1)["options"] == (
        "-c lock_timeout=1"
    )


def test_an_sqlite_connection_is_durable_and_lets_readers_read(tmp_path):
    connection = sqlite3.connect(tmp_path / "x.db")
    prepare_sqlite(connection, None)
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
    }
    connection.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
