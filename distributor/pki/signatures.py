"""Two certificates -> whether one signed the other, and whether the signature is still trusted (SignatureStatus)."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

from distributor.pki.checks import WEAK_HASHES

UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
_OLD = {"1.2.840.113549.1.1.2": "md2", "1.2.840.113549.1.1.3": "md4", "1.2.840.113549.1.1.4": "md5"}  # the library knows no name for two

Signed = x509.Certificate | x509.CertificateRevocationList


class SignatureStatus(Enum):
    """The result of verifying a signature."""

    GOOD = "good"
    WEAK = "weak"  # its hash is broken; the signature matches, or the library no longer verifies it
    UNKNOWN = "unknown"  # an unknown algorithm
    WRONG = "wrong"


def signature(cert: x509.Certificate, issuer: x509.Certificate) -> SignatureStatus:
    """Verify the certificate's signature with the issuer's key, and that its issuer name is the issuer's subject."""
    try:
        cert.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return SignatureStatus.WRONG
    except UNREADABLE:  # ValueError too where SHA-1 is asked for (cryptography 50)
        return _weak_or_unknown(cert, issuer) if cert.issuer == issuer.subject else SignatureStatus.WRONG
    return SignatureStatus.GOOD


def _weak_or_unknown(cert: x509.Certificate, issuer: x509.Certificate) -> SignatureStatus:
    if weak_hash(cert) is not None:
        return SignatureStatus.WRONG if fits(cert, issuer) is False else SignatureStatus.WEAK
    try:
        cert.signature_hash_algorithm  # noqa: B018  whether the library knows it
    except UnsupportedAlgorithm:
        return SignatureStatus.UNKNOWN
    except UNREADABLE:
        pass
    return SignatureStatus.WRONG


def fits(signed: Signed, issuer: x509.Certificate) -> bool | None:
    """Whether a signature with an old hash was made by the issuer's key; None where the library does not verify it."""
    try:
        _verify(signed, issuer.public_key())
    except UnsupportedAlgorithm:
        return None
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _verify(signed: Signed, key: object) -> None:
    """Raises InvalidSignature, or one of UNREADABLE."""
    data = signed.tbs_certificate_bytes if isinstance(signed, x509.Certificate) else signed.tbs_certlist_bytes
    digest, parameters = signed.signature_hash_algorithm, signed.signature_algorithm_parameters
    match key, parameters:
        case rsa.RSAPublicKey(), padding.PKCS1v15() | padding.PSS() if digest:
            key.verify(signed.signature, data, parameters, digest)
        case ec.EllipticCurvePublicKey(), ec.ECDSA():
            key.verify(signed.signature, data, parameters)
        case dsa.DSAPublicKey(), _ if digest:
            key.verify(signed.signature, data, digest)
        case _:
            raise InvalidSignature


def weak_hash(signed: Signed) -> str | None:
    """The name of its signature's hash if that is no longer trusted."""
    name = _OLD.get(signed.signature_algorithm_oid.dotted_string)
    with suppress(*UNREADABLE):
        name = name or getattr(signed.signature_hash_algorithm, "name", None)
    return name if name in WEAK_HASHES else None
