"""The connection to SQLite or PostgreSQL: durable commits, bounded waiting, and what an error means."""

import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tailwise._database_connection import (
    CONNECT_S,
    postgresql_arguments,
    prepare_sqlite,
    read_database_url,
)

__all__ = ["WRITE_S", "Database", "DatabaseDownError", "describe_error", "is_outage", "is_refusal"]

WRITE_S = 5.0  # longest time of a transaction of the writer, unless said otherwise
READ_S = 2.0  # longest wait for a read
LOCK_MS = 2_000  # longest wait for a lock in PostgreSQL
MIGRATION_MS = 60_000  # longest wait for another worker's migration
MIGRATION_KEY, DELETION_KEY = 0x7A11_0001, 0x7A11_0002  # of PostgreSQL's advisory locks
TRIES = 4  # of a transaction that collides with others
COLLISIONS = ("40001", "40P01")  # PostgreSQL: serialization failure, deadlock
MIGRATIONS = Path(__file__).parent / "migrations"

T = TypeVar("T")

_alembic_is_global = threading.Lock()  # its context belongs to the process


class DatabaseDownError(Exception):
    """There is no connection, or no tables; the message says why without naming rows."""


class Database:
    """Engine of one log.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``.
        write_timeout_s: Longest time of a writing transaction, and of waiting for other writers of SQLite.

    Raises:
        ConfigError: the URL is neither of these.
    """

    def __init__(self, url: str, *, write_timeout_s: float = WRITE_S) -> None:
        self.url = read_database_url(url)
        self._write_timeout_s = write_timeout_s
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._is_migrated = threading.Event()
        arguments: dict[str, Any] = {"timeout": write_timeout_s, "isolation_level": None}
        if not self.is_sqlite:
            arguments = postgresql_arguments(self.url, lock_timeout=LOCK_MS, synchronous_commit="on")
        self._engine = sa.create_engine(
            self.url,
            hide_parameters=True,  # they are what users did
            connect_args=arguments,
            pool_size=8,
            max_overflow=4,
            pool_timeout=CONNECT_S,
        )
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)

    @contextmanager
    def writing(self, timeout_s: float | None = None) -> Iterator[Connection]:
        """A transaction that is committed at the end, durably, or rolled back by an exception.

        Args:
            timeout_s: Longest time until it is cut off. None: the writer's.
        """
        with self._transaction(self._write_timeout_s if timeout_s is None else timeout_s) as connection:
            yield connection

    def write(self, work: Callable[[Connection], T], timeout_s: float | None = None) -> T:
        """Do something in a writing transaction, and again if PostgreSQL ended it in favour of another.

        Args:
            work: Given the connection; may be called several times, each time from a clean state.
            timeout_s: As of :meth:`writing`, of each try.
        """
        for n_left in reversed(range(TRIES)):
            try:
                with self.writing(timeout_s) as connection:
                    return work(connection)
            except DBAPIError as error:
                if not n_left or getattr(error.orig, "sqlstate", None) not in COLLISIONS:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    @contextmanager
    def reading(self, timeout_s: float | None = READ_S) -> Iterator[Connection]:
        """A transaction that sees one state of the log throughout.

        Args:
            timeout_s: Longest time until it is cut off. None: as long as it takes.
        """
        with self._transaction(timeout_s, is_reading=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, timeout_s: float | None, *, is_reading: bool = False) -> Iterator[Connection]:
        try:
            self.migrate()
            connection = self._connect(is_reading=is_reading)
        except DatabaseDownError:
            raise
        except Exception as error:
            raise DatabaseDownError(describe_error(error)) from error
        with connection, self._cut_off(connection, timeout_s), connection.begin():
            self._limit(connection, timeout_s)
            yield connection

    def _connect(self, *, is_reading: bool = False) -> Connection:
        options: dict[str, Any] = {"tailwise_reading": is_reading}
        if is_reading and not self.is_sqlite:
            options["isolation_level"] = "REPEATABLE READ"
        return self._engine.connect().execution_options(**options)

    def _limit(self, connection: Connection, timeout_s: float | None) -> None:
        if not self.is_sqlite:
            limit_ms = 0 if timeout_s is None else int(timeout_s * 1000)
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit_ms}")

    def migrate(self) -> None:
        """Bring the tables up to date, once per process; workers that come at the same time wait for one."""
        if self._is_migrated.is_set():
            return
        with _alembic_is_global:
            if self._is_migrated.is_set():
                return
            with self._connect() as connection, connection.begin():
                if not self.is_sqlite:
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {MIGRATION_MS}")
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_KEY})")
                config = Config()
                config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            self._is_migrated.set()

    def exclude(self, connection: Connection, *, is_shared: bool) -> None:
        """Let a deletion (not shared) and replays (shared) wait for each other until the transaction ends."""
        if not self.is_sqlite:  # whose writers do so anyway
            kind = "pg_advisory_xact_lock_shared" if is_shared else "pg_advisory_xact_lock"
            connection.exec_driver_sql(f"SELECT {kind}({DELETION_KEY})")

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    @contextmanager
    def _cut_off(self, connection: Connection, timeout_s: float | None) -> Iterator[None]:
        """End a transaction on a server that has stopped answering: its own timeouts would not."""
        if self.is_sqlite or timeout_s is None:
            yield
            return
        # A copy of the socket's number: the driver may close its own at any moment.
        number = os.dup(connection.connection.driver_connection.pgconn.socket)  # type: ignore[union-attr]
        with socket.socket(fileno=number) as link:
            timer = threading.Timer(timeout_s + 0.5, _shut, [link])
            timer.daemon = True
            timer.start()
            try:
                yield
            finally:
                timer.cancel()


def is_outage(error: Exception) -> bool:
    """Whether the database is away or cannot work now."""
    return isinstance(error, DBAPIError | PoolTimeoutError | DatabaseDownError) and not is_refusal(error)


def is_refusal(error: Exception) -> bool:
    """Whether the database says that rows break its rules, so that trying again is no use."""
    return isinstance(error, DataError | IntegrityError)


def describe_error(error: BaseException) -> str:
    """An error without the rows it is about: its kind with the server's code, or a message."""
    if isinstance(error, DatabaseDownError):
        return str(error)
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    name = type(cause).__name__
    if code := getattr(cause, "sqlstate", None):
        return f"{name} ({code})"
    if isinstance(cause, sqlite3.OperationalError | OSError | PoolTimeoutError) or "OperationalError" in name:
        return f"{name}: {str(cause).splitlines()[0] if str(cause) else ''}"
    return name


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that asks for it half-way may be refused without waiting."""
    is_reading = connection.get_execution_options().get("tailwise_reading", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _shut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
