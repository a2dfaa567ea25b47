"""What is published of people, where to, and what the ledger keeps of it: values, and the doors to both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.issues import Issue
from distributor.model.people import Address

REVOKED = "revoked"  # the event of a delivery whose certificate its authority has taken back
RELEASED = "released"  # the event that ends it: the certificate was on hold, and is so no more


@dataclass(frozen=True, slots=True)
class PublishableCertificate:
    """A certificate that a person received. `lost`: its message came back after it was made public."""

    delivery: str
    sha256: str
    leaf: bytes
    not_before: datetime
    not_after: datetime
    revoked: bool = False
    places: frozenset[str] = frozenset()  # where it is public, as far as we know
    lost: bool = False


@dataclass(frozen=True, slots=True)
class CertificateHolder:
    """A person who received certificates, the newest first."""

    address: str
    name: str
    certificates: tuple[PublishableCertificate, ...]


@dataclass(frozen=True, slots=True)
class PublicationRequest:
    """What a directory is to hold of a person: `leaf` (nothing new where None), and nothing of what is in `gone`."""

    address: Address
    name: str
    leaf: bytes | None
    gone: frozenset[str] = frozenset()  # SHA-256 of the person's certificates that were revoked, expired or came back


@dataclass(frozen=True, slots=True)
class PublicationResult:
    """The directory holds nothing that is gone, and what it should. `entry`: where in it; not `changed`: it did so before."""

    entry: str
    changed: bool = True
    warning: Issue | None = None  # what stands in its way there
    removed: frozenset[str] = frozenset()  # of what is gone: what was there until now
    holds: bool = True  # False: what is new is not there, and `warning` says why


class PublicDirectory(Protocol):
    """Where others look for a certificate to encrypt to."""

    where: str  # its name, for people and in the ledger; never with a secret

    def publish(self, public: PublicationRequest, now: datetime) -> PublicationResult | Issue:
        """Make it so, once; what is gone goes, whatever becomes of the rest.

        An Issue concerns this person only, and nothing was changed; raises ServiceUnavailable or InvalidInput where nobody can be published.
        """
        ...

    def close(self) -> None:
        """Close what was kept open."""
        ...


class Publications(Protocol):
    """What the ledger knows of received certificates and where they are public."""

    def holders(self) -> Iterator[CertificateHolder]:
        """Everybody who received a certificate, with all of theirs; streams."""
        ...

    def note_published(self, delivery: str, place: str, entry: str) -> None:
        """Record that a delivery's certificate is public there, with an event `published`."""
        ...

    def note_unpublished(self, delivery: str, place: str, entry: str, *, found: bool = False) -> None:
        """Record that it is public there no more, with an event `unpublished`. `found`: it was there, although we did not know."""
        ...
