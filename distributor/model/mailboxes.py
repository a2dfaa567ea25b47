"""The ledger's methods about sending mailboxes: locks, messages that are due, times of messages that were sent."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from distributor.model.delivery import ALL_SENDERS, DeliveryFilter, SenderFilter


class MailboxQueries(Protocol):
    """Only one process at a time may send from a mailbox with limits, so that processes that share a ledger keep them together."""

    def lock_mailbox(self, mailbox: str) -> bool:
        """Lock a mailbox until the ledger is closed or the process ends, however it ends; False while another process has the lock."""
        ...

    def sent_times(self, since: datetime, senders: SenderFilter) -> list[datetime]:
        """Times of these senders' attempts since then, oldest first; without messages that were certainly not sent."""
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
