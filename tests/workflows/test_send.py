"""Sending over a scripted transport and a real ledger: what goes, what waits, what stops the run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.attempts import (
    Accepted,
    Ambiguous,
    AttemptResult,
    AttemptUpdate,
    Deferred,
    NotSent,
    OutboundMessage,
    Outcome,
    Rejected,
)
from distributor.model.delivery import DeliveryFilter, LeaseHolder
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workflows.sending.report import SendReport, WaitNotice
from distributor.workflows.sending.shutdown import ShutdownRequest
from tests.workflows import outbox
from tests.workflows.scripted import Answer, ScriptedTransport, SendHarness


def test_everything_that_is_queued_goes_and_is_reported(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 25)
    transport = ScriptedTransport(max_connections=4)
    assert harness.run(transport) == SendReport(25, 0, 0, 0, 0)
    assert Counter(harness.states().values()) == {"accepted": 25}
    assert {result.address for result in harness.results()} == {message.address for message in transport.sent}
    assert len(transport.sent) == 25


def test_each_message_of_a_mixed_run_gets_its_own_state(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 4)
    transport = ScriptedTransport({"p1": [Deferred("451 later")], "p2": [Rejected("550 5.1.1 nobody")], "p3": [Ambiguous("cut")]})
    assert harness.run(transport) == SendReport(1, 1, 1, 1, 1)
    assert harness.states() == {"p1": "deferred", "p2": "rejected", "p3": "ambiguous", "p4": "accepted"}
    assert {result.address[:2]: result.response for result in harness.results()}["p2"] == "550 5.1.1 nobody"


def test_deferred_messages_wait_longer_each_time(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    waits = []
    for _ in range(8):
        harness.run(ScriptedTransport({"": [Deferred("451 later")]}))
        due = harness.ledger.next_due(DeliveryFilter())
        assert due is not None
        waits.append((due - harness.clock.now()) // timedelta(minutes=1))
        harness.clock.time = due
    assert waits == [5, 15, 30, 60, 120, 240, 240, 240]


def test_a_later_of_two_minutes_is_waited_for(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 2)
    report = harness.run(ScriptedTransport({"p1": [Deferred("451 in 90 s", timedelta(seconds=90))]}))
    assert report == SendReport(2, 0, 0, 0, 0)
    assert harness.clock.slept == [90.0]
    assert WaitNotice(90.0, 'a server said "later"') in harness.progress
    assert [result.state for result in harness.results()] == [State.ACCEPTED] * 2


def test_a_longer_later_is_left_to_the_next_run(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    assert harness.run(ScriptedTransport({"": [Deferred("451 in 3 min", timedelta(seconds=180))]})) == SendReport(0, 1, 0, 0, 1)
    assert harness.clock.slept == []
    assert harness.run(ScriptedTransport()) == SendReport(0, 0, 0, 0, 1)
    harness.clock.time += timedelta(seconds=200)
    assert harness.run(ScriptedTransport()) == SendReport(1, 0, 0, 0, 0)


def test_a_server_that_says_later_for_ever_does_not_hold_the_run(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    report = harness.run(ScriptedTransport({"": [Deferred("451 in 50 s", timedelta(seconds=50)) for _ in range(9)]}))
    assert report == SendReport(0, 1, 0, 0, 1)
    assert harness.clock.slept == [50.0, 50.0]


def test_early_takes_what_was_deferred_before_but_not_what_is_deferred_now(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    later: list[Answer] = [Deferred("451 later")]
    harness.run(ScriptedTransport({"p1": list(later), "p2": list(later)}))
    harness.clock.time += timedelta(seconds=1)
    transport = ScriptedTransport({"p1": list(later)})
    assert harness.run(transport, early=True) == SendReport(1, 1, 0, 0, 1)
    assert sorted(message.address for message in transport.sent) == ["p1@example.org", "p2@example.org"]


def test_a_limit_counts_messages_and_not_tries(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 10)
    transport = ScriptedTransport({"p2": [NotSent("the connection was cut")]}, max_connections=4)
    assert harness.run(transport, limit=3) == SendReport(3, 0, 0, 0, 7)
    assert len(transport.sent) == 3


def test_a_refusal_of_the_whole_job_ends_the_run_and_costs_no_message(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 5)
    stop = ServiceUnavailable("the server refused to send for this account", where="mail:587", hint="do this")
    report = harness.run(ScriptedTransport({"p2": [NotSent("535 no", fatal=stop)]}))
    assert report == SendReport(1, 0, 0, 0, 4, error=stop)
    assert Counter(harness.states().values()) == {"accepted": 1, "queued": 4}
    assert [(result.state, result.response) for result in harness.results()][-1] == (State.QUEUED, "535 no")


def test_five_messages_in_a_row_without_service_end_the_run(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9)
    report = harness.run(ScriptedTransport({"": [Deferred("421 closing", service=True) for _ in range(9)]}))
    assert isinstance(report.error, ServiceUnavailable)
    assert Counter(harness.states().values()) == {"deferred": 5, "queued": 4}


def test_three_messages_refused_alike_for_what_they_hold_end_the_run(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9)
    no = [Rejected(f"550 5.7.1 blocked, id {n}", content=True) for n in range(9)]
    report = harness.run(ScriptedTransport({"p1": [no[0]], "p3": [no[1]], "p4": [no[2]], "p5": [no[3]]}))
    assert isinstance(report.error, ServiceUnavailable)
    assert Counter(harness.states().values()) == {"rejected": 4, "accepted": 1, "queued": 4}


def test_three_alike_are_no_reason_to_fail_when_nothing_else_is_left(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    no: list[Answer] = [Rejected("550 5.7.1 blocked", content=True) for _ in range(3)]
    assert harness.run(ScriptedTransport({"": no})) == SendReport(0, 0, 3, 0, 0)


def test_five_messages_in_a_row_without_an_answer_end_the_run(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9)
    report = harness.run(ScriptedTransport({"": [Ambiguous("the message: the connection was cut") for _ in range(9)]}))
    assert isinstance(report.error, ServiceUnavailable)
    assert Counter(harness.states().values()) == {"ambiguous": 5, "queued": 4}


def test_unknown_recipients_do_not_end_the_run(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9)
    assert harness.run(ScriptedTransport({"": [Rejected("550 5.1.1 nobody") for _ in range(8)]})) == SendReport(1, 0, 8, 0, 0)


def test_a_lost_connection_is_tried_again_soon_and_given_up_after_two_minutes(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 2)
    report = harness.run(ScriptedTransport({"": [NotSent("RCPT: the connection was cut") for _ in range(20)]}))
    assert isinstance(report.error, ServiceUnavailable)
    assert "RCPT: the connection was cut" in str(report.error)
    assert 60 < sum(harness.clock.slept) < 180
    assert harness.clock.slept[:-1] == sorted(harness.clock.slept[:-1])  # the last one only fills the two minutes
    assert Counter(harness.states().values()) == {"queued": 2}


def test_one_lost_connection_is_no_trouble(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    assert harness.run(ScriptedTransport({"p1": [NotSent("cut")]})) == SendReport(3, 0, 0, 0, 0)
    assert len(harness.clock.slept) == 1
    assert harness.clock.slept[0] < 2


def test_a_crowded_server_gets_one_lane_less_for_a_while(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 12)
    transport = ScriptedTransport({"p1": [NotSent("432 4.3.2 thread limit", throttled=True)]}, max_connections=3)
    assert harness.run(transport) == SendReport(12, 0, 0, 0, 0)
    (pause,) = [event for event in harness.progress if isinstance(event, WaitNotice)]
    assert 30 < pause.seconds < 60


def test_the_pace_is_kept(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 4)
    harness.run(ScriptedTransport(per_minute=30, max_connections=3))
    assert harness.clock.now() - datetime(2026, 5, 1, 12, tzinfo=UTC) >= timedelta(seconds=6)


def test_the_first_request_to_stop_lets_messages_in_flight_finish(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9)
    shutdown = ShutdownRequest()

    async def pressed(_: OutboundMessage) -> Outcome:
        shutdown.request()
        await asyncio.sleep(0.01)
        return Accepted("250 ok")

    report = asyncio.run(harness.send(ScriptedTransport({"p2": [pressed]}), shutdown=shutdown))
    assert report == SendReport(2, 0, 0, 0, 7, interrupted=True)
    assert Counter(harness.states().values()) == {"accepted": 2, "queued": 7}


def test_the_second_request_cuts_armed_messages_are_ambiguous_and_others_queued(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9)
    shutdown = ShutdownRequest()
    waiting = asyncio.Event()

    async def hangs(_: OutboundMessage) -> Outcome:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def stuck_before(message: OutboundMessage) -> None:
        if message.address.startswith("p2"):
            await waiting.wait()
            shutdown.request()
            shutdown.request()
            await asyncio.Event().wait()

    transport = ScriptedTransport({"p1": [hangs]}, max_connections=2, before_intent=stuck_before)
    report = asyncio.run(harness.send(transport, shutdown=shutdown))
    assert report == SendReport(0, 0, 0, 1, 8, interrupted=True)
    assert harness.states()["p1"] == "ambiguous"
    assert Counter(harness.states().values()) == {"ambiguous": 1, "queued": 8}


def test_being_cancelled_is_like_the_second_request(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)

    async def go() -> None:
        waiting = asyncio.Event()

        async def hangs(_: OutboundMessage) -> Outcome:
            waiting.set()
            await asyncio.Event().wait()
            raise AssertionError

        run = asyncio.ensure_future(harness.send(ScriptedTransport({"p1": [hangs]})))
        await waiting.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(go())
    assert Counter(harness.states().values()) == {"ambiguous": 1, "queued": 2}


def test_what_is_packed_while_sending_goes_in_the_same_run(harness: SendHarness) -> None:
    outbox.plan(harness.ledger, 30)

    def packing(stop: Callable[[], bool]) -> Iterator[str]:
        while not stop() and outbox.pack(harness.ledger, limit=10) == 10:
            yield "a batch"

    assert harness.run(ScriptedTransport(max_connections=2), packing=packing) == SendReport(30, 0, 0, 0, 0)
    assert harness.progress.count("a batch") == 3


def test_packing_that_fails_ends_the_run_with_its_reason(harness: SendHarness) -> None:
    outbox.plan(harness.ledger, 30)
    reason = InvalidInput("the template is broken")

    def packing(_: Callable[[], bool]) -> Iterator[str]:
        outbox.pack(harness.ledger, limit=10)
        yield "a batch"
        raise reason

    assert harness.run(ScriptedTransport(), packing=packing).error is reason


def test_two_runs_share_the_work_and_no_message_goes_twice(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 60)
    one, two = ScriptedTransport(max_connections=2), ScriptedTransport(max_connections=2)

    async def both() -> Sequence[SendReport]:
        return await asyncio.gather(harness.send(one), harness.send(two))

    reports = asyncio.run(both())
    assert sum(report.accepted for report in reports) == 60
    assert len({message.delivery for message in one.sent + two.sent}) == len(one.sent + two.sent) == 60
    assert one.sent
    assert two.sent


def test_what_a_dead_sender_held_is_taken_over_but_never_an_armed_message(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    dead = outbox.me()
    first, _ = harness.ledger.claim(dead, 2, timedelta(minutes=1), DeliveryFilter())
    from distributor.model.attempts import RecordIntent  # noqa: PLC0415

    assert harness.ledger.write([RecordIntent(first, timedelta(minutes=10))], dead) == [True]
    harness.alive = lambda owner: owner.id != dead.id
    assert harness.run(ScriptedTransport()) == SendReport(2, 0, 0, 1, 0)  # its fate needs a person: the run says so
    assert harness.states() == {"p1": "ambiguous", "p2": "accepted", "p3": "accepted"}


# --- a ledger that fails -------------------------------------------------------------------------------------------


class Failing:
    """The real ledger, but some writes fail."""

    def __init__(self, ledger: Ledger, fails: Callable[[AttemptUpdate], Exception | None]) -> None:
        self._ledger, self._fails = ledger, fails

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def write(self, steps: Sequence[AttemptUpdate], owner: LeaseHolder) -> list[bool]:
        for step in steps:
            if error := self._fails(step):
                raise error
        return self._ledger.write(steps, owner)


def test_when_the_ledger_cannot_arm_nothing_is_sent(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 5)
    transport, real = ScriptedTransport(), harness.ledger
    harness.ledger = Failing(real, lambda _: InvalidInput("the disk is full"))
    with pytest.raises(InvalidInput, match="disk is full"):
        harness.run(transport)
    harness.ledger = real
    assert transport.sent == []


def test_an_acceptance_is_written_at_the_second_try_when_the_ledger_was_locked(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    real, failures = harness.ledger, [ServiceUnavailable("locked")]
    harness.ledger = Failing(real, lambda step: failures.pop() if failures and isinstance(step, AttemptResult) else None)
    assert harness.run(ScriptedTransport()) == SendReport(1, 0, 0, 0, 0)
    harness.ledger = real


def test_an_acceptance_that_cannot_be_written_is_an_error_and_ambiguous_later(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    real = harness.ledger
    harness.ledger = Failing(real, lambda step: InvalidInput("the disk is full") if isinstance(step, AttemptResult) else None)
    transport = ScriptedTransport()
    with pytest.raises(InvalidInput, match="disk is full"):
        harness.run(transport)
    harness.ledger = real
    assert len(transport.sent) == 1
    harness.alive = lambda _: False
    harness.run(ScriptedTransport())
    assert harness.states() == {"p1": "ambiguous", "p2": "accepted", "p3": "accepted"}


def test_a_claim_that_ran_out_before_arming_does_not_go(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)

    async def slow(_: OutboundMessage) -> None:
        harness.clock.time += timedelta(minutes=5)

    transport = ScriptedTransport(before_intent=slow)
    assert harness.run(transport).accepted == 0
    assert transport.sent == []


def test_a_terminal_that_went_away_costs_no_settlement(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)

    class Gone(list[object]):
        def append(self, _: object) -> None:
            raise BrokenPipeError

    harness.progress = Gone()
    with pytest.raises(BrokenPipeError):
        harness.run(ScriptedTransport())
    assert harness.states()["p1"] == "accepted"
    assert "transmitting" not in harness.states().values()
