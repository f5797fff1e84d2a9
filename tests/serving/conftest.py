"""The API is tested on SQLite and on a real PostgreSQL; each test that takes ``log`` runs on both."""

from pathlib import Path

import pytest

from .http_client import DatabaseLog


@pytest.fixture(params=["sqlite", "postgresql"], scope="session")
def database(request: pytest.FixtureRequest) -> str:
    """Which database; where PostgreSQL cannot be had, its half is skipped, or fails in CI."""
    if request.param == "postgresql":
        request.getfixturevalue("postgres")
    return str(request.param)


def url_of(database: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    if database == "sqlite":
        return f"sqlite:///{folder}/events.db"
    return str(request.getfixturevalue("postgres").new_schema())


@pytest.fixture
def url(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own."""
    return url_of(database, tmp_path, request)


@pytest.fixture
def log(url: str, tmp_path: Path) -> DatabaseLog:
    """A log, open; the client that gets it closes it."""
    return DatabaseLog.open(url, tmp_path / "spool")


@pytest.fixture(scope="module")
def shared_log(
    database: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> DatabaseLog:
    """One for all tests of a module."""
    folder = tmp_path_factory.mktemp("log")
    return DatabaseLog.open(url_of(database, folder, request), folder / "spool")
