"""Reminders: who needs one, which step is due, and the ledger's methods about them.

A step is written at most once for a certificate; after a pause only the newest is due, never all that were missed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

EXPIRY_STEPS = (30, 14, 7, 3, 1)  # days before a certificate expires
EXPIRED = "expired"
LONGEST_EXPIRED = timedelta(days=30)  # a certificate that expired before is only listed: nobody is written to about what was long ago
UNCOLLECTED_AFTER = timedelta(days=3)
LAST_DAY = timedelta(days=1)  # before the password expires
UNCONFIRMED_AFTER = timedelta(days=7)
WAITING, ENDING, ASKED = "3-days", "last-day", "7-days"


class ReminderKind(StrEnum):
    """What a reminder is about."""

    EXPIRING = "expiring"  # the certificate expires soon, or has expired
    UNCOLLECTED = "uncollected"  # the password was never collected
    UNCONFIRMED = "unconfirmed"  # nobody has said that the certificate works


class Reminder(NamedTuple):
    """A delivery whose person may need a reminder of one kind."""

    kind: ReminderKind
    delivery: str
    address: str
    name: str
    language: str
    certificate: str  # SHA-256
    serial: str
    not_after: datetime
    since: datetime  # when the message, or the password, was there
    expires_at: datetime | None  # of the password; None: it does not expire
    steps: frozenset[str] = frozenset()  # written before
    last: datetime | None = None  # when the last one of this kind was written
    waits: bool = False  # its password is still to be collected

    def due_step(self, now: datetime) -> str | None:
        """The newest step that has come and was not written; None where there is none."""
        newest = self._newest(now)
        return newest if newest not in self.steps else None

    def _newest(self, now: datetime) -> str | None:
        match self.kind:
            case ReminderKind.EXPIRING:
                left = self.not_after - now
                if left <= timedelta(0):
                    return EXPIRED if -left <= LONGEST_EXPIRED else None
                return next((str(days) for days in reversed(EXPIRY_STEPS) if left <= timedelta(days=days)), None)
            case ReminderKind.UNCOLLECTED:
                if self.expires_at is not None and self.expires_at - now <= LAST_DAY:
                    return ENDING if now - self.since >= LAST_DAY else None
                return WAITING if now - self.since >= UNCOLLECTED_AFTER else None
            case _:  # the password comes first, and who is told to get a new certificate need not confirm the old one
                return None if self.waits or self.not_after - now <= timedelta(days=EXPIRY_STEPS[0]) else ASKED


@dataclass(frozen=True, slots=True)
class ReminderDetails:
    """What a reminder's message needs besides."""

    sender: str | None  # of the message with the package
    columns: Mapping[str, str]


class Reminders(Protocol):
    """The ledger's methods about reminders."""

    def reminders(self, expiring_until: datetime, usages: Callable[[bytes], Collection[str]]) -> Iterator[Reminder]:
        """Everybody whose certificate expires until then and is not replaced, who has not collected a password, or not confirmed.

        `usages`: what a certificate (DER) is for. Streams, oldest delivery first.
        """
        ...

    def reminder_details(self, deliveries: Sequence[str]) -> dict[str, ReminderDetails]:
        """What the messages of these deliveries need besides."""
        ...

    def record_reminder(self, reminder: Reminder, step: str, message_id: str, sender: str) -> None:
        """Record that a reminder is about to be sent. Raises RequestDenied where it was written, or is not needed any more."""
        ...

    def refuse_reminder(self, reminder: Reminder, step: str, message_id: str, sender: str, said: str) -> None:
        """Record that a reminder was certainly not sent, so that it is due again."""
        ...
