"""What `doctor` says of a database server that does not keep what it commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.ledger import open_ledger, opening
from distributor.ledger.opening import open_database
from distributor.model.issues import Diagnostic
from tests.ledger.postgresql import Server, server
from tests.ledger.world import World

KEEPS = "-c shared_buffers=16MB -c max_connections=30 -c listen_addresses="


@pytest.fixture(scope="module")
def keeping() -> Iterator[Server]:
    """A server as it comes, not as tests like it."""
    with server(KEEPS) as (folder, user):
        yield Server(Path(folder), user)


def remarks(running: Server, *settings: str) -> list[Diagnostic]:
    name = running.fresh()
    for setting in settings:
        running.run("postgres", f"ALTER DATABASE {name} SET {setting}")
    ledger = open_ledger(running.url(name), by="root@host", create=True)
    try:
        return ledger.check()
    finally:
        ledger.close()


def levels(found: list[Diagnostic]) -> list[tuple[str, str]]:
    return [(diagnostic.level, diagnostic.message.partition(" is ")[0]) for diagnostic in found]


def test_a_server_as_it_comes_keeps_what_it_commits(keeping: Server) -> None:
    assert [diagnostic.level for diagnostic in remarks(keeping)] == ["ok"]


def test_a_server_without_fsync_and_full_pages_is_told(postgresql: Server) -> None:
    found = remarks(postgresql)
    assert levels(found) == [("error", "fsync"), ("warning", "full_page_writes"), ("warning", "synchronous_commit")]
    assert all(diagnostic.hint for diagnostic in found)


def test_a_database_set_to_asynchronous_commits_is_told_and_does_not_count(keeping: Server) -> None:
    warning, ok = sorted(remarks(keeping, "synchronous_commit = off"), key=lambda diagnostic: diagnostic.level, reverse=True)
    assert (warning.level, "distributor writes with on" in warning.message) == ("warning", True)
    assert ok.level == "ok"


def test_a_synchronous_standby_that_is_away_is_an_error(keeping: Server) -> None:
    name = keeping.fresh()
    ledger = open_ledger(keeping.url(name), by="root@host", create=True)
    try:
        keeping.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'other'", "SELECT pg_reload_conf(), pg_sleep(1)")
        (found,) = ledger.check()
        assert (found.level, "no synchronous standby is connected" in found.message) == ("error", True)
    finally:
        keeping.run("postgres", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        ledger.close()


def test_a_session_that_something_resets_is_an_error(keeping: Server) -> None:
    name = keeping.fresh()
    open_ledger(keeping.url(name), by="root@host", create=True).close()
    database = open_database(keeping.url(name), create=False)
    try:
        with database.reading() as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            found = list(opening.durability(connection))
        assert [diagnostic.level for diagnostic in found] == ["error"]
    finally:
        database.close()


def test_a_file_has_nothing_to_be_asked(file_world: World) -> None:
    assert file_world.ledger.check() == []
