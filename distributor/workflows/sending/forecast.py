"""How many messages wait for each mailbox, and its limits -> how long a run takes, and what is left for another day. Pure counting."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from distributor.workflows.sending.limits import SPREAD, DailyQuota


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will come to. `later`: messages that the mailboxes' day does not allow; `again`: when the first of them may go."""

    messages: int
    lasts: timedelta
    later: int = 0
    again: datetime | None = None


@dataclass(slots=True)
class MailboxForecast:
    """One sender's share of the messages, and when its day allows more."""

    waiting: int
    quota: DailyQuota | None
    opens: datetime | None = None

    def goes(self, now: datetime) -> bool:
        """Whether one message more goes at that time."""
        if not self.waiting or self.opens:
            return False
        if self.quota is not None:
            if not self.quota.acquire(now):
                self.opens = self.quota.next_free_at()
                return False
            self.quota.release(now, left=True)
        self.waiting -= 1
        return True


def allocate(frozen: Mapping[str, int], planned: int, senders: Sequence[str]) -> list[int]:
    """How many messages each mailbox sends: those that are made already are known, the others are about even.

    The first sends also those of mailboxes that are named no more.
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
    """Let the mailboxes send side by side; `sent`: when messages of the last 24 hours left each. The slowest decides how long it takes."""
    boxes = [
        MailboxForecast(number, None if daily is None else DailyQuota(daily, deque(left)))
        for number, left in zip(waiting, sent, strict=True)
    ]
    each = timedelta(minutes=SPREAD / per_minute) if per_minute else timedelta()
    total = min(sum(waiting), sum(waiting) if limit is None else limit)
    rounds = done = 0
    while done < total:
        gone = sum(box.goes(now + rounds * each) for box in boxes)
        if not gone:
            break
        done, rounds = min(done + gone, total), rounds + 1
    again = min((box.opens for box in boxes if box.opens), default=None)
    return Forecast(done, rounds * each, total - done, again if done < total else None)
