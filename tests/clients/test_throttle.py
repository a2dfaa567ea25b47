"""The turns of a mailbox's requests: never before the service's own time is over, few after too many, and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from distributor.clients import throttle
from distributor.clients.http import HttpResponse, NoResponse, minute
from distributor.clients.throttle import RequestThrottle

MOST = 4


def busy(seconds: float | None, status: int = 429) -> HttpResponse:
    wait = None if seconds is None else timedelta(seconds=seconds)
    return HttpResponse(status, "ApplicationThrottled", f"{status} ApplicationThrottled: Too much.", retry_after=wait)


@dataclass
class ThrottleHarness:
    """A throttle whose clock moves with its sleeps; `inside` is who is in it, `most` how many ever were."""

    time: float = 1000.0
    slept: list[float] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    inside: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.throttle = RequestThrottle(MOST, self.sleep, lambda: self.time)
        self.go = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.time += seconds

    async def ask(self, name: int = 0) -> HttpResponse | NoResponse | None:
        """What stood in the way; a request lasts until `go`."""
        async with self.throttle.slot() as refused:
            if refused is None:
                self.order.append(name)
                self.inside += 1
                self.most = max(self.most, self.inside)
                await self.go.wait()
                self.inside -= 1
            return refused

    async def all(self, number: int) -> list[HttpResponse | NoResponse | None]:
        asking = [asyncio.ensure_future(self.ask(name)) for name in range(number)]
        await settled()
        self.go.set()
        return await asyncio.gather(*asking)


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def run(act: Callable[[ThrottleHarness], Awaitable[object]]) -> ThrottleHarness:
    async def go() -> ThrottleHarness:
        harness = ThrottleHarness()
        await act(harness)
        return harness

    return asyncio.run(go())


@asynccontextmanager
async def one_inside(harness: ThrottleHarness, count: int) -> AsyncIterator[list[asyncio.Task[HttpResponse | NoResponse | None]]]:
    tasks = [asyncio.ensure_future(harness.ask(name)) for name in range(count)]
    await settled()
    yield tasks
    harness.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("status", [429, 503])
def test_all_wait_until_the_time_that_the_service_named_is_over(status: int) -> None:
    async def act(harness: ThrottleHarness) -> None:
        harness.throttle.record(busy(20, status))
        assert await harness.all(3) == [None] * 3

    assert run(act).slept == [20.0]


@pytest.mark.parametrize("status", [429, 503])
def test_a_time_beyond_two_minutes_is_not_waited_for_and_the_request_is_certainly_not_made(status: int) -> None:
    async def act(harness: ThrottleHarness) -> None:
        harness.throttle.record(busy(3600, status))
        harness.time += 60
        (refused,) = await harness.all(1)
        again = datetime.now(UTC) + timedelta(seconds=3540)
        assert isinstance(refused, HttpResponse)
        assert (refused.status, refused.code, refused.retry_after) == (429, "ApplicationThrottled", timedelta(seconds=3540))
        assert refused.again is not None
        assert abs(refused.again - again) < timedelta(seconds=5)
        assert refused.detail.startswith(f"not sent: the service asked to wait until {minute(refused.again)}: ")
        assert f'"{status} ApplicationThrottled: Too much."' in refused.detail

    harness = run(act)
    assert (harness.slept, harness.order) == ([], [])


def test_two_minutes_are_waited_for() -> None:
    async def act(harness: ThrottleHarness) -> None:
        harness.throttle.record(busy(120))
        assert await harness.all(1) == [None]

    assert run(act).slept == [120.0]


def test_those_who_wait_for_a_turn_are_told_at_once_that_there_is_none_for_long() -> None:
    async def act(harness: ThrottleHarness) -> None:
        async with one_inside(harness, MOST + 2) as tasks:
            harness.throttle.record(busy(3600))
            await settled()
            assert [task.done() for task in tasks] == [False] * MOST + [True] * 2
            assert all(isinstance(task.result(), HttpResponse) for task in tasks[MOST:])

    run(act)


def test_four_go_side_by_side_and_two_for_a_minute_after_too_many() -> None:
    async def act(harness: ThrottleHarness) -> None:
        assert harness.throttle.capacity == MOST
        harness.throttle.record(busy(20))
        await harness.all(6)
        assert (harness.most, harness.slept) == (2, [20.0])
        harness.time += 59
        assert harness.throttle.capacity == 2
        harness.time += 2
        harness.go.clear()
        await harness.all(6)
        assert harness.most == MOST

    run(act)


def test_too_many_without_a_time_makes_them_fewer_too() -> None:
    async def act(harness: ThrottleHarness) -> None:
        harness.throttle.record(busy(None))
        await harness.all(6)
        assert (harness.most, harness.slept) == (2, [])

    run(act)


@pytest.mark.parametrize(
    "response", [busy(20, 202), busy(20, 500), busy(None, 503), NoResponse("the connection was cut", request_sent=True)]
)
def test_nothing_else_holds_requests_back(response: HttpResponse | NoResponse) -> None:
    async def act(harness: ThrottleHarness) -> None:
        harness.throttle.record(response)
        await harness.all(6)
        assert (harness.most, harness.slept) == (MOST, [])

    run(act)


def test_a_shorter_time_that_is_heard_later_does_not_shorten_a_longer_one() -> None:
    async def act(harness: ThrottleHarness) -> None:
        harness.throttle.record(busy(90))
        harness.throttle.record(busy(5))
        await harness.all(1)

    assert run(act).slept == [90.0]


def test_a_longer_time_that_is_heard_while_one_waits_is_waited_for_too_within_two_minutes() -> None:
    async def act(harness: ThrottleHarness) -> None:
        async def sleep(seconds: float) -> None:
            if not harness.slept:
                harness.throttle.record(busy(100))
            await ThrottleHarness.sleep(harness, seconds)

        harness.throttle = RequestThrottle(MOST, sleep, lambda: harness.time)
        harness.throttle.record(busy(20))
        assert await harness.all(1) == [None]
        harness.throttle.record(busy(100))
        harness.slept.clear()

        async def lengthened(seconds: float) -> None:
            harness.throttle.record(busy(130))
            await ThrottleHarness.sleep(harness, seconds)

        harness.throttle._sleep = lengthened  # noqa: SLF001
        (refused,) = await harness.all(1)
        assert isinstance(refused, HttpResponse)

    assert run(act).slept == [100.0]


def test_requests_take_their_turns_in_the_order_in_which_they_came() -> None:
    assert run(lambda harness: harness.all(9)).order == list(range(9))


def test_whoever_gives_up_waiting_takes_nobodys_turn() -> None:
    async def act(harness: ThrottleHarness) -> None:
        async with one_inside(harness, MOST + 3) as tasks:
            for task in (tasks[MOST], tasks[MOST + 1], tasks[0]):
                task.cancel()
            await settled()
            assert harness.order == [0, 1, 2, 3, MOST + 2]

    run(act)


def test_requests_that_last_too_long_leave_the_next_one_certainly_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_WAIT", timedelta(seconds=0.05))

    async def act(harness: ThrottleHarness) -> None:
        async with one_inside(harness, MOST):
            refused = await harness.ask()
            assert isinstance(refused, NoResponse)
            assert not refused.request_sent
        assert await harness.all(1) == [None]

    run(act)
