"""A question that a busy service puts off -> asked again when it says, or a little later each time; only for what may be asked again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from distributor.clients._answers import Answer

T = TypeVar("T")  # what the question brings; an Answer may say "later"
Sleep = Callable[[float], Awaitable[object]]
_BUSY = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Patience:
    """How often one asks, and how long one waits between: at least `shortest`, doubled each time, where the service names no time."""

    tries: int
    shortest: timedelta
    longest: timedelta

    async def ask(self, question: Callable[[], Awaitable[T]], sleep: Sleep) -> T:
        """The first answer that is not "later", or the last one."""
        heard = await question()
        for tried in range(self.tries - 1):
            if not isinstance(heard, Answer) or heard.status not in _BUSY:
                break
            wait = heard.retry_after if heard.retry_after is not None else self.shortest * 2**tried
            await sleep(min(wait, self.longest).total_seconds())
            heard = await question()
        return heard
