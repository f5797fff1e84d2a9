"""How SQLite and PostgreSQL are connected to, by the event log and by experiments alike."""

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tailwise.errors import ConfigError

__all__ = ["CONNECT_S", "postgresql_arguments", "prepare_sqlite", "read_database_url"]

CONNECT_S = 2  # longest wait for a connection
_WAL_S = 5.0  # longest wait for WAL, while another process makes the file


def read_database_url(url: str) -> URL:
    """Read and check a database's URL; the folder of an SQLite file is made.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``.

    Raises:
        ConfigError: it is neither of these, or what it names is not durable.
    """
    try:
        read = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "The database's URL must look like sqlite:///events.db or postgresql://user@host/name; got one"
            " that cannot be read (not shown, it may hold a password)."
        ) from None
    backend = read.drivername
    if backend in ("postgresql", "postgres", "postgresql+psycopg"):
        return read.set(drivername="postgresql+psycopg")
    if backend in ("sqlite", "sqlite+pysqlite"):
        if not read.database or read.database == ":memory:" or read.database.startswith("file:"):
            raise ConfigError(
                f"The database's URL must name a file; got {url!r}. What is in memory is not durable:"
                " write sqlite:///events.db."
            )
        Path(read.database).parent.mkdir(parents=True, exist_ok=True)
        return read
    raise ConfigError(f"The database's URL must begin with sqlite: or postgresql:; got {backend}:.")


def prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Listen to ``connect``: readers never wait for the writer, and what is committed is on disk."""
    last = time.monotonic() + _WAL_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # ignores the busy timeout
            break
        except sqlite3.OperationalError:
            if time.monotonic() > last:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten


def postgresql_arguments(url: URL, **settings: str | int) -> dict[str, Any]:
    """Return the driver's arguments: a bounded wait, and settings of the server for each connection.

    Args:
        url: Its own options, such as a search path, hold too; where both name a setting, ours holds.
        **settings: Of the server, such as ``lock_timeout=2000`` (milliseconds).
    """
    # What is given to the driver takes the place of the URL's own options.
    given = url.query.get("options", "")
    own = given if isinstance(given, str) else " ".join(given)
    ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return {
        "connect_timeout": CONNECT_S,
        "options": f"{own} {ours}".strip(),
        "application_name": "tailwise",
    }
