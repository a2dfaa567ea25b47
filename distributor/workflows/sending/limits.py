"""Rate limit, daily quota, backoff and retry delay: pure arithmetic, with the clock as an argument."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_RETRY_DELAYS = tuple(timedelta(minutes=m) for m in (5, 15, 30, 60, 120, 240))
_FIRST_DELAY = 1.0  # seconds; a single lost connection is common
_DELAY = 5.0  # seconds, doubled each time
MAX_BACKOFF = 120.0  # seconds of delays in a row, after which a connection gives up
THROTTLED_DELAY = 45.0  # seconds; services ask for 30 to 60
DAY = timedelta(hours=24)
SPREAD = 1.012  # of the time between two messages: the service counts by its own clock, and the network's delay varies
WINDOW = 1.008  # of a minute, within which the rate holds; less than SPREAD, so that a late message does not delay the others for long
_BURST = timedelta(seconds=1)  # of unused rate that may be used at once


def retry_delay(deferrals: int) -> timedelta:
    """How long to wait before a deferred message is tried again; `deferrals` counts the earlier times.

    5, 15, 30, 60 and 120 minutes, then 4 hours. RFC 5321 4.5.4.1 asks servers for 30 minutes; a submission client may ask sooner.
    """
    return _RETRY_DELAYS[min(deferrals, len(_RETRY_DELAYS) - 1)]


@dataclass
class Backoff:
    """A connection's failures in a row, and the delay after each: 1, 5, 10, 20 ... seconds with jitter."""

    chance: Callable[[], float] = random.random
    failures: int = 0
    delayed: float = 0.0  # seconds in a row

    def next_delay(self, *, throttled: bool = False, retry_after: timedelta | None = None) -> float | None:
        """Seconds to wait after one more failure; None: give up, after two minutes of delays or where the service asks for more."""
        if self.delayed >= MAX_BACKOFF or (retry_after is not None and retry_after.total_seconds() > MAX_BACKOFF):
            return None
        plain = _FIRST_DELAY if self.failures == 0 else _DELAY * 2 ** (self.failures - 1)
        plain = max(plain, THROTTLED_DELAY) if throttled else plain
        seconds = min(plain * (0.75 + self.chance() / 2), MAX_BACKOFF - self.delayed)
        self.failures += 1
        self.delayed += plain
        return seconds if retry_after is None else max(seconds, retry_after.total_seconds())

    def reset(self) -> None:
        """Start over: the server answered."""
        self.failures, self.delayed = 0, 0.0


@dataclass
class DailyQuota:
    """At most `most` messages of a mailbox in any 24 hours, counting those in the ledger and those that may have left in this run."""

    most: int
    sent: deque[datetime]  # oldest first
    in_flight: int = 0  # acquired, and not released yet

    def acquire(self, now: datetime) -> bool:
        """Take one message of the quota; False when none is free."""
        while self.sent and self.sent[0] <= now - DAY:
            self.sent.popleft()
        free = len(self.sent) + self.in_flight < self.most
        self.in_flight += free
        return free

    def release(self, now: datetime, *, left: bool) -> None:
        """An acquired message is done; it counts only if it may have left."""
        self.in_flight -= 1
        if left:
            self.sent.append(now)

    def next_free_at(self) -> datetime | None:
        """When the next message is free; None: as soon as one in flight turns out not to have left."""
        over = len(self.sent) - self.most
        return self.sent[over] + DAY if over >= 0 else None


