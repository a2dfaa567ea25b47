"""What is measured of a ledger, and the ledger's method that counts it. No personal data: people appear in numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from distributor.model.attention import Attention
from distributor.model.states import PasswordState, State, Way

EXPIRY_DAYS = (7, 30, 90)


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    """Counts of one moment. `oldest`: since when the delivery that is longest in a state is in it."""

    now: datetime
    deliveries: Mapping[tuple[State, Way], int]
    oldest: Mapping[State, datetime]
    passwords: Mapping[PasswordState, int]
    expiring: Mapping[int, int]  # certificates with a person that were not renewed, by days left
    attention: Sequence[Attention]
    events: int
    last_event: datetime | None
    checkpoint: tuple[int, datetime] | None  # how many events the last one covers, and when it was made


class FigureQueries(Protocol):
    """The ledger's method for metrics."""

    def figures(self) -> LedgerFigures:
        """All counts; a few queries, fast at 100 000 deliveries."""
        ...


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """What a mailbox may still send. None: without that limit."""

    sender: str
    last_minute: int
    last_day: int
    per_minute: float | None
    daily: int | None


@dataclass(frozen=True, slots=True)
class Verification:
    """The last verification of the audit log on this machine."""

    at: datetime
    events: int
    intact: bool


DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
