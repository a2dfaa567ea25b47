"""What needs a person first, for `status`: how many deliveries of each kind, and the ledger's method that counts them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from distributor.model.delivery import DeliveryFilter

EXPIRING_CERTIFICATE = timedelta(days=30)
EXPIRING_PASSWORD = timedelta(days=3)


class Need(StrEnum):
    """A kind of thing that a person must do something about, the most pressing first."""

    AMBIGUOUS = "ambiguous"
    INCIDENT = "incident"  # its certificate was neither revoked nor replaced
    BOUNCED = "bounced"
    REJECTED = "rejected"
    REQUEST = "request"
    PASSWORD_EXPIRED = "password-expired"  # noqa: S105  no password
    PASSWORD_EXPIRING = "password-expiring"  # noqa: S105  no password
    CERTIFICATE_EXPIRING = "certificate-expiring"  # or expired


@dataclass(frozen=True, slots=True)
class Attention:
    """How many of a kind, and the address where there is one person only."""

    need: Need
    number: int
    address: str | None


class AttentionQueries(Protocol):
    """The ledger's method for `status`."""

    def attention(self, scope: DeliveryFilter) -> list[Attention]:
        """What needs a person, the most pressing first; nothing that a later delivery made up for. Fast at 100 000 deliveries."""
        ...

    def ready_channels(self, scope: DeliveryFilter) -> frozenset[str]:
        """The channels of passwords that wait to be handed over."""
        ...
