"""Reveals a ready password once, to the person at the helpdesk who reads it out; the ledger records it before anyone sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distributor.errors import RequestDenied, UsageError
from distributor.model.delivery import SealedPassword
from distributor.model.ports import Ledger, Vault
from distributor.model.secret import Secret
from distributor.model.states import PasswordState


@dataclass(frozen=True, slots=True)
class Settings:
    """No keys: passwords are revealed in the terminal."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Hands passwords over, each once."""

    ledger: Ledger
    vault: Vault

    def choose(self, address: str, certificate: str | None) -> SealedPassword:
        """The one ready password; `certificate` begins a SHA-256. Raises RequestDenied when none is ready, UsageError when several are."""
        newest = _newest(self.ledger.envelopes(address), certificate)
        ready = [envelope for envelope in newest if envelope.state is PasswordState.READY]
        if len(ready) > 1:
            several = ", ".join(envelope.certificate_sha256[:16] for envelope in ready)
            raise UsageError(
                f"{len(ready)} passwords are ready, for the certificates {several}", hint="choose one with --certificate SHA256"
            )
        if not ready:
            raise _refusal(address, newest, certificate)
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


def _newest(envelopes: Sequence[SealedPassword], certificate: str | None) -> list[SealedPassword]:
    """The newest generation of each certificate that begins so."""
    prefix = certificate.lower().replace(":", "") if certificate else ""
    newest: dict[str, SealedPassword] = {}
    for envelope in envelopes:
        if envelope.certificate_sha256.startswith(prefix):
            newest.setdefault(envelope.certificate_sha256, envelope)
    return list(newest.values())


def _refusal(address: str, newest: Sequence[SealedPassword], certificate: str | None) -> RequestDenied:
    again = f"for a new package and password: `distributor resend {address} --reason TEXT`"
    if not newest:
        what = f"with a certificate {certificate}" if certificate else "in the ledger"
        return RequestDenied(f'no password for "{address}" {what}', hint=f"run `distributor status {address}`")
    match newest[0].state:
        case PasswordState.HELD:
            return RequestDenied(
                "the password is not available until the message is accepted", where=address, hint=f"run `distributor status {address}`"
            )
        case PasswordState.HANDED_OVER:
            return RequestDenied("the password was already handed over; it is shown only once", where=address, hint=again)
        case PasswordState.EXPIRED:
            return RequestDenied("the password expired", where=address, hint=again)
        case _:
            return RequestDenied("the password was destroyed", where=address, hint=again)
