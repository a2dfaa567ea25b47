"""Somebody edits a message in the outbox, or the person it is for; it is never claimed, and the words say what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from distributor.errors import InvalidInput
from distributor.ledger import packing, planning
from distributor.ledger.transaction import NewEvent
from distributor.model.attempts import DraftRef, RecordIntent
from distributor.model.audit_log import canonical, commit
from distributor.model.delivery import ExistingDelivery
from distributor.model.states import State
from tests.ledger.world import EVERYTHING, LEASE, ME, World, lifted, packed, spelled

TAMPERING = {
    "outbox address": "UPDATE outbox SET address = 'evil@evil.example'",
    "outbox sender": "UPDATE outbox SET sender = 'evil@evil.example'",
    "outbox message_id": "UPDATE outbox SET message_id = '<x@y>'",
    "outbox message": "UPDATE outbox SET message = (SELECT sealed FROM handover)",
    "person's address": "UPDATE person SET address = 'evil@evil.example'",
    "message_id": "UPDATE delivery SET message_id = '<x@y>'",
    "state": "UPDATE delivery SET state = 'deferred'",
    "password's sealed": "UPDATE handover SET sealed = (SELECT message FROM outbox)",
    "password": "DELETE FROM handover",
    "password's state, password's sealed": "UPDATE handover SET state = 'destroyed', sealed = NULL",
    "password's lasts": "UPDATE handover SET lasts = 1",
}


def refusal(world: World) -> InvalidInput:
    """Why nothing is claimed."""
    world.spoiled = True
    with pytest.raises(InvalidInput) as caught:
        world.ledger.claim(ME, 10, LEASE, EVERYTHING)
    return caught.value


def refused_to_pack(world: World) -> InvalidInput:
    """Why nothing is lent to a packer."""
    world.spoiled = True
    with pytest.raises(InvalidInput) as caught:
        world.ledger.lease(ME, 10, LEASE, EVERYTHING)
    return caught.value


@pytest.mark.parametrize(("field", "statement"), TAMPERING.items(), ids=TAMPERING)
def test_a_message_that_was_edited_is_not_claimed(world: World, field: str, statement: str) -> None:
    (id_,) = world.queue("anna")
    world.sql(statement)
    state = world.state(id_)
    error = refusal(world)
    assert (error.exit_code, error.where) == (3, id_)
    assert error.message == f"the ledger was modified outside distributor ({field}); this message is not sent"
    assert error.hint is not None
    assert "distributor audit verify" in error.hint
    assert f"distributor withdraw {id_} --reason TEXT" in error.hint
    assert world.state(id_) is state


@pytest.mark.parametrize("state", ["planned", "queued", "deferred"])
def test_a_message_that_was_accepted_is_not_sent_again_because_somebody_says_that_it_waits(world: World, state: str) -> None:
    id_ = world.accepted()
    world.sql(f"UPDATE delivery SET state = '{state}'")  # noqa: S608  tampering is the point
    error = refused_to_pack(world) if state == "planned" else refusal(world)
    assert (error.exit_code, error.where) == (3, id_)
    assert error.message.startswith("the ledger was modified outside distributor (state")
    assert error.hint is not None
    assert f"distributor withdraw {id_} --reason TEXT" in error.hint
    world.ledger.withdraw(id_, "somebody edited it")
    assert world.ledger.lease(ME, 10, LEASE, EVERYTHING) == []
    assert world.ledger.claim(ME, 10, LEASE, EVERYTHING) == []


@pytest.mark.parametrize("state", ["claimed", "ambiguous"])
def test_a_message_that_was_accepted_is_not_sent_again_by_a_detour(world: World, state: str) -> None:
    """Somebody says that its sender died, or that nobody knows; an event is then written that frees it."""
    id_ = world.accepted()
    world.sql(f"UPDATE delivery SET state = '{state}', owner = 'me', lease_until = '2020-01-01T00:00:00.000000Z'")  # noqa: S608
    if state == "claimed":
        world.ledger.recover(lambda _: False)
    else:
        world.ledger.resolve(id_, State.QUEUED, {"kind": "person", "reason": "she says so"})
    assert world.state(id_) is State.QUEUED
    assert "(state" in refusal(world).message


def test_a_message_that_became_text_is_refused_in_words(file_world: World) -> None:
    file_world.queue("anna")
    file_world.sql("UPDATE outbox SET message = CAST(message AS TEXT)")
    assert "(outbox message)" in refusal(file_world).message


def test_a_message_with_address_and_person_edited_alike_is_not_claimed(world: World) -> None:
    world.queue("anna")
    world.sql(
        "UPDATE outbox SET address = 'evil@evil.example'", "UPDATE person SET address = 'evil@evil.example', key = 'evil@evil.example'"
    )
    assert "outbox address, person's address" in refusal(world).message


def test_a_message_is_not_frozen_for_somebody_who_was_edited_in_after_it_was_made(world: World) -> None:
    (anna,) = world.plan("anna")
    world.sql("UPDATE person SET address = 'evil@evil.example', key = 'evil@evil.example'")
    world.spoiled = True
    with pytest.raises(InvalidInput, match=r"modified outside distributor \(person's address\)"):
        world.ledger.enqueue([packed(anna.id)], ME)
    assert world.state(anna.id) is State.PLANNED


def test_a_message_frozen_for_somebody_edited_in_before_is_not_claimed(world: World) -> None:
    (anna,) = world.plan("anna")
    world.sql("UPDATE person SET address = 'evil@evil.example', key = 'evil@evil.example'")
    assert world.ledger.enqueue([packed(anna.id, to="evil@evil.example")], ME) == [True]
    assert "outbox address" in refusal(world).message


@pytest.mark.parametrize(
    "header",
    ["", "Cc: evil@evil.example\r\nTo: anna@example.org", "To: anna@example.org, evil@evil.example", "To: bert@example.org"],
    ids=["none", "a copy", "two", "another"],
)
def test_bytes_that_name_another_recipient_than_the_envelope_are_not_frozen(world: World, header: str) -> None:
    (anna,) = world.plan("anna")
    waiting = packed(anna.id)
    message = waiting.message.replace(b"To: anna@example.org", header.encode())
    world.spoiled = True
    with pytest.raises(InvalidInput):
        world.ledger.enqueue([replace(waiting, message=message)], ME)


def test_a_message_whose_recipient_in_the_bytes_is_not_its_envelope_s_is_not_claimed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (anna,) = world.plan("anna")
    with monkeypatch.context() as older:
        older.setattr(packing, "recipient", lambda _: "anna@example.org")  # a program that did not look
        world.ledger.enqueue([packed(anna.id, to="evil@evil.example")], ME)
    assert "(outbox To)" in refusal(world).message


ERASED = "UPDATE event SET personal = NULL, salt = NULL"
EVE = (
    "UPDATE outbox SET address = 'eve@example.org'",
    "UPDATE person SET address = 'eve@example.org', key = 'eve@example.org'",
)


@pytest.mark.parametrize("further", [(), EVE], ids=["only that", "and another person edited in"])
@pytest.mark.parametrize("which", ["", " WHERE event = 'planned'", " WHERE event = 'queued'"], ids=["all", "planned", "queued"])
def test_nothing_is_claimed_whose_events_no_longer_say_for_whom_it_is(world: World, which: str, further: tuple[str, ...]) -> None:
    (anna,) = world.queue("anna")
    world.sql(ERASED + which, *further)
    assert "personal fields of its events" in refusal(world).message
    world.ledger.withdraw(anna, "somebody erased who it is for")
    assert world.ledger.claim(ME, 1, LEASE, EVERYTHING) == []


def test_nothing_is_packed_whose_events_no_longer_say_for_whom_it_is(world: World) -> None:
    (anna,) = world.plan("anna")
    world.sql(ERASED, "UPDATE person SET address = 'eve@example.org', key = 'eve@example.org'")
    assert "personal fields of its events" in refused_to_pack(world).message
    world.ledger.withdraw(anna.id, "somebody erased who it is for")
    assert world.ledger.lease(ME, 10, LEASE, EVERYTHING) == []


def test_an_event_that_was_rewritten_together_with_its_commitment_is_not_believed(world: World) -> None:
    """With salt, personal fields and commitment exchanged alike, only the event's own hash still tells."""
    world.plan("anna")
    personal = canonical({"address": "eve@example.org", "name": "Anna Example"})
    forged = f"personal = '{personal}', salt = '{'00' * 16}', commitment = '{commit('00' * 16, personal)}'"
    lift, lay = lifted(world)
    world.sql(*lift, f"UPDATE event SET {forged} WHERE event = 'planned'", *lay, EVE[1])  # noqa: S608  tampering is the point
    assert "(event 1" in refused_to_pack(world).message


