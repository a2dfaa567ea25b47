"""What services know of messages, in the ledger: whose messages, since when, and what evidence may move."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from distributor.model.attempts import AttemptResult, DraftRef, RecordIntent, TrackingEvent
from distributor.model.delivery import DeliveryFilter, SenderFilter
from distributor.model.states import PasswordState, State
from tests.ledger.world import EVERYTHING, LEASE, ME, World, packed


def queue(world: World, name: str, sender: str) -> str:
    """A queued message of a mailbox; its delivery."""
    (delivery,) = world.plan(name)
    world.ledger.enqueue([replace(packed(delivery.id, to=delivery.address), sender=sender)], ME)
    return delivery.id


def claimed(world: World, senders: SenderFilter) -> list[str]:
    return [claim.message.sender for claim in world.ledger.claim(ME, 10, LEASE, EVERYTHING, senders=senders)]


def test_messages_are_claimed_by_mailbox(world: World) -> None:
    queue(world, "anna", "one@example.org")
    queue(world, "bert", "two@example.org")
    queue(world, "cleo", "gone@example.org")
    assert claimed(world, SenderFilter(only="two@example.org")) == ["two@example.org"]
    assert claimed(world, SenderFilter(without=frozenset({"two@example.org"}))) == ["one@example.org", "gone@example.org"]


def test_the_next_message_due_is_that_of_the_mailbox(world: World) -> None:
    for name, sender, wait in (("anna", "one@example.org", 5), ("bert", "two@example.org", 9)):
        queue(world, name, sender)
        (claim,) = world.ledger.claim(ME, 1, LEASE, EVERYTHING)
        world.ledger.write([AttemptResult(claim, State.DEFERRED, "451", timedelta(minutes=wait))], ME)
    assert world.ledger.next_due(EVERYTHING, SenderFilter(only="two@example.org")) == world.clock.now + timedelta(minutes=9)
    assert world.ledger.next_due(EVERYTHING) == world.clock.now + timedelta(minutes=5)


def test_what_a_mailbox_sent_in_a_day_is_known(world: World) -> None:
    began = world.clock.now
    for name, sender in (("anna", "one@example.org"), ("bert", "two@example.org")):
        queue(world, name, sender)
        (claim,) = world.ledger.claim(ME, 1, LEASE, EVERYTHING)
        world.ledger.write([RecordIntent(claim, LEASE)], ME)
        world.clock.forward(hours=1)
    assert world.ledger.sent_times(began, SenderFilter(only="two@example.org")) == [began + timedelta(hours=1)]
    assert world.ledger.sent_times(began, SenderFilter()) == [began, began + timedelta(hours=1)]
    assert world.ledger.sent_times(began + timedelta(hours=2), SenderFilter()) == []


def test_a_message_is_looked_for_in_its_sender_s_mailbox_also_once_the_outbox_has_it_no_more(world: World) -> None:
    delivery = queue(world, "anna", "one@example.org")
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED)
    world.clock.forward(days=31)
    world.ledger.expire()
    world.clock.forward(hours=7)  # a second command finds the same time
    world.ledger.expire()
    assert world.outbox() == []
    (sought,) = world.ledger.sought(frozenset({State.ACCEPTED}), EVERYTHING)
    assert (sought.delivery, sought.sender) == (delivery, "one@example.org")


def test_a_withdrawn_message_is_looked_for_in_its_sender_s_mailbox(world: World) -> None:
    delivery = queue(world, "anna", "one@example.org")
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED)
    assert world.ledger.observe([TrackingEvent(delivery, State.BOUNCED, "550 5.1.1 nobody", {"kind": "notice"})]) == [State.ACCEPTED]
    world.ledger.withdraw(delivery, "a wrong address")
    (sought,) = world.ledger.sought(frozenset({State.WITHDRAWN}), EVERYTHING)
    assert (sought.delivery, sought.sender) == (delivery, "one@example.org")


def test_a_message_bears_the_message_id_that_the_service_gave_it(world: World) -> None:
    world.queue("anna")
    (claim,) = world.ledger.claim(ME, 1, LEASE, EVERYTHING)
    world.ledger.write([RecordIntent(claim, LEASE, DraftRef("AAMk\n", "<theirs@outlook.example>"))], ME)
    world.ledger.write([AttemptResult(claim, State.AMBIGUOUS, "504")], ME)
    (sought,) = world.ledger.sought(frozenset({State.AMBIGUOUS}), EVERYTHING)
    assert (sought.delivery, sought.message_id, sought.sender) == (claim.id, "<theirs@outlook.example>", "certs@example.org")
    assert (sought.address, sought.state, sought.since) == ("anna@example.org", State.AMBIGUOUS, world.clock.now)
    events = {event.event: event.evidence for event in world.ledger.history("anna@example.org")}
    assert events["transmitting"]["handle"] == "AAMk\\n"


def test_messages_are_sought_by_state_and_scope(world: World) -> None:
    world.accepted("anna")
    world.ambiguous("bert")
    both = frozenset({State.ACCEPTED, State.AMBIGUOUS})
    assert [sought.address for sought in world.ledger.sought(both, EVERYTHING)] == ["anna@example.org", "bert@example.org"]
    assert [sought.address for sought in world.ledger.sought(both, DeliveryFilter(addresses=frozenset({"bert@example.org"})))] == [
        "bert@example.org"
    ]
    assert world.ledger.sought(frozenset({State.REJECTED}), EVERYTHING) == []


def test_evidence_settles_what_was_unclear_and_opens_its_password(world: World) -> None:
    claim = world.ambiguous("anna")
    sighting = TrackingEvent(claim.id, State.ACCEPTED, "found in Sent Items", {"kind": "sent-items", "id": "AAMk"})
    assert world.ledger.observe([sighting, sighting]) == [State.AMBIGUOUS, None]
    delivery = world.ledger.delivery(claim.id)
    assert (delivery.state, delivery.response, delivery.password_state) == (State.ACCEPTED, "found in Sent Items", PasswordState.READY)


def test_a_message_that_was_replaced_is_not_sent_again_by_evidence(world: World) -> None:
    claim = world.ambiguous("anna")
    world.ledger.regenerate(claim.id, "lost phone")
    assert world.ledger.observe([TrackingEvent(claim.id, State.QUEUED, "still a draft", {"kind": "draft"})]) == [None]


def test_evidence_about_messages_that_nobody_knows_changes_nothing(world: World) -> None:
    assert world.ledger.observe([TrackingEvent("d-nobody", State.ACCEPTED, "found", {"kind": "sent-items"})]) == [None]
    assert world.ledger.observe([]) == []
