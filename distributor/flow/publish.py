"""What people received -> what others find in directories to encrypt to. One person's failure costs nobody else anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from distributor.core import certificates
from distributor.core.credentials import Facts, Problem
from distributor.core.findings import Check, Issue, Severity
from distributor.core.people import Address, parse_address
from distributor.core.publishing import Held, Holder, Public, Publications, PublicDirectory
from distributor.errors import Error, Unavailable, Unusable


@dataclass
class Published:
    """What a run did, counted over all directories. `errors`: directories that could not go on."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    issues: list[Issue] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)


def publish(
    ledger: Publications, directories: Sequence[PublicDirectory], *, now: datetime, tell: Callable[[str], None] = lambda _: None
) -> Published:
    """Put everybody's newest certificate where it belongs, and take revoked ones away. `tell` hears of each person."""
    run = _Run(ledger, list(directories), now)
    for holder in ledger.holders():
        if not run.directories:
            break
        run.person(holder)
        tell(holder.address)
    return run.done


class _Run:
    def __init__(self, ledger: Publications, directories: list[PublicDirectory], now: datetime) -> None:
        self.ledger, self.directories, self.now, self.done = ledger, directories, now, Published()

    def person(self, holder: Holder) -> None:
        match parse_address(holder.address):
            case Address() as address:
                pass
            case _:
                return  # erased, or older than the rules
        chosen, against = choose(holder, self.now)
        if against is not None:
            self.done.issues.append(against)
        for directory in tuple(self.directories):
            try:
                self._into(directory, address, holder, chosen)
            except (Unavailable, Unusable) as error:
                self.done.errors.append(error)
                self.directories.remove(directory)

    def _into(self, directory: PublicDirectory, address: Address, holder: Holder, chosen: Held | None) -> None:
        revoked = [held for held in holder.certificates if held.revoked and directory.where in held.places]
        if chosen is None and not revoked:
            return
        public = Public(address, holder.name, chosen.leaf if chosen else None, frozenset(held.sha256 for held in revoked))
        written = directory.publish(public, self.now)
        if isinstance(written, Issue):
            self.done.issues.append(written)
            return
        if written.warning is not None:
            self.done.issues.append(written.warning)
        for held in revoked:
            self.ledger.note_unpublished(held.delivery, directory.where, written.entry)
            self.done.removed += 1
        if chosen is not None:
            self.done.written += written.changed
            self.done.unchanged += not written.changed
            if directory.where not in chosen.places:
                self.ledger.note_published(chosen.delivery, directory.where, written.entry)


def choose(holder: Holder, now: datetime) -> tuple[Held | None, Issue | None]:
    """The newest certificate that counts and that one can encrypt to; without one, what speaks against the newest."""
    told: Issue | None = None
    for held in holder.certificates:
        against = objection(held, holder.address, now)
        if against is None:
            return held, None
        told = told or against
    return None, told


def objection(held: Held, address: str, now: datetime) -> Issue | None:
    """Why a certificate is not published."""
    if held.revoked:
        return _issue(Check.REVOKED, "the certificate was revoked and is not published", _REISSUE, address)
    if held.not_after <= now:
        return _issue(Check.EXPIRED, f"the certificate expired on {held.not_after:%Y-%m-%d} and is not published", _REISSUE, address)
    if held.not_before > now:
        message = f"the certificate is valid from {held.not_before:%Y-%m-%d} on and is not published before"
        return _issue(Check.NOT_YET_VALID, message, "run `distributor publish` again then", address)
    facts = _facts(held.leaf)
    if isinstance(facts, Facts) and "encrypt" not in facts.usages:
        message = "the certificate is for signing only and is not published: nobody can encrypt to it"
        return _issue(Check.KEY_USAGE, message, "nothing is to be done if the person has another one for encryption", address)
    return None


def _facts(leaf: bytes) -> Facts | Problem:
    found = certificates.load(leaf)
    return found if isinstance(found, Problem) else certificates.facts(found, leaf)


_REISSUE = "have a new one issued, and send it"


def _issue(check: Check, message: str, hint: str, address: str) -> Issue:
    return Issue(Severity.WARNING, check, message, hint, "ledger", None, address)
