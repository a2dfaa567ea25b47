"""What is published of people, where to, and what the ledger keeps of it: values, and the doors to both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.core.findings import Issue
from distributor.core.people import Address

REVOKED = "revoked"  # the event of a delivery whose certificate its authority has taken back


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate that a person received."""

    delivery: str
    sha256: str
    leaf: bytes
    not_before: datetime
    not_after: datetime
    revoked: bool = False
    places: frozenset[str] = frozenset()  # where it is public, as far as we know


@dataclass(frozen=True, slots=True)
class Holder:
    """A person who received certificates, the newest first."""

    address: str
    name: str
    certificates: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Public:
    """What a directory is to hold of a person: `leaf` (nothing new where None), and nothing of what is in `gone`."""

    address: Address
    name: str
    leaf: bytes | None
    gone: frozenset[str] = frozenset()  # SHA-256 of certificates that were revoked


@dataclass(frozen=True, slots=True)
class Written:
    """The directory holds what it should. `entry`: where in it; not `changed`: it did so before."""

    entry: str
    changed: bool = True
    warning: Issue | None = None  # what stands in its way there


class PublicDirectory(Protocol):
    """Where others look for a certificate to encrypt to."""

    where: str  # its name, for people and in the ledger; never with a secret

    def publish(self, public: Public, now: datetime) -> Written | Issue:
        """Make it so, once. An Issue concerns this person only; raises Unavailable or Unusable where nobody can be published."""
        ...

    def close(self) -> None:
        """Close what was kept open."""
        ...


class Publications(Protocol):
    """What the ledger knows of received certificates and where they are public."""

    def holders(self) -> Iterator[Holder]:
        """Everybody who received a certificate, with all of theirs; streams."""
        ...

    def note_published(self, delivery: str, place: str, entry: str) -> None:
        """Record that a delivery's certificate is public there, with an event `published`."""
        ...

    def note_unpublished(self, delivery: str, place: str, entry: str) -> None:
        """Record that it is public there no more, with an event `unpublished`."""
        ...
