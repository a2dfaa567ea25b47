"""Repeats a request while the service is busy (429, 503): after its Retry-After, or with exponential backoff. Only for idempotent requests.

A request before Retry-After is over is refused again, and counted (facts: sending.md 1.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from distributor.clients.http import BUSY, HttpResponse

T = TypeVar("T")  # the result of a request; only an HttpResponse can be busy
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is tried; without Retry-After the wait is `shortest`, doubled each time up to `longest`."""

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
