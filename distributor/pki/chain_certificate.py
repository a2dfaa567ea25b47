"""A certificate in DER -> what path building needs: names, key identifiers, URLs of its CRLs and of its issuer (ChainCertificate).

Names are compared byte by byte, as Windows does.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from distributor.model.people import escape_unsafe
from distributor.pki.checks import ANY_USE, EMAIL_PROTECTION
from distributor.pki.keypairs import UNREADABLE, SignatureStatus, signature

E = TypeVar("E", bound=x509.ExtensionType)
WEB = ("http://", "https://")
MOST_URLS = 8  # of one certificate and one kind that are downloaded
LONGEST_NAME = 120  # characters of a name that are shown


@dataclass(frozen=True, slots=True)
class DistributionPoint:
    """Where a CRL lies. `foreign`: cRLIssuer names another issuer than the certificate's.

    Reasons do not matter here: a complete CRL of the issuer covers all of them, wherever it lies (RFC 5280 6.3.3, the end).
    """

    names: tuple[x509.GeneralName, ...]
    foreign: bool

    @property
    def urls(self) -> tuple[str, ...]:
        """Its URLs of every kind."""
        return tuple(name.value for name in self.names if isinstance(name, x509.UniformResourceIdentifier))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ChainCertificate:
    """A parsed certificate, with what path building and revocation need of it."""

    der: bytes
    parsed: x509.Certificate
    subject: bytes
    issuer: bytes
    key_id: bytes | None
    issuer_key_id: bytes | None
    points: tuple[DistributionPoint, ...]
    issuer_urls: tuple[str, ...]  # caIssuers of every kind
    is_authority: bool
    signs_crls: bool
    delta_points: tuple[DistributionPoint, ...] = ()  # of delta CRLs (its own freshestCRL)
    uses: frozenset[str] | None = None  # extended key usages; None: every one

    @property
    def name(self) -> str:
        """Its subject as messages show it."""
        return shown(self.parsed.subject)

    @property
    def issuer_name(self) -> str:
        """Its issuer as messages show it."""
        return shown(self.parsed.issuer)

    @property
    def crl_urls(self) -> tuple[str, ...]:
        """The http(s) URLs of its CRLs."""
        return web(url for point in self.points for url in point.urls)

    @property
    def delta_urls(self) -> tuple[str, ...]:
        """The http(s) URLs of its delta CRLs."""
        return web(url for point in self.delta_points for url in point.urls)

    @property
    def key(self) -> bytes:
        """Its public key (SubjectPublicKeyInfo). Raises one of UNREADABLE for a kind that the library does not know."""
        return self.parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def for_mail(self) -> bool:
        """Whether it, and all below it, may be used for mail: Windows nests extended key usages."""
        return self.uses is None or bool(self.uses & {EMAIL_PROTECTION, ANY_USE})

    @property
    def sha256(self) -> str:
        """Its SHA-256 fingerprint, lower-case hex."""
        return sha256(self.der).hexdigest()


def web(urls: Iterator[str] | Sequence[str]) -> tuple[str, ...]:
    """The http(s) URLs, each once, at most MOST_URLS."""
    return tuple(dict.fromkeys(url for url in urls if url.lower().startswith(WEB)))[:MOST_URLS]


def shown(name: x509.Name) -> str:
    """A name for messages: at most LONGEST_NAME characters, one line."""
    text = escape_unsafe(name.rfc4514_string()) or "(no name)"
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def read(der: bytes) -> ChainCertificate | None:
    """Parse a certificate; None when that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a negative serial is no reason to refuse
            return _read(der)
    except UNREADABLE:
        return None


@lru_cache(256)
def authority(der: bytes) -> ChainCertificate | None:
    """Parse a CA certificate; cached, since every file of its people has it."""
    return read(der)


def _read(der: bytes) -> ChainCertificate:
    certificate = x509.load_der_x509_certificate(der)
    kinds = {extension.oid: extension for extension in certificate.extensions}
    basic = _value(kinds, x509.BasicConstraints)
    usage = _value(kinds, x509.KeyUsage)
    key_id, issuer_key_id = _value(kinds, x509.SubjectKeyIdentifier), _value(kinds, x509.AuthorityKeyIdentifier)
    uses = _value(kinds, x509.ExtendedKeyUsage)
    certificate.subject, certificate.issuer, certificate.serial_number  # noqa: B018  parsed at the first look only
    return ChainCertificate(
        der=der,
        parsed=certificate,
        subject=certificate.subject.public_bytes(),
        issuer=certificate.issuer.public_bytes(),
        key_id=key_id.digest if key_id else None,
        issuer_key_id=issuer_key_id.key_identifier if issuer_key_id else None,
        points=tuple(points(_value(kinds, x509.CRLDistributionPoints) or ())),
        issuer_urls=tuple(_issuer_urls(_value(kinds, x509.AuthorityInformationAccess))),
        is_authority=bool(basic and basic.ca and (usage is None or usage.key_cert_sign)),
        signs_crls=usage is None or usage.crl_sign,
        delta_points=tuple(points(_value(kinds, x509.FreshestCRL) or ())),
        uses=frozenset(use.dotted_string for use in uses) if uses is not None else None,
    )


def _value(kinds: dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]], kind: type[E]) -> E | None:
    found = kinds.get(kind.oid)
    return found.value if found is not None and isinstance(found.value, kind) else None


def points(extension: x509.CRLDistributionPoints | x509.FreshestCRL | tuple[()]) -> Iterator[DistributionPoint]:
    """The extension's distribution points."""
    for point in extension:
        yield DistributionPoint(tuple(point.full_name or ()), point.crl_issuer is not None)


def _issuer_urls(extension: x509.AuthorityInformationAccess | None) -> Iterator[str]:
    for access in extension or ():
        if access.access_method == AuthorityInformationAccessOID.CA_ISSUERS:
            place = access.access_location
            yield place.value if isinstance(place, x509.UniformResourceIdentifier) else "a place that is no URL"


def signed_by(cert: ChainCertificate, issuer: ChainCertificate) -> bool:
    """Whether the issuer signed the certificate, with an old hash too."""
    return signature(cert.parsed, issuer.parsed) in {SignatureStatus.GOOD, SignatureStatus.WEAK}


def is_self_signed(cert: ChainCertificate) -> bool:
    """Whether it is a root.

    A root's own signature carries no trust, so an old one, or one too old to be verified, is enough for a CA.
    """
    if cert.subject != cert.issuer or (cert.issuer_key_id and cert.key_id and cert.issuer_key_id != cert.key_id):
        return False
    found = signature(cert.parsed, cert.parsed)
    old_root = cert.is_authority or cert.parsed.version is x509.Version.v1  # version 1 has no basic constraints
    return found is SignatureStatus.GOOD or (found is SignatureStatus.WEAK and old_root)


def valid(cert: ChainCertificate, now: datetime) -> bool:
    """Whether it is within its validity period."""
    return cert.parsed.not_valid_before_utc <= now <= cert.parsed.not_valid_after_utc


def unpack(data: bytes) -> list[bytes]:
    """The certificates that a caIssuers URL returned: one in DER, or several in PKCS#7 (RFC 5280 4.2.2.1); empty for anything else."""
    if read(data) is not None:
        return [data]
    try:
        return [one.public_bytes(Encoding.DER) for one in pkcs7.load_der_pkcs7_certificates(data)]
    except UNREADABLE:
        return []
