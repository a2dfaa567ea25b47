"""Copies in Sent Items and unsent drafts that messages leave in the sending mailbox: what the ledger keeps of them, and who removes them.

Both contain keys. The ledger knows every message that may have left one, and records which are known to be gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from distributor.model.attempts import DraftRef
from distributor.model.issues import Diagnostic


class CleanupEvent(StrEnum):
    """The event that records the result; at most one of each kind for a delivery."""

    COPY_REMOVED = "copy-removed"
    COPY_NOT_FOUND = "copy-not-found"  # not found for long enough
    DRAFT_REMOVED = "draft-removed"
    DRAFT_NOT_FOUND = "draft-not-found"  # it is gone, or is no draft any more


@dataclass(frozen=True, slots=True)
class CleanupItem:
    """A message that may have left a copy or drafts. `first` and `last`: times of its attempts; `handles`: its drafts, by attempt."""

    delivery: str
    message_id: str  # the one its reader sees, with angle brackets
    sender: str | None
    response: str  # the last response; empty where none was kept
    first: datetime
    last: datetime
    handles: tuple[DraftRef, ...] = ()


class CleanupStore(Protocol):
    """The ledger's methods for cleaning mailboxes."""

    def copies(self) -> list[CleanupItem]:
        """Messages that were sent and whose copy is not known to be gone, oldest first."""
        ...

    def drafts(self) -> list[CleanupItem]:
        """Messages that will not be sent any more (withdrawn, rejected, replaced), with drafts that are not known to be gone."""
        ...

    def drafted(self, sender: str) -> bool:
        """Whether a message of this sender ever had a draft."""
        ...

    def note_cleared(self, deliveries: Sequence[str], mark: CleanupEvent) -> None:
        """Record the result, once for each delivery."""
        ...


@runtime_checkable
class MailboxCleaner(Protocol):
    """A tracker that can also remove copies and drafts from the mailboxes."""

    def attach_ledger(self, store: CleanupStore) -> None:
        """What the ledger knows, for the run whose transport this tracker came from: it clears while it sends, and when it finishes."""
        ...

    def has_work(self, store: CleanupStore) -> bool:
        """Whether there is anything to remove; asks no service."""
        ...

    async def clear(self, store: CleanupStore) -> list[Diagnostic]:
        """Remove now; reports what was removed and what remains. Never raises for a service's errors."""
        ...
