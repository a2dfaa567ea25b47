"""What is still in use of certificates that were planned or sent, and what becomes of a delivery whose certificate was revoked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.states import State

IN_USE = frozenset(set(State) - {State.REJECTED, State.BOUNCED, State.WITHDRAWN})  # somebody has the certificate, or is to get it
HOLD = "on hold"  # how the words of a revocation end that an authority may take back (RFC 5280 5.3.1); no other may be
HELD_BACK_PREFIX = "held back: "  # how the words begin for what waits because of a clock that jumped
GOOD_AGAIN = "the certificate was on hold, and is good again"


def is_hold(said: str) -> bool:
    """Whether a revocation, by its words, may end again."""
    return said.endswith(f"{HOLD})")


@dataclass(frozen=True, slots=True)
class CertificateInUse:
    """A certificate of some delivery, as it was planned."""

    sha256: str
    leaf: bytes
    chain: tuple[bytes, ...]
    addresses: tuple[str, ...] = ()  # whose it is
    revoked: str | None = None  # when and why, as the ledger has it


@dataclass(frozen=True, slots=True)
class RevokedDelivery:
    """A delivery of a revoked certificate: withdrawn where it had not left yet, else as it was."""

    delivery: str
    address: str
    before: State
    after: State
    said: str


class Revocations(Protocol):
    """What the ledger knows of certificates in use, and keeps of their revocation."""

    def issued(self, now: datetime) -> Iterator[CertificateInUse]:
        """Every certificate of a delivery in use that has not expired, once; streams."""
        ...

    def revoke(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Write `revoked` on its deliveries, and withdraw what has not left; those that are told for the first time, or were withdrawn."""
        ...

    def reinstate(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Write `released` on its deliveries where it was on hold; nothing, and no delivery, where it was not."""
        ...

    def revoked(self, certificates: Sequence[str]) -> Mapping[str, str]:
        """Those of the certificates that are revoked by an event, each with when and why."""
        ...

    def taken_back(self) -> list[RevokedDelivery]:
        """What `take` and `claim` withdrew since the last call, because it must not leave any more; each is told once.

        So is what they held back as it was, because its certificate has expired only by a clock that jumped.
        """
        ...
