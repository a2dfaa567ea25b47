"""Publishing certificates in directories: values, the port of a directory, and the ledger's methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.issues import Issue
from distributor.model.people import Address

REVOKED = "revoked"  # event: the delivery's certificate was revoked
RELEASED = "released"  # event: the certificate was on hold, and is good again


@dataclass(frozen=True, slots=True)
class PublishableCertificate:
    """A certificate that a person received. `lost`: its message bounced after it was published."""

    delivery: str
    sha256: str
    leaf: bytes
    not_before: datetime
    not_after: datetime
    revoked: bool = False
    places: frozenset[str] = frozenset()  # directories that it is published in, as far as the ledger knows
    lost: bool = False


@dataclass(frozen=True, slots=True)
class CertificateHolder:
    """A person who received certificates, the newest first."""

    address: str
    name: str
    certificates: tuple[PublishableCertificate, ...]


@dataclass(frozen=True, slots=True)
class PublicationRequest:
    """What to publish for a person: `leaf` is written (nothing new where None), the certificates in `gone` are removed."""

    address: Address
    name: str
    leaf: bytes | None
    gone: frozenset[str] = frozenset()  # SHA-256 of the person's certificates that were revoked, expired or bounced


@dataclass(frozen=True, slots=True)
class PublicationResult:
    """The result for a person. `entry`: where in the directory; `changed`: False where nothing had to be written."""

    entry: str
    changed: bool = True
    warning: Issue | None = None  # what is wrong with the entry
    removed: frozenset[str] = frozenset()  # SHA-256 of the certificates in `gone` that were removed
    holds: bool = True  # False: the new certificate was not written, and `warning` says why


class PublicDirectory(Protocol):
    """A directory in which others look up certificates to encrypt to."""

    where: str  # its name, for people and in the ledger; never with a secret

    def publish(self, public: PublicationRequest, now: datetime) -> PublicationResult | Issue:
        """Publish for one person; certificates in `gone` are removed even where the new one cannot be written.

        Returns an Issue where nothing was changed for this person. Raises ServiceUnavailable or InvalidInput where nobody can be published.
        """
        ...

    def close(self) -> None:
        """Close open connections."""
        ...


class Publications(Protocol):
    """The ledger's methods about received certificates and where they are published."""

    def holders(self) -> Iterator[CertificateHolder]:
        """Every person who received certificates, with all of theirs; streams."""
        ...

    def note_published(self, delivery: str, place: str, entry: str) -> None:
        """Record that a delivery's certificate is published there, with an event `published`."""
        ...

    def note_unpublished(self, delivery: str, place: str, entry: str, *, found: bool = False) -> None:
        """Record that it was removed there, with an event `unpublished`. `found`: it was there although the ledger did not know."""
        ...
