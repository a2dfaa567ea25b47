"""How fast, how soon again, and how long to go on: pure counting, with the clock as an argument."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_LATER = tuple(timedelta(minutes=m) for m in (5, 15, 30, 60, 120, 240))
_FIRST_REST = 1.0  # seconds; one lost connection is nothing yet
_REST = 5.0  # seconds, doubled each time
LONGEST_TROUBLE = 120.0  # seconds of rests in a row, after which a lane gives up
CROWDED_REST = 45.0  # seconds; services ask for 30 to 60
DAY = timedelta(hours=24)


def later(deferrals: int) -> timedelta:
    """How long to leave a letter alone that a server put off; `deferrals` counts the earlier times.

    5, 15, 30, 60 and 120 minutes, then 4 hours. RFC 5321 4.5.4.1 asks servers for 30 minutes; a submission client may ask sooner.
    """
    return _LATER[min(deferrals, len(_LATER) - 1)]


@dataclass
class Trouble:
    """A lane's failures in a row, and the rest after each: 1, 5, 10, 20 ... seconds with jitter."""

    chance: Callable[[], float] = random.random
    failures: int = 0
    rested: float = 0.0

    def rest(self, *, crowded: bool = False, wish: timedelta | None = None) -> float | None:
        """Seconds to rest after one more failure; None when two minutes of rests did not help. A service's own `wish` is granted."""
        if self.rested >= LONGEST_TROUBLE:
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
class Quota:
    """Letters of a mailbox in any 24 hours: what the ledger knows of, and those of this run."""

    most: int
    sent: deque[datetime]  # oldest first

    def take(self, now: datetime) -> datetime | None:
        """Count one letter more; or when the next may go, where there were too many."""
        while self.sent and self.sent[0] <= now - DAY:
            self.sent.popleft()
        if len(self.sent) >= self.most:
            return self.sent[len(self.sent) - self.most] + DAY
        self.sent.append(now)
        return None


@dataclass
class Pace:
    """A token bucket for each sender: `per_minute` letters, at most one second's worth at once."""

    per_minute: float | None
    _buckets: dict[str, tuple[float, datetime]] = field(default_factory=dict)

    def turn(self, sender: str, now: datetime) -> float:
        """Take a turn; seconds to wait until it comes."""
        if self.per_minute is None:
            return 0.0
        each = self.per_minute / 60
        most = max(1.0, each)
        tokens, since = self._buckets.get(sender, (most, now))
        passed = max(0.0, (now - since).total_seconds())  # a clock set back gives nothing
        tokens = min(most, tokens + passed * each) - 1
        self._buckets[sender] = (tokens, now)
        return max(0.0, -tokens / each)
