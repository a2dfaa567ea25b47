"""How fast, how soon again, and how long to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from distributor.flow.pace import LONGEST_TROUBLE, Pace, Trouble, later

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_thirty_a_minute_is_one_every_two_seconds() -> None:
    pace = Pace(30)
    assert [pace.turn("a", NOON) for _ in range(4)] == pytest.approx([0, 2, 4, 6])


def test_a_pause_earns_one_second_s_worth_and_not_more() -> None:
    pace = Pace(600)
    turns = [pace.turn("a", NOON) for _ in range(11)]
    assert turns == pytest.approx([0] * 10 + [0.1])
    assert [pace.turn("a", NOON + timedelta(hours=1)) for _ in range(11)] == pytest.approx([0] * 10 + [0.1])


def test_each_sender_has_a_pace_of_its_own() -> None:
    pace = Pace(1)
    assert (pace.turn("a", NOON), pace.turn("b", NOON), pace.turn("a", NOON)) == pytest.approx((0, 0, 60))


def test_a_clock_that_is_set_back_neither_gives_nor_takes() -> None:
    pace = Pace(60)
    assert pace.turn("a", NOON) == 0
    assert pace.turn("a", NOON - timedelta(hours=1)) == pytest.approx(1)


def test_no_pace_is_no_wait() -> None:
    assert Pace(None).turn("a", NOON) == 0


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_rests_double_and_end_after_two_minutes(chance: float) -> None:
    trouble = Trouble(lambda: chance)
    rests = list(iter(trouble.rest, None))
    assert rests[0] < 2
    assert sum(rests) <= LONGEST_TROUBLE * 1.25
    assert len(rests) == 6


def test_a_crowded_server_is_left_alone_for_longer() -> None:
    assert Trouble(lambda: 0.5).rest(crowded=True) == 45.0


def test_an_answer_ends_the_trouble() -> None:
    trouble = Trouble(lambda: 0.5)
    for _ in range(4):
        trouble.rest()
    trouble.over()
    assert trouble.rest() == 1.0


def test_a_deferred_letter_waits_five_minutes_and_at_last_four_hours() -> None:
    assert [later(n) // timedelta(minutes=1) for n in range(8)] == [5, 15, 30, 60, 120, 240, 240, 240]
