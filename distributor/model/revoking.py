"""Revocation of certificates that were planned or sent: values, and the ledger's methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.states import State

IN_USE = frozenset(set(State) - {State.REJECTED, State.BOUNCED, State.WITHDRAWN})  # somebody has the certificate, or will get it
HOLD = "on hold"  # the end of a revocation's text that may be lifted again (RFC 5280 5.3.1 certificateHold); no other may
HELD_BACK_PREFIX = "held back: "  # the beginning of the text for deliveries that wait because the clock jumped
GOOD_AGAIN = "the certificate was on hold, and is good again"


def is_hold(said: str) -> bool:
    """Whether a revocation's text says that it may be lifted again."""
    return said.endswith(f"{HOLD})")


@dataclass(frozen=True, slots=True)
class CertificateInUse:
    """A certificate of at least one delivery, as planned."""

    sha256: str
    leaf: bytes
    chain: tuple[bytes, ...]
    addresses: tuple[str, ...] = ()  # of the recipients
    revoked: str | None = None  # date and reason, where the ledger has recorded a revocation


@dataclass(frozen=True, slots=True)
class RevokedDelivery:
    """A delivery of a revoked certificate: withdrawn where it was not sent yet, else unchanged."""

    delivery: str
    address: str
    before: State
    after: State
    said: str


class Revocations(Protocol):
    """The ledger's methods about certificates in use and their revocation."""

    def issued(self, now: datetime) -> Iterator[CertificateInUse]:
        """Every certificate of a delivery in use that has not expired, once; streams."""
        ...

    def revoke(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record `revoked` for its deliveries and withdraw unsent ones; returns those newly recorded or withdrawn."""
        ...

    def reinstate(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record `released` for its deliveries where it was on hold; returns them, or nothing where it was not."""
        ...

    def revoked(self, certificates: Sequence[str]) -> Mapping[str, str]:
        """Those of the certificates that have a recorded revocation, with its date and reason."""
        ...

    def taken_back(self) -> list[RevokedDelivery]:
        """Deliveries that `lease` and `claim` withdrew since the last call, because they must not be sent any more; each once.

        Also those that they held back unchanged, whose certificate has expired only by a clock that jumped.
        """
        ...
