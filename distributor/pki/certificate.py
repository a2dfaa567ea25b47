"""A certificate in DER -> CertificateInfo. Odd serials, names and dates are accepted; what cannot be read is a ParseProblem."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.issues import CheckId
from distributor.model.people import escape_unsafe
from distributor.pki import asn1, spki

_UTF8 = 0x0C
SMTP_UTF8_MAILBOX = "1.3.6.1.5.5.7.8.9"  # RFC 9598
_USAGES = {  # cryptography's names -> RFC 5280's
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}


@lru_cache(64)
def load(data: bytes) -> x509.Certificate | ParseProblem:
    """Parse a certificate; cached, since every file has the same CA certificates."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a negative serial is no reason to refuse
            certificate = x509.load_der_x509_certificate(data)
            certificate.subject, certificate.issuer, certificate.serial_number  # noqa: B018  parsed at first access
    except (ValueError, TypeError, OverflowError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        return ParseProblem(
            CheckId.UNREADABLE, f"a certificate in it cannot be read ({_words(error)})", "have the certificate issued again"
        )
    return certificate


def facts(certificate: x509.Certificate, data: bytes) -> CertificateInfo | ParseProblem:
    """The fields that the program needs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _facts(certificate, data)
    except x509.DuplicateExtension as error:
        return ParseProblem(
            CheckId.UNREADABLE, f"the certificate has the extension {error.oid.dotted_string} twice", "have the certificate issued again"
        )
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType) as error:
        return ParseProblem(CheckId.UNREADABLE, f"the certificate cannot be read ({_words(error)})", "have the certificate issued again")


def _facts(certificate: x509.Certificate, data: bytes) -> CertificateInfo:
    extensions = certificate.extensions
    usage, extended = _key_usage(extensions), _extended(extensions)
    key = kind_of_key(data)
    return CertificateInfo(
        sha256=hashlib.sha256(data).hexdigest(),
        serial=format(certificate.serial_number, "x"),
        subject=escape_unsafe(certificate.subject.rfc4514_string()),
        issuer=escape_unsafe(certificate.issuer.rfc4514_string()),
        addresses=tuple(_addresses(extensions)),
        subject_addresses=tuple(_subject_addresses(certificate)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=key,
        signature=_signature(certificate),
        is_ca=_is_ca(extensions),
        key_usage=usage,
        extended_key_usage=extended,
        usages=_mail_usages(usage, key),
    )


def usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """Which of "sign" and "encrypt" its key usage allows."""
    return _mail_usages(_key_usage(certificate.extensions), kind_of_key(certificate.public_bytes(Encoding.DER)))


@lru_cache(64)
def is_authority(data: bytes) -> bool:
    """Whether it is a certificate whose basic constraints make it a CA."""
    certificate = load(data)
    try:
        return isinstance(certificate, x509.Certificate) and _is_ca(certificate.extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False


def _addresses(extensions: x509.Extensions) -> Iterable[str]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for name in names:
        if isinstance(name, x509.RFC822Name):
            yield name.value
        elif isinstance(name, x509.OtherName) and name.type_id.dotted_string == SMTP_UTF8_MAILBOX:
            yield asn1.read(name.value).wanted(_UTF8).content.decode("utf-8")


def _subject_addresses(certificate: x509.Certificate) -> Iterable[str]:
    for attribute in certificate.subject:
        text = str(attribute.value)
        if attribute.oid == NameOID.EMAIL_ADDRESS or (attribute.oid == NameOID.COMMON_NAME and "@" in text):
            yield text


def _is_ca(extensions: x509.Extensions) -> bool:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key_usage(extensions: x509.Extensions) -> frozenset[str] | None:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return frozenset(ours for theirs, ours in _USAGES.items() if getattr(usage, theirs))


def _extended(extensions: x509.Extensions) -> frozenset[str] | None:
    try:
        return frozenset(use.dotted_string for use in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None


def kind_of_key(data: bytes) -> str:
    """The type of a certificate's key, by its algorithm and parameters (CertificateInfo.key)."""
    try:
        return spki.key_type(spki.public_key_info(data))
    except ValueError:
        return "unreadable"


def _signature(certificate: x509.Certificate) -> str:
    try:
        digest = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return _OLD_SIGNATURES.get(certificate.signature_algorithm_oid.dotted_string, "unknown")
    return digest.name if digest else ""


_OLD_SIGNATURES = {
    "1.2.840.113549.1.1.2": "md2",
    "1.2.840.113549.1.1.3": "md4",
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
}


def _mail_usages(usage: frozenset[str] | None, key: str) -> tuple[str, ...]:
    """Which of "sign" and "encrypt" the key usage allows (RFC 8550 4.4.2; an elliptic key agrees instead of enciphering)."""
    for_key = "keyEncipherment" if key.startswith("rsa-") else "keyAgreement"
    sign = usage is None or bool(usage & {"digitalSignature", "nonRepudiation"})
    encrypt = usage is None or for_key in usage
    return ("sign",) * sign + ("encrypt",) * encrypt


def _words(error: Exception) -> str:
    return escape_unsafe(str(error).partition(": ParseError")[0])[:120] or type(error).__name__
