"""A person is erased: nothing of them stays in the database, chain and exports still hold, and every edit is found."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from distributor.errors import RequestDenied, UsageError
from distributor.model.audit_log import ExportComparison
from distributor.model.certificates import CertificateInfo
from distributor.model.delivery import Delivery, DeliveryRequest
from distributor.model.requests import RequestLimits, SignInAccount, StoredSession
from distributor.model.states import PasswordState, State
from distributor.pki import certificate
from distributor.workflows import audit
from tests.authority import Authority
from tests.ledger.world import ME, World, draft, found, packed

WORDS = (b"anna", b"Anna", b"Quill", b"+49 30 777", b"chief", b"subject-777", b"corner office")
REASON = "erasure request, ticket 4711"


def person(authority: Authority) -> DeliveryRequest:
    """Anna as a roster has her, with a real certificate."""
    issued = authority.issue("anna@example.org", name="Anna Quill").der
    info = certificate.info(issued)
    assert isinstance(info, CertificateInfo)
    known = draft("anna")
    about = {"name": "Anna Quill", "phone": "+49 30 777", "manager": "chief@example.org", "columns": {"room": "corner office"}}
    return replace(known, facts=info, leaf=issued, person=replace(known.person, **about))


def write(world: World, authority: Authority) -> str:
    """Anna's delivery was accepted, her password waits; she asked for another copy and is signed in to the portal. Bert has one too."""
    world.clock.now = datetime.now(UTC)  # the certificate is valid now
    (planned,) = world.ledger.plan("plan-1", [person(authority)])
    assert isinstance(planned, Delivery)
    world.ledger.enqueue([packed(planned.id, to="anna@example.org")], ME)
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED, response="250 ok <anna@example.org>")
    world.ledger.bind(SignInAccount("https://login.example.org", "subject-777"), "anna@example.org", "oid")
    data = json.dumps({"kind": "session", "address": "anna@example.org", "name": "Anna Quill"})
    world.ledger.write_session(StoredSession("00" * 32, world.clock.now, world.clock.now, data))
    asked = world.ledger.ask(planned.id, "Anna has a new phone", limits=RequestLimits(daily=9, monthly=9))
    world.ledger.acting_as("x@y").decide(asked.id, "Anna may wait", approve=False)
    world.accepted("bert")
    return planned.id


@pytest.fixture
def full(world: World, authority: Authority) -> tuple[World, str]:
    return world, write(world, authority)


def exported(world: World) -> list[str]:
    lines: list[str] = []
    audit.export(world.ledger.records(), "jsonl", lines.append)
    return lines


def test_a_person_is_erased_and_chain_rows_and_earlier_exports_still_hold(full: tuple[World, str]) -> None:
    world, id_ = full
    before = exported(world)
    told = world.ledger.erasable("anna@example.org")
    assert world.ledger.forget("anna@example.org", REASON) == told
    assert (told.deliveries, told.certificates, told.passwords, told.accounts) == (1, 1, 1, 1)
    assert world.ledger.prove([ExportComparison("export", audit.earlier(before))]).findings == ()
    assert audit.prove_export(exported(world), [ExportComparison("export", audit.earlier(before))]).findings == ()
    assert world.ledger.prove().erased == told.events
    left = world.ledger.delivery(id_)
    assert left is not None
    assert (left.state, left.password_state, left.name) == (State.ACCEPTED, PasswordState.DESTROYED, "")
    assert list(world.ledger.history("anna@example.org")) == []


def test_nothing_that_names_them_stays_in_any_table(full: tuple[World, str]) -> None:
    world, _ = full
    world.ledger.forget("anna@example.org", REASON)
    everything = []
    for table in ("person", "certificate", "delivery", "outbox", "handover", "event", "request", "account", "session", "plan"):
        everything += [repr(row) for row in world.sql(f"SELECT * FROM {table}")]  # noqa: S608  names of ours
    text = "\n".join(everything)
    assert [word for word in WORDS if word.decode() in text] == []


def test_nothing_that_names_them_stays_in_the_file_or_its_logs(file_world: World, authority: Authority, tmp_path: Path) -> None:
    write(file_world, authority)
    files = lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("ledger.db"))  # noqa: E731
    assert all(word in files() for word in WORDS)
    assert file_world.ledger.forget("anna@example.org", REASON).compacted
    assert [word for word in WORDS if word in files()] == []


