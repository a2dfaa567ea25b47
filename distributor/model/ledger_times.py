"""What the ledger knows of time: its clock, what its last event says, and who holds what since when; and whether its database keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from distributor.model.delivery import DeliveryFilter, UnderWay
from distributor.model.issues import Diagnostic


class LedgerTimes(Protocol):
    """One clock decides leases, waiting times, quotas and expiry: the ledger's own."""

    def now(self) -> datetime:
        """The ledger's clock: the only one that may be compared with its times."""
        ...

    def position(self) -> int:
        """The number of the last event; 0 where there is none. What came before and what came after is told by it, not by times."""
        ...

    def ahead(self) -> datetime | None:
        """When the last event was written, if that lies more than minutes ahead of the clock: one of the two was wrong."""
        ...

    def under_way(self, scope: DeliveryFilter) -> list[UnderWay]:
        """What senders hold: claimed, or on its way."""
        ...

    def check(self) -> list[Diagnostic]:
        """What `doctor` says of the database: whether what it has committed stays so."""
        ...
