"""What was taken out of a ledger in a file is not in its write-ahead log either, also where somebody died who had it open."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from distributor.ledger import open_ledger, sqlite
from distributor.model.states import State
from tests.ledger.world import Clock, World, draft, packed

pytestmark = pytest.mark.skipif(not sqlite.keeps_wal(), reason="this SQLite keeps no write-ahead log")
OPEN = """
import sys
from distributor.ledger.sqlite import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM handover").fetchone()
if sys.argv[2] == "idle":
    connection.execute("ROLLBACK")
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def another(path: Path, how: str) -> Iterator[None]:
    """A process that has the ledger open (`idle`, or `reading` all the time), and is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", OPEN, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield
        finally:
            process.kill()


def everywhere(path: Path) -> bytes:
    return b"".join(found.read_bytes() for found in path.parent.iterdir() if found.name.startswith(path.name))


def expire_and_destroy(world: World) -> None:
    """It expires; a week later a jump of the clock is noted, and some hours on the clock still agrees."""
    for passed in (timedelta(days=15), timedelta(days=8), timedelta(hours=6)):
        world.clock.now += passed
        world.ledger.expire()


@pytest.mark.parametrize(
    "erase",
    [
        lambda world, id_: world.ledger.hand_over(id_, "she phoned", "reveal"),
        lambda world, id_: world.ledger.regenerate(id_, "she asked again"),
        lambda world, _: expire_and_destroy(world),
    ],
    ids=["handed over", "replaced", "expired"],
)
def test_a_password_that_left_is_not_in_the_log_of_a_ledger_that_others_hold_open(
    file_url: str, tmp_path: Path, erase: Callable[[World, str], object]
) -> None:
    world, path = World(file_url), tmp_path / "ledger.db"
    id_ = world.accepted()
    sealed = packed(id_).sealed
    assert sealed is not None
    with another(path, "idle"):
        assert sealed in everywhere(path)
        erase(world, id_)
        assert sealed not in everywhere(path)
        world.close()
    assert sealed not in everywhere(path)


def test_a_withdrawn_password_is_not_in_the_log(file_world: World, tmp_path: Path) -> None:
    (id_,) = file_world.queue("anna")
    with another(tmp_path / "ledger.db", "idle"):
        file_world.ledger.withdraw(id_, "a mistake")
        assert file_world.state(id_) is State.WITHDRAWN
        assert str(packed(id_).sealed, "ascii").encode() not in everywhere(tmp_path / "ledger.db")


def test_what_could_not_be_cleared_in_time_goes_when_the_ledger_is_opened_next(file_url: str, tmp_path: Path) -> None:
    """A reader holds the log for as long as it reads; then it is killed, and so is everybody else."""
    world, path = World(file_url), tmp_path / "ledger.db"
    id_ = world.accepted()
    sealed = packed(id_).sealed
    assert sealed is not None
    with another(path, "idle"):
        with another(path, "reading"):
            world.ledger.hand_over(id_, "she phoned", "reveal")
            assert sealed in everywhere(path)
            world.close()
        again = open_ledger(file_url, by="root@host", now=Clock())
        again.expire()  # as whoever opens it to write does first
        assert sealed not in everywhere(path)
        again.close()


def test_a_log_in_use_holds_up_nobody(file_world: World, tmp_path: Path) -> None:
    file_world.plan("anna")
    with another(tmp_path / "ledger.db", "reading"):
        file_world.plan("bert")
        assert file_world.ledger.expire() == 0


def test_columns_that_no_message_names_are_forgotten_in_the_log_too(file_world: World, tmp_path: Path) -> None:
    file_world.plan("anna", "bert")
    asked = []

    def used() -> frozenset[str]:
        asked.append(1)
        return frozenset({"floor"})

    assert file_world.ledger.keep_columns(lambda: {"room"}) == 0
    with another(tmp_path / "ledger.db", "idle"):
        assert b'{"room":"12"}' in everywhere(tmp_path / "ledger.db")
        assert file_world.ledger.keep_columns(used) == 2
        assert b'"room"' not in everywhere(tmp_path / "ledger.db")
    assert file_world.ledger.keep_columns(used) == 0
    assert len(asked) <= 2
    assert draft("anna").person.columns == {"room": "12"}
