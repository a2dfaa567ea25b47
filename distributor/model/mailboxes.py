"""Mailboxes that are read for replies and reports: the mails, the reader, and where the ledger keeps how far each was read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from distributor.model.issues import Diagnostic

LARGEST_MAIL = 2**20  # bytes that are read of one; a reply with the quoted message and its package has some 50 000


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A mail as the server gave it, at most its first LARGEST_MAIL bytes. `position`: the reader's own text."""

    position: str
    raw: bytes
    received_at: datetime | None  # when it came into the mailbox


@runtime_checkable
class MailboxReader(Protocol):
    """A tracker that reads the mails of a folder, each once."""

    name: str  # of the mailbox and its folder: the key of its position in the ledger, and its name in messages

    def read(self, after: str | None, since: datetime) -> AsyncIterator[Sequence[ReceivedMail]]:
        """The mails after a position, oldest first, in batches; those received from `since` on where the position is None or unknown.

        Opened mails too; none is marked as read. Raises ServiceUnavailable.
        """
        ...

    async def mark(self, handled: Sequence[ReceivedMail]) -> None:
        """Mark mails as handled, or move them to the folder that the configuration names; never deletes one. Raises ServiceUnavailable."""
        ...

    async def check(self) -> list[Diagnostic]:
        """`doctor`'s checks: connects, signs in, changes nothing."""
        ...

    async def close(self) -> None:
        """Close the connection; never raises."""
        ...


class MailboxPositions(Protocol):
    """How far each mailbox was read; not part of the audit log."""

    def mailbox_position(self, mailbox: str) -> str | None:
        """The position of the last mail that was read; None where none was."""
        ...

    def write_mailbox_position(self, mailbox: str, position: str) -> None:
        """Replace a mailbox's position."""
        ...
