"""Messages whose fate is unclear, and what those who know say of them: before a run, after it, and on request."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from distributor.errors import ServiceUnavailable
from distributor.model.delivery import Ambiguous, DeliveryFilter, DraftRef, TrackingEvent
from distributor.model.states import PasswordState, State
from distributor.workflows.sending.report import SendReport, WaitNotice
from distributor.workflows.tracking import TrackingContext, track
from tests.workflows import messages as letters
from tests.workflows.script import House, Knowing, Script

SENT = TrackingEvent("", State.ACCEPTED, "found in Sent Items", {"kind": "sent-items", "id": "AAMk"})
DRAFT = TrackingEvent("", State.QUEUED, "still a draft", {"kind": "draft", "id": "AAMk"})


def cut() -> dict[str, list[Ambiguous]]:
    return {"p1": [Ambiguous("the line was cut")]}


def test_a_run_looks_for_its_own_unclear_messages_after_a_minute(house: House) -> None:
    letters.queue(house.ledger, 2)
    tracker = Knowing({"p1": SENT})
    assert house.run(Script(cut(), knows=tracker)) == SendReport(2, 0, 0, 0, 0)
    assert house.clock.slept == [60.0]
    assert WaitNotice(60.0, "messages whose fate is unclear are looked for") in house.told
    assert tracker.asked == ["p1"]
    (delivery,) = house.ledger.deliveries(DeliveryFilter(address="p1@example.org"))
    assert (delivery.state, delivery.response, delivery.password_state) == (State.ACCEPTED, "found in Sent Items", PasswordState.READY)
    event = list(house.ledger.history("p1@example.org"))[-1]
    assert (event.event, event.evidence["kind"], event.evidence["id"]) == ("accepted", "sent-items", "AAMk")


def test_what_nobody_knows_of_stays_unclear(house: House) -> None:
    letters.queue(house.ledger, 1)
    assert house.run(Script(cut(), knows=Knowing())) == SendReport(0, 0, 0, 1, 0)
    assert house.states() == {"p1": "ambiguous"}


def test_a_message_that_is_still_a_draft_is_due_again_and_the_next_run_sends_it(house: House) -> None:
    letters.queue(house.ledger, 1)
    assert house.run(Script(cut(), knows=Knowing({"p1": DRAFT}))) == SendReport(0, 0, 0, 0, 1)
    assert house.states() == {"p1": "queued"}
    road = Script(knows=Knowing())
    assert house.run(road) == SendReport(1, 0, 0, 0, 0)
    assert [message.attempt for message in road.sent] == [2]


def test_a_run_begins_with_what_earlier_ones_left_unclear(house: House) -> None:
    letters.queue(house.ledger, 2)
    house.alive = lambda _: False
    house.run(Script({"": [Ambiguous("cut"), Ambiguous("cut")]}))
    house.clock.time += timedelta(minutes=5)
    road = Script(knows=Knowing({"p1": SENT, "p2": DRAFT}))
    assert house.run(road) == SendReport(2, 0, 0, 0, 0)
    assert [message.address for message in road.sent] == ["p2@example.org"]


def test_a_draft_is_left_alone_while_its_sender_may_still_send_it(house: House) -> None:
    letters.queue(house.ledger, 1)
    house.run(Script(cut()))
    house.clock.time += timedelta(minutes=5)
    house.alive = lambda _: True
    assert house.run(Script(knows=Knowing({"p1": DRAFT}))).accepted == 0
    assert house.states() == {"p1": "ambiguous"}


def test_nobody_is_asked_too_early(house: House) -> None:
    letters.queue(house.ledger, 1)
    house.run(Script(cut()))
    house.clock.time += timedelta(seconds=30)
    tracker = Knowing({"p1": SENT})
    house.run(Script(knows=tracker))
    assert tracker.asked == []


def test_the_name_that_a_service_gave_a_message_is_in_the_ledger_before_it_goes(house: House) -> None:
    letters.queue(house.ledger, 1)
    house.run(Script(handle=DraftRef("AAMkAD", "<theirs@outlook.example>")))
    (delivery,) = house.ledger.deliveries(DeliveryFilter())
    assert delivery.message_id == "<theirs@outlook.example>"
    (armed,) = [event for event in house.ledger.history("p1@example.org") if event.event == "transmitting"]
    assert (armed.evidence["handle"], armed.evidence["message_id"]) == ("AAMkAD", "<theirs@outlook.example>")


def test_one_who_cannot_be_asked_does_not_silence_the_others(house: House) -> None:
    letters.queue(house.ledger, 2)
    house.run(Script({"": [Ambiguous("cut"), Ambiguous("cut")]}))
    house.clock.time += timedelta(minutes=5)
    down = ServiceUnavailable("403")
    looking = TrackingContext(house.ledger, lambda _: False, house.clock.now, timedelta(minutes=10), asyncio.to_thread)
    trackers = [
        Knowing({"p1": SENT, "p2": down}),
        Knowing({"p2": TrackingEvent("", State.DELIVERED, "delivered", {"kind": "message-trace"})}),
    ]
    found = asyncio.run(track(looking, trackers, DeliveryFilter(), frozenset({State.AMBIGUOUS})))
    assert found.errors == (down,)
    assert [(moved.address[:2], moved.before, moved.after) for moved in found.moved] == [
        ("p1", State.AMBIGUOUS, State.ACCEPTED),
        ("p2", State.AMBIGUOUS, State.DELIVERED),
    ]
    assert house.states() == {"p1": "accepted", "p2": "delivered"}


def test_evidence_moves_a_message_forward_only(house: House) -> None:
    letters.queue(house.ledger, 1)
    house.run(Script())
    (delivery,) = house.ledger.deliveries(DeliveryFilter())

    def seen(state: State) -> TrackingEvent:
        return TrackingEvent(delivery.id, state, "the trace says so", {"kind": "message-trace"})

    assert house.ledger.observe([seen(State.QUEUED), seen(State.DELIVERED), seen(State.ACCEPTED), seen(State.BOUNCED)]) == [
        None,
        State.ACCEPTED,
        None,
        State.DELIVERED,
    ]
    assert house.states() == {"p1": "bounced"}
