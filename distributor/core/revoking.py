"""What is still in use of certificates that were planned or sent, and what becomes of a delivery whose certificate was revoked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.core.states import State

IN_USE = frozenset(set(State) - {State.REJECTED, State.BOUNCED, State.WITHDRAWN})  # somebody has the certificate, or is to get it


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate of some delivery, as it was planned."""

    sha256: str
    leaf: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Struck:
    """A delivery of a revoked certificate: withdrawn where it had not left yet, else as it was."""

    delivery: str
    address: str
    before: State
    after: State
    said: str


class Revocations(Protocol):
    """What the ledger knows of certificates in use, and keeps of their revocation."""

    def issued(self, now: datetime) -> Iterator[Issued]:
        """Every certificate of a delivery in use that has not expired, once; streams."""
        ...

    def revoke(self, certificate: str, said: str) -> list[Struck]:
        """Write `revoked` on its deliveries, and withdraw what has not left; those that are told for the first time, or were withdrawn."""
        ...
