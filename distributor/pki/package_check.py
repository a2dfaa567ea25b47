"""An identity about to be packaged, and its planned delivery -> why it must not be sent. The last check of key, certificate and address.

Asked where the message is made: between the plan and this moment the ledger, the files or the clock may have changed.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.issues import CheckId, Severity
from distributor.model.people import Address
from distributor.pki import certificate, checks, keypairs
from distributor.pki.package import PackageContent

_WITHDRAW = "see `distributor audit verify`, then take it back with `distributor withdraw` and run `distributor plan` again"
_HINTS = {
    CheckId.ADDRESS_MISMATCH: _WITHDRAW,
    CheckId.NOT_YET_VALID: "correct this machine's clock, or run `distributor send` then",
}
_DECISIVE = frozenset(
    {CheckId.ADDRESS_MISMATCH, CheckId.BAD_ADDRESS, CheckId.NO_ADDRESS, CheckId.EXPIRED, CheckId.NOT_YET_VALID, CheckId.KEY_TYPE}
)


def check_package(content: PackageContent, certificate_sha256: str, person: Address, now: datetime) -> ParseProblem | None:
    """Why it must not be sent; None where it may."""
    der = content.leaf.public_bytes(Encoding.DER)
    if sha256(der).hexdigest() != certificate_sha256:
        return ParseProblem(CheckId.NO_CERTIFICATE, "its certificate is not the one that was planned", _WITHDRAW)
    info = certificate.facts(content.leaf, der)
    if isinstance(info, ParseProblem):
        return info
    return _by_facts(info, person, now) or _by_key(content)


def _by_facts(info: CertificateInfo, person: Address, now: datetime) -> ParseProblem | None:
    """The preflight checks of address, time and type of key."""
    for issue in checks.check_certificate(info, person, now):
        if issue.severity is Severity.ERROR and issue.check in _DECISIVE:
            return ParseProblem(issue.check, issue.message, _HINTS.get(issue.check, issue.hint))
    return None


def _by_key(content: PackageContent) -> ParseProblem | None:
    if keypairs.spki(content.key.public_key()) != keypairs.public(content.leaf):
        return ParseProblem(
            CheckId.KEY_MISMATCH, "the private key does not belong to the certificate", "run `distributor plan` on the file again"
        )
    return None
