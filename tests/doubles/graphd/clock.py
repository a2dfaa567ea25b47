"""The double's clock: real time, and what a test has added to it; and the texts in which Graph and HTTP write a time."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate


@dataclass
class Clock:
    """Seconds since 1970; a test moves it forward, and real time goes on."""

    ahead: float = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> float:
        self.ahead += seconds
        return self.now()


def stamp(seconds: float) -> str:
    """2026-11-25T10:00:00Z."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def read_stamp(text: str) -> float:
    """Seconds of an ISO 8601 time with its zone; ValueError otherwise."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return moment.timestamp()


@dataclass
class Window:
    """What happened in the last so many seconds, and the most there ever was."""

    seconds: float
    most: int = 0
    _events: deque[tuple[float, int]] = field(default_factory=deque)
    _total: int = 0

    def add(self, now: float, amount: int = 1) -> int:
        """The sum with this event."""
        self.total(now)
        self._events.append((now, amount))
        self._total += amount
        self.most = max(self.most, self._total)
        return self._total

    def total(self, now: float) -> int:
        while self._events and self._events[0][0] <= now - self.seconds:
            self._total -= self._events.popleft()[1]
        return self._total

    def opens(self, now: float) -> int:
        """Whole seconds until the oldest event leaves."""
        return max(1, math.ceil(self._events[0][0] + self.seconds - now)) if self._events else 1
