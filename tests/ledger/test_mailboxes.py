"""What waits for mailboxes, and what left through them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.model.attempts import TrackingEvent
from distributor.model.delivery import ALL_SENDERS, DeliveryFilter, SenderFilter
from distributor.model.states import State
from tests.ledger.test_tracking_results import queue
from tests.ledger.world import EVERYTHING, LEASE, ME, World

ONE, TWO = "one@example.org", "two@example.org"


@pytest.mark.parametrize("state", [State.DEFERRED, State.REJECTED, State.QUEUED])
def test_what_certainly_did_not_leave_does_not_count(world: World, state: State) -> None:
    began = world.clock.now
    claim = world.armed()
    assert world.ledger.sent_times(began, ALL_SENDERS) == [began]
    world.settle(claim, state)
    assert world.ledger.sent_times(began, ALL_SENDERS) == []


@pytest.mark.parametrize("state", [State.ACCEPTED, State.AMBIGUOUS])
def test_what_left_or_may_have_left_counts(world: World, state: State) -> None:
    began = world.clock.now
    world.settle(world.armed(), state)
    assert world.ledger.sent_times(began, ALL_SENDERS) == [began]


def test_each_attempt_counts_by_its_own_outcome(world: World) -> None:
    began = world.clock.now
    claim = world.armed()
    world.settle(claim, State.AMBIGUOUS)
    world.ledger.resolve(claim.id, State.QUEUED, {"kind": "person"})
    for state in (State.QUEUED, State.ACCEPTED):
        world.clock.forward(minutes=1)
        again = world.claim()
        world.arm(again)
        world.settle(again, state)
    assert world.ledger.sent_times(began, ALL_SENDERS) == [began, began + timedelta(minutes=2)]


def test_a_message_whose_certificate_was_revoked_on_its_way_counts_by_its_outcome(world: World) -> None:
    claim = world.armed()
    delivery = world.ledger.delivery(claim.id)
    world.ledger.revoke(delivery.certificate_sha256, "key compromise")
    world.settle(claim, State.DEFERRED)
    assert world.ledger.sent_times(world.clock.now, ALL_SENDERS) == []


def bounced(world: World) -> str:
    """Anna's message, sent by ONE an hour ago."""
    queue(world, "anna", ONE)
    claim = world.claim()
    world.arm(claim)
    world.settle(claim, State.ACCEPTED)
    world.clock.forward(hours=1)
    assert world.ledger.observe([TrackingEvent(claim.id, State.BOUNCED, "550 5.1.1 nobody", {"kind": "notice"})]) == [State.ACCEPTED]
    return claim.id


@pytest.mark.parametrize("senders", [ALL_SENDERS, SenderFilter(only=ONE), SenderFilter(without=frozenset({TWO}))])
def test_a_message_that_bounced_and_was_withdrawn_still_counts(world: World, senders: SenderFilter) -> None:
    began = world.clock.now
    delivery = bounced(world)
    world.ledger.withdraw(delivery, "a wrong address")
    assert world.outbox() == []
    assert world.ledger.sent_times(began, senders) == [began]


def test_a_withdrawn_message_counts_for_its_own_mailbox_only(world: World) -> None:
    began = world.clock.now
    world.ledger.withdraw(bounced(world), "a wrong address")
    for others in (SenderFilter(only=TWO), SenderFilter(only="ne@example.org"), SenderFilter(without=frozenset({TWO, ONE}))):
        assert world.ledger.sent_times(began, others) == []


def test_a_message_counts_after_its_outbox_row_was_removed_for_its_age(world: World) -> None:
    began = world.clock.now
    bounced(world)
    world.sql("DELETE FROM outbox")  # as `expire` does after 30 days
    assert world.ledger.sent_times(began, SenderFilter(only=ONE)) == [began]


def test_a_sender_is_matched_whole_and_by_no_pattern(world: World) -> None:
    began = world.clock.now
    queue(world, "anna", "a_b@example.org")
    world.arm(world.claim())
    assert world.ledger.sent_times(began, SenderFilter(only="a_b@example.org")) == [began]
    for other in ("axb@example.org", "b@example.org", "%", "a_b@example.or"):
        assert world.ledger.sent_times(began, SenderFilter(only=other)) == []


def test_messages_that_wait_are_counted_by_mailbox(world: World) -> None:
    for name, sender in (("anna", ONE), ("bert", TWO), ("cleo", TWO), ("dora", TWO)):
        queue(world, name, sender)
    world.plan("emil")
    assert world.ledger.due(EVERYTHING) == {ONE: 1, TWO: 3}
    assert world.ledger.due(DeliveryFilter(plan="another")) == {}
    claim = world.claim()  # anna's
    assert world.ledger.due(EVERYTHING) == {TWO: 3}
    world.settle(claim, State.DEFERRED, not_before=world.clock.now + timedelta(minutes=5))
    assert world.ledger.due(EVERYTHING) == {TWO: 3}
    assert world.ledger.due(EVERYTHING, early=True) == {ONE: 1, TWO: 3}
    world.clock.forward(minutes=5)
    assert world.ledger.due(EVERYTHING) == {ONE: 1, TWO: 3}


def test_whether_a_message_is_left_for_a_mailbox_is_known(world: World) -> None:
    queue(world, "anna", ONE)
    assert world.ledger.has_pending(EVERYTHING, SenderFilter(only=ONE))
    assert not world.ledger.has_pending(EVERYTHING, SenderFilter(only=TWO))
    assert not world.ledger.has_pending(EVERYTHING, SenderFilter(without=frozenset({ONE})))
    claim = world.claim()
    assert world.ledger.has_pending(EVERYTHING, ALL_SENDERS)  # it may be given back
    world.arm(claim)
    assert not world.ledger.has_pending(EVERYTHING, ALL_SENDERS)
    world.settle(claim, State.DEFERRED, not_before=world.clock.now + timedelta(minutes=5))
    assert not world.ledger.has_pending(EVERYTHING, ALL_SENDERS)
    assert world.ledger.has_pending(EVERYTHING, ALL_SENDERS, early=True)


def test_a_message_that_is_being_packed_may_be_for_any_mailbox(world: World) -> None:
    world.plan("anna")
    assert not world.ledger.has_pending(EVERYTHING, SenderFilter(only=TWO))
    assert world.ledger.lease(ME, 1, LEASE, EVERYTHING)
    assert world.ledger.has_pending(EVERYTHING, SenderFilter(only=TWO))
    assert not world.ledger.has_pending(DeliveryFilter(plan="another"), SenderFilter(only=TWO))
