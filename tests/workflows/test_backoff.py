"""Delays after failures: never longer than a run waits by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.workflows.sending.limits import Backoff


def rest(seconds: float, chance: float = 1.0) -> float | None:
    return Backoff(lambda: chance).next_delay(throttled=True, retry_after=timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [121, 300, 86_400])
def test_a_service_that_asks_for_more_than_two_minutes_is_left_to_the_next_run(seconds: float) -> None:
    assert rest(seconds) is None


def test_two_minutes_are_granted() -> None:
    assert rest(120) == 120.0
    assert rest(90) == 90.0
