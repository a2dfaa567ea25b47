"""The ledger's methods about time (its clock, its last event, leases) and about sending mailboxes (locks, what is due, what was sent)."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from distributor.model.delivery import ALL_SENDERS, DeliveryFilter, SenderFilter, UnderWay
from distributor.model.issues import Diagnostic


class LedgerTimes(Protocol):
    """One clock decides leases, waiting times, quotas and expiry: the ledger's."""

    def now(self) -> datetime:
        """The ledger's clock: the only one that may be compared with its times."""
        ...

    def position(self) -> int:
        """The number of the last event; 0 where there is none. It decides the order of events, not their times."""
        ...

    def ahead(self) -> datetime | None:
        """The time of the last event, if it is ahead of the clock by more than TOLERANCE: one of the two was wrong."""
        ...

    def under_way(self, scope: DeliveryFilter) -> list[UnderWay]:
        """Deliveries that senders have claimed or are transmitting."""
        ...

    def check(self) -> list[Diagnostic]:
        """`doctor`'s checks of the database: whether a commit is durable."""
        ...


class MailboxQueries(Protocol):
    """Only one process at a time may send from a mailbox with limits, so that processes that share a ledger keep them together."""

    def lock_mailbox(self, mailbox: str) -> bool:
        """Lock a mailbox until the ledger is closed or the process ends, however it ends; False while another process has the lock."""
        ...

    def sent_times(self, since: datetime, senders: SenderFilter) -> list[datetime]:
        """Times of these senders' attempts and reminders since then, oldest first; without what was certainly not sent."""
        ...

    def next_due(self, scope: DeliveryFilter, senders: SenderFilter = ALL_SENDERS) -> datetime | None:
        """When the next deferred delivery is due; None without one."""
        ...

    def has_pending(self, scope: DeliveryFilter, senders: SenderFilter, *, early: bool = False) -> bool:
        """Whether a message of these senders is due, being packed, or claimed by a process that may still release it."""
        ...

    def due(self, scope: DeliveryFilter, *, early: bool = False) -> dict[str, int]:
        """The number of stored messages that are due, by sender. `early`: deferred ones before their time too."""
        ...
