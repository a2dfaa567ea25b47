"""What messages leave in the mailboxes that they go through: copies in Sent Items, and drafts that nobody will send.

Both hold keys. The ledger knows every message that may have left some, and keeps which of them are known to be gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from distributor.model.issues import Diagnostic
from distributor.model.outcomes import DraftRef


class CleanupEvent(StrEnum):
    """The event that says so; the first of its kind is the last."""

    COPY_REMOVED = "copy-removed"
    COPY_NOT_FOUND = "copy-not-found"  # it was looked for long enough
    DRAFT_REMOVED = "draft-removed"
    DRAFT_NOT_FOUND = "draft-not-found"  # what lay there is no draft any more, or is gone


@dataclass(frozen=True, slots=True)
class CleanupItem:
    """What a message may have left. `first` and `last` are its attempts; `handles`: its drafts, by attempt."""

    delivery: str
    message_id: str  # the one its reader sees, with angle brackets
    sender: str | None
    said: str  # of the last answer; empty where nothing was kept
    first: datetime
    last: datetime
    handles: tuple[DraftRef, ...] = ()


class CleanupStore(Protocol):
    """What the ledger knows of them."""

    def copies(self) -> list[CleanupItem]:
        """Messages that left and whose copy is not known to be gone, oldest first."""
        ...

    def drafts(self) -> list[CleanupItem]:
        """Messages that will not go any more (withdrawn, refused for good, replaced), with drafts that are not known to be gone."""
        ...

    def drafted(self, sender: str) -> bool:
        """Whether a message of this sender ever lay ready as a draft."""
        ...

    def note_cleared(self, deliveries: Sequence[str], mark: CleanupEvent) -> None:
        """Write it down, once for each delivery."""
        ...


@runtime_checkable
class MailboxCleaner(Protocol):
    """A tracker of mailboxes that can also be cleared of what messages leave there."""

    def attach_ledger(self, book: CleanupStore) -> None:
        """What the ledger knows, for the run whose transport this tracker came from: it clears while it sends, and when it finishes."""
        ...

    def has_work(self, book: CleanupStore) -> bool:
        """Whether there is anything to clear that is not wanted; asks no service."""
        ...

    async def clear(self, book: CleanupStore) -> list[Diagnostic]:
        """Clear now; what was done and what remains. Never raises for what a service does."""
        ...
