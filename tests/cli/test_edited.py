"""A ledger whose rows were edited between plan and send: nothing leaves, the exit code is 3, and the delivery can be withdrawn."""

# ruff: noqa: S608  tampering is the point

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from distributor.ledger.sqlite import sqlite3
from tests.authority import Authority
from tests.workspace import PASSWORD, Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

_OF = "(SELECT d.{0} FROM delivery d JOIN person p ON p.id = d.person WHERE p.key = '{1}@example.org')"
PLANNED = {
    "the person's address": "UPDATE person SET address = 'eve@example.org' WHERE key = 'alice@example.org'",
    "the person's whole address": "UPDATE person SET address = 'eve@example.org', key = 'eve@example.org' WHERE key = 'alice@example.org'",
    "another person": f"UPDATE delivery SET person = {_OF.format('person', 'bob')} WHERE id = {_OF.format('id', 'alice')}",
    "another certificate": f"UPDATE delivery SET certificate = {_OF.format('certificate', 'bob')}, generation = 2 "
    f"WHERE id = {_OF.format('id', 'alice')}",
    "another file": f"UPDATE delivery SET locator = {_OF.format('locator', 'bob')} WHERE id = {_OF.format('id', 'alice')}",
}
ERASED = "UPDATE event SET personal = NULL, salt = NULL WHERE personal IS NOT NULL"
QUEUED = {
    "the envelope": "UPDATE outbox SET address = 'eve@example.org' WHERE address = 'alice@example.org'",
    "the envelope and the message": "UPDATE outbox SET address = 'eve@example.org', "
    "message = CAST(replace(CAST(message AS TEXT), 'alice@example.org', 'eve@example.org') AS BLOB) WHERE address = 'alice@example.org'",
    "the sender": "UPDATE outbox SET sender = 'eve@example.org' WHERE address = 'alice@example.org'",
    "the state": f"UPDATE delivery SET state = 'deferred' WHERE id = {_OF.format('id', 'alice')}",
}


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """Two people are planned, and a server waits."""
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ server\n$ mkdir certificates\n")
    for name in ("alice", "bob"):
        (made.folder / "certificates" / f"{name}.pfx").write_bytes(authority.issue(f"{name}@example.org").pfx(PASSWORD))
        (made.folder / "certificates" / f"{name}.txt").write_text(PASSWORD, encoding="utf-8")
    assert made.run("distributor plan certificates >/dev/null").returncode == 0
    yield made
    made.close()


def edit(workspace: Workspace, *statements: str) -> None:
    with closing(sqlite3.connect(workspace.folder / "distributor.db")) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
        connection.commit()


ALL = [*([what] for what in (*PLANNED, *QUEUED)), ["the person's whole address", ERASED], ["the envelope and the message", ERASED]]


@pytest.mark.parametrize(
    ("what", "more"), [(what, more) for what, *more in ALL], ids=["-".join(each[:1] + ["erased"] * len(each[1:])) for each in ALL]
)
def test_nothing_of_an_edited_delivery_leaves_and_it_can_be_withdrawn(workspace: Workspace, what: str, more: list[str]) -> None:
    ((alice,),) = read(workspace, f"SELECT {_OF.format('id', 'alice')}")
    if what in QUEUED:
        assert workspace.run("distributor send --dry-run look").returncode == 0
    edit(workspace, {**PLANNED, **QUEUED}[what], *more)
    result = workspace.run("distributor send --yes")
    assert result.returncode == 3, result.stdout
    assert "modified outside distributor" in result.stdout
    assert all(b"To: bob@example.org" in message for message in workspace.handler.messages)
    assert workspace.run("distributor audit verify").returncode == 1
    assert workspace.run(f"distributor withdraw {alice} --reason 'was edited'").returncode == 0
    assert read(workspace, f"SELECT state FROM delivery WHERE id = '{alice}'") == [("withdrawn",)]


def read(workspace: Workspace, asked: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(workspace.folder / "distributor.db")) as connection:
        return list(connection.execute(asked))
