"""What a mailbox may send, kept by all runs together: one process at a time, the minute and the day across runs, refusals for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from distributor.model.attempts import Accepted, Deferred, NotSent, OutboundMessage, Outcome, RecordIntent, Rejected, TrackingEvent
from distributor.model.delivery import ALL_SENDERS, DeliveryFilter, SenderFilter
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workflows.sending.report import SendReport, WaitNotice
from distributor.workflows.sending.shutdown import ShutdownRequest
from tests.workflows import outbox
from tests.workflows.scripted import Answer, ScriptedTransport, SendHarness
from tests.workflows.test_rate_limits import most_in_a_minute

SENDERS = ("certificates@example.org", "certificates2@example.org")
MINUTE = timedelta(minutes=1)
LONG = timedelta(hours=1)  # of a claim: the clock runs faster than it can be renewed


@pytest.fixture
def beside(tmp_path: Path, harness: SendHarness) -> Iterator[Ledger]:
    """The same ledger, as another process has it."""
    ledger = outbox.new_ledger(tmp_path / "distributor.db", harness.clock.now)
    yield ledger
    ledger.close()


def waits(harness: SendHarness) -> list[WaitNotice]:
    return [notice for notice in harness.progress if isinstance(notice, WaitNotice) and notice.seconds is None]


def armed(harness: SendHarness) -> list[datetime]:
    return harness.ledger.sent_times(harness.clock.now() - timedelta(days=1), ALL_SENDERS)


# --- one process at a time -----------------------------------------------------------------------------------------


def test_what_a_sender_that_was_killed_had_claimed_is_taken_over_too(harness: SendHarness, beside: Ledger) -> None:
    outbox.queue(harness.ledger, 2)
    assert beside.lock_mailbox("")
    assert len(beside.claim(outbox.me(), 10, MINUTE, DeliveryFilter())) == 2
    real, alive = harness.clock.sleep, True

    async def sleep(seconds: float) -> None:
        nonlocal alive
        beside.close()
        alive = False
        await real(seconds)

    harness.clock.sleep, harness.alive = sleep, lambda _: alive
    assert harness.run(ScriptedTransport(daily=10)) == SendReport(2, 0, 0, 0, 0)


@pytest.mark.parametrize("limits", [{"per_minute": 30}, {"daily": 10}])
def test_a_mailbox_with_limits_is_waited_for_and_taken_over(harness: SendHarness, beside: Ledger, limits: dict[str, int]) -> None:
    outbox.queue(harness.ledger, 2)
    assert beside.lock_mailbox("")
    real, knocks = harness.clock.sleep, []

    async def sleep(seconds: float) -> None:
        knocks.append(len(transport.sent))
        if len(knocks) == 3:
            beside.close()  # the other is done, or dead
        await real(seconds)

    transport = ScriptedTransport(**limits)
    harness.clock.sleep = sleep
    assert harness.run(transport) == SendReport(2, 0, 0, 0, 0)
    assert knocks[:3] == [0, 0, 0]
    assert harness.clock.slept[:3] == [1.0, 1.0, 1.0]
    assert waits(harness) == [WaitNotice(None, "another `distributor send` is using this mailbox; waiting for it to finish")]


def test_a_mailbox_without_limits_is_shared(harness: SendHarness, beside: Ledger) -> None:
    outbox.queue(harness.ledger, 2)
    assert beside.lock_mailbox("")
    assert harness.run(ScriptedTransport()) == SendReport(2, 0, 0, 0, 0)


def test_a_run_does_not_wait_for_a_mailbox_when_nothing_is_left_to_send(harness: SendHarness, beside: Ledger) -> None:
    outbox.queue(harness.ledger, 2)
    assert beside.lock_mailbox("")
    owner = outbox.me()
    claims = beside.claim(owner, 10, MINUTE, DeliveryFilter())
    assert beside.write([RecordIntent(claim, MINUTE) for claim in claims], owner) == [True, True]
    assert harness.run(ScriptedTransport(daily=10)) == SendReport(0, 0, 0, 0, 0)
    assert waits(harness) == []


def test_ctrl_c_ends_the_wait_for_a_mailbox_and_nothing_was_claimed(harness: SendHarness, beside: Ledger) -> None:
    outbox.queue(harness.ledger, 2)
    assert beside.lock_mailbox("")
    shutdown = ShutdownRequest()

    async def sleep(_: float) -> None:
        shutdown.request()
        await asyncio.Event().wait()  # as long as nobody cares

    harness.clock.sleep = sleep
    assert asyncio.run(harness.send(ScriptedTransport(daily=10), shutdown=shutdown)) == SendReport(0, 0, 0, 0, 2, interrupted=True)
    assert [event.event for event in harness.ledger.history("p1@example.org")] == ["planned", "queued"]


def test_packing_goes_on_while_a_mailbox_is_waited_for(harness: SendHarness, beside: Ledger) -> None:
    outbox.plan(harness.ledger, 3)
    assert beside.lock_mailbox("")
    real = harness.clock.sleep

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0.001)
        if harness.ledger.counts(DeliveryFilter()) == {State.QUEUED: 3}:
            beside.close()
        await real(seconds)

    def packing(_: object) -> Iterator[object]:
        outbox.pack(harness.ledger)
        yield "a batch"

    harness.clock.sleep = sleep
    assert harness.run(ScriptedTransport(daily=10), packing=packing) == SendReport(3, 0, 0, 0, 0)


def test_two_runs_share_several_mailboxes(harness: SendHarness, beside: Ledger) -> None:
    outbox.queue(harness.ledger, 6, senders=SENDERS)
    assert beside.lock_mailbox(SENDERS[1])
    real = harness.clock.sleep

    async def sleep(seconds: float) -> None:
        if len(transport.sent) == 3:
            beside.close()
        await real(seconds)

    transport = ScriptedTransport(daily=10)
    harness.clock.sleep = sleep
    assert harness.run(transport, senders=SENDERS) == SendReport(6, 0, 0, 0, 0)
    assert [message.sender for message in transport.sent] == [SENDERS[0]] * 3 + [SENDERS[1]] * 3


# --- the minute ----------------------------------------------------------------------------------------------------


def test_no_minute_of_a_run_or_of_two_has_more_than_thirty_messages(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 100)
    began = harness.clock.now()
    assert harness.run(ScriptedTransport(per_minute=30), limit=40, lease=LONG).accepted == 40
    assert harness.run(ScriptedTransport(per_minute=30), lease=LONG).accepted == 60
    times = armed(harness)
    assert (len(times), most_in_a_minute(times)) == (100, 30)
    assert 99 / ((harness.clock.now() - began) / MINUTE) >= 0.98 * 30


def test_a_first_message_that_was_held_up_makes_no_minute_too_full(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 70)
    first = True

    async def signing_in(_: OutboundMessage) -> None:
        nonlocal first
        if first:
            first = False
            harness.clock.pass_by(seconds=9)

    assert harness.run(ScriptedTransport(per_minute=30, before_intent=signing_in), lease=LONG).accepted == 70
    assert most_in_a_minute(armed(harness)) <= 30


# --- the day -------------------------------------------------------------------------------------------------------

NOT_LEFT: list[Answer] = [Deferred("451 later", retry_after=timedelta(hours=1)), Rejected("550 5.1.1 no"), NotSent("429")]


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("refusal", NOT_LEFT)
def test_what_was_refused_is_not_of_the_day_s_messages(harness: SendHarness, refusal: Outcome, connections: int) -> None:
    outbox.queue(harness.ledger, 9)
    transport = ScriptedTransport({"": [refusal] * 3}, daily=5, max_connections=connections)
    assert harness.run(transport).accepted == 5
    assert harness.run(ScriptedTransport(daily=5)).accepted == 0
    assert len(armed(harness)) == 5


def test_a_message_that_bounced_and_was_withdrawn_stays_of_the_day_s_messages(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    assert harness.run(ScriptedTransport(daily=2)).accepted == 2
    first = next(harness.ledger.deliveries(DeliveryFilter()))
    assert harness.ledger.observe([TrackingEvent(first.id, State.BOUNCED, "550 5.1.1 no", {"kind": "notice"})]) == [State.ACCEPTED]
    harness.ledger.withdraw(first.id, "a wrong address")
    assert harness.run(ScriptedTransport(daily=2)).accepted == 0
    harness.clock.pass_by(days=1)
    assert harness.run(ScriptedTransport(daily=2)).accepted == 1


def test_the_day_s_last_message_waits_for_those_in_flight_and_goes_if_one_is_refused(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    held = asyncio.Event()

    async def slow(_: OutboundMessage) -> Outcome:
        await held.wait()
        return Rejected("550 5.1.1 no")

    async def quick(_: OutboundMessage) -> Outcome:
        asyncio.get_running_loop().call_later(0.01, held.set)
        return Accepted("250")

    report = harness.run(ScriptedTransport({"p1": [slow], "p2": [quick]}, daily=2, max_connections=3))
    assert (report.accepted, report.rejected, report.error) == (2, 1, None)


def test_messages_in_flight_finish_where_the_day_s_last_one_waits(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    shutdown = ShutdownRequest()

    async def slow(_: OutboundMessage) -> Outcome:
        shutdown.request()
        await asyncio.sleep(0.01)
        return Accepted("250")

    report = asyncio.run(harness.send(ScriptedTransport({"p1": [slow]}, daily=1, max_connections=3), shutdown=shutdown))
    assert (report.accepted, report.remaining, report.interrupted) == (1, 2, True)


def test_the_day_is_known_by_mailbox_whoever_sent(harness: SendHarness, beside: Ledger) -> None:
    outbox.queue(harness.ledger, 6, senders=SENDERS)
    other = SendHarness(beside, harness.clock)
    assert other.run(ScriptedTransport(daily=2), senders=SENDERS).accepted == 4
    beside.close()
    assert harness.run(ScriptedTransport(daily=2), senders=SENDERS).accepted == 0
    assert len(harness.ledger.sent_times(harness.clock.now(), SenderFilter(only=SENDERS[1]))) == 2
