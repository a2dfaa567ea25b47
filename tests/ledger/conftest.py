"""The same ledger three times: in an SQLite file with a write-ahead log, in one with a rollback journal, and on a PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.ledger import open_ledger, sqlite
from tests.doubles.shared import shared
from tests.ledger.postgresql import Server
from tests.ledger.world import Clock, World, worlds
from tests.needs import require


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """One for the run; each process has databases of its own there."""
    require("initdb")
    with shared("tests.ledger.postgresql:server", "postgresql") as (folder, user):
        yield Server(Path(folder), user)


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "empty.db"
    open_ledger(f"sqlite:///{path}", by="nobody", now=Clock(), create=True).close()
    return path


@pytest.fixture(scope="session")
def empty_database(postgresql: Server) -> str:
    name = postgresql.fresh()
    open_ledger(postgresql.url(name), by="nobody", now=Clock(), create=True).close()
    return name


@pytest.fixture
def file_url(tmp_path: Path, empty_file: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_file, tmp_path / 'ledger.db')}"


JOURNAL = pytest.param("journal", marks=pytest.mark.slow(reason="the statements are those of the write-ahead log's file"))
SAME_ON_A_SERVER = ("test_row_verification", "test_message_verification", "test_messages", "test_certificate_owners", "test_restored")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On PostgreSQL, what is decided by events and not by SQL is in the slow part."""
    slow = pytest.mark.slow(reason="the rules are those on SQLite; other files try the statements on PostgreSQL")
    for item in items:
        called = getattr(item, "callspec", None)
        if item.path.stem in SAME_ON_A_SERVER and called is not None and called.params.get("url") == "postgresql":
            item.add_marker(slow)


@pytest.fixture(params=["wal", JOURNAL, "postgresql"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "postgresql":
        monkeypatch.setattr(sqlite, "keeps_wal", lambda: request.param == "wal")
        return str(request.getfixturevalue("file_url"))
    running: Server = request.getfixturevalue("postgresql")
    database: str = request.getfixturevalue("empty_database")
    running.empty(database)
    return running.url(database)


@pytest.fixture
def world(url: str) -> Iterator[World]:
    yield from worlds(url)


@pytest.fixture
def file_world(file_url: str) -> Iterator[World]:
    yield from worlds(file_url)
