"""Somebody edits a letter in the outbox, or the person it is for; it is never claimed, and the words say what to do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.core.deliveries import Arm
from distributor.core.outcomes import Handle
from distributor.core.states import State
from distributor.errors import Unusable
from tests.ledger.world import EVERYTHING, LEASE, ME, World, packed

TAMPERING = {
    "letter's address": "UPDATE outbox SET address = 'evil@evil.example'",
    "letter's sender": "UPDATE outbox SET sender = 'evil@evil.example'",
    "letter's message_id": "UPDATE outbox SET message_id = '<x@y>'",
    "letter's message": "UPDATE outbox SET message = (SELECT sealed FROM handover)",
    "person's address": "UPDATE person SET address = 'evil@evil.example'",
    "message_id": "UPDATE delivery SET message_id = '<x@y>'",
}


def refusal(world: World) -> Unusable:
    """Why nothing is claimed."""
    world.spoiled = True
    with pytest.raises(Unusable) as caught:
        world.ledger.claim(ME, 10, LEASE, EVERYTHING)
    return caught.value


@pytest.mark.parametrize(("field", "statement"), TAMPERING.items(), ids=TAMPERING)
def test_a_letter_that_was_edited_is_not_claimed(world: World, field: str, statement: str) -> None:
    (id_,) = world.queue("anna")
    world.sql(statement)
    error = refusal(world)
    assert (error.exit_code, error.where) == (3, id_)
    assert error.message == f"the ledger was changed from outside ({field}), so this letter is not sent"
    assert error.hint is not None
    assert "distributor audit verify" in error.hint
    assert f"distributor withdraw {id_} --reason TEXT" in error.hint
    assert world.state(id_) is State.QUEUED


def test_a_message_that_became_text_is_refused_in_words(file_world: World) -> None:
    file_world.queue("anna")
    file_world.sql("UPDATE outbox SET message = CAST(message AS TEXT)")
    assert "(letter's message)" in refusal(file_world).message


def test_a_letter_with_address_and_person_edited_alike_is_not_claimed(world: World) -> None:
    world.queue("anna")
    world.sql(
        "UPDATE outbox SET address = 'evil@evil.example'", "UPDATE person SET address = 'evil@evil.example', key = 'evil@evil.example'"
    )
    assert "letter's address, person's address" in refusal(world).message


def test_a_letter_frozen_for_somebody_edited_in_before_is_not_claimed(world: World) -> None:
    (anna,) = world.plan("anna")
    world.sql("UPDATE person SET address = 'evil@evil.example', key = 'evil@evil.example'")
    assert world.ledger.store([packed(anna.id)], ME) == [True]
    assert "letter's address" in refusal(world).message


def test_with_events_erased_the_person_still_says_whose_letter_it_is(world: World) -> None:
    world.queue("anna")
    world.sql("UPDATE event SET personal = NULL, salt = NULL")
    world.sql("UPDATE outbox SET address = 'evil@evil.example'")
    assert "(letter's address)" in refusal(world).message
    world.sql("UPDATE outbox SET address = 'anna@example.org'")
    assert len(world.ledger.claim(ME, 1, LEASE, EVERYTHING)) == 1


def test_once_it_is_withdrawn_the_others_go(world: World) -> None:
    anna, bert = world.queue("anna", "bert")
    world.sql(f"UPDATE outbox SET address = 'evil@evil.example' WHERE delivery = '{anna}'")  # noqa: S608  tampering is the point
    refusal(world)
    world.ledger.withdraw(anna, "somebody edited it")
    assert world.claim().parcel.delivery == bert
    assert world.ledger.verify() == []


def test_an_address_that_a_later_roster_spells_otherwise_is_no_tampering(world: World) -> None:
    world.queue("anna")
    world.sql("UPDATE person SET address = 'Anna@example.org'")
    assert world.claim().parcel.address == "anna@example.org"


def test_a_letter_that_a_service_gave_a_message_id_of_its_own_goes_again(world: World) -> None:
    claim = world.claimed()
    world.ledger.write([Arm(claim, timedelta(minutes=10), Handle("draft-1", "<of-a-service@example.org>"))], ME)
    assert world.settle(claim, State.QUEUED, said="429 slow down")
    assert world.claim().parcel.message_id == "<of-a-service@example.org>"
