"""A question that a busy service puts off -> asked again when it says, or a little later each time; only for what may be asked again.

Whoever asks before the service's own time is over is refused again, and counted (facts: sending.md 1.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from distributor.clients.http import BUSY, HttpResponse

T = TypeVar("T")  # what the question brings; an Answer may say "later"
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one asks, and how long one waits between: at least `shortest`, doubled each time, where the service names no time."""

    tries: int
    shortest: timedelta
    longest: timedelta

    async def call(self, question: Callable[[], Awaitable[T]], sleep: Sleep) -> T:
        """The first answer that is not "later", or is later than `longest`; else the last one."""
        response = await question()
        for tried in range(self.tries - 1):
            if not isinstance(response, HttpResponse) or response.status not in BUSY or response.retry_after_exceeds(self.longest):
                break
            wait = min(self.shortest * 2**tried, self.longest) if response.retry_after is None else response.retry_after
            await sleep(wait.total_seconds())
            response = await question()
        return response
