"""Repeats requests while a service is busy (429, 503), and limits how many run concurrently to one mailbox.

Nothing is sent before Retry-After is over: it would be refused again, and counted (facts: sending.md 1.2 and 8).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from distributor.clients.http import BUSY, MAX_WAIT, HttpResponse, NoResponse, minute
from distributor.model.people import bounded

T = TypeVar("T")  # the result of a request; only an HttpResponse can be busy
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an idempotent request is tried; without Retry-After the wait is `shortest`, doubled each time up to `longest`."""

    tries: int
    shortest: timedelta
    longest: timedelta

    async def call(self, request: Callable[[], Awaitable[T]], sleep: Sleep) -> T:
        """The first response that is not busy, or that names a longer wait than `longest`; else the last one."""
        response = await request()
        for tried in range(self.tries - 1):
            if not isinstance(response, HttpResponse) or response.status not in BUSY or response.retry_after_exceeds(self.longest):
                break
            wait = min(self.shortest * 2**tried, self.longest) if response.retry_after is None else response.retry_after
            await sleep(wait.total_seconds())
            response = await request()
        return response


REDUCED_CONCURRENCY = 2  # concurrent requests after a 429
REDUCED_SECONDS = 60.0  # for which concurrency stays reduced after Retry-After
_TOO_MANY_REQUESTS = 429
_NO_SLOT = NoResponse(f"not sent: earlier requests took {MAX_WAIT.total_seconds():g} s", request_sent=False)

Clock = Callable[[], float]  # seconds; monotonic


class RequestThrottle:
    """Shared by all requests for a mailbox; slots are given in the order of the requests."""

    def __init__(self, most: int, sleep: Sleep, clock: Clock) -> None:
        self._most, self._sleep, self._clock = most, sleep, clock
        self._queue = asyncio.Lock()  # its holder is the next to get a slot; the others wait for it
        self._changed = asyncio.Event()
        self._running = 0
        self._paused_until = self._reduced_until = 0.0  # by the clock
        self._pause_reason: HttpResponse | None = None

    @property
    def capacity(self) -> int:
        """How many requests may run concurrently now."""
        return min(REDUCED_CONCURRENCY, self._most) if self._clock() < self._reduced_until else self._most

    def record(self, response: HttpResponse | NoResponse) -> None:
        """Apply the Retry-After of a 429 or 503; the latest of several counts. Others are ignored: a 202 may have one too."""
        if (
            not isinstance(response, HttpResponse)
            or response.status not in BUSY
            or (response.retry_after is None and response.status != _TOO_MANY_REQUESTS)
        ):
            return
        until = self._clock() + (response.retry_after or timedelta()).total_seconds()
        if until > self._paused_until:
            self._paused_until, self._pause_reason = until, response
        self._reduced_until = max(self._reduced_until, until + REDUCED_SECONDS)
        self._changed.set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[HttpResponse | NoResponse | None]:
        """A slot within MAX_WAIT; yields why there is none, and then the request must not be sent."""
        refused = await self._enter()
        try:
            yield refused
        finally:
            if refused is None:
                self._running -= 1
                self._changed.set()

    async def _enter(self) -> HttpResponse | NoResponse | None:
        latest = self._clock() + MAX_WAIT.total_seconds()
        if self._paused_until > latest:
            return self._refusal()
        try:
            async with asyncio.timeout(MAX_WAIT.total_seconds()), self._queue:
                return await self._wait_for_slot(latest)
        except TimeoutError:
            return self._refusal() or _NO_SLOT

    async def _wait_for_slot(self, latest: float) -> HttpResponse | None:
        while self._running >= self.capacity and self._paused_until <= latest:
            self._changed.clear()
            await self._changed.wait()
        while (seconds := (until := self._paused_until) - self._clock()) > 0:
            if until > latest:
                return self._refusal()
            await self._sleep(seconds)
            if self._paused_until == until:  # the sleep counts, even if its clock differs from ours
                self._paused_until = 0.0
        self._running += 1
        return None

    def _refusal(self) -> HttpResponse | None:
        """The service's own 429 or 503 again: the request was not sent."""
        left = timedelta(seconds=self._paused_until - self._clock())
        if self._pause_reason is None or left <= timedelta():
            return None
        again = datetime.now(UTC) + left
        text = bounded(f'not sent: the service asked to wait until {minute(again)}: "{self._pause_reason.detail}"')
        return replace(self._pause_reason, status=_TOO_MANY_REQUESTS, detail=text, retry_after=left, again=again)
