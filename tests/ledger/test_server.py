"""A ledger on a server: what is said when it cannot be reached, and that work goes on when it is back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.ledger import open_ledger
from distributor.model.states import State
from tests.ledger.postgresql import Server
from tests.ledger.world import EVERYTHING, Clock, World, draft


@pytest.fixture
def served(postgresql: Server, empty_database: str) -> str:
    postgresql.empty(empty_database)
    return postgresql.url(empty_database)


def refusal(url: str) -> Error:
    with pytest.raises(Error) as refused:
        open_ledger(url, by="root@host", now=Clock())
    assert refused.value.hint
    return refused.value


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_shown() -> None:
    error = refusal("postgresql+psycopg://someone:hidden-word@127.0.0.1:1/ledger")
    assert isinstance(error, ServiceUnavailable)
    assert str(error) == "postgresql://127.0.0.1:1/ledger: cannot connect to the database"
    assert "hidden-word" not in f"{error!r} {error.hint}"


@pytest.mark.parametrize("word", ["hid@den", "hid/den", "hid?den", "hid#den", "hid:den", "hid@den@127.0.0.1:x"])
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(word: str) -> None:
    error = refusal(f"postgresql+psycopg://someone:{word}@127.0.0.1:1/ledger")
    assert isinstance(error, InvalidInput)
    assert "den" not in f"{error!r} {error} {error.hint}"


def test_a_database_that_is_not_there_cannot_be_used(postgresql: Server) -> None:
    error = refusal(postgresql.url("nowhere"))
    assert "cannot connect to the database" in str(error)
    assert error.hint is not None
    assert "`ledger.url`" in error.hint


def test_an_empty_database_is_no_ledger_until_it_is_made_one(postgresql: Server) -> None:
    url = postgresql.url(postgresql.fresh())
    assert "no ledger in it yet" in str(refusal(url))
    open_ledger(url, by="root@host", now=Clock(), create=True).close()
    open_ledger(url, by="root@host", now=Clock()).close()


def test_a_lost_connection_is_said_once_and_then_made_again(postgresql: Server, empty_database: str, served: str) -> None:
    world = World(served)
    world.queue("anna")
    others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{empty_database}' AND pid <> pg_backend_pid()"  # noqa: S608  a name of ours
    for read in (True, False):
        world.ledger.counts(EVERYTHING)
        postgresql.run("postgres", others)
        with pytest.raises(ServiceUnavailable, match=r"cannot connect|does not respond"):
            _ = world.ledger.counts(EVERYTHING) if read else world.ledger.plan("plan-1", [draft("bert")])
    assert world.ledger.counts(EVERYTHING) == {State.QUEUED: 1}
    assert world.ledger.plan("plan-1", [draft("bert")])
    assert world.ledger.verify() == []
    world.close()


LOST = """
import sys
import psycopg
from distributor.errors import ServiceUnavailable
from distributor.ledger.opening import open_database
database = open_database(sys.argv[1], create=False)
try:
    with database.writing() as connection:
        (number,) = connection.exec_driver_sql("SELECT pg_backend_pid()").one()
        with psycopg.connect(sys.argv[1].replace("+psycopg", ""), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (number,))
        connection.exec_driver_sql("SELECT %s::int", [(1,), (2,), (3,)])
except ServiceUnavailable as error:
    print(error.message)
database.close()
"""


def test_a_server_that_dies_under_several_rows_is_told_once_and_in_our_words(served: str) -> None:
    result = subprocess.run([sys.executable, "-c", LOST, served], capture_output=True, text=True, check=False, timeout=60)
    assert (result.stderr, result.stdout) == ("", "cannot connect to the database\n")


def test_a_child_process_opens_a_connection_of_its_own(served: str) -> None:
    world = World(served)
    child = os.fork()
    if child == 0:
        try:
            world.ledger.plan("plan-1", [draft("bert")])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    world.plan("anna")
    assert world.ledger.counts(EVERYTHING) == {State.PLANNED: 2}
    assert world.ledger.verify() == []
    world.close()


def test_a_writer_waits_for_another_and_the_chain_stays_one(served: str) -> None:
    world = World(served)
    other = world.another("second@host")
    for number in range(5):
        world.plan(f"a{number}")
        other.plan("plan-1", [draft(f"b{number}")])
    assert [record.event.by for record in world.ledger.records()] == ["root@host", "second@host"] * 5
    assert world.ledger.verify() == []
    world.close()


def distributor(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "distributor", *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow(reason="a dozen commands")
def test_a_workspace_moves_to_a_server_by_its_url_alone(tmp_path: Path, postgresql: Server) -> None:
    assert distributor(tmp_path, "init").returncode == 0
    configuration = tmp_path / "distributor.toml"
    configuration.write_text(configuration.read_text().replace("sqlite:///distributor.db", postgresql.url(postgresql.fresh())))
    looked = distributor(tmp_path, "status")
    assert (
        looked.returncode,
        "restore a backup (see docs/restore.md#an-empty-or-missing-ledger), or run `distributor init` to create one here" in looked.stderr,
    ) == (
        3,
        True,
    )
    (tmp_path / "certificates").mkdir()
    for words in (("plan", "certificates"), ("send", "--yes")):
        assert "no ledger in it yet" in distributor(tmp_path, *words).stderr  # an empty database may be one that was lost
    assert distributor(tmp_path, "status").returncode == 3
    assert distributor(tmp_path, "init").returncode == 0
    assert distributor(tmp_path, "plan", "certificates").returncode == 1  # nothing to plan, but a ledger
    again = distributor(tmp_path, "init")
    assert (again.returncode, "nothing is overwritten" in again.stderr) == (1, True)
    looked = distributor(tmp_path, "status", "--json")
    assert (looked.returncode, json.loads(looked.stdout)["counts"]) == (0, {})
