"""The bytes of a CRL (RFC 5280 5) -> who is on it, and whether it may speak for a certificate: a Crl, or the reason why it is none.

A list is read once, however many certificates it is asked about. What only the library can judge (indirect lists, lists of some reasons, a
list signed with another key of the same name) is said to be so (`Odd`); nothing is guessed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from distributor.pki.chain_certificate import ChainCertificate, DistributionPoint, points, shown
from distributor.pki.signatures import UNREADABLE, fits, weak_hash

TOLERANCE = timedelta(seconds=1)  # of a list that is over; as pyhanko-certvalidator has it
AHEAD = timedelta(minutes=5)  # of a list that begins: clocks differ, and it may be made after the run began
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
    "cACompromise": "compromise of the authority",
    "affiliationChanged": "affiliation changed",
    "superseded": "superseded",
    "cessationOfOperation": "cessation of operation",
    "certificateHold": "on hold",
    "privilegeWithdrawn": "privilege withdrawn",
    "aACompromise": "compromise of the attribute authority",
}


@dataclass(frozen=True, slots=True)
class Revoked:
    """Since when and why; no reason may be given."""

    since: datetime
    reason: str | None

    def __str__(self) -> str:
        return f"{self.since:%Y-%m-%d}, {self.reason or 'no reason is given'}"


@dataclass(frozen=True, slots=True)
class CrlError:
    """Why a list says nothing. `stale`: it did once. `genuine`: its issuer made it all the same, so that who is on it was revoked."""

    reason: str
    stale: bool = False
    signature_valid: bool = False


@dataclass(frozen=True, slots=True)
class UnsupportedCrl:
    """A list that only a full validation can judge."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Crl:
    """A list as it was read, whoever signed it."""

    der: bytes
    parsed: x509.CertificateRevocationList
    issuer: bytes
    issuer_key_id: bytes | None
    number: int | None
    base: int | None  # the list that this one only adds to; None: it is complete
    scope: x509.IssuingDistributionPoint | None
    freshest: tuple[DistributionPoint, ...]  # where a list lies that adds to this one
    serials: frozenset[int]
    unknown: str | None  # a critical extension that nobody knows

    def entry(self, serial: int) -> Revoked | None:
        """What the list says of a certificate; `removeFromCRL` is told as the reason."""
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
    """The list in DER."""
    if data.lstrip()[:11] == b"-----BEGIN ":
        return CrlError("it is PEM; a CRL is published in DER (RFC 5280 4.2.1.13)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a negative serial is no reason to refuse
            return _read(data)
    except UNREADABLE:
        return CrlError("it is not a CRL")


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
        freshest=tuple(points(freshest)) if isinstance(freshest, x509.FreshestCRL) else (),
        serials=frozenset(entry.serial_number for entry in found),
        unknown=unknown[0] if unknown else None,
    )


def objection(crl: Crl, issuer: ChainCertificate, now: datetime) -> CrlError | UnsupportedCrl | None:
    """Why the list says nothing about certificates of this issuer; costs a check of its signature."""
    if crl.issuer != issuer.subject:
        return CrlError(f'it is of another issuer ("{shown(crl.parsed.issuer)}")')
    if not issuer.signs_crls:
        return CrlError(f'"{issuer.name}" may not sign CRLs by its key usage')
    if not _signed(crl, issuer):
        if crl.issuer_key_id is not None and issuer.key_id is not None and crl.issuer_key_id != issuer.key_id:
            return _time(crl, now) or UnsupportedCrl("it is signed with another key than the certificate")
        return CrlError("it is forged: its signature is not its issuer's")
    fault = _time(crl, now) or _unknown(crl) or _old(crl)
    return replace(fault, signature_valid=_genuine(crl, issuer)) if fault else None


def _signed(crl: Crl, issuer: ChainCertificate) -> bool:
    if weak_hash(crl.parsed) is not None:
        return fits(crl.parsed, issuer.parsed) is not False
    try:
        return crl.parsed.is_signature_valid(issuer.parsed.public_key())  # type: ignore[arg-type]  # other kinds of key raise TypeError
    except UNREADABLE:
        return False


def _genuine(crl: Crl, issuer: ChainCertificate) -> bool:
    """Whether a list at fault still tells who was revoked; an unknown extension may turn its meaning round (RFC 5280 5.2)."""
    return crl.unknown is None and (weak_hash(crl.parsed) is None or fits(crl.parsed, issuer.parsed) is True)


def _unknown(crl: Crl) -> CrlError | None:
    return CrlError(f"it has a critical extension that nobody knows ({crl.unknown})") if crl.unknown else None


def _old(crl: Crl) -> CrlError | None:
    name = weak_hash(crl.parsed)
    return CrlError(f"it is signed with {name.upper()}, which is no longer trusted") if name else None


def _time(crl: Crl, now: datetime) -> CrlError | None:
    begins, ends = crl.parsed.last_update_utc, crl.parsed.next_update_utc
    if begins > now + AHEAD:
        return CrlError(f"it is not valid before {begins:%Y-%m-%d %H:%M} UTC")
    if ends is None:
        return CrlError("it does not say when the next one comes (RFC 5280 5.1.2.5)")
    if ends < now - TOLERANCE:
        return CrlError(f"the next one was due on {ends:%Y-%m-%d %H:%M} UTC", stale=True)
    return None


def scope_error(crl: Crl, cert: ChainCertificate) -> CrlError | UnsupportedCrl | None:
    """Why the list, being sound, does not speak of this certificate."""
    scope = crl.scope
    if scope is None:
        return None
    if scope.indirect_crl or scope.only_some_reasons or scope.relative_name is not None:
        return UnsupportedCrl("it is an indirect list" if scope.indirect_crl else "it covers a part only")
    if scope.only_contains_attribute_certs or (scope.only_contains_ca_certs if not cert.is_authority else scope.only_contains_user_certs):
        return CrlError("it covers other kinds of certificates only")
    named = {name for point in cert.points for name in point.names}
    if scope.full_name and not named.intersection(scope.full_name):
        return CrlError("it is for another distribution point than the certificate names")
    return None


def delta_error(delta: Crl, crl: Crl) -> CrlError | None:
    """Why a list of changes does not belong to this one (RFC 5280 5.2.4)."""
    if delta.base is None:
        return CrlError("it is no list of changes (delta CRL)")
    if delta.scope != crl.scope or delta.issuer_key_id != crl.issuer_key_id:
        return CrlError("its changes are of another list")
    if crl.number is None or delta.number is None or not delta.base <= crl.number <= delta.number:
        return CrlError("its changes do not follow the list that it belongs to")
    return None
