"""Publishes the certificates that people received in directories, for others to encrypt to. A failure concerns one person only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.certificates import (
    CertificateHolder,
    PublicationRequest,
    PublicationResult,
    Publications,
    PublicDirectory,
    PublishableCertificate,
)
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, parse_address
from distributor.pki.certificate import info
from distributor.pki.checks import encryption_fault


@dataclass
class Published:
    """What a run did, counted over all directories. `errors`: directories that had to be given up."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    issues: list[Issue] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)


def publish(
    ledger: Publications, directories: Sequence[PublicDirectory], *, now: datetime, tell: Callable[[str], None] = lambda _: None
) -> Published:
    """Publish every person's newest good certificate and remove those that must not be used. `tell` gets each address."""
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

    def person(self, holder: CertificateHolder) -> None:
        match parse_address(holder.address):
            case Address() as address:
                pass
            case _:
                return  # erased, or older than the rules
        chosen, objection = choose(holder, self.now)
        if objection is not None:
            self.done.issues.append(objection)
        for directory in tuple(self.directories):
            try:
                self._into(directory, address, holder, chosen)
            except (ServiceUnavailable, InvalidInput) as error:
                self.done.errors.append(error)
                self.directories.remove(directory)

    def _into(self, directory: PublicDirectory, address: Address, holder: CertificateHolder, chosen: PublishableCertificate | None) -> None:
        gone = [certificate for certificate in holder.certificates if is_gone(certificate, self.now)]
        if chosen is None and not gone:
            return
        removed = frozenset(certificate.sha256 for certificate in gone)
        request = PublicationRequest(address, holder.name, chosen.leaf if chosen else None, removed)
        written = directory.publish(request, self.now)
        if isinstance(written, Issue):
            self.done.issues.append(written)
            return
        if written.warning is not None:
            self.done.issues.append(written.warning)
        self._note_removed(directory.where, gone, written)
        if chosen is not None and written.holds:
            self._note_published(directory.where, chosen, written)

    def _note_removed(self, where: str, gone: Sequence[PublishableCertificate], written: PublicationResult) -> None:
        """Record what was removed, or was in the directory according to the ledger and is not."""
        for certificate in gone:
            found = certificate.sha256 in written.removed
            if found or where in certificate.places:
                self.ledger.note_unpublished(certificate.delivery, where, written.entry, found=found)
                self.done.removed += 1

    def _note_published(self, where: str, chosen: PublishableCertificate, written: PublicationResult) -> None:
        self.done.written += written.changed
        self.done.unchanged += not written.changed
        if where not in chosen.places:
            self.ledger.note_published(chosen.delivery, where, written.entry)


def is_gone(certificate: PublishableCertificate, now: datetime) -> bool:
    """Whether a certificate is to be removed from every directory, whoever wrote it there."""
    return certificate.revoked or certificate.lost or certificate.not_after <= now


def choose(holder: CertificateHolder, now: datetime) -> tuple[PublishableCertificate | None, Issue | None]:
    """The newest certificate that can be encrypted to; without one, why the newest cannot."""
    first: Issue | None = None
    for certificate in holder.certificates:
        objection = _objection(certificate, holder.address, now)
        if objection is None:
            return certificate, None
        first = first or objection
    return None, first


def _objection(certificate: PublishableCertificate, address: str, now: datetime) -> Issue | None:
    """Why a certificate is not published."""
    if certificate.lost:
        hint = f"send it again: `distributor resend {address} --reason TEXT`"
        return _issue(CheckId.NOT_PUBLISHED, "the message with the certificate bounced, so the certificate is not published", hint, address)
    if certificate.revoked:
        return _issue(CheckId.REVOKED, "the certificate was revoked and is not published", _REISSUE, address)
    match encryption_fault(info(certificate.leaf), now):
        case None:
            return None
        case (check, reason):
            return _issue(check, f"the certificate {reason} and is not published", _HINTS.get(check, _REISSUE), address)


_REISSUE = "have a new certificate issued and send it"
_HINTS = {
    CheckId.NOT_YET_VALID: "run `distributor publish` again then",
    CheckId.KEY_USAGE: "no action needed if the person has another certificate for encryption",
}


def _issue(check: CheckId, message: str, hint: str, address: str) -> Issue:
    return Issue(Severity.WARNING, check, message, hint, "ledger", None, address)
