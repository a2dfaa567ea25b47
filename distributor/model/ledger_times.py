"""The ledger's methods about time: its clock, its last event, leases; and `doctor`'s checks of the database."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from distributor.model.delivery import DeliveryFilter, UnderWay
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
