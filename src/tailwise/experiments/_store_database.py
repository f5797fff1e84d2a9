"""Tables of the experiments' state, on SQLite or PostgreSQL, and a log of decisions that only grows."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tailwise._database_connection import (
    CONNECT_S,
    postgresql_arguments,
    prepare_sqlite,
    read_database_url,
)
from tailwise.errors import DataError, LogUnavailableError

__all__ = ["DECISIONS", "EXPERIMENTS", "StoreDatabase"]

FORMAT = 1
WAIT_S = 5.0  # longest wait for another writer
LOCK_KEY = 0x7A11_0003  # of PostgreSQL's advisory lock: one writer at a time

METADATA = sa.MetaData()
BigKey = sa.BigInteger().with_variant(sa.Integer, "sqlite")

EXPERIMENTS = sa.Table(
    "experiments",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("definition", sa.Text, nullable=False),  # JSON, never changed
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("timeline", sa.Text, nullable=False),  # JSON, [[at, action, stage], ...]
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
)
DECISIONS = sa.Table(
    "experiment_decisions",
    METADATA,
    sa.Column("seq", BigKey, sa.Identity(), primary_key=True),
    sa.Column("experiment", sa.Text, sa.ForeignKey("experiments.name"), nullable=False, index=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("needs_person", sa.Boolean, nullable=False),
    sa.Column("state_before", sa.Text, nullable=False),
    sa.Column("stage_before", sa.Integer, nullable=False),
    sa.Column("state_after", sa.Text, nullable=False),
    sa.Column("stage_after", sa.Integer, nullable=False),
    sa.Column("version_after", sa.Integer, nullable=False),
    sa.Column("guardrails", sa.Text, nullable=False),  # JSON
    sa.Column("evidence", sa.Text, nullable=False),  # JSON
    sqlite_autoincrement=True,
)
STORE_FORMAT = sa.Table("experiment_format", METADATA, sa.Column("version", sa.Integer, primary_key=True))


class StoreDatabase:
    """Connections to the experiments' tables, which are made at first use.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``; that of the event log will do.

    Raises:
        ConfigError: the URL is neither of these.
    """

    def __init__(self, url: str) -> None:
        self.url = read_database_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._is_ready = False
        if self.is_sqlite:
            self._engine = sa.create_engine(
                self.url, connect_args={"timeout": WAIT_S, "isolation_level": None}, poolclass=sa.NullPool
            )
            sa.event.listen(self._engine, "connect", prepare_sqlite)
        else:
            limit_ms = int(WAIT_S * 1000)
            self._engine = sa.create_engine(
                self.url,
                connect_args=postgresql_arguments(
                    self.url, lock_timeout=limit_ms, statement_timeout=limit_ms
                ),
                pool_size=2,
                pool_pre_ping=True,
                pool_timeout=CONNECT_S,
            )

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that excludes every other writer of experiments, whichever process it is in.

        Raises:
            LogUnavailableError: the database cannot be written now; nothing was kept.
        """
        with self._transaction(is_writing=True) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads.

        Raises:
            LogUnavailableError: the database cannot be read now.
        """
        with self._transaction(is_writing=False) as connection:
            yield connection

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, *, is_writing: bool) -> Iterator[Connection]:
        try:
            if not self._is_ready:
                with self._engine.connect() as connection, connection.begin():
                    self._exclude_others(connection)
                    _make_tables(connection)
                self._is_ready = True
            with self._engine.connect() as connection, connection.begin():
                if is_writing:
                    self._exclude_others(connection)
                elif self.is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                yield connection
        except (OperationalError, InterfaceError, PoolTimeoutError, sqlite3.OperationalError) as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            raise LogUnavailableError(
                "The experiments' database must answer; got "
                f"{type(cause).__name__}. Nothing was changed; serving goes on with what it knew."
            ) from error

    def _exclude_others(self, connection: Connection) -> None:
        if self.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")


def _make_tables(connection: Connection) -> None:
    """Make what is missing, and refuse tables of a later Tailwise."""
    METADATA.create_all(connection)
    found = connection.execute(sa.select(STORE_FORMAT.c.version)).scalar()
    if found is None:
        connection.execute(STORE_FORMAT.insert().values(version=FORMAT))
        for statement in _guards(connection.dialect.name):
            connection.exec_driver_sql(statement)
    elif found != FORMAT:
        raise DataError(
            f"experiment_format must be {FORMAT}; got {found}. "
            "The database was written by another version of Tailwise: update this one."
        )


def _guards(dialect: str) -> tuple[str, ...]:
    """What keeps decisions from being changed or deleted, and definitions from being changed."""
    if dialect == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'experiment_decisions is append-only'); END"
        return (
            f"CREATE TRIGGER experiment_decisions_no_update BEFORE UPDATE ON experiment_decisions {refuse}",
            f"CREATE TRIGGER experiment_decisions_no_delete BEFORE DELETE ON experiment_decisions {refuse}",
            "CREATE TRIGGER experiment_decisions_no_replace BEFORE INSERT ON experiment_decisions "
            f"WHEN EXISTS (SELECT 1 FROM experiment_decisions WHERE seq = NEW.seq) {refuse}",
            "CREATE TRIGGER experiments_keep_definition BEFORE UPDATE OF name, definition ON experiments "
            "BEGIN SELECT RAISE(ABORT, 'a definition never changes'); END",
        )
    return (
        "CREATE FUNCTION tailwise_experiments_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'decisions and definitions may not be changed'; END $$",
        "CREATE TRIGGER experiment_decisions_append_only BEFORE UPDATE OR DELETE ON experiment_decisions "
        "FOR EACH ROW EXECUTE FUNCTION tailwise_experiments_refuse()",
        "CREATE TRIGGER experiment_decisions_no_truncate BEFORE TRUNCATE ON experiment_decisions "
        "FOR EACH STATEMENT EXECUTE FUNCTION tailwise_experiments_refuse()",
        "CREATE TRIGGER experiments_keep_definition BEFORE UPDATE OF name, definition ON experiments "
        "FOR EACH ROW EXECUTE FUNCTION tailwise_experiments_refuse()",
    )