def test_an_event_that_was_removed_or_told_a_second_time_is_missed(world: World) -> None:
    world.queue("anna")
    lift, lay = lifted(world)
    world.sql(*lift, "UPDATE event SET event = 'noted', \"after\" = NULL WHERE seq = 1", *lay)
    assert "its events" in refusal(world).message


# --- a planned delivery pointed elsewhere ----------------------------------------------------------------------------

POINTED = {
    "certificate": "UPDATE delivery SET certificate = (SELECT certificate FROM delivery WHERE id = '{bert}'), generation = 2",
    "locator": "UPDATE delivery SET locator = (SELECT locator FROM delivery WHERE id = '{bert}')",
    "person's address": "UPDATE delivery SET person = (SELECT person FROM delivery WHERE id = '{bert}')",
    "plan": "UPDATE delivery SET plan = 'plan-2'",
    "language": "UPDATE delivery SET language = 'fr'",
}


@pytest.mark.parametrize(("field", "statement"), POINTED.items(), ids=POINTED)
@pytest.mark.parametrize("frozen", [False, True], ids=["planned", "queued"])
def test_a_delivery_that_was_pointed_elsewhere_is_neither_packed_nor_claimed(
    world: World, field: str, statement: str, *, frozen: bool
) -> None:
    world.ledger.begin_plan("plan-2", {"sources": ["/evil"]})
    (bert,) = world.plan("bert")
    world.ledger.withdraw(bert.id, "only its row is needed")
    anna = world.queue("anna")[0] if frozen else world.plan("anna")[0].id
    world.sql(f"{statement.format(bert=bert.id)} WHERE id = '{anna}'")
    error = refusal(world) if frozen else refused_to_pack(world)
    assert (error.exit_code, error.where) == (3, anna)
    assert field in error.message
    world.ledger.withdraw(anna, "somebody edited it")


