"""The bytes of a CRL (RFC 5280 5) -> its entries, and whether it covers a certificate: a Crl, or a CrlError with the reason.

A CRL is parsed once, however many certificates are looked up in it. What only pyhanko-certvalidator can judge (an indirect CRL, one for
some reasons only, one signed with another key of the same issuer) is an UnsupportedCrl; nothing is guessed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from distributor.pki.certificate import UNREADABLE, Certificate, DistributionPoint, points, shown
from distributor.pki.issuers import fits, weak_hash

TOLERANCE = timedelta(seconds=1)  # after nextUpdate; as pyhanko-certvalidator has it
AHEAD = timedelta(minutes=5)  # before thisUpdate: clocks differ, and a CRL may be issued after the run began
_KNOWN = (
    x509.AuthorityKeyIdentifier,
    x509.CRLNumber,
    x509.IssuingDistributionPoint,
    x509.FreshestCRL,
    x509.DeltaCRLIndicator,
    x509.IssuerAlternativeName,
    x509.AuthorityInformationAccess,
)
_REASONS = {
    "keyCompromise": "key compromise",
    "cACompromise": "CA compromise",
    "affiliationChanged": "affiliation changed",
    "superseded": "superseded",
    "cessationOfOperation": "cessation of operation",
    "certificateHold": "on hold",
    "privilegeWithdrawn": "privilege withdrawn",
    "aACompromise": "compromise of the attribute authority",
}


@dataclass(frozen=True, slots=True)
class Revoked:
    """A CRL entry: since when, and why (None: no reason is given)."""

    since: datetime
    reason: str | None

    def __str__(self) -> str:
        return f"{self.since:%Y-%m-%d}, {self.reason or 'no reason given'}"


@dataclass(frozen=True, slots=True)
class CrlError:
    """Why a CRL cannot be used. `stale`: it has expired. `signature_valid`: its issuer signed it, so its entries still count."""

    reason: str
    stale: bool = False
    signature_valid: bool = False


@dataclass(frozen=True, slots=True)
class UnsupportedCrl:
    """A CRL that only pyhanko-certvalidator can judge."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Crl:
    """A parsed CRL; its signature is not verified yet."""

    der: bytes
    parsed: x509.CertificateRevocationList
    issuer: bytes
    issuer_key_id: bytes | None
    number: int | None
    base: int | None  # number of the CRL that this delta CRL adds to; None: it is complete
    scope: x509.IssuingDistributionPoint | None
    freshest: tuple[DistributionPoint, ...]  # where its delta CRL lies
    serials: frozenset[int]
    unknown: str | None  # the first critical extension that is not known here

    def entry(self, serial: int) -> Revoked | None:
        """The entry for a serial number; its reason may be `removeFromCRL`."""
        if serial not in self.serials:
            return None
        found = self.parsed.get_revoked_certificate_by_serial_number(serial)
        return None if found is None else Revoked(found.revocation_date_utc, _reason(found))


def _reason(entry: x509.RevokedCertificate) -> str | None:
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return None
    return _REASONS.get(reason, None if reason == "unspecified" else reason)


REMOVED = "removeFromCRL"


