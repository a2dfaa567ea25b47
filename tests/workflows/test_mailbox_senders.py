"""Several mailboxes side by side: each with its own pace, day and walls; a person's messages stay with one."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from distributor.errors import ServiceUnavailable
from distributor.mail.message import Mailbox
from distributor.model.delivery import Accepted, NotSent, OutboundMessage, Outcome
from distributor.model.people import Address
from distributor.model.states import State
from distributor.workflows.message_factory import sender_of
from distributor.workflows.sending.report import EarlyStop, SendReport
from tests.workflows import messages as letters
from tests.workflows.script import House, Script

BOXES = ("certificates@example.org", "certificates2@example.org", "certificates3@example.org")


def by_sender(road: Script) -> Counter[str]:
    return Counter(message.sender for message in road.sent)


def test_each_mailbox_carries_its_own_messages_in_lanes_of_its_own(house: House) -> None:
    letters.queue(house.ledger, 12, senders=BOXES)
    road = Script(max_connections=2)
    assert house.run(road, senders=BOXES) == SendReport(12, 0, 0, 0, 0)
    assert by_sender(road) == dict.fromkeys(BOXES, 4)
    assert Counter(road.lanes_of) == dict.fromkeys(BOXES, 2)


def test_each_mailbox_has_a_pace_of_its_own(house: House) -> None:
    letters.queue(house.ledger, 3)
    house.run(Script(per_minute=30), senders=BOXES[:1])
    assert house.clock.slept == [2.0, 2.0]
    letters.plan(house.ledger, 3, first=4)
    letters.pack(house.ledger, senders=BOXES)
    house.clock.slept.clear()
    house.clock.time += timedelta(minutes=1)
    assert house.run(Script(per_minute=30), senders=BOXES).accepted == 3
    assert house.clock.slept == []


def test_messages_of_a_mailbox_that_is_named_no_more_go_by_the_first(house: House) -> None:
    letters.queue(house.ledger, 4, senders=("old@example.org", BOXES[1]))
    road = Script()
    assert house.run(road, senders=BOXES[:2]).accepted == 4
    assert by_sender(road) == {"old@example.org": 2, BOXES[1]: 2}


def test_one_mailbox_refused_does_not_stop_the_others(house: House) -> None:
    letters.queue(house.ledger, 9, senders=BOXES)
    refused = ServiceUnavailable("the mailbox is refused", where=BOXES[1])

    async def answer(message: OutboundMessage) -> Outcome:
        return NotSent("403", fatal=refused) if message.sender == BOXES[1] else Accepted("202")

    report = house.run(Script({"": [answer] * 99}), senders=BOXES)
    assert (report.accepted, report.remaining, report.error) == (6, 3, refused)
    assert Counter(house.states().values()) == {"accepted": 6, "queued": 3}


def test_the_limit_of_a_run_counts_for_all_its_mailboxes_together(house: House) -> None:
    letters.queue(house.ledger, 12, senders=BOXES)
    assert house.run(Script(), senders=BOXES, limit=5) == SendReport(5, 0, 0, 0, 7)


def test_a_mailbox_stops_before_its_daily_limit_and_goes_on_a_day_later(house: House) -> None:
    letters.queue(house.ledger, 5)
    report = house.run(Script(daily=3))
    assert (report.accepted, report.remaining) == (3, 2)
    assert isinstance(report.error, EarlyStop)
    assert str(report.error) == f"{letters.SENDER}: 3 messages in 24 hours are all that this mailbox may send"
    assert report.error.hint == "run `distributor send` again after 2026-05-02 12:00 UTC"
    assert house.run(Script(daily=3)).accepted == 0
    house.clock.time += timedelta(hours=24)
    assert house.run(Script(daily=3)) == SendReport(2, 0, 0, 0, 0)


def test_a_daily_limit_that_is_just_enough_is_no_error(house: House) -> None:
    letters.queue(house.ledger, 3)
    assert house.run(Script(daily=3)) == SendReport(3, 0, 0, 0, 0)


def test_the_day_of_one_mailbox_is_not_that_of_another(house: House) -> None:
    letters.queue(house.ledger, 6, senders=BOXES[:2])
    assert house.run(Script(daily=3), senders=BOXES[:2]) == SendReport(6, 0, 0, 0, 0)


def test_a_service_that_asks_for_time_gets_it(house: House) -> None:
    letters.queue(house.ledger, 1)
    house.run(Script({"": [NotSent("429", throttled=True, retry_after=timedelta(seconds=90))]}))
    assert house.clock.slept == [90.0]
    assert house.states() == {"p1": State.ACCEPTED}


def test_a_persons_messages_always_come_from_the_same_mailbox_and_all_have_their_share() -> None:
    boxes = [Mailbox(Address(name.partition("@")[0], "example.org")) for name in BOXES]
    people = [Address(f"p{number}", "example.org") for number in range(900)]
    chosen = {person.key: sender_of(person, boxes) for person in people}
    assert chosen == {person.key: sender_of(person, list(reversed(boxes))) for person in people}
    assert all(240 <= number <= 360 for number in Counter(chosen.values()).values())
    fewer = {person.key: sender_of(person, boxes[:2]) for person in people}
    assert all(fewer[key] == box for key, box in chosen.items() if box in boxes[:2])
    assert {sender_of(person, boxes, BOXES[1]) for person in people} == {boxes[1]}
    assert all(sender_of(person, boxes, "gone@example.org") == chosen[person.key] for person in people)