BYTES = {
    "plan's inputs": 'UPDATE plan SET inputs = \'{"sources": ["/evil"]}\'',
    "certificate's chain": "UPDATE certificate SET chain = '[]'",
    "certificate's serial": "UPDATE certificate SET serial = '00'",
    "certificate": "UPDATE certificate SET der = (SELECT der FROM authority ORDER BY sha256 LIMIT 1)",
}


@pytest.mark.parametrize(("field", "statement"), BYTES.items(), ids=BYTES)
def test_what_a_message_is_made_from_is_compared_with_what_was_planned(world: World, field: str, statement: str) -> None:
    world.plan("anna")
    world.sql(statement)
    assert f"({field})" in refused_to_pack(world).message


@pytest.mark.parametrize("statement", ["UPDATE authority SET der = (SELECT der FROM certificate LIMIT 1)", "DELETE FROM authority"])
def test_authorities_that_are_other_ones_do_not_reach_a_package(world: World, statement: str) -> None:
    world.plan("anna")
    world.sql(statement)
    assert "(certificate's chain)" in refused_to_pack(world).message


def test_what_older_programs_did_not_tell_stops_no_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(planning.PlannedDelivery, "note", older_note)
        world.plan("anna")
    world.sql('UPDATE delivery SET locator = \'{"form": "pkcs12", "parts": [["/moved.pfx", null, "00"]]}\'')
    (lent,) = world.ledger.lease(ME, 10, LEASE, EVERYTHING)
    assert world.ledger.enqueue([packed(lent.id)], ME) == [True]
    assert world.claim().message.delivery == lent.id
    assert world.ledger.verify() == []


def older_note(new: planning.PlannedDelivery) -> NewEvent:
    """A first event as it was before."""
    fields = ("plan", "generation", "language", "certificate_sha256", "certificate_serial", "certificate_issuer", "certificate_not_after")
    note = note_of(new)
    personal = {name: note.personal[name] for name in ("address", "name")}
    return replace(note, evidence={name: note.evidence[name] for name in fields}, personal=personal)


note_of = planning.PlannedDelivery.note


def test_once_it_is_withdrawn_the_others_go(world: World) -> None:
    anna, bert = world.queue("anna", "bert")
    world.sql(f"UPDATE outbox SET address = 'evil@evil.example' WHERE delivery = '{anna}'")  # noqa: S608  tampering is the point
    refusal(world)
    world.ledger.withdraw(anna, "somebody edited it")
    assert world.claim().message.delivery == bert
    assert world.ledger.verify() == []


def test_an_address_that_a_later_roster_spells_otherwise_is_no_tampering(world: World) -> None:
    world.queue("anna")
    (known,) = world.ledger.plan("plan-1", [spelled("anna", "Anna")])
    assert isinstance(known, ExistingDelivery)
    assert world.claim().message.address == "anna@example.org"


def test_a_message_that_a_service_gave_a_message_id_of_its_own_goes_again(world: World) -> None:
    claim = world.claimed()
    world.ledger.write([RecordIntent(claim, timedelta(minutes=10), DraftRef("draft-1", "<of-a-service@example.org>"))], ME)
    assert world.settle(claim, State.QUEUED, response="429 slow down")
    assert world.claim().message.message_id == "<of-a-service@example.org>"