class RateLimiter:
    """Spaces a mailbox's messages evenly, at most one second's worth at once, and never more than `per_minute` within a minute.

    `reserve` spaces the beginnings. What counts for the limit is when the intent is recorded: `confirm` says when that may be, however
    long the message took until then.
    """

    def __init__(self, per_minute: float, sent: Sequence[datetime] = ()) -> None:
        """`sent`: when earlier runs recorded their intents, oldest first."""
        self.most = max(1, int(per_minute))  # messages within `window`
        self.interval = timedelta(minutes=SPREAD / per_minute)
        self.window = timedelta(minutes=self.most * WINDOW / per_minute)
        self._sent = list(sent)[-self.most :]  # sorted
        self._next = self._sent[-1] + self.interval if self._sent else None
        self._now: datetime | None = None

    def reserve(self, now: datetime) -> float:
        """Reserve the next free moment; seconds to wait until then."""
        self._adjust(now)
        earliest = now - max(timedelta(0), _BURST - self.interval)
        turn = max(self._next or earliest, earliest)
        self._next = turn + self.interval
        return max(0.0, (turn - now).total_seconds())

    def confirm(self, now: datetime) -> datetime:
        """When the intent of one more message may be recorded; it counts from then."""
        self._adjust(now)
        return self._count(max(now, self._sent[-self.most] + self.window) if len(self._sent) >= self.most else now)

    def reschedule(self, planned: datetime, now: datetime) -> None:
        """Count from now a message that `confirm` planned for an earlier moment."""
        at = bisect_left(self._sent, planned)
        if at < len(self._sent) and self._sent[at] == planned:
            del self._sent[at]
            self._count(now)

    def _count(self, at: datetime) -> datetime:
        insort(self._sent, at)
        del self._sent[: -self.most]
        return at

    def _adjust(self, now: datetime) -> None:
        """Move everything along with a clock that was set back."""
        back = (self._now or now) - now
        if back > timedelta(0):
            self._next = self._next and self._next - back
            self._sent = [at - back for at in self._sent]
        self._now = now


# --- forecast --------------------------------------------------------------------------------
# Estimates how long a run takes and what the daily quotas leave for another day. Pure arithmetic.


@dataclass(frozen=True, slots=True)
class Forecast:
    """The estimate. `later`: messages beyond the daily quotas; `again`: when the first of them may be sent."""

    messages: int
    lasts: timedelta
    later: int = 0
    again: datetime | None = None


@dataclass(slots=True)
class MailboxForecast:
    """One mailbox's messages, and when its quota is free again."""

    waiting: int
    quota: DailyQuota | None
    free_at: datetime | None = None

    def send_one(self, now: datetime) -> bool:
        """Count one message sent at that time; False when none waits or the quota is used up."""
        if not self.waiting or self.free_at:
            return False
        if self.quota is not None:
            if not self.quota.acquire(now):
                self.free_at = self.quota.next_free_at()
                return False
            self.quota.release(now, left=True)
        self.waiting -= 1
        return True


def allocate(frozen: Mapping[str, int], planned: int, senders: Sequence[str]) -> list[int]:
    """How many messages each mailbox sends: `frozen` ones by their sender, the planned ones in equal shares.

    The first mailbox also sends those of senders that are no longer configured.
    """
    if len(senders) < 2:  # noqa: PLR2004  one mailbox sends everything
        return [sum(frozen.values()) + planned]
    found = [frozen.get(sender, 0) + planned // len(senders) + (n < planned % len(senders)) for n, sender in enumerate(senders)]
    found[0] += sum(number for sender, number in frozen.items() if sender not in senders)
    return found


def forecast(  # noqa: PLR0913  the limits of a mailbox
    waiting: Sequence[int],
    sent: Sequence[Sequence[datetime]],
    *,
    now: datetime,
    per_minute: float | None,
    daily: int | None,
    limit: int | None = None,
) -> Forecast:
    """Simulate mailboxes that send side by side. `waiting`, and `sent` (times in the last 24 hours, oldest first): one item a mailbox."""
    mailboxes = [
        MailboxForecast(number, None if daily is None else DailyQuota(daily, deque(left)))
        for number, left in zip(waiting, sent, strict=True)
    ]
    each = timedelta(minutes=SPREAD / per_minute) if per_minute else timedelta()
    total = min(sum(waiting), sum(waiting) if limit is None else limit)
    rounds = done = 0
    while done < total:
        sent_now = sum(mailbox.send_one(now + rounds * each) for mailbox in mailboxes)
        if not sent_now:
            break
        done, rounds = min(done + sent_now, total), rounds + 1
    again = min((mailbox.free_at for mailbox in mailboxes if mailbox.free_at), default=None)
    return Forecast(done, rounds * each, total - done, again if done < total else None)
