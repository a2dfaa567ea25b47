"""Several mailboxes side by side: each with its own rate, daily limit and circuit breaker; a person's messages stay with one."""

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
from tests.workflows import outbox
from tests.workflows.scripted import ScriptedTransport, SendHarness

SENDERS = ("certificates@example.org", "certificates2@example.org", "certificates3@example.org")


def by_sender(transport: ScriptedTransport) -> Counter[str]:
    return Counter(message.sender for message in transport.sent)


def test_each_mailbox_carries_its_own_messages_in_lanes_of_its_own(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 12, senders=SENDERS)
    transport = ScriptedTransport(max_connections=2)
    assert harness.run(transport, senders=SENDERS) == SendReport(12, 0, 0, 0, 0)
    assert by_sender(transport) == dict.fromkeys(SENDERS, 4)
    assert Counter(transport.senders) == dict.fromkeys(SENDERS, 2)


def test_each_mailbox_has_a_pace_of_its_own(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    harness.run(ScriptedTransport(per_minute=30), senders=SENDERS[:1])
    assert harness.clock.slept == [2.0, 2.0]
    outbox.plan(harness.ledger, 3, first=4)
    outbox.pack(harness.ledger, senders=SENDERS)
    harness.clock.slept.clear()
    harness.clock.time += timedelta(minutes=1)
    assert harness.run(ScriptedTransport(per_minute=30), senders=SENDERS).accepted == 3
    assert harness.clock.slept == []


def test_messages_of_a_mailbox_that_is_named_no_more_go_by_the_first(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 4, senders=("old@example.org", SENDERS[1]))
    transport = ScriptedTransport()
    assert harness.run(transport, senders=SENDERS[:2]).accepted == 4
    assert by_sender(transport) == {"old@example.org": 2, SENDERS[1]: 2}


def test_one_mailbox_refused_does_not_stop_the_others(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9, senders=SENDERS)
    refused = ServiceUnavailable("the mailbox is refused", where=SENDERS[1])

    async def answer(message: OutboundMessage) -> Outcome:
        return NotSent("403", fatal=refused) if message.sender == SENDERS[1] else Accepted("202")

    report = harness.run(ScriptedTransport({"": [answer] * 99}), senders=SENDERS)
    assert (report.accepted, report.remaining, report.error) == (6, 3, refused)
    assert Counter(harness.states().values()) == {"accepted": 6, "queued": 3}


def test_the_limit_of_a_run_counts_for_all_its_mailboxes_together(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 12, senders=SENDERS)
    assert harness.run(ScriptedTransport(), senders=SENDERS, limit=5) == SendReport(5, 0, 0, 0, 7)


def test_a_mailbox_stops_before_its_daily_limit_and_goes_on_a_day_later(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 5)
    report = harness.run(ScriptedTransport(daily=3))
    assert (report.accepted, report.remaining) == (3, 2)
    assert isinstance(report.error, EarlyStop)
    assert str(report.error) == f"{outbox.SENDER}: 3 messages in 24 hours is the limit of this mailbox"
    assert report.error.hint == "run `distributor send` again after 2026-05-02 12:00 UTC"
    assert harness.run(ScriptedTransport(daily=3)).accepted == 0
    harness.clock.time += timedelta(hours=24)
    assert harness.run(ScriptedTransport(daily=3)) == SendReport(2, 0, 0, 0, 0)


def test_a_daily_limit_that_is_just_enough_is_no_error(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    assert harness.run(ScriptedTransport(daily=3)) == SendReport(3, 0, 0, 0, 0)


def test_the_day_of_one_mailbox_is_not_that_of_another(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 6, senders=SENDERS[:2])
    assert harness.run(ScriptedTransport(daily=3), senders=SENDERS[:2]) == SendReport(6, 0, 0, 0, 0)


def test_a_service_that_asks_for_time_gets_it(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    harness.run(ScriptedTransport({"": [NotSent("429", throttled=True, retry_after=timedelta(seconds=90))]}))
    assert harness.clock.slept == [90.0]
    assert harness.states() == {"p1": State.ACCEPTED}


def test_a_persons_messages_always_come_from_the_same_mailbox_and_all_have_their_share() -> None:
    mailboxes = [Mailbox(Address(name.partition("@")[0], "example.org")) for name in SENDERS]
    people = [Address(f"p{number}", "example.org") for number in range(900)]
    chosen = {person.key: sender_of(person, mailboxes) for person in people}
    assert chosen == {person.key: sender_of(person, list(reversed(mailboxes))) for person in people}
    assert all(240 <= number <= 360 for number in Counter(chosen.values()).values())
    fewer = {person.key: sender_of(person, mailboxes[:2]) for person in people}
    assert all(fewer[key] == mailbox for key, mailbox in chosen.items() if mailbox in mailboxes[:2])
    assert {sender_of(person, mailboxes, SENDERS[1]) for person in people} == {mailboxes[1]}
    assert all(sender_of(person, mailboxes, "gone@example.org") == chosen[person.key] for person in people)
