"""What a mailbox may send, kept by all runs together: one process at a time, the minute and the day across runs, refusals for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from distributor.model.delivery import (
    ALL_SENDERS,
    Accepted,
    Deferred,
    DeliveryFilter,
    NotSent,
    OutboundMessage,
    Outcome,
    RecordIntent,
    Rejected,
    SenderFilter,
    TrackingEvent,
)
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workflows.sending.report import SendReport, WaitNotice
from distributor.workflows.sending.shutdown import ShutdownRequest
from tests.workflows import messages as letters
from tests.workflows.script import Answer, House, Script
from tests.workflows.test_rate_limits import most_in_a_minute

BOXES = ("certificates@example.org", "certificates2@example.org")
MINUTE = timedelta(minutes=1)
LONG = timedelta(hours=1)  # of a claim: the clock runs faster than it can be renewed


@pytest.fixture
def beside(tmp_path: Path, house: House) -> Iterator[Ledger]:
    """The same ledger, as another process has it."""
    ledger = letters.new_ledger(tmp_path / "distributor.db", house.clock.now)
    yield ledger
    ledger.close()


def waits(house: House) -> list[WaitNotice]:
    return [news for news in house.told if isinstance(news, WaitNotice) and news.seconds is None]


def armed(house: House) -> list[datetime]:
    return house.ledger.sent_times(house.clock.now() - timedelta(days=1), ALL_SENDERS)


# --- one process at a time -----------------------------------------------------------------------------------------


def test_what_a_sender_that_was_killed_had_claimed_is_taken_over_too(house: House, beside: Ledger) -> None:
    letters.queue(house.ledger, 2)
    assert beside.lock_mailbox("")
    assert len(beside.claim(letters.me(), 10, MINUTE, DeliveryFilter())) == 2
    real, alive = house.clock.sleep, True

    async def sleep(seconds: float) -> None:
        nonlocal alive
        beside.close()
        alive = False
        await real(seconds)

    house.clock.sleep, house.alive = sleep, lambda _: alive
    assert house.run(Script(daily=10)) == SendReport(2, 0, 0, 0, 0)


@pytest.mark.parametrize("limits", [{"per_minute": 30}, {"daily": 10}])
def test_a_mailbox_with_limits_is_waited_for_and_taken_over(house: House, beside: Ledger, limits: dict[str, int]) -> None:
    letters.queue(house.ledger, 2)
    assert beside.lock_mailbox("")
    real, knocks = house.clock.sleep, []

    async def sleep(seconds: float) -> None:
        knocks.append(len(road.sent))
        if len(knocks) == 3:
            beside.close()  # the other is done, or dead
        await real(seconds)

    road = Script(**limits)
    house.clock.sleep = sleep
    assert house.run(road) == SendReport(2, 0, 0, 0, 0)
    assert knocks[:3] == [0, 0, 0]
    assert house.clock.slept[:3] == [1.0, 1.0, 1.0]
    assert waits(house) == [WaitNotice(None, "another `distributor send` is using this mailbox; waiting until it ends")]


def test_a_mailbox_without_limits_is_shared(house: House, beside: Ledger) -> None:
    letters.queue(house.ledger, 2)
    assert beside.lock_mailbox("")
    assert house.run(Script()) == SendReport(2, 0, 0, 0, 0)


def test_a_run_does_not_wait_for_a_mailbox_when_nothing_is_left_to_send(house: House, beside: Ledger) -> None:
    letters.queue(house.ledger, 2)
    assert beside.lock_mailbox("")
    owner = letters.me()
    claims = beside.claim(owner, 10, MINUTE, DeliveryFilter())
    assert beside.write([RecordIntent(claim, MINUTE) for claim in claims], owner) == [True, True]
    assert house.run(Script(daily=10)) == SendReport(0, 0, 0, 0, 0)
    assert waits(house) == []


def test_ctrl_c_ends_the_wait_for_a_mailbox_and_nothing_was_claimed(house: House, beside: Ledger) -> None:
    letters.queue(house.ledger, 2)
    assert beside.lock_mailbox("")
    shutdown = ShutdownRequest()

    async def sleep(_: float) -> None:
        shutdown.request()
        await asyncio.Event().wait()  # as long as nobody cares

    house.clock.sleep = sleep
    assert asyncio.run(house.send(Script(daily=10), shutdown=shutdown)) == SendReport(0, 0, 0, 0, 2, interrupted=True)
    assert [event.event for event in house.ledger.history("p1@example.org")] == ["planned", "queued"]


def test_packing_goes_on_while_a_mailbox_is_waited_for(house: House, beside: Ledger) -> None:
    letters.plan(house.ledger, 3)
    assert beside.lock_mailbox("")
    real = house.clock.sleep

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0.001)
        if house.ledger.counts(DeliveryFilter()) == {State.QUEUED: 3}:
            beside.close()
        await real(seconds)

    def packing(_: object) -> Iterator[object]:
        letters.pack(house.ledger)
        yield "a batch"

    house.clock.sleep = sleep
    assert house.run(Script(daily=10), packing=packing) == SendReport(3, 0, 0, 0, 0)


def test_two_runs_share_several_mailboxes(house: House, beside: Ledger) -> None:
    letters.queue(house.ledger, 6, senders=BOXES)
    assert beside.lock_mailbox(BOXES[1])
    real = house.clock.sleep

    async def sleep(seconds: float) -> None:
        if len(road.sent) == 3:
            beside.close()
        await real(seconds)

    road = Script(daily=10)
    house.clock.sleep = sleep
    assert house.run(road, senders=BOXES) == SendReport(6, 0, 0, 0, 0)
    assert [message.sender for message in road.sent] == [BOXES[0]] * 3 + [BOXES[1]] * 3


# --- the minute ----------------------------------------------------------------------------------------------------


def test_no_minute_of_a_run_or_of_two_has_more_than_thirty_messages(house: House) -> None:
    letters.queue(house.ledger, 100)
    began = house.clock.now()
    assert house.run(Script(per_minute=30), limit=40, lease=LONG).accepted == 40
    assert house.run(Script(per_minute=30), lease=LONG).accepted == 60
    times = armed(house)
    assert (len(times), most_in_a_minute(times)) == (100, 30)
    assert 99 / ((house.clock.now() - began) / MINUTE) >= 0.98 * 30


def test_a_first_message_that_was_held_up_makes_no_minute_too_full(house: House) -> None:
    letters.queue(house.ledger, 70)
    first = True

    async def signing_in(_: OutboundMessage) -> None:
        nonlocal first
        if first:
            first = False
            house.clock.pass_by(seconds=9)

    assert house.run(Script(per_minute=30, before=signing_in), lease=LONG).accepted == 70
    assert most_in_a_minute(armed(house)) <= 30


# --- the day -------------------------------------------------------------------------------------------------------

NOT_LEFT: list[Answer] = [Deferred("451 later", retry_after=timedelta(hours=1)), Rejected("550 5.1.1 no"), NotSent("429")]


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("refusal", NOT_LEFT)
def test_what_was_refused_is_not_of_the_day_s_messages(house: House, refusal: Outcome, lanes: int) -> None:
    letters.queue(house.ledger, 9)
    road = Script({"": [refusal] * 3}, daily=5, max_connections=lanes)
    assert house.run(road).accepted == 5
    assert house.run(Script(daily=5)).accepted == 0
    assert len(armed(house)) == 5


def test_a_message_that_bounced_and_was_withdrawn_stays_of_the_day_s_messages(house: House) -> None:
    letters.queue(house.ledger, 3)
    assert house.run(Script(daily=2)).accepted == 2
    first = next(house.ledger.deliveries(DeliveryFilter()))
    assert house.ledger.observe([TrackingEvent(first.id, State.BOUNCED, "550 5.1.1 no", {"kind": "notice"})]) == [State.ACCEPTED]
    house.ledger.withdraw(first.id, "a wrong address")
    assert house.run(Script(daily=2)).accepted == 0
    house.clock.pass_by(days=1)
    assert house.run(Script(daily=2)).accepted == 1


def test_the_day_s_last_message_waits_for_those_on_the_wire_and_goes_if_one_is_refused(house: House) -> None:
    letters.queue(house.ledger, 3)
    held = asyncio.Event()

    async def slow(_: OutboundMessage) -> Outcome:
        await held.wait()
        return Rejected("550 5.1.1 no")

    async def quick(_: OutboundMessage) -> Outcome:
        asyncio.get_running_loop().call_later(0.01, held.set)
        return Accepted("250")

    report = house.run(Script({"p1": [slow], "p2": [quick]}, daily=2, max_connections=3))
    assert (report.accepted, report.rejected, report.error) == (2, 1, None)


def test_messages_on_the_wire_finish_where_the_day_s_last_one_waits(house: House) -> None:
    letters.queue(house.ledger, 3)
    shutdown = ShutdownRequest()

    async def slow(_: OutboundMessage) -> Outcome:
        shutdown.request()
        await asyncio.sleep(0.01)
        return Accepted("250")

    report = asyncio.run(house.send(Script({"p1": [slow]}, daily=1, max_connections=3), shutdown=shutdown))
    assert (report.accepted, report.remaining, report.interrupted) == (1, 2, True)


def test_the_day_is_known_by_mailbox_whoever_sent(house: House, beside: Ledger) -> None:
    letters.queue(house.ledger, 6, senders=BOXES)
    other = House(beside, house.clock)
    assert other.run(Script(daily=2), senders=BOXES).accepted == 4
    beside.close()
    assert house.run(Script(daily=2), senders=BOXES).accepted == 0
    assert len(house.ledger.sent_times(house.clock.now(), SenderFilter(only=BOXES[1]))) == 2
