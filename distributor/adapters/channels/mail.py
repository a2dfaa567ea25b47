"""Opens the transport for passwords: what a message with a password leaves in the sending mailbox is removed, whatever `save_copy` says.

The packages were sent from the same mailbox: whoever reads it later must not find both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from distributor.model.attempts import Accepted, Ambiguous, DraftRef, OutboundMessage, Outcome
from distributor.model.mailbox_cleanup import CleanupEvent, CleanupItem, MailboxCleaner
from distributor.model.ports import Transport


@dataclass(frozen=True, slots=True)
class Settings:
    """No keys: messages with passwords are sent as `[transport]` says."""


def open(settings: Settings, transport: Transport) -> SentPasswordCopies:  # noqa: A001  every adapter has this name
    """What the run tells of its messages, for a transport that was opened for passwords alone."""
    del settings
    copies = SentPasswordCopies()
    tracker = transport.tracker()
    if tracker is not None and isinstance(tracker, MailboxCleaner):
        tracker.attach_ledger(copies)
    return copies


class SentPasswordCopies:
    """The copies and drafts that this run's messages leave (`model.delivery.CleanupStore`); the ledger knows only those of packages."""

    def __init__(self) -> None:
        self._sent: dict[str, CleanupItem] = {}
        self._unsent: dict[str, CleanupItem] = {}

    def note(self, outbound: OutboundMessage, draft: DraftRef | None, outcome: Outcome) -> None:
        """Remember a message and its draft."""
        now, handles = datetime.now(UTC), (draft,) if draft is not None else ()
        name = draft.message_id if draft is not None else outbound.message_id
        item = CleanupItem(outbound.delivery, name, outbound.sender, outcome.response, now, now, handles)
        if isinstance(outcome, Accepted | Ambiguous):
            self._sent[outbound.delivery] = item
        elif handles:
            self._unsent[outbound.delivery] = item

    def copies(self) -> list[CleanupItem]:
        """Messages that were sent and whose copy is not known to be gone."""
        return list(self._sent.values())

    def drafts(self) -> list[CleanupItem]:
        """Messages that were not sent, with drafts that are not known to be gone."""
        return list(self._unsent.values())

    def drafted(self, sender: str) -> bool:
        """Whether a message of this sender ever had a draft; each is new here."""
        del sender
        return False

    def note_cleared(self, deliveries: Sequence[str], mark: CleanupEvent) -> None:
        """Forget what is gone."""
        gone = self._sent if mark in {CleanupEvent.COPY_REMOVED, CleanupEvent.COPY_NOT_FOUND} else self._unsent
        for delivery in deliveries:
            gone.pop(delivery, None)
