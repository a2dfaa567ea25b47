"""How fast, how soon again, and how long to go on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from distributor.workflows.sending.limits import MAX_BACKOFF, Backoff, DailyQuota, RateLimiter, retry_delay

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def most_in_a_minute(times: Sequence[datetime]) -> int:
    """The most of any 60 seconds, both ends counted."""
    sorted_times = sorted(times)
    return max(bisect_right(sorted_times, first + seconds(60)) - bisect_left(sorted_times, first) for first in times)


def walk(pace: RateLimiter, messages: int, now: datetime = NOON) -> list[datetime]:
    """When so many messages are armed, one after another, each at once when its turn has come."""
    armed = []
    for _ in range(messages):
        now += seconds(pace.reserve(now))
        now = pace.confirm(now)
        armed.append(now)
    return armed


def test_thirty_a_minute_is_one_every_two_seconds_and_a_little() -> None:
    pace = RateLimiter(30)
    assert [pace.reserve(NOON) for _ in range(4)] == pytest.approx([0, 2, 4, 6], rel=0.02)


@pytest.mark.parametrize("rate", [1, 7, 30, 100, 600])
def test_no_minute_has_more_than_its_messages_and_hardly_less(rate: int) -> None:
    armed = walk(RateLimiter(rate), 5 * rate)
    assert most_in_a_minute(armed) <= rate
    assert len(armed) / ((armed[-1] - NOON) / seconds(60) + 1 / rate) >= 0.98 * rate


def test_messages_that_were_held_up_before_they_were_armed_do_not_make_a_minute_too_full() -> None:
    pace = RateLimiter(30)
    assert max(pace.reserve(NOON) for _ in range(4)) < 7
    armed = [pace.confirm(NOON + seconds(9)) for _ in range(4)]  # signing in took its time
    armed += walk(pace, 86, NOON + seconds(9))
    assert most_in_a_minute(armed) == 30
    assert armed[-1] - NOON < seconds(9 + 90 * 2 / 0.98)  # once late, and not later with each minute


def test_a_note_that_took_long_to_become_durable_counts_from_then() -> None:
    pace = RateLimiter(1)
    assert pace.confirm(NOON) == NOON
    pace.reschedule(NOON, NOON + seconds(8))
    assert pace.confirm(NOON + seconds(61)) >= NOON + seconds(68)


def test_a_run_goes_on_at_the_pace_of_the_one_before() -> None:
    before = [NOON - seconds(2 * number) for number in range(28, 0, -1)]  # the last one two seconds ago
    pace = RateLimiter(30, before)
    assert most_in_a_minute([*before, *walk(pace, 60)]) <= 30
    assert RateLimiter(30, [NOON]).reserve(NOON) == pytest.approx(2, rel=0.02)


def test_a_pause_earns_one_second_s_worth_and_not_more() -> None:
    pace = RateLimiter(600)
    for moment in (NOON, NOON + timedelta(hours=1)):
        turns = [pace.reserve(moment) for _ in range(11)]
        assert 9 <= turns.count(0) <= 10
        assert turns[-1] == pytest.approx(0.1, abs=0.03)


def test_a_clock_that_is_set_back_neither_gives_nor_takes() -> None:
    pace = RateLimiter(60)
    assert pace.reserve(NOON) == 0
    assert pace.confirm(NOON) == NOON
    assert pace.reserve(NOON - timedelta(hours=1)) == pytest.approx(1, rel=0.02)
    assert pace.confirm(NOON - timedelta(hours=1)) == NOON - timedelta(hours=1)


def test_a_day_has_room_again_for_what_did_not_leave() -> None:
    quota = DailyQuota(2, deque([NOON - timedelta(hours=23)]))
    assert (quota.acquire(NOON), quota.acquire(NOON), quota.next_free_at()) == (True, False, None)
    quota.release(NOON, left=False)
    assert quota.acquire(NOON)
    quota.release(NOON, left=True)
    assert (quota.acquire(NOON), quota.next_free_at()) == (False, NOON + timedelta(hours=1))
    assert quota.acquire(NOON + timedelta(hours=1))


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_rests_double_and_end_after_two_minutes(chance: float) -> None:
    trouble = Backoff(lambda: chance)
    rests = list(iter(trouble.next_delay, None))
    assert rests[0] < 2
    assert sum(rests) <= MAX_BACKOFF * 1.25
    assert len(rests) == 6


def test_a_server_that_throttles_is_left_alone_for_longer() -> None:
    assert Backoff(lambda: 0.5).next_delay(throttled=True) == 45.0


def test_an_answer_ends_the_trouble() -> None:
    trouble = Backoff(lambda: 0.5)
    for _ in range(4):
        trouble.next_delay()
    trouble.reset()
    assert trouble.next_delay() == 1.0


def test_a_deferred_message_waits_five_minutes_and_at_last_four_hours() -> None:
    assert [retry_delay(n) // timedelta(minutes=1) for n in range(8)] == [5, 15, 30, 60, 120, 240, 240, 240]


# --- delays after failures --------------------------------------------------------------------------------------------


def rest(seconds: float, chance: float = 1.0) -> float | None:
    return Backoff(lambda: chance).next_delay(throttled=True, retry_after=timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [121, 300, 86_400])
def test_a_service_that_asks_for_more_than_two_minutes_is_left_to_the_next_run(seconds: float) -> None:
    assert rest(seconds) is None


def test_two_minutes_are_granted() -> None:
    assert rest(120) == 120.0
    assert rest(90) == 90.0
