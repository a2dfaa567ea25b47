"""A certificate in DER -> Certificate, and the CertificateInfo that is kept of it.

Odd serials, names and dates are accepted; what cannot be read is a ParseProblem. Names are compared byte by byte, as Windows does.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.issues import CheckId
from distributor.model.people import escape_unsafe
from distributor.pki import asn1, spki
from distributor.pki.lenient import OddTime, readable_copy

UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
E = TypeVar("E", bound=x509.ExtensionType)
T = TypeVar("T")
Signed = x509.Certificate | x509.CertificateRevocationList
WEB = ("http://", "https://")
MOST_URLS = 8  # of one certificate and one kind that are downloaded
LONGEST_NAME = 120  # characters of a name that are shown
SMTP_UTF8_MAILBOX = "1.3.6.1.5.5.7.8.9"  # RFC 9598
_UTF8 = 0x0C
_REISSUE = "have the certificate issued again"
_USAGES = {  # cryptography's names -> RFC 5280's
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
_OLD_SIGNATURES = {  # the library has no hash for some of them
    "1.2.840.113549.1.1.2": "md2",
    "1.2.840.113549.1.1.3": "md4",
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
}


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


@dataclass(frozen=True, repr=False)  # without slots, for cached_property
class Certificate:
    """A parsed certificate. Its extensions are read when they are asked for, which raises one of UNREADABLE unless `read` made it.

    `is_copy`: the library cannot parse `der`, so `parsed` is a copy that it can (`readable_copy`), which no signature fits.
    """

    der: bytes
    parsed: x509.Certificate = field(compare=False)
    is_copy: bool = field(default=False, compare=False)

    @cached_property
    def subject(self) -> bytes:
        """The subject's name in DER."""
        return spki.tbs_fields(self.der)[4].whole

    @cached_property
    def issuer(self) -> bytes:
        """The issuer's name in DER."""
        return spki.tbs_fields(self.der)[2].whole

    @property
    def tbs(self) -> bytes:
        """What its issuer signed."""
        return asn1.read(self.der).sequence(1)[0].whole

    @cached_property
    def _copy(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(readable_copy(self.der))

    def _get(self, part: Callable[[x509.Certificate], T]) -> T:
        """A part of it, from a copy where the library cannot read the original's. Raises one of UNREADABLE."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a negative serial is no reason to refuse
            try:
                return part(self.parsed)
            except x509.DuplicateExtension:
                raise
            except UNREADABLE as error:
                try:
                    return part(self._copy)
                except UNREADABLE:
                    raise error from None

    @cached_property
    def subject_name(self) -> x509.Name:
        """Its subject."""
        return self._get(lambda parsed: parsed.subject)

    @property
    def subject_text(self) -> str:
        """Its subject in RFC 4514's form, in full."""
        return escape_unsafe(self.subject_name.rfc4514_string())

    @cached_property
    def _issuer_name(self) -> x509.Name:
        return self._get(lambda parsed: parsed.issuer)

    @property
    def name(self) -> str:
        """Its subject as messages show it."""
        return shown(self.subject_name)

    @property
    def issuer_name(self) -> str:
        """Its issuer as messages show it."""
        return shown(self._issuer_name)

    @property
    def not_before(self) -> datetime:
        """When its validity begins, in UTC."""
        return self.parsed.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """When its validity ends, in UTC."""
        return self.parsed.not_valid_after_utc

    @property
    def sha256(self) -> str:
        """Its SHA-256 fingerprint, lower-case hex."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def serial(self) -> int:
        """Its serial number."""
        return self._get(lambda parsed: parsed.serial_number)

    @cached_property
    def signature(self) -> str:
        """The hash of its issuer's signature (CertificateInfo.signature)."""
        return signature_hash(self.parsed)

    @cached_property
    def public_key(self) -> bytes | None:
        """Its public key (SubjectPublicKeyInfo); None for a kind that the library does not know."""
        with suppress(*UNREADABLE):
            return self.parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return None

    @cached_property
    def rsa_bits(self) -> int | None:
        """The size of its key if it is of RSA, for whatever padding."""
        with suppress(*UNREADABLE):
            key = self.parsed.public_key()
            return key.key_size if isinstance(key, rsa.RSAPublicKey) else None
        return None

    @cached_property
    def extensions(self) -> dict[x509.ObjectIdentifier, x509.ExtensionType]:
        """Its extensions, by identifier."""
        return self._get(lambda parsed: {extension.oid: extension.value for extension in parsed.extensions})

    def _extension(self, kind: type[E]) -> E | None:
        found = self.extensions.get(kind.oid)
        return found if isinstance(found, kind) else None

    @cached_property
    def is_ca(self) -> bool:
        """Whether its basic constraints make it a CA; False where its extensions cannot be read."""
        with suppress(*UNREADABLE):
            basic = self._extension(x509.BasicConstraints)
            return basic is not None and basic.ca
        return False

    @cached_property
    def key_usage(self) -> frozenset[str] | None:
        """As CertificateInfo has it."""
        usage = self._extension(x509.KeyUsage)
        return None if usage is None else frozenset(ours for theirs, ours in _USAGES.items() if getattr(usage, theirs))

    @cached_property
    def extended_key_usage(self) -> frozenset[str] | None:
        """As CertificateInfo has it."""
        uses = self._extension(x509.ExtendedKeyUsage)
        return None if uses is None else frozenset(use.dotted_string for use in uses)

    @property
    def usages(self) -> tuple[str, ...]:
        """Which of "sign" and "encrypt" its key usage allows (RFC 8550 4.4.2; an elliptic key agrees instead of enciphering)."""
        usage = self.key_usage
        for_key = "keyEncipherment" if kind_of_key(self.der).startswith("rsa-") else "keyAgreement"
        sign = usage is None or bool(usage & {"digitalSignature", "nonRepudiation"})
        return ("sign",) * sign + ("encrypt",) * (usage is None or for_key in usage)

    @property
    def may_issue(self) -> bool:
        """Whether it is a CA whose key may sign certificates."""
        return self.is_ca and (self.key_usage is None or "keyCertSign" in self.key_usage)

    @property
    def signs_crls(self) -> bool:
        """Whether its key may sign CRLs."""
        return self.key_usage is None or "cRLSign" in self.key_usage

    @cached_property
    def key_id(self) -> bytes | None:
        """Its subject key identifier."""
        found = self._extension(x509.SubjectKeyIdentifier)
        return found.digest if found else None

    @cached_property
    def issuer_key_id(self) -> bytes | None:
        """Its authority key identifier."""
        found = self._extension(x509.AuthorityKeyIdentifier)
        return found.key_identifier if found else None

    @cached_property
    def issuer_urls(self) -> tuple[str, ...]:
        """Where its issuer's certificate lies (caIssuers): URLs of every kind."""
        return tuple(
            access.access_location.value
            for access in self._extension(x509.AuthorityInformationAccess) or ()
            if access.access_method == AuthorityInformationAccessOID.CA_ISSUERS
            and isinstance(access.access_location, x509.UniformResourceIdentifier)
        )

    @cached_property
    def points(self) -> tuple[DistributionPoint, ...]:
        """Where its CRLs lie."""
        return points(self._extension(x509.CRLDistributionPoints))

    @cached_property
    def crl_urls(self) -> tuple[str, ...]:
        """The http(s) URLs of its CRLs."""
        return web(url for point in self.points for url in point.urls)

    @cached_property
    def delta_urls(self) -> tuple[str, ...]:
        """The http(s) URLs of its delta CRLs (its own freshestCRL)."""
        return web(url for point in points(self._extension(x509.FreshestCRL)) for url in point.urls)

    @cached_property
    def info(self) -> CertificateInfo | ParseProblem:
        """The plain values that the program keeps."""
        try:
            return CertificateInfo(
                sha256=self.sha256,
                serial=format(self.serial, "x"),
                subject=self.subject_text,
                issuer=escape_unsafe(self._issuer_name.rfc4514_string()),
                addresses=tuple(_addresses(self._extension(x509.SubjectAlternativeName) or ())),
                subject_addresses=tuple(_subject_addresses(self.subject_name)),
                not_before=self.not_before,
                not_after=self.not_after,
                key=kind_of_key(self.der),
                signature=self.signature,
                is_ca=self.is_ca,
                key_usage=self.key_usage,
                extended_key_usage=self.extended_key_usage,
                usages=self.usages,
            )
        except x509.DuplicateExtension as error:
            text = f"the certificate has a duplicate extension {error.oid.dotted_string}"
        except UNREADABLE as error:
            text = f"cannot read the certificate ({_words(error)})"
        return ParseProblem(CheckId.UNREADABLE, text, _REISSUE)


@lru_cache(256)
def load(der: bytes) -> Certificate | ParseProblem:
    """Parse a certificate, but not its extensions; cached, since every file has the same CA certificates."""
    try:
        found = _parsed(der)
        found.subject_name, found.issuer_name, found.serial  # noqa: B018  parsed at first access
    except UNREADABLE as error:
        return ParseProblem(CheckId.UNREADABLE, f"cannot read a certificate in the file ({_words(error)})", _REISSUE)
    return found


def _parsed(der: bytes) -> Certificate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Certificate(der, x509.load_der_x509_certificate(der))
        except UNREADABLE as error:
            try:
                return Certificate(der, x509.load_der_x509_certificate(readable_copy(der)), is_copy=True)
            except UNREADABLE as odd:
                raise (odd if isinstance(odd, OddTime) else error) from None


def read(der: bytes) -> Certificate | None:
    """Parse a certificate with its extensions, as path building needs it; None when that fails."""
    found = load(der)
    if isinstance(found, ParseProblem):
        return None
    try:
        found.subject, found.issuer, found.extensions  # noqa: B018  read at first access
    except UNREADABLE:
        return None
    return found


def info(der: bytes) -> CertificateInfo | ParseProblem:
    """The plain values of a certificate."""
    found = load(der)
    return found if isinstance(found, ParseProblem) else found.info


@lru_cache(256)  # asked again for each certificate's facts, uses and checks
def kind_of_key(der: bytes) -> str:
    """The type of a certificate's key, by its algorithm and parameters (CertificateInfo.key)."""
    try:
        return spki.key_type(spki.public_key_info(der))
    except ValueError:
        return "unreadable"


def signature_hash(signed: Signed) -> str:
    """The name of a signature's hash; "" when the algorithm has none, "unknown" when the library does not know it."""
    try:
        digest = signed.signature_hash_algorithm
    except UNREADABLE:
        return _OLD_SIGNATURES.get(signed.signature_algorithm_oid.dotted_string, "unknown")
    return digest.name if digest else ""


def web(urls: Iterable[str]) -> tuple[str, ...]:
    """The http(s) URLs, each once, at most MOST_URLS."""
    return tuple(dict.fromkeys(url for url in urls if url.lower().startswith(WEB)))[:MOST_URLS]


def shown(name: x509.Name) -> str:
    """A name for messages: at most LONGEST_NAME characters, one line."""
    text = escape_unsafe(name.rfc4514_string()) or "(no name)"
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def points(extension: x509.CRLDistributionPoints | x509.FreshestCRL | None) -> tuple[DistributionPoint, ...]:
    """The extension's distribution points."""
    return tuple(DistributionPoint(tuple(point.full_name or ()), point.crl_issuer is not None) for point in extension or ())


def unpack(data: bytes) -> list[bytes]:
    """The certificates that a caIssuers URL returned: one in DER, or several in PKCS#7 (RFC 5280 4.2.2.1); empty for anything else."""
    if read(data) is not None:
        return [data]
    try:
        return [one.public_bytes(Encoding.DER) for one in pkcs7.load_der_pkcs7_certificates(data)]
    except UNREADABLE:
        return []


def _addresses(names: Iterable[x509.GeneralName]) -> Iterator[str]:
    for name in names:
        if isinstance(name, x509.RFC822Name):
            yield name.value
        elif isinstance(name, x509.OtherName) and name.type_id.dotted_string == SMTP_UTF8_MAILBOX:
            yield asn1.read(name.value).wanted(_UTF8).content.decode("utf-8")


def _subject_addresses(subject: x509.Name) -> Iterator[str]:
    for attribute in subject:
        text = str(attribute.value)
        if attribute.oid == NameOID.EMAIL_ADDRESS or (attribute.oid == NameOID.COMMON_NAME and "@" in text):
            yield text


def _words(error: Exception) -> str:
    return escape_unsafe(str(error).partition(": ParseError")[0])[:120] or type(error).__name__
