"""One mailbox's requests -> turns: some side by side, fewer after there were too many, and none before the service's own time is over.

Requests that are made while the service holds an app back count against it (facts: sending.md 1.2 and 8).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from distributor.clients.http import BUSY, MAX_WAIT, HttpResponse, NoResponse, minute
from distributor.clients.retry import Sleep
from distributor.model.people import bounded

REDUCED_CONCURRENCY = 2  # requests side by side after there were too many
REDUCED_SECONDS = 60.0  # seconds for which they stay few, once they may be made again
_MANY = 429
_CROWDED = NoResponse(f"not asked: the requests before it took {MAX_WAIT.total_seconds():g} s", request_sent=False)

Clock = Callable[[], float]  # seconds; never set back


class RequestThrottle:
    """What all requests for a mailbox share; they take their turns in the order in which they came."""

    def __init__(self, most: int, sleep: Sleep, clock: Clock) -> None:
        self._most, self._sleep, self._clock = most, sleep, clock
        self._door = asyncio.Lock()  # one waits behind it, the others before it
        self._changed = asyncio.Event()
        self._going = 0
        self._quiet = self._shy = 0.0  # until when, by the clock
        self._asked_for: HttpResponse | None = None  # quiet

    @property
    def capacity(self) -> int:
        """How many requests may go side by side now."""
        return min(REDUCED_CONCURRENCY, self._most) if self._clock() < self._shy else self._most

    def heard(self, answer: HttpResponse | NoResponse) -> None:
        """Do as the service asks; of several times the latest counts. A 202 may name one too, but refuses nothing."""
        if not isinstance(answer, HttpResponse) or answer.status not in BUSY or (answer.retry_after is None and answer.status != _MANY):
            return
        until = self._clock() + (answer.retry_after or timedelta()).total_seconds()
        if until > self._quiet:
            self._quiet, self._asked_for = until, answer
        self._shy = max(self._shy, until + REDUCED_SECONDS)
        self._changed.set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[HttpResponse | NoResponse | None]:
        """A turn within two minutes; or why there is none, and then the request must not be made."""
        refused = await self._enter()
        try:
            yield refused
        finally:
            if refused is None:
                self._going -= 1
                self._changed.set()

    async def _enter(self) -> HttpResponse | NoResponse | None:
        latest = self._clock() + MAX_WAIT.total_seconds()
        if self._quiet > latest:
            return self._refusal()
        try:
            async with asyncio.timeout(MAX_WAIT.total_seconds()), self._door:
                return await self._first_in_line(latest)
        except TimeoutError:
            return self._refusal() or _CROWDED

    async def _first_in_line(self, latest: float) -> HttpResponse | None:
        while self._going >= self.capacity and self._quiet <= latest:
            self._changed.clear()
            await self._changed.wait()
        while (seconds := (until := self._quiet) - self._clock()) > 0:
            if until > latest:
                return self._refusal()
            await self._sleep(seconds)
            if self._quiet == until:  # the sleep counts, however its clock and ours differ
                self._quiet = 0.0
        self._going += 1
        return None

    def _refusal(self) -> HttpResponse | None:
        """The service's own answer again, as a definite no: the request was not made."""
        left = timedelta(seconds=self._quiet - self._clock())
        if self._asked_for is None or left <= timedelta():
            return None
        again = datetime.now(UTC) + left
        told = bounded(f'not asked: the service wants to be left alone until {minute(again)}: "{self._asked_for.said}"')
        return replace(self._asked_for, status=_MANY, said=told, retry_after=left, again=again)
