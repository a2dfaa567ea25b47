"""Mailboxes that are read for replies and reports: the mails, the reader, and what the ledger keeps of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from distributor.model.delivery import Delivery
from distributor.model.issues import Diagnostic
from distributor.model.states import State

LARGEST_MAIL = 2**20  # bytes that are read of one; a reply with the quoted message and its package has some 50 000
NOTED = "noted"  # the event of a notice that changes no state


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A mail as the server gave it, at most its first LARGEST_MAIL bytes. `id`: the reader's own."""

    id: str
    raw: bytes
    received_at: datetime | None  # when it came into the mailbox
    refused: str = ""  # which mail it is and why the server does not give it; `raw` is empty then


@dataclass(frozen=True, slots=True)
class MailBatch:
    """Some mails, and the position behind them: the reader's own text, of up to some kilobytes. The mails may be none."""

    mails: tuple[ReceivedMail, ...]
    position: str


@runtime_checkable
class MailboxReader(Protocol):
    """A tracker that reads the mails of a folder, each once."""

    name: str  # of the mailbox and its folder: the key of its position in the ledger, and its name in messages

    def read(self, after: str | None, since: datetime) -> AsyncIterator[MailBatch]:
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


# --- what a mail tells about a delivery --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeliveryNotice:
    """What a received mail tells about a delivery."""

    delivery: str
    state: State | None  # that it proves; None: it is only noted
    said: str  # what happened, with the server's words; a personal field
    evidence: Mapping[str, object]  # `kind`, `mail_sha256`, and details for an auditor; never addresses
    personal: Mapping[str, object] = field(default_factory=dict)  # further personal fields


class NoticeOutcome(StrEnum):
    """What recording a notice came to."""

    MOVED = "moved"
    NOTED = NOTED
    KNOWN = "known"  # the same mail, or one that says the same, was recorded before; or so many that no more are noted
    TOO_EARLY = "too-early"  # the message is being sent: the state that the notice proves can be entered once the attempt has ended


@dataclass(frozen=True, slots=True)
class RecordedNotice:
    """The outcome, and the delivery's state before."""

    outcome: NoticeOutcome
    before: State


@dataclass(frozen=True, slots=True)
class FurtherMessage:
    """A message that an event of a delivery has.

    `event`: "queued" or "transmitting" for the delivery's own under an earlier Message-ID, "reminded", or "revealed" for the password.
    """

    delivery: str
    event: str


class NoticeRecords(Protocol):
    """The ledger's methods for notices."""

    def with_message_ids(self, message_ids: Collection[str]) -> list[Delivery]:
        """The deliveries whose messages have these Message-IDs; of many, the first fifty count."""
        ...

    def further_messages(self, address: str, message_ids: Collection[str]) -> list[FurtherMessage]:
        """What a person (Address.key) was sent with these Message-IDs besides."""
        ...

    def record_notice(self, notice: DeliveryNotice) -> RecordedNotice:
        """Move the delivery where its state allows, else note it; the same notice only once. Raises RequestDenied for no delivery."""
        ...
