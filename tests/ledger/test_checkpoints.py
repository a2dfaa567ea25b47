"""A ledger's checkpoints: each continues the one before, none is ever changed, and whatever is done to events before one is found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributor.errors import InvalidInput
from distributor.ledger import open_ledger
from distributor.ledger.sqlite import sqlite3
from distributor.model.audit_log import ORIGIN, Link, digest
from distributor.model.checkpoints import ORIGIN as ORIGIN_OF_LOGS
from distributor.model.checkpoints import VerifierKey
from distributor.pki import ed25519
from distributor.pki.ed25519 import SigningKey
from distributor.workflows import checkpoints
from distributor.workflows.checkpoints import Signed, Signer
from tests.ledger.world import Clock, World


def signer(world: World, key: SigningKey | None = None) -> Signer:
    used = key or SigningKey(ed25519.make_key(), "audit.key")
    return Signer(VerifierKey(ORIGIN_OF_LOGS + world.ledger.identity(), used.public), used.sign, ed25519.verify)


def sign(world: World, by: Signer) -> Signed:
    found = checkpoints.sign(world.ledger, by, lambda _: None)
    assert found is not None
    return found


def findings(world: World, by: Signer, *notes: str) -> list[str]:
    given = checkpoints.comparison([("kept.txt", note) for note in notes], [by.key], by.verify)
    return list(world.ledger.prove([given], [by.key]).findings)


def findings_with(world: World, key: VerifierKey, note: str) -> list[str]:
    """As above, in a ledger whose name cannot be read any more."""
    given = checkpoints.comparison([("kept.txt", note)], [key], ed25519.verify)
    return list(world.ledger.prove([given], [key]).findings)


def test_a_ledger_without_events_has_nothing_to_sign(file_url: str) -> None:
    with closing(open_ledger(file_url, by="x", now=Clock())) as ledger:
        key = SigningKey(ed25519.make_key(), "audit.key")
        name = VerifierKey(ORIGIN_OF_LOGS + ledger.identity(), key.public)
        assert checkpoints.sign(ledger, Signer(name, key.sign, ed25519.verify), lambda _: None) is None


def test_each_checkpoint_continues_the_one_before_and_is_kept(world: World) -> None:
    by = signer(world)
    world.accepted("anna")
    first = sign(world, by)
    again = sign(world, by)
    assert (first.new, again.new, again.stored) == (True, False, first.stored)
    world.accepted("bert")
    second = sign(world, by)
    assert second.before == first.stored
    assert second.stored.size == world.ledger.position() > first.stored.size
    report = world.ledger.prove(keys=[by.key])
    assert (report.findings, report.checkpoints) == ((), 2)
    assert findings(world, by, first.stored.note, second.stored.note) == []


def test_a_checkpoint_is_never_changed_or_removed(world: World) -> None:
    world.accepted()
    sign(world, signer(world))
    for statement in ("UPDATE checkpoint SET note = 'x'", "DELETE FROM checkpoint"):
        with pytest.raises(Exception, match="never changed or removed"):
            world.sql(statement)


def test_two_processes_keep_one_checkpoint_of_the_same_events(world: World) -> None:
    by = signer(world)
    world.accepted()
    first = sign(world, by).stored
    assert world.ledger.keep_checkpoint(replace_at(first)) == first


def replace_at(stored: checkpoints.StoredCheckpoint) -> checkpoints.StoredCheckpoint:
    return stored._replace(at=stored.at.replace(year=2030))


def test_a_checkpoint_of_another_key_is_compared_though_not_verified(world: World) -> None:
    world.accepted()
    sign(world, signer(world))
    world.plan("bert")
    by = signer(world)  # the key was lost, and another one made
    sign(world, by)
    report = world.ledger.prove(keys=[by.key])
    assert (report.findings, report.checkpoints) == ((), 2)


# --- what somebody with the file can do ------------------------------------------------------------------------------


Rows = list[Link]


def rewrite(world: World, change: Callable[[Rows], Rows], *more: str) -> None:
    """Change the events, number them and hash them anew: nothing in the chain tells of it."""
    names = ", ".join(f'"{name}"' for name in Link._fields)
    with closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as connection:
        triggers = list(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        rows = change([Link(*row) for row in connection.execute(f"SELECT {names} FROM event ORDER BY seq")])  # noqa: S608  names of ours
        connection.execute("DELETE FROM event")
        prev, link = ORIGIN, None
        for seq, row in enumerate(rows, 1):
            link = row._replace(seq=seq)
            prev = digest(link, prev)
            marks = ", ".join("?" * len(Link._fields))
            connection.execute(f"INSERT INTO event ({names}) VALUES ({marks})", link._replace(hash=prev))  # noqa: S608  as above
        assert link is not None
        connection.execute("UPDATE head SET seq = ?, hash = ?, at = ?", (link.seq, prev, link.at))
        for statement in more:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()
    world.spoiled = True


def edited(number: int) -> Callable[[Rows], Rows]:
    return lambda rows: [row._replace(by="eve@host") if at == number else row for at, row in enumerate(rows)]


TAMPERING: dict[str, Callable[[Rows], Rows]] = {
    "an edit": edited(2),
    "an edit of the last": lambda rows: [*rows[:-1], rows[-1]._replace(by="eve@host")],
    "a removal": lambda rows: [row for at, row in enumerate(rows) if at != 3],
    "the end": lambda rows: rows[:-2],
    "a swap": lambda rows: [*rows[:2], rows[3], rows[2], *rows[4:]],
    "an insertion": lambda rows: [*rows[:2], rows[2], *rows[2:]],
    "everything": lambda rows: [row._replace(by="eve@host") for row in rows],
}


@pytest.fixture
def signed(file_world: World) -> tuple[World, Signer, str]:
    """A ledger with a checkpoint of all its events, which is kept elsewhere too."""
    by = signer(file_world)
    file_world.accepted("anna")
    return file_world, by, sign(file_world, by).stored.note


@pytest.mark.parametrize("change", TAMPERING.values(), ids=TAMPERING.keys())
def test_a_chain_that_was_hashed_anew_is_found_by_a_checkpoint_that_was_kept_elsewhere(
    signed: tuple[World, Signer, str], change: Callable[[Rows], Rows]
) -> None:
    world, by, note = signed
    rewrite(world, change, "DELETE FROM checkpoint")
    without = [finding for finding in findings(world, by) if finding.startswith(("event ", "events "))]
    assert not any("hash" in finding for finding in without)
    assert any("kept.txt" in finding for finding in findings(world, by, note))


@pytest.mark.parametrize("change", TAMPERING.values(), ids=TAMPERING.keys())
def test_so_it_is_by_the_ledgers_own_where_nobody_thought_of_it(signed: tuple[World, Signer, str], change: Callable[[Rows], Rows]) -> None:
    world, by, _ = signed
    rewrite(world, change)
    assert any("the ledger's checkpoint" in finding for finding in findings(world, by))


def test_an_older_copy_lacks_the_end_that_the_checkpoint_has(file_world: World, tmp_path: Path) -> None:
    by = signer(file_world)
    file_world.accepted("anna")
    sign(file_world, by)
    with closing(sqlite3.connect(file_world.url.removeprefix("sqlite:///"))) as source, closing(sqlite3.connect(tmp_path / "old")) as copy:
        source.backup(copy)
    file_world.accepted("bert")
    note = sign(file_world, by).stored.note
    with closing(open_ledger(f"sqlite:///{tmp_path / 'old'}", by="x", now=Clock())) as older:
        given = checkpoints.comparison([("kept.txt", note)], [by.key], by.verify)
        (finding,) = older.prove([given], [by.key]).findings
    assert finding.endswith("the end was removed")
    assert "kept.txt" in finding


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_edit_of_a_signed_chain_passes(signed: tuple[World, Signer, str], data: st.DataObject) -> None:
    """Of whatever field of whatever event; the chain is hashed anew each time."""
    world, by, note = signed
    original: list[Rows] = []

    def change(rows: Rows) -> Rows:
        original.append(rows)
        number = data.draw(st.integers(0, len(rows) - 1))
        name = data.draw(st.sampled_from(["at", "event", "by", "evidence", "commitment", "delivery"]))
        return [row._replace(**{name: f"{getattr(row, name) or ''}x"}) if at == number else row for at, row in enumerate(rows)]

    rewrite(world, change, "DELETE FROM checkpoint")
    try:
        assert any("kept.txt" in finding for finding in findings(world, by, note))
    finally:
        rewrite(world, lambda _: original[0])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkpoint SET edge = substr(edge, 1, 64)",
        "UPDATE checkpoint SET edge = edge || ' 00'",
        "UPDATE checkpoint SET edge = 'zz'",
        "UPDATE checkpoint SET event = '00'",
        "UPDATE checkpoint SET note = replace(note, char(10) || size || char(10), char(10) || (size + 1) || char(10))",
        "UPDATE checkpoint SET note = replace(note, 'distributor/', 'distributed/')",
        "UPDATE checkpoint SET note = 'x'",
        "UPDATE checkpoint SET note = x'ff00'",
        "UPDATE checkpoint SET edge = x'ff00'",
        "UPDATE checkpoint SET size = size - 1 WHERE size = (SELECT max(size) FROM checkpoint)",
        "UPDATE checkpoint SET token = 'eHh4'",
    ],
)
def test_a_checkpoint_that_was_changed_in_the_ledger_is_found_and_not_continued(signed: tuple[World, Signer, str], statement: str) -> None:
    world, by, _ = signed
    world.plan("bert", "cleo")
    sign(world, by)
    rewrite(world, lambda rows: rows, statement)
    assert any("checkpoint" in finding for finding in findings(world, by))
    if "token" not in statement:
        with pytest.raises(InvalidInput, match=r"changed|not the one|missing"):
            sign(world, by)


def test_nothing_is_signed_where_the_last_signed_event_is_another_one_now(signed: tuple[World, Signer, str]) -> None:
    world, by, _ = signed
    rewrite(world, edited(2))
    world.plan("bert")
    with pytest.raises(InvalidInput, match="not the one that the last checkpoint was signed for"):
        sign(world, by)


@pytest.mark.parametrize("statement", ["DELETE FROM head", "UPDATE head SET at = 'x'", "UPDATE head SET hash = x'00', at = x'00'"])
def test_a_record_of_the_last_event_that_makes_no_sense_is_a_finding(signed: tuple[World, Signer, str], statement: str) -> None:
    world, by, note = signed
    rewrite(world, lambda rows: rows, statement)
    assert any("the record of the last event" in finding for finding in findings_with(world, by.key, note))
    assert world.ledger.ahead() is None
    world.ledger.restored()


def test_a_first_event_that_was_edited_is_a_finding_and_checkpoints_are_compared(signed: tuple[World, Signer, str]) -> None:
    """The ledger's name is in that event."""
    world, by, note = signed
    rewrite(world, edited(0))
    found = findings_with(world, by.key, note)
    assert any("kept.txt" in finding for finding in found)
    assert not any("its text was changed" in finding for finding in found)


def test_a_signature_of_somebody_else_is_not_one(signed: tuple[World, Signer, str]) -> None:
    world, by, note = signed
    eve = SigningKey(ed25519.make_key(), "audit.key")
    text = note.rpartition("\n\n")[0] + "\n"
    forged = checkpoints.signed_note(text, by.key, eve.sign(text.encode()))
    assert findings(world, by, forged) == [f"kept.txt: the signature of {by.key.name} is not valid"]
    other = signer(world, eve)
    assert findings(world, by, checkpoints.signed_note(text, other.key, other.sign(text.encode())))[0].startswith("kept.txt: not signed by")
    assert findings(world, by, "hello")[0].startswith("kept.txt: not a checkpoint")
    assert findings(world, by, "") == ["kept.txt: no checkpoint in it"]
