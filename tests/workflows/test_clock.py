"""A clock that is set in the middle of a run: pace and waiting go on, and nothing goes twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.model.delivery import Deferred, DeliveryFilter, OutboundMessage
from distributor.workflows.sending.report import SendReport
from tests.workflows import messages as letters
from tests.workflows.script import Answer, House, Script

LONG = timedelta(hours=1)


@pytest.mark.parametrize("hours", [-5, -1 / 2, 1 / 2, 5, 24 * 400])
def test_a_step_of_the_clock_changes_nothing_of_a_mailboxs_pace(house: House, hours: float) -> None:
    letters.queue(house.ledger, 40)
    stepped = False

    async def step(_: OutboundMessage) -> None:
        nonlocal stepped
        if not stepped and house.clock.passed > 30:
            stepped = True
            house.clock.time += timedelta(hours=hours)

    road = Script(per_minute=30, before=step)
    house.run(road, lease=LONG)
    house.run(road, lease=LONG)  # takes up what the step ended the claims of
    assert (stepped, house.ledger.counts(DeliveryFilter())) == (True, {"accepted": 40})
    assert len({message.delivery for message in road.sent}) == len(road.sent) == 40
    assert house.clock.passed >= 38 * 2  # seconds, for 40 messages at 30 a minute


def test_a_day_that_a_mailbox_may_not_have_is_not_won_by_setting_the_clock(house: House) -> None:
    letters.queue(house.ledger, 6)

    async def step(_: OutboundMessage) -> None:
        house.clock.time += timedelta(hours=25)

    report = house.run(Script(daily=3, before=step), lease=LONG)
    assert report.accepted <= 3
    assert report.remaining >= 3


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_message_that_was_put_off_is_tried_once_a_time_whatever_the_clock_does(house: House, hours: int) -> None:
    letters.queue(house.ledger, 1)
    later: list[Answer] = [Deferred("451 in 10 minutes", timedelta(minutes=10)) for _ in range(50)]
    road = Script({"": later})
    for early in (False, True):
        house.run(road, early=early)
        house.clock.time += timedelta(hours=hours)
    assert len(road.sent) == 2


def test_a_run_with_the_clock_set_back_leaves_what_waits_and_says_so(house: House) -> None:
    letters.queue(house.ledger, 2)
    began = house.clock.time

    async def back(_: OutboundMessage) -> None:
        if house.clock.time >= began:
            house.clock.time -= timedelta(days=100)  # the certificates are valid then too

    report = house.run(Script({"p1": [Deferred("451 in 90 s", timedelta(seconds=90))]}, before=back))
    assert report == SendReport(2, 0, 0, 0, 0)
    assert house.ledger.counts(DeliveryFilter()) == {"accepted": 2}
