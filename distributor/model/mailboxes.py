"""What the ledger knows of mailboxes: who drives one's messages now, what waits for it, what left through it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from distributor.model.delivery import ALL_SENDERS, DeliveryFilter, SenderFilter


class MailboxQueries(Protocol):
    """Mailboxes have limits, and processes that share a ledger keep them together: one that is limited is driven by one at a time."""

    def lock_mailbox(self, road: str) -> bool:
        """Take a road for this process until the ledger is closed or the process ends, however it ends; False while another has it."""
        ...

    def sent_times(self, since: datetime, senders: SenderFilter) -> list[datetime]:
        """When messages of these senders were on their way since then, oldest first; without those that certainly did not leave."""
        ...

    def next_due(self, scope: DeliveryFilter, senders: SenderFilter = ALL_SENDERS) -> datetime | None:
        """When the next deferred delivery is due; None when none is."""
        ...

    def has_pending(self, scope: DeliveryFilter, senders: SenderFilter, *, early: bool = False) -> bool:
        """Whether a message of these senders is due, or claimed by somebody who may still give it back; or is being packed."""
        ...

    def due(self, scope: DeliveryFilter, *, early: bool = False) -> dict[str, int]:
        """How many frozen messages are due, by sender. `early`: deferred ones before their time too."""
        ...
