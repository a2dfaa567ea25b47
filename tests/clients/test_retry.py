"""Whoever may ask again asks when the service said, a little later each time where it said nothing, and not within its own time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from distributor.clients.graph import service_error
from distributor.clients.http import HttpResponse, parse_response
from distributor.clients.throttle import RetryPolicy

NOW = datetime(2026, 11, 30, 12, 0, 30, tzinfo=UTC)
RETRIES = RetryPolicy(4, timedelta(seconds=50), timedelta(seconds=120))


def busy(status: int = 429, retry_after: str | None = None) -> HttpResponse:
    found = parse_response(status, {} if retry_after is None else {"retry-after": retry_after}, b"{}", raw=False, now=NOW)
    assert isinstance(found, HttpResponse)
    return found


def asked(*answers: HttpResponse) -> tuple[HttpResponse, list[float], int]:
    """The answer that counts, the waits, and how often was asked."""
    left, slept = list(answers), list[float]()

    async def question() -> HttpResponse:
        return left.pop(0)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    response = asyncio.run(RETRIES.call(question, sleep))
    return response, slept, len(answers) - len(left)


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_asks_for_more_than_there_is_patience_is_not_asked_again(status: int) -> None:
    refused = busy(status, "121")
    assert asked(refused, busy(status)) == (refused, [], 1)


def test_all_the_time_that_is_asked_for_is_granted() -> None:
    assert asked(busy(429, "120"), busy(429, "7"), busy(503, "0"), HttpResponse(200, "", "200 OK"))[1] == [120.0, 7.0, 0.0]


def test_where_no_time_is_named_waits_double_up_to_the_longest() -> None:
    assert asked(*[busy(503)] * 5)[1:] == ([50.0, 100.0, 120.0], 4)


@pytest.mark.parametrize(
    ("retry_after", "hint"),
    [
        ("3600", "run the command again after 2026-11-30 13:01 UTC"),
        ("30", "run the command again after 2026-11-30 12:01 UTC"),
        ("Mon, 30 Nov 2026 14:00:00 GMT", "run the command again after 2026-11-30 14:00 UTC"),
        (None, "run the command again later"),
    ],
)
def test_a_busy_service_that_ends_a_command_says_when_to_run_it_again(retry_after: str | None, hint: str) -> None:
    assert {service_error(busy(status, retry_after), "graph").hint for status in (429, 503)} == {hint}
