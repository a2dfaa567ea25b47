"""A clock that is set in the middle of a run: pace and waiting go on, and nothing goes twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.model.attempts import Deferred, OutboundMessage
from distributor.model.delivery import DeliveryFilter
from distributor.workflows.sending.report import SendReport
from tests.workflows import outbox
from tests.workflows.scripted import Answer, ScriptedTransport, SendHarness

LONG = timedelta(hours=1)


@pytest.mark.parametrize("hours", [-5, -1 / 2, 1 / 2, 5, 24 * 400])
def test_a_step_of_the_clock_changes_nothing_of_a_mailboxs_pace(harness: SendHarness, hours: float) -> None:
    outbox.queue(harness.ledger, 40)
    stepped = False

    async def step(_: OutboundMessage) -> None:
        nonlocal stepped
        if not stepped and harness.clock.passed > 30:
            stepped = True
            harness.clock.time += timedelta(hours=hours)

    transport = ScriptedTransport(per_minute=30, before_intent=step)
    harness.run(transport, lease=LONG)
    harness.run(transport, lease=LONG)  # takes up what the step ended the claims of
    assert (stepped, harness.ledger.counts(DeliveryFilter())) == (True, {"accepted": 40})
    assert len({message.delivery for message in transport.sent}) == len(transport.sent) == 40
    assert harness.clock.passed >= 38 * 2  # seconds, for 40 messages at 30 a minute


def test_a_day_that_a_mailbox_may_not_have_is_not_won_by_setting_the_clock(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 6)

    async def step(_: OutboundMessage) -> None:
        harness.clock.time += timedelta(hours=25)

    report = harness.run(ScriptedTransport(daily=3, before_intent=step), lease=LONG)
    assert report.accepted <= 3
    assert report.remaining >= 3


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_message_that_was_put_off_is_tried_once_a_time_whatever_the_clock_does(harness: SendHarness, hours: int) -> None:
    outbox.queue(harness.ledger, 1)
    later: list[Answer] = [Deferred("451 in 10 minutes", timedelta(minutes=10)) for _ in range(50)]
    transport = ScriptedTransport({"": later})
    for early in (False, True):
        harness.run(transport, early=early)
        harness.clock.time += timedelta(hours=hours)
    assert len(transport.sent) == 2


def test_a_run_with_the_clock_set_back_leaves_what_waits_and_says_so(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 2)
    began = harness.clock.time

    async def back(_: OutboundMessage) -> None:
        if harness.clock.time >= began:
            harness.clock.time -= timedelta(days=100)  # the certificates are valid then too

    report = harness.run(ScriptedTransport({"p1": [Deferred("451 in 90 s", timedelta(seconds=90))]}, before_intent=back))
    assert report == SendReport(2, 0, 0, 0, 0)
    assert harness.ledger.counts(DeliveryFilter()) == {"accepted": 2}
