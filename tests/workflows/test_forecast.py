"""How long a run takes, and what is left for another day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from distributor.workflows.sending.limits import Forecast, allocate, forecast

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ONE, TWO = "one@example.org", "two@example.org"
EXCHANGE = {"now": NOON, "per_minute": 30, "daily": 10_000}


def minutes(found: Forecast) -> float:
    return found.lasts / timedelta(minutes=1)


def test_messages_that_are_made_are_known_and_the_others_are_spread() -> None:
    assert allocate({ONE: 600}, 100, (ONE, TWO)) == [650, 50]
    assert allocate({"gone@example.org": 3, TWO: 1}, 3, (ONE, TWO)) == [5, 2]
    assert allocate({ONE: 2, TWO: 2}, 1, ()) == [5]
    assert allocate({}, 7, (ONE,)) == [7]


def test_the_slowest_mailbox_decides() -> None:
    assert minutes(forecast([600, 0], [[], []], **EXCHANGE)) == pytest.approx(20, rel=0.02)
    assert minutes(forecast([300, 300], [[], []], **EXCHANGE)) == pytest.approx(10, rel=0.02)


def test_what_a_day_does_not_allow_is_left_for_the_next() -> None:
    found = forecast([12_000], [[]], **EXCHANGE)
    assert (found.messages, found.later, found.again) == (10_000, 2_000, NOON + DAY)
    assert minutes(found) == pytest.approx(10_000 / 30, rel=0.02)


def test_what_left_in_the_last_day_counts() -> None:
    sent = [NOON - timedelta(hours=2)] * 8
    assert forecast([12], [sent], now=NOON, per_minute=None, daily=10) == Forecast(2, timedelta(), 10, NOON + timedelta(hours=22))
    assert forecast([12], [sent * 2], now=NOON, per_minute=None, daily=10).messages == 0


def test_what_left_a_day_ago_makes_room_while_the_run_goes_on() -> None:
    sent = [NOON - DAY + timedelta(seconds=2 * number) for number in range(10_000)]
    found = forecast([2000], [sent], **EXCHANGE)
    assert (found.messages, found.later, found.again) == (2000, 0, None)


def test_a_mailbox_that_is_full_does_not_stop_the_others() -> None:
    found = forecast([5, 5], [[NOON] * 3, []], now=NOON, per_minute=30, daily=3)
    assert (found.messages, found.later, found.again) == (3, 7, NOON + DAY)


def test_a_limit_of_the_run_counts_for_all_mailboxes_together() -> None:
    found = forecast([600, 600], [[], []], **EXCHANGE, limit=60)
    assert (found.messages, found.later, round(minutes(found))) == (60, 0, 1)
    assert forecast([5], [[]], now=NOON, per_minute=30, daily=3, limit=3).later == 0


def test_without_limits_nothing_takes_time() -> None:
    assert forecast([5], [[]], now=NOON, per_minute=None, daily=None) == Forecast(5, timedelta())
