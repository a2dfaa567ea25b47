"""Reveals a ready password once, to the person at the helpdesk who reads it out; the ledger records it before anyone sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributor.errors import RequestDenied, UsageError
from distributor.model.delivery import Delivery, SealedPassword
from distributor.model.people import key_of
from distributor.model.revocation import INCIDENT_RECORDED
from distributor.model.secret import Secret
from distributor.model.states import PasswordState, Way
from distributor.workflows import lookup

if TYPE_CHECKING:
    from distributor.model.ports import Ledger, Vault


@dataclass(frozen=True, slots=True)
class Settings:
    """No keys: passwords are revealed in the terminal."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Hands passwords over, each once."""

    ledger: Ledger
    vault: Vault

    def choose(self, deliveries: Sequence[Delivery]) -> SealedPassword:
        """The one ready password among one person's deliveries. Raises RequestDenied when none is ready, UsageError when several are."""
        named = {delivery.id: delivery for delivery in deliveries}
        newest = _newest(envelope for envelope in self.ledger.envelopes(key_of(deliveries[0].address)) if envelope.delivery in named)
        ready = [envelope for envelope in newest if envelope.state is PasswordState.READY]
        if len(ready) > 1:
            choices = lookup.certificates(named[envelope.delivery] for envelope in ready)
            raise UsageError(f"{len(ready)} passwords are ready", where=deliveries[0].address, hint=f"add --certificate: {choices}")
        if not newest and all(delivery.way is Way.INTUNE for delivery in deliveries):
            hint = "nothing to do; `distributor plan --both` delivers by mail too"
            raise RequestDenied("Intune installs this certificate: nobody types a password", where=deliveries[0].address, hint=hint)
        if not ready:
            revoked = self.ledger.revoked([envelope.certificate_sha256 for envelope in newest[:1]])
            raise _refusal(deliveries[0].address, newest, next(iter(revoked.values()), ""))
        return ready[0]

    def hand_over(self, envelope: SealedPassword, reason: str) -> Secret:
        """The password, after its hand-over is durable in the ledger.

        It is opened once before that: one that this vault cannot open, or that belongs to another delivery, stays ready.
        """
        if envelope.sealed is not None:
            self.vault.open(envelope.sealed, envelope.delivery)
        return self.vault.open(self.ledger.hand_over(envelope.delivery, reason, "reveal"), envelope.delivery)


def open(settings: Settings, ledger: Ledger, vault: Vault) -> Reveal:  # noqa: A001  every adapter has this name
    """The channel."""
    del settings
    return Reveal(ledger, vault)


def _newest(envelopes: Iterable[SealedPassword]) -> list[SealedPassword]:
    """The newest generation of each certificate."""
    newest: dict[str, SealedPassword] = {}
    for envelope in envelopes:
        newest.setdefault(envelope.certificate_sha256, envelope)
    return list(newest.values())


def _refusal(address: str, newest: Sequence[SealedPassword], revoked: str) -> RequestDenied:
    if revoked.startswith(INCIDENT_RECORDED):
        hint = "have a new certificate with a new key issued, then run `distributor plan`"
        return RequestDenied(f"{revoked}; the password is not available any more", where=address, hint=hint)
    again = f"a new package with a new password: distributor resend {address} --reason TEXT"
    if not newest:
        return RequestDenied("there is no password yet: the message is not packaged", where=address, hint=f"distributor status {address}")
    match newest[0].state:
        case PasswordState.HELD:
            return RequestDenied(
                "the password is not available until the message is accepted", where=address, hint=f"run `distributor status {address}`"
            )
        case PasswordState.HANDED_OVER:
            return RequestDenied("the password was already revealed; it is shown only once", where=address, hint=again)
        case PasswordState.EXPIRED:
            return RequestDenied("the password has expired", where=address, hint=again)
        case _:
            return RequestDenied("the password was destroyed", where=address, hint=again)
