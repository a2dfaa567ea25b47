"""Seals the passwords in the ledger again, to other public keys, and finds out which ones an identity can open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from distributor.errors import InvalidInput
from distributor.model.ports import Vault
from distributor.model.resealing import ResealedPassword, ResealResult, SealedPasswords, StoredPassword
from distributor.model.secret import Secret
from distributor.model.states import PasswordState

BATCH = 200  # passwords in one transaction


@dataclass(slots=True)
class ResealReport:
    """How many passwords were sealed again, and the deliveries of those that stay as they are."""

    resealed: int = 0
    unopened: set[str] = field(default_factory=set)  # sealed for another identity, or damaged
    changed: set[str] = field(default_factory=set)  # modified outside the program


def reseal(ledger: SealedPasswords, vault: Vault, seal: Callable[[Secret, str], bytes], recipients: Sequence[str]) -> ResealReport:
    """Seal every password to these public keys; what is sealed to them already stays, so that it can be repeated.

    It ends when a pass finds nothing left: packing may add passwords meanwhile.
    """
    report = ResealReport()
    while _pass(ledger, vault, seal, tuple(recipients), report):
        pass
    return report


def _pass(
    ledger: SealedPasswords, vault: Vault, seal: Callable[[Secret, str], bytes], recipients: tuple[str, ...], report: ResealReport
) -> int:
    """One pass over all passwords; how many were sealed again."""
    left = (one for one in ledger.stored_passwords() if one.recipients != recipients and one.delivery not in report.unopened)
    before = report.resealed
    while batch := list(islice(left, BATCH)):
        anew = list(_anew(batch, vault, seal, report))
        for password, result in zip(anew, ledger.reseal(anew, recipients), strict=True):
            if result is ResealResult.CHANGED:
                report.changed.add(password.delivery)
            report.resealed += result is ResealResult.RESEALED
    return report.resealed - before


def _anew(
    batch: Sequence[StoredPassword], vault: Vault, seal: Callable[[Secret, str], bytes], report: ResealReport
) -> Iterator[ResealedPassword]:
    for stored in batch:
        try:
            password = vault.open(stored.sealed, stored.delivery)
        except InvalidInput:
            report.unopened.add(stored.delivery)
        else:
            yield ResealedPassword(stored.delivery, stored.sealed, seal(password, stored.delivery))


@dataclass(frozen=True, slots=True)
class VaultContent:
    """Passwords whose sealed bytes are there: by state, by the number of public keys, and deliveries whose password was not opened."""

    states: Counter[PasswordState]
    keys: Counter[int]
    unopened: tuple[str, ...]


def inspect(ledger: SealedPasswords, count_recipients: Callable[[bytes], int], vault: Vault | None) -> VaultContent:
    """Count the passwords; with a vault, each is opened in memory to see whether it can be."""
    states, keys, unopened = Counter[PasswordState](), Counter[int](), list[str]()
    for stored in ledger.stored_passwords():
        states[stored.state] += 1
        keys[count_recipients(stored.sealed)] += 1
        if vault is not None and not _opens(vault, stored):
            unopened.append(stored.delivery)
    return VaultContent(states, keys, tuple(unopened))


def _opens(vault: Vault, stored: StoredPassword) -> bool:
    try:
        vault.open(stored.sealed, stored.delivery)
    except InvalidInput:
        return False
    return True