def read(data: bytes) -> Crl | CrlError:
    """Parse a CRL in DER."""
    if data.lstrip()[:11] == b"-----BEGIN ":
        return CrlError("PEM instead of DER (RFC 5280 4.2.1.13)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a negative serial is no reason to refuse
            return _read(data)
    except UNREADABLE:
        return CrlError("not a CRL")


def _read(data: bytes) -> Crl:
    found = x509.load_der_x509_crl(data)
    kinds = {type(extension.value): extension.value for extension in found.extensions}
    unknown = [
        extension.oid.dotted_string for extension in found.extensions if extension.critical and not isinstance(extension.value, _KNOWN)
    ]
    key_id, number, base = kinds.get(x509.AuthorityKeyIdentifier), kinds.get(x509.CRLNumber), kinds.get(x509.DeltaCRLIndicator)
    scope, freshest = kinds.get(x509.IssuingDistributionPoint), kinds.get(x509.FreshestCRL)
    return Crl(
        der=data,
        parsed=found,
        issuer=found.issuer.public_bytes(),
        issuer_key_id=key_id.key_identifier if isinstance(key_id, x509.AuthorityKeyIdentifier) else None,
        number=number.crl_number if isinstance(number, x509.CRLNumber) else None,
        base=base.crl_number if isinstance(base, x509.DeltaCRLIndicator) else None,
        scope=scope if isinstance(scope, x509.IssuingDistributionPoint) else None,
        freshest=points(freshest if isinstance(freshest, x509.FreshestCRL) else None),
        serials=frozenset(entry.serial_number for entry in found),
        unknown=unknown[0] if unknown else None,
    )


def objection(crl: Crl, issuer: Certificate, now: datetime) -> CrlError | UnsupportedCrl | None:
    """Why the CRL cannot be used for certificates of this issuer; verifies its signature."""
    if crl.issuer != issuer.subject:
        return CrlError(f'issued by another CA ("{shown(crl.parsed.issuer)}")')
    if not issuer.signs_crls:
        return CrlError(f'"{issuer.name}" may not sign CRLs (key usage)')
    if not _signed(crl, issuer):
        if crl.issuer_key_id is not None and issuer.key_id is not None and crl.issuer_key_id != issuer.key_id:
            return _time(crl, now) or UnsupportedCrl("signed with a different key than the certificate")
        return CrlError("forged: its signature does not match its issuer")
    fault = _time(crl, now) or _unknown(crl) or _old(crl)
    return replace(fault, signature_valid=_signed_by_issuer(crl, issuer)) if fault else None


def _signed(crl: Crl, issuer: Certificate) -> bool:
    if weak_hash(crl.parsed) is not None:
        return fits(crl.parsed, issuer, crl.parsed.tbs_certlist_bytes) is not False
    try:
        return crl.parsed.is_signature_valid(issuer.parsed.public_key())  # type: ignore[arg-type]  # other kinds of key raise TypeError
    except UNREADABLE:
        return False


def _signed_by_issuer(crl: Crl, issuer: Certificate) -> bool:
    """Whether the entries of a faulty CRL still count; an unknown critical extension may change their meaning (RFC 5280 5.2)."""
    return crl.unknown is None and (weak_hash(crl.parsed) is None or fits(crl.parsed, issuer, crl.parsed.tbs_certlist_bytes) is True)


def _unknown(crl: Crl) -> CrlError | None:
    return CrlError(f"unknown critical extension ({crl.unknown})") if crl.unknown else None


def _old(crl: Crl) -> CrlError | None:
    name = weak_hash(crl.parsed)
    return CrlError(f"signed with {name.upper()}, which is no longer trusted") if name else None


def _time(crl: Crl, now: datetime) -> CrlError | None:
    begins, ends = crl.parsed.last_update_utc, crl.parsed.next_update_utc
    if begins > now + AHEAD:
        return CrlError(f"not valid before {begins:%Y-%m-%d %H:%M} UTC")
    if ends is None:
        return CrlError("no next update given (RFC 5280 5.1.2.5)")
    if ends < now - TOLERANCE:
        return CrlError(f"the next update was due on {ends:%Y-%m-%d %H:%M} UTC", stale=True)
    return None


def scope_error(crl: Crl, cert: Certificate) -> CrlError | UnsupportedCrl | None:
    """Why the CRL, though valid, does not cover this certificate."""
    scope = crl.scope
    if scope is None:
        return None
    if scope.indirect_crl or scope.only_some_reasons or scope.relative_name is not None:
        return UnsupportedCrl("indirect CRL" if scope.indirect_crl else "covers only some certificates")
    if scope.only_contains_attribute_certs or (scope.only_contains_ca_certs if not cert.may_issue else scope.only_contains_user_certs):
        return CrlError("covers only other kinds of certificates")
    named = {name for point in cert.points for name in point.names}
    if scope.full_name and not named.intersection(scope.full_name):
        return CrlError("belongs to a different distribution point than the certificate's")
    return None


def delta_error(delta: Crl, crl: Crl) -> CrlError | None:
    """Why a delta CRL does not belong to this CRL (RFC 5280 5.2.4)."""
    if delta.base is None:
        return CrlError("not a delta CRL")
    if delta.scope != crl.scope or delta.issuer_key_id != crl.issuer_key_id:
        return CrlError("belongs to another CRL")
    if crl.number is None or delta.number is None or not delta.base <= crl.number <= delta.number:
        return CrlError("older than the CRL it belongs to")
    return None
