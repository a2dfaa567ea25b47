"""How fast, how soon again, and how long to go on: pure counting, with the clock as an argument."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_LATER = tuple(timedelta(minutes=m) for m in (5, 15, 30, 60, 120, 240))
_FIRST_REST = 1.0  # seconds; one lost connection is nothing yet
_REST = 5.0  # seconds, doubled each time
LONGEST_TROUBLE = 120.0  # seconds of rests in a row, after which a lane gives up
CROWDED_REST = 45.0  # seconds; services ask for 30 to 60
DAY = timedelta(hours=24)
SPREAD = 1.012  # of the time between two messages: whoever counts them has another clock, behind a line that is never equally fast
WINDOW = 1.008  # of a minute, in which no more may be armed; less than SPREAD, so that a message that was late delays no other for long
_BURST = timedelta(seconds=1)  # what may be made up for at once


def retry_delay(deferrals: int) -> timedelta:
    """How long to leave a message alone that a server put off; `deferrals` counts the earlier times.

    5, 15, 30, 60 and 120 minutes, then 4 hours. RFC 5321 4.5.4.1 asks servers for 30 minutes; a submission client may ask sooner.
    """
    return _LATER[min(deferrals, len(_LATER) - 1)]


@dataclass
class Backoff:
    """A lane's failures in a row, and the rest after each: 1, 5, 10, 20 ... seconds with jitter."""

    chance: Callable[[], float] = random.random
    failures: int = 0
    rested: float = 0.0

    def next_delay(self, *, crowded: bool = False, wish: timedelta | None = None) -> float | None:
        """Seconds to rest after one more failure; None when two minutes of rests did not help, or the service's own `wish` is for more."""
        if self.rested >= LONGEST_TROUBLE or (wish is not None and wish.total_seconds() > LONGEST_TROUBLE):
            return None
        plain = _FIRST_REST if self.failures == 0 else _REST * 2 ** (self.failures - 1)
        plain = max(plain, CROWDED_REST) if crowded else plain
        seconds = min(plain * (0.75 + self.chance() / 2), LONGEST_TROUBLE - self.rested)
        self.failures += 1
        self.rested += plain
        return seconds if wish is None else max(seconds, wish.total_seconds())

    def over(self) -> None:
        """The server answered."""
        self.failures, self.rested = 0, 0.0


@dataclass
class DailyQuota:
    """Messages of a mailbox in any 24 hours: what the ledger knows of, and those of this run, without those that surely did not leave."""

    most: int
    sent: deque[datetime]  # oldest first
    in_flight: int = 0  # taken, and nothing is known of them yet

    def acquire(self, now: datetime) -> bool:
        """Let one message more go, if there is room for it."""
        while self.sent and self.sent[0] <= now - DAY:
            self.sent.popleft()
        free = len(self.sent) + self.in_flight < self.most
        self.in_flight += free
        return free

    def release(self, now: datetime, *, left: bool) -> None:
        """One that went is done; one that did not leave makes room."""
        self.in_flight -= 1
        if left:
            self.sent.append(now)

    def next_free_at(self) -> datetime | None:
        """When there is room again, after too many; None: those that are going decide it."""
        over = len(self.sent) - self.most
        return self.sent[over] + DAY if over >= 0 else None


class RateLimiter:
    """A mailbox's messages: evenly begun, at most one second's worth at once, and never more than `per_minute` armed within a minute.

    A message takes its turn before it begins; armed it is only when a minute has room for it, however long it took until then.
    """

    def __init__(self, per_minute: float, armed: Sequence[datetime] = ()) -> None:
        """`armed`: when messages of earlier runs were, oldest first."""
        self.most = max(1, int(per_minute))  # messages within `window`
        self.each = timedelta(minutes=SPREAD / per_minute)
        self.window = timedelta(minutes=self.most * WINDOW / per_minute)
        self._sent = list(armed)[-self.most :]  # sorted
        self._next = self._sent[-1] + self.each if self._sent else None
        self._now: datetime | None = None

    def reserve(self, now: datetime) -> float:
        """Take a turn; seconds to wait until it comes."""
        self._look(now)
        earliest = now - max(timedelta(0), _BURST - self.each)
        turn = max(self._next or earliest, earliest)
        self._next = turn + self.each
        return max(0.0, (turn - now).total_seconds())

    def confirm(self, now: datetime) -> datetime:
        """When one message more may be armed; it counts from then."""
        self._look(now)
        return self._count(max(now, self._sent[-self.most] + self.window) if len(self._sent) >= self.most else now)

    def late(self, planned: datetime, now: datetime) -> None:
        """It was armed only now."""
        at = bisect_left(self._sent, planned)
        if at < len(self._sent) and self._sent[at] == planned:
            del self._sent[at]
            self._count(now)

    def _count(self, at: datetime) -> datetime:
        insort(self._sent, at)
        del self._sent[: -self.most]
        return at

    def _look(self, now: datetime) -> None:
        """A clock that is set back neither gives nor takes."""
        back = (self._now or now) - now
        if back > timedelta(0):
            self._next = self._next and self._next - back
            self._sent = [at - back for at in self._sent]
        self._now = now
