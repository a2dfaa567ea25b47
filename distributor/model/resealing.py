"""Sealed passwords as `vault status` and `vault rotate` see them, and the ledger's methods for these commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from distributor.model.delivery import LeaseHolder
from distributor.model.secret import Secret
from distributor.model.states import PasswordState


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """Sealed bytes in the ledger. `recipients`: the public keys of their last re-sealing; None: they are as they were packed."""

    delivery: str
    state: PasswordState
    sealed: bytes
    recipients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ResealedPassword:
    """New sealed bytes of a password, and those that they replace."""

    delivery: str
    before: bytes
    sealed: bytes


class ResealResult(StrEnum):
    """Whether the bytes of a ResealedPassword were replaced."""

    RESEALED = "resealed"
    GONE = "gone"  # handed over, destroyed or sealed again since it was read
    CHANGED = "changed"  # the ledger was modified outside the program; left as it is


class VaultIdentity(Protocol):
    """A Vault and its keys."""

    replaced: tuple[str, ...]  # public keys that the first one takes the place of, while `vault rotate` is not finished

    @property
    def recipients(self) -> list[str]:
        """The public keys of this identity."""
        ...

    def open(self, sealed: bytes, delivery: str) -> Secret:
        """The password, as a Vault opens it."""
        ...


class SealedPasswords(Protocol):
    """The ledger's methods about the sealed bytes of all people's passwords."""

    def stored_passwords(self) -> Iterator[StoredPassword]:
        """Every password whose sealed bytes are there (held, ready, recently expired), by delivery; streams."""
        ...

    def reseal(self, passwords: Sequence[ResealedPassword], recipients: Sequence[str]) -> list[ResealResult]:
        """Replace sealed bytes in one transaction, each with an event `resealed` that names the public keys."""
        ...

    def senders(self) -> list[LeaseHolder]:
        """Every process that ever packed or sent from this ledger."""
        ...
