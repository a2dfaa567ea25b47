"""An account is bound to one person, with an event; sessions are shared by all who have the ledger, without one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from distributor.errors import RequestDenied
from distributor.model.people import Person
from distributor.model.requests import SignInAccount, StoredSession
from tests.ledger.world import World, draft

ANNA = SignInAccount("https://login.example.org", "anna-1")
OTHER = SignInAccount("https://login.example.org", "anna-2")
ELSEWHERE = SignInAccount("https://other.example.org", "anna-1")


def test_an_account_belongs_to_the_person_it_was_bound_to(world: World) -> None:
    world.plan("anna", "bert")
    assert world.ledger.person_of(ANNA) is None
    world.ledger.acting_as("portal:anna-1").bind(ANNA, "anna@example.org", "oid")
    assert world.ledger.person_of(ANNA) == "anna@example.org"
    assert world.ledger.person_of(ELSEWHERE) is None  # the same subject of another issuer is somebody else
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.by) == ("bound", "portal:anna-1")
    assert last.evidence == {"how": "oid", "issuer": ANNA.issuer, "subject": "anna-1", "address": "anna@example.org"}


def test_an_account_or_a_person_is_bound_once_an_issuer(world: World) -> None:
    world.plan("anna", "bert")
    world.ledger.bind(ANNA, "anna@example.org", "email")
    for account, address in ((ANNA, "bert@example.org"), (OTHER, "anna@example.org"), (ANNA, "anna@example.org")):
        with pytest.raises(RequestDenied, match="bound already"):
            world.ledger.bind(account, address, "email")
    world.ledger.bind(ELSEWHERE, "anna@example.org", "email")
    world.ledger.bind(OTHER, "bert@example.org", "email")
    with pytest.raises(RequestDenied, match="nobody in the ledger"):
        world.ledger.bind(SignInAccount("x", "y"), "eve@example.org", "email")


def test_the_subject_is_committed_to_and_does_not_stand_in_the_clear_evidence(world: World) -> None:
    world.plan("anna")
    world.ledger.bind(ANNA, "anna@example.org", "email")
    ((evidence, personal),) = world.sql("SELECT evidence, personal FROM event WHERE event = 'bound'")
    assert "anna" not in str(evidence)
    assert "anna-1" in str(personal)


CHANGES = [
    ("UPDATE account SET subject = 'eve'", 'account "eve" of https://login.example.org: has no events'),
    ("UPDATE account SET how = 'oid'", 'account "anna-1" of https://login.example.org: how is "oid", but the audit log says "email"'),
    ("DELETE FROM account", 'account "anna-1" of https://login.example.org: has an event but is missing'),
    (
        "UPDATE account SET person = (SELECT id FROM person WHERE key = 'bert@example.org')",
        'account "anna-1" of https://login.example.org: person is "',
    ),
    (
        "INSERT INTO account SELECT issuer, 'eve', id, how, at FROM account JOIN person ON key = 'bert@example.org'".replace(
            "issuer, 'eve', id, how, at", "issuer, 'eve', person.id, how, at"
        ),
        'account "eve" of https://login.example.org: has no events',
    ),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[change[:30] for change, _ in CHANGES])
def test_an_account_that_was_changed_removed_or_added_is_found(world: World, change: str, words: str) -> None:
    world.plan("anna", "bert")
    world.ledger.bind(ANNA, "anna@example.org", "email")
    assert world.ledger.verify() == []
    world.sql(change)
    world.spoiled = True
    assert str(world.ledger.verify()[0]).startswith(words)


def with_columns(name: str, **columns: str) -> Person:
    return replace(draft(name).person, columns=columns)


def test_people_are_found_by_a_further_column_whatever_its_case(world: World) -> None:
    drafts = [
        replace(draft("anna"), person=with_columns("anna", OID="ABC-1", note='say "def-2"')),
        replace(draft("bert"), person=with_columns("bert", oid="def-2", room="abc-1")),
        replace(draft("cleo"), person=with_columns("cleo", oid="Ärmel")),
    ]
    world.ledger.plan("plan-1", drafts)
    assert world.ledger.with_column("oid", "abc-1") == ["anna@example.org"]
    assert world.ledger.with_column("OID", "DEF-2") == ["bert@example.org"]
    assert world.ledger.with_column("oid", "ÄRMEL") == ["cleo@example.org"]
    assert world.ledger.with_column("oid", "abc") == []
    assert world.ledger.with_column("oid", "%") == []


def test_a_session_is_read_by_every_replica_and_is_no_event(world: World) -> None:
    now = world.clock.now
    before = world.ledger.position()
    session = StoredSession("t1", now, now, '{"address":"anna@example.org"}')
    world.ledger.write_session(session)
    assert world.another().read_session("t1") == session
    later = replace(session, seen=now + timedelta(minutes=5), data="{}")
    world.ledger.write_session(later)
    assert world.ledger.read_session("t1") == later
    assert world.ledger.read_session("t2") is None
    assert world.ledger.position() == before


def test_sessions_end_by_name_by_age_and_when_they_were_not_used(world: World) -> None:
    now = world.clock.now
    for number in range(6):
        at = now + timedelta(hours=number)
        world.ledger.write_session(StoredSession(f"t{number}", at, at + timedelta(minutes=5), "{}"))
    assert world.ledger.end_sessions(["t5", "t9"]) == 1
    assert world.ledger.end_sessions(before=now + timedelta(hours=1)) == 1
    assert world.ledger.end_sessions(idle_since=now + timedelta(hours=2, minutes=5)) == 1
    assert [name for name in (f"t{number}" for number in range(6)) if world.ledger.read_session(name)] == ["t2", "t3", "t4"]
    assert world.ledger.end_sessions() == 0
