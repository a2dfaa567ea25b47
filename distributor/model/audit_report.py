"""What `audit report` reads from the ledger: people, each with their deliveries and the events of those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.audit_log import Event


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery with its certificate and its events, oldest first. Evidence that no report shows is left out."""

    id: str
    generation: int
    sha256: str  # of the certificate
    serial: str
    not_after: datetime
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """A person with all deliveries, oldest first. `address` is None where the person's data was erased."""

    address: str | None
    name: str
    deliveries: tuple[DeliveryRecord, ...]


class AuditReports(Protocol):
    """The ledger's methods for the audit report."""

    def ledger_name(self) -> str:
        """The name that the ledger was made with, which its copies share."""
        ...

    def reported_people(self, last: int) -> Iterator[PersonRecord]:
        """Everybody with deliveries, in the order of addresses, as of event number `last`. Streams."""
        ...
