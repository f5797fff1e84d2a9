"""Each test that takes ``url`` runs on SQLite and on a real PostgreSQL."""

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"
