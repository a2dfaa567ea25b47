"""A mailbox is driven by one process at a time: taken, refused to others, free again when its process ends, however it ends."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.attempts import RecordIntent
from distributor.model.states import State
from tests.ledger.postgresql import Server
from tests.ledger.world import LEASE, ME, World

MAILBOX = "certificates@example.org"
OTHER = """
import sys
from datetime import UTC, datetime
from distributor.ledger import open_ledger
ledger = open_ledger(sys.argv[1], by="other@host", now=lambda: datetime.now(UTC))
print(*(ledger.lock_mailbox(mailbox) for mailbox in sys.argv[2:]), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(world: World, *mailboxes: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Locks mailboxes and waits; what it was told of each."""
    argv = [sys.executable, "-c", OTHER, world.url, *mailboxes]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def lock_results(world: World, *mailboxes: str) -> str:
    with another_process(world, *mailboxes) as (_, answer):
        return answer


def small_file(world: World) -> Path:
    return Path(f"{world.url.removeprefix('sqlite:///')}-roads")


def test_a_mailbox_is_taken_once_and_the_others_are_free(world: World) -> None:
    assert (world.ledger.lock_mailbox(MAILBOX), world.ledger.lock_mailbox(MAILBOX)) == (True, True)
    assert lock_results(world, MAILBOX, "second@example.org", "") == "False True True"


def test_a_mailbox_is_free_again_when_the_ledger_is_closed(world: World) -> None:
    assert world.ledger.lock_mailbox(MAILBOX)
    world.ledger.close()
    assert lock_results(world, MAILBOX) == "True"
    assert world.ledger.lock_mailbox(MAILBOX)


def test_a_mailbox_is_free_again_when_its_process_was_killed(world: World) -> None:
    with another_process(world, MAILBOX) as (process, answer):
        assert (answer, world.ledger.lock_mailbox(MAILBOX)) == ("True", False)
        process.kill()
        process.wait()
        while not world.ledger.lock_mailbox(MAILBOX):
            pass  # a server notices a little later


def test_two_ledgers_of_one_process_do_not_share_a_mailbox(world: World) -> None:
    other = world.another()
    assert (world.ledger.lock_mailbox(MAILBOX), other.lock_mailbox(MAILBOX), other.lock_mailbox("second@example.org")) == (
        True,
        False,
        True,
    )
    other.close()
    assert lock_results(world, MAILBOX, "second@example.org") == "False True"


def test_reading_and_closing_elsewhere_in_the_process_keeps_a_mailbox(world: World) -> None:
    assert world.ledger.lock_mailbox(MAILBOX)
    world.another().close()
    world.queue("anna")
    assert lock_results(world, MAILBOX) == "False"


def test_a_child_that_was_forked_holds_nothing_and_takes_nothing_away(world: World) -> None:
    assert world.ledger.lock_mailbox(MAILBOX)
    child = os.fork()
    if child == 0:
        held = world.ledger.lock_mailbox(MAILBOX)
        world.ledger.close()
        os._exit(3 if held else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock_results(world, MAILBOX) == "False"


def test_the_small_file_is_its_owners_only_and_stays(file_world: World) -> None:
    assert not small_file(file_world).exists()
    assert file_world.ledger.lock_mailbox(MAILBOX)
    file_world.ledger.close()
    assert stat.S_IMODE(small_file(file_world).stat().st_mode) == 0o600


def test_a_small_file_that_is_a_link_is_refused(file_world: World, tmp_path: Path) -> None:
    small_file(file_world).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="cannot be opened") as refused:
        file_world.ledger.lock_mailbox(MAILBOX)
    assert refused.value.hint
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def served(postgresql: Server, empty_database: str) -> Iterator[World]:
    postgresql.empty(empty_database)
    world = World(postgresql.url(empty_database))
    yield world
    world.close()


def cut(postgresql: Server, database: str, world: World) -> None:
    """The server ends every session, and the ledger notices."""
    others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"  # noqa: S608  a name of ours
    postgresql.run("postgres", others)
    with pytest.raises(ServiceUnavailable):
        world.ledger.lock_mailbox("noticed@example.org")


def test_a_mailbox_that_was_lost_with_the_connection_is_taken_again(postgresql: Server, empty_database: str, served: World) -> None:
    claim = served.claimed()
    assert served.ledger.lock_mailbox(MAILBOX)
    cut(postgresql, empty_database, served)
    assert served.ledger.write([RecordIntent(claim, LEASE)], ME) == [True]
    assert lock_results(served, MAILBOX) == "False"


def test_nothing_is_armed_once_another_has_the_mailbox(postgresql: Server, empty_database: str, served: World) -> None:
    in_flight = served.armed("anna")
    claim = served.claimed("bert")
    assert served.ledger.lock_mailbox(MAILBOX)
    cut(postgresql, empty_database, served)
    assert served.another().lock_mailbox(MAILBOX)
    with pytest.raises(ServiceUnavailable, match="took over the mailbox"):
        served.ledger.write([RecordIntent(claim, LEASE)], ME)
    assert served.settle(in_flight, State.ACCEPTED)
