"""Messages whose fate is unclear, and what those who know say of them: before a run, after it, and on request."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from distributor.errors import ServiceUnavailable
from distributor.model.attempts import Ambiguous, DraftRef, TrackingEvent
from distributor.model.delivery import DeliveryFilter
from distributor.model.states import PasswordState, State
from distributor.workflows.sending.report import SendReport, WaitNotice
from distributor.workflows.tracking import TrackingContext, track
from tests.workflows import outbox
from tests.workflows.scripted import ScriptedTracker, ScriptedTransport, SendHarness

SENT = TrackingEvent("", State.ACCEPTED, "found in Sent Items", {"kind": "sent-items", "id": "AAMk"})
DRAFT = TrackingEvent("", State.QUEUED, "still a draft", {"kind": "draft", "id": "AAMk"})


def cut() -> dict[str, list[Ambiguous]]:
    return {"p1": [Ambiguous("the line was cut")]}


def test_a_run_looks_for_its_own_unclear_messages_after_a_minute(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 2)
    tracker = ScriptedTracker({"p1": SENT})
    assert harness.run(ScriptedTransport(cut(), knows=tracker)) == SendReport(2, 0, 0, 0, 0)
    assert harness.clock.slept == [60.0]
    assert WaitNotice(60.0, "looking for evidence of ambiguous messages") in harness.progress
    assert tracker.asked == ["p1"]
    (delivery,) = harness.ledger.deliveries(DeliveryFilter(addresses=frozenset({"p1@example.org"})))
    assert (delivery.state, delivery.response, delivery.password_state) == (State.ACCEPTED, "found in Sent Items", PasswordState.READY)
    event = list(harness.ledger.history("p1@example.org"))[-1]
    assert (event.event, event.evidence["kind"], event.evidence["id"]) == ("accepted", "sent-items", "AAMk")


def test_what_nobody_knows_of_stays_unclear(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    assert harness.run(ScriptedTransport(cut(), knows=ScriptedTracker())) == SendReport(0, 0, 0, 1, 0)
    assert harness.states() == {"p1": "ambiguous"}


def test_a_message_that_is_still_a_draft_is_due_again_and_the_next_run_sends_it(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    assert harness.run(ScriptedTransport(cut(), knows=ScriptedTracker({"p1": DRAFT}))) == SendReport(0, 0, 0, 0, 1)
    assert harness.states() == {"p1": "queued"}
    transport = ScriptedTransport(knows=ScriptedTracker())
    assert harness.run(transport) == SendReport(1, 0, 0, 0, 0)
    assert [message.attempt for message in transport.sent] == [2]


def test_a_run_begins_with_what_earlier_ones_left_unclear(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 2)
    harness.alive = lambda _: False
    harness.run(ScriptedTransport({"": [Ambiguous("cut"), Ambiguous("cut")]}))
    harness.clock.time += timedelta(minutes=5)
    transport = ScriptedTransport(knows=ScriptedTracker({"p1": SENT, "p2": DRAFT}))
    assert harness.run(transport) == SendReport(2, 0, 0, 0, 0)
    assert [message.address for message in transport.sent] == ["p2@example.org"]


def test_a_draft_is_left_alone_while_its_sender_may_still_send_it(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    harness.run(ScriptedTransport(cut()))
    harness.clock.time += timedelta(minutes=5)
    harness.alive = lambda _: True
    assert harness.run(ScriptedTransport(knows=ScriptedTracker({"p1": DRAFT}))).accepted == 0
    assert harness.states() == {"p1": "ambiguous"}


def test_nobody_is_asked_too_early(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    harness.run(ScriptedTransport(cut()))
    harness.clock.time += timedelta(seconds=30)
    tracker = ScriptedTracker({"p1": SENT})
    harness.run(ScriptedTransport(knows=tracker))
    assert tracker.asked == []


def test_the_name_that_a_service_gave_a_message_is_in_the_ledger_before_it_goes(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    harness.run(ScriptedTransport(draft_ref=DraftRef("AAMkAD", "<theirs@outlook.example>")))
    (delivery,) = harness.ledger.deliveries(DeliveryFilter())
    assert delivery.message_id == "<theirs@outlook.example>"
    (armed,) = [event for event in harness.ledger.history("p1@example.org") if event.event == "transmitting"]
    assert (armed.evidence["handle"], armed.evidence["message_id"]) == ("AAMkAD", "<theirs@outlook.example>")


def test_one_who_cannot_be_asked_does_not_silence_the_others(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 2)
    harness.run(ScriptedTransport({"": [Ambiguous("cut"), Ambiguous("cut")]}))
    harness.clock.time += timedelta(minutes=5)
    down = ServiceUnavailable("403")
    looking = TrackingContext(harness.ledger, lambda _: False, harness.clock.now, timedelta(minutes=10), asyncio.to_thread)
    trackers = [
        ScriptedTracker({"p1": SENT, "p2": down}),
        ScriptedTracker({"p2": TrackingEvent("", State.DELIVERED, "delivered", {"kind": "message-trace"})}),
    ]
    found = asyncio.run(track(looking, trackers, DeliveryFilter(), frozenset({State.AMBIGUOUS})))
    assert found.errors == (down,)
    assert [(moved.address[:2], moved.before, moved.after) for moved in found.moved] == [
        ("p1", State.AMBIGUOUS, State.ACCEPTED),
        ("p2", State.AMBIGUOUS, State.DELIVERED),
    ]
    assert harness.states() == {"p1": "accepted", "p2": "delivered"}


def test_evidence_moves_a_message_forward_only(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    harness.run(ScriptedTransport())
    (delivery,) = harness.ledger.deliveries(DeliveryFilter())

    def seen(state: State) -> TrackingEvent:
        return TrackingEvent(delivery.id, state, "the trace says so", {"kind": "message-trace"})

    assert harness.ledger.observe([seen(State.QUEUED), seen(State.DELIVERED), seen(State.ACCEPTED), seen(State.BOUNCED)]) == [
        None,
        State.ACCEPTED,
        None,
        State.DELIVERED,
    ]
    assert harness.states() == {"p1": "bounced"}
