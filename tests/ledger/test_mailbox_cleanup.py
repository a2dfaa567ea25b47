"""What messages leave in mailboxes, as their events tell it: copies of those that left, drafts of those that will not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.ledger import mailbox_cleanup
from distributor.model.attempts import Claim, DraftRef, RecordIntent, TrackingEvent
from distributor.model.delivery import DeliveryFilter
from distributor.model.mailbox_cleanup import CleanupEvent
from distributor.model.states import State
from tests.ledger.world import EVERYTHING, LEASE, ME, World

FIRST, SECOND = DraftRef("AAkALg-1", "<theirs@outlook.example>"), DraftRef("AAkALg-2", "<theirs@outlook.example>")


def armed(world: World, name: str = "anna", handle: DraftRef | None = FIRST) -> Claim:
    claim = world.claimed(name)
    assert world.ledger.write([RecordIntent(claim, timedelta(minutes=10), handle)], ME) == [True]
    return claim


def sent(world: World, name: str = "anna", handle: DraftRef | None = FIRST) -> str:
    claim = armed(world, name, handle)
    assert world.settle(claim, State.ACCEPTED, response="202 Accepted")
    return claim.id


def test_a_message_that_left_may_have_a_copy_until_it_is_known_to_be_gone(world: World) -> None:
    began = world.clock.now
    delivery = sent(world)
    (message,) = world.ledger.copies()
    assert (message.delivery, message.message_id, message.sender) == (delivery, FIRST.message_id, "certs@example.org")
    assert (message.response, message.first, message.last, message.handles) == ("202 Accepted", began, began, (FIRST,))
    world.ledger.note_cleared([delivery], CleanupEvent.COPY_REMOVED)
    assert world.ledger.copies() == []
    assert world.events()[-1] == "copy-removed"


def test_it_is_written_down_once(world: World) -> None:
    delivery = sent(world)
    world.ledger.note_cleared([delivery, delivery], CleanupEvent.COPY_NOT_FOUND)
    world.another().note_cleared([delivery], CleanupEvent.COPY_REMOVED)
    world.ledger.note_cleared([delivery], CleanupEvent.DRAFT_NOT_FOUND)
    assert world.events()[-2:] == ["copy-not-found", "draft-not-found"]


def test_the_first_and_the_last_attempt_are_told_apart(world: World) -> None:
    began, claim = world.clock.now, armed(world)
    assert world.settle(claim, State.QUEUED, response="429")
    world.clock.forward(hours=3)
    (again,) = world.ledger.claim(ME, 1, LEASE, EVERYTHING)
    assert world.ledger.write([RecordIntent(again, timedelta(minutes=10), SECOND)], ME) == [True]
    assert world.settle(again, State.ACCEPTED, response="202 Accepted")
    (message,) = world.ledger.copies()
    assert (message.first, message.last, message.handles) == (began, began + timedelta(hours=3), (FIRST, SECOND))


@pytest.mark.parametrize("state", [State.DELIVERED, State.BOUNCED])
def test_a_later_state_of_a_message_changes_nothing_about_its_copy(world: World, state: State) -> None:
    delivery = sent(world)
    assert world.ledger.observe([TrackingEvent(delivery, state, "the trace says so", {"kind": "message-trace"})]) == [State.ACCEPTED]
    assert [message.delivery for message in world.ledger.copies()] == [delivery]
    if state is State.BOUNCED:
        world.ledger.withdraw(delivery, "left the company")
        assert [message.delivery for message in world.ledger.copies()] == [delivery]


def test_a_message_that_did_not_leave_or_is_unclear_has_no_copy_to_be_removed(world: World) -> None:
    unclear = armed(world)
    assert world.settle(unclear, State.AMBIGUOUS)
    rejected = armed(world, "bert")
    assert world.settle(rejected, State.REJECTED)
    world.queue("cleo")
    assert world.ledger.copies() == []
    world.ledger.resolve(unclear.id, State.ACCEPTED, {"kind": "person", "reason": "the mailbox has it"})
    assert [message.delivery for message in world.ledger.copies()] == [unclear.id]


def test_a_page_is_not_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_cleanup, "PAGE", 2)
    monkeypatch.setattr(mailbox_cleanup, "COPIES", mailbox_cleanup.COPIES.limit(2))
    ids = [sent(world, name) for name in ("anna", "bert", "cleo", "dora")]
    assert [message.delivery for message in world.ledger.copies()] == ids


# --- drafts ----------------------------------------------------------------------------------------------------------


def test_the_draft_of_a_withdrawn_message_is_told_until_it_is_gone(world: World) -> None:
    claim = armed(world)
    assert world.settle(claim, State.QUEUED, response="403")
    assert world.ledger.drafts() == []
    world.ledger.withdraw(claim.id, "left the company")
    (message,) = world.ledger.drafts()
    assert (message.delivery, message.sender, message.handles) == (claim.id, "certs@example.org", (FIRST,))
    world.ledger.note_cleared([claim.id], CleanupEvent.DRAFT_REMOVED)
    assert world.ledger.drafts() == []


def test_a_message_that_was_replaced_before_it_left_is_one_of_them(world: World) -> None:
    claim = armed(world)
    assert world.settle(claim, State.QUEUED, response="403")
    world.ledger.regenerate(claim.id, "asked again")
    assert [message.delivery for message in world.ledger.drafts()] == [claim.id]


def test_a_message_that_was_refused_for_good_is_one_too(world: World) -> None:
    claim = armed(world)
    assert world.settle(claim, State.REJECTED, response="400")
    assert [message.delivery for message in world.ledger.drafts()] == [claim.id]


def test_a_replaced_message_that_is_unclear_waits_an_hour(world: World) -> None:
    claim = armed(world)
    assert world.settle(claim, State.AMBIGUOUS, response="504")
    world.clock.forward(minutes=10)
    assert world.ledger.drafts() == []  # not replaced: its draft may go yet
    world.ledger.regenerate(claim.id, "asked again")
    assert world.ledger.drafts() == []
    world.clock.forward(minutes=55)
    assert [message.delivery for message in world.ledger.drafts()] == [claim.id]


def test_a_message_without_a_draft_leaves_none(world: World) -> None:
    claim = armed(world, handle=None)
    assert world.settle(claim, State.QUEUED, response="403")
    world.ledger.withdraw(claim.id, "left the company")
    assert world.ledger.drafts() == []


# --- what a claim knows of it ----------------------------------------------------------------------------------------


def test_a_sender_that_had_drafts_is_known(world: World) -> None:
    sent(world, handle=None)
    assert not world.ledger.drafted("certs@example.org")
    sent(world, "bert")
    assert world.ledger.drafted("certs@example.org")
    assert not world.ledger.drafted("other@example.org")


def test_a_draft_of_a_message_that_was_withdrawn_is_known_to_its_sender(world: World) -> None:
    claim = armed(world)
    world.settle(claim, State.QUEUED, response="429")
    world.ledger.withdraw(claim.id, "left the company")
    assert world.ledger.drafted("certs@example.org")
    assert not world.ledger.drafted("other@example.org")


def test_a_message_that_goes_again_bears_the_draft_that_it_was_armed_with(world: World) -> None:
    claim = armed(world)
    assert claim.message.draft is None
    assert world.settle(claim, State.QUEUED, response="429")
    second = world.claim()
    assert (second.message.attempt, second.message.draft) == (2, FIRST.id)
    assert world.ledger.write([RecordIntent(second, timedelta(minutes=10), SECOND)], ME) == [True]
    assert world.settle(second, State.AMBIGUOUS, response="504")
    assert [message.draft for message in world.ledger.sought(frozenset({State.AMBIGUOUS}), DeliveryFilter())] == [SECOND.id]
    found = TrackingEvent(second.id, State.QUEUED, "still a draft", {"kind": "draft", "id": SECOND.id})
    assert world.ledger.observe([found]) == [State.AMBIGUOUS]
    assert world.claim().message.draft == SECOND.id


def test_a_person_who_says_that_it_did_not_leave_says_that_of_its_draft(world: World) -> None:
    claim = armed(world)
    assert world.settle(claim, State.AMBIGUOUS, response="504")
    world.ledger.resolve(claim.id, State.QUEUED, {"kind": "person", "reason": "it is nowhere"})
    assert world.claim().message.draft is None