EDITS = [
    "UPDATE person SET name = 'Eve' WHERE key LIKE '%invalid'",
    "UPDATE person SET phone = '1' WHERE key LIKE '%invalid'",
    "UPDATE person SET key = 'eve@example.org', address = 'eve@example.org' WHERE key LIKE '%invalid'",
    "UPDATE delivery SET said = 'x' WHERE id = '{id}'",
    "UPDATE delivery SET locator = '[]' WHERE id = '{id}'",
    "UPDATE delivery SET state = 'installed' WHERE id = '{id}'",
    "UPDATE handover SET state = 'ready' WHERE delivery = '{id}'",
    "UPDATE request SET reason = 'x'",
    "UPDATE request SET answer = 'x'",
    "UPDATE certificate SET subject = 'CN=Eve' WHERE length(der) = 0",
    "UPDATE certificate SET key_sha256 = '00' WHERE length(der) = 0",
    "UPDATE certificate SET not_before = '2020-01-01T00:00:00.000000Z' WHERE length(der) = 0",
    "INSERT INTO account SELECT 'i', 's', id, 'oid', '' FROM person WHERE key LIKE '%invalid'",
]


@pytest.mark.parametrize("statement", EDITS)
def test_what_is_left_of_them_cannot_be_edited_unseen(file_world: World, authority: Authority, statement: str) -> None:
    id_ = write(file_world, authority)
    file_world.ledger.forget("anna@example.org", REASON)
    assert found(file_world, statement.format(id=id_))


def test_bytes_of_a_certificate_that_nobody_erased_are_missed(file_world: World, authority: Authority) -> None:
    write(file_world, authority)
    (finding,) = found(file_world, "UPDATE certificate SET der = x'', subject = '' WHERE subject LIKE '%Quill%'")
    assert finding.endswith("does not match its SHA-256")


def test_whoever_is_planned_again_is_a_new_person_with_the_same_certificate(full: tuple[World, str], authority: Authority) -> None:
    world, id_ = full
    ((der,),) = world.sql("SELECT der FROM certificate WHERE subject LIKE '%Quill%'")
    assert isinstance(der, bytes)
    world.ledger.forget("anna@example.org", REASON)
    info = certificate.info(der)
    assert isinstance(info, CertificateInfo)
    (planned,) = world.ledger.plan("plan-1", [replace(person(authority), leaf=der, facts=info)])
    assert isinstance(planned, Delivery)
    assert (planned.generation, planned.certificate_sha256) == (1, info.sha256)
    assert planned.id != id_
    assert world.sql("SELECT count(*) FROM person WHERE key LIKE 'anna%'") == [(1,)]
    assert world.ledger.verify() == []


@pytest.mark.parametrize("state", ["planned", "queued", "claimed", "transmitting", "ambiguous"])
def test_nobody_is_erased_while_a_delivery_is_under_way(file_world: World, state: str) -> None:
    ways = {"planned": file_world.plan, "queued": file_world.queue, "claimed": file_world.claimed, "transmitting": file_world.armed}
    {**ways, "ambiguous": file_world.ambiguous}[state]("anna")
    with pytest.raises(RequestDenied, match=f"a delivery is still {state}"):
        file_world.ledger.forget("anna@example.org", REASON)
    assert file_world.events()[-1] != "erased"


def test_a_published_certificate_is_unpublished_first(file_world: World) -> None:
    file_world.ledger.note_published(file_world.accepted("anna"), "ldaps://there", "cn=anna")
    with pytest.raises(RequestDenied, match='still published at "ldaps://there"'):
        file_world.ledger.forget("anna@example.org", REASON)


def test_the_reason_must_not_name_whom_it_erases(file_world: World) -> None:
    file_world.accepted("anna")
    with pytest.raises(UsageError, match="the reason names the person"):
        file_world.ledger.forget("anna@example.org", "Anna Example left")
    with pytest.raises(UsageError, match="nobody in the ledger"):
        file_world.ledger.forget("eve@example.org", REASON)
