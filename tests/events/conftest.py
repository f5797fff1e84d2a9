"""Each test that takes ``url`` runs on SQLite and on a real PostgreSQL."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    return request.getfixturevalue("postgres").new_schema()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(scope="session")
def _victim(new_postgres: Callable[[], PostgresServer]) -> PostgresServer:
    return new_postgres()


@pytest.fixture
def victim(_victim: PostgresServer) -> PostgresServer:
    """A running PostgreSQL that a test may kill."""
    _victim.start()
    return _victim
