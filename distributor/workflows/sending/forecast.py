"""Estimates how long a run takes and what the daily quotas leave for another day. Pure arithmetic."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from distributor.workflows.sending.limits import SPREAD, DailyQuota


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
