"""A published certificate and the time -> why others cannot encrypt to it; for certificates to publish and for those found published."""

from __future__ import annotations

from datetime import datetime

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.issues import CheckId
from distributor.model.people import key_of
from distributor.pki import certificate
from distributor.pki.checks import EMAIL_PROTECTION, addresses


def unusable_reason(leaf: bytes, now: datetime) -> tuple[CheckId, str] | None:
    """The check that fails and why; None where it can be used. The text completes "the certificate ..."."""
    info = _facts(leaf)
    if isinstance(info, ParseProblem):
        return info.check, f"the certificate cannot be used: {info.message}"
    if info.not_after <= now:
        return CheckId.EXPIRED, f"the certificate expired on {info.not_after:%Y-%m-%d}"
    if info.not_before > now:
        return CheckId.NOT_YET_VALID, f"the certificate is valid from {info.not_before:%Y-%m-%d} on"
    if "encrypt" not in info.usages:
        return CheckId.KEY_USAGE, "the certificate is for signing only, nobody can encrypt to it"
    if info.extended_key_usage is not None and EMAIL_PROTECTION not in info.extended_key_usage:
        return CheckId.NOT_FOR_MAIL, "the certificate is not for mail by its extended key usage"
    return None


def is_of(leaf: bytes, address: str) -> bool:
    """Whether the certificate contains the address, ignoring the case of ASCII letters as mail programs do."""
    info = _facts(leaf)
    return isinstance(info, CertificateInfo) and key_of(address) in {one.key for one in addresses(info)[0]}


def _facts(leaf: bytes) -> CertificateInfo | ParseProblem:
    found = certificate.load(leaf)
    return found if isinstance(found, ParseProblem) else certificate.facts(found, leaf)
