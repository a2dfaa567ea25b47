"""Which certificate issued another: by name, key identifier and signature.

`issued` is proof, and what trust is built on. `seems_issued` also takes a signature in an algorithm that nobody here can verify: it puts
a file's certificates in order and finds gaps in a collection, and nothing is trusted for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

from distributor.pki.certificate import UNREADABLE, Certificate, Signed, signature_hash
from distributor.pki.checks import WEAK_HASHES


class SignatureStatus(Enum):
    """The result of verifying a signature."""

    GOOD = "good"
    WEAK = "weak"  # its hash is broken; the signature matches, or the library no longer verifies it
    UNKNOWN = "unknown"  # an unknown algorithm
    WRONG = "wrong"


class IssuerIndex:
    """Certificates by subject name, among which issuers are sought."""

    def __init__(self, certs: Iterable[Certificate] = ()) -> None:
        self._by_name: dict[bytes, list[Certificate]] = {}
        self._known: set[bytes] = set()
        for cert in certs:
            self.add(cert)

    def add(self, cert: Certificate) -> bool:
        """Add a certificate; whether it was not there before."""
        if cert.der in self._known:
            return False
        self._known.add(cert.der)
        self._by_name.setdefault(cert.subject, []).append(cert)
        return True

    def named(self, name: bytes) -> list[Certificate]:
        """Those with this subject, in the order in which they were added."""
        return self._by_name.get(name, [])

    def candidates(self, cert: Certificate) -> list[Certificate]:
        """Those whose subject is the certificate's issuer and whose key identifier, where both name one, is the same."""
        wanted = cert.issuer_key_id
        return [one for one in self.named(cert.issuer) if wanted is None or one.key_id is None or one.key_id == wanted]

    def seeming_issuers(self, cert: Certificate) -> Iterator[Certificate]:
        """Those with the issuer's name that seem to have issued it, each verified when its turn comes."""
        return (one for one in self.named(cert.issuer) if seems_issued(one, cert))


def issued(issuer: Certificate, cert: Certificate) -> bool:
    """Whether the issuer signed the certificate, with an old hash too."""
    return signature(cert, issuer) in {SignatureStatus.GOOD, SignatureStatus.WEAK}


@lru_cache(64)
def seems_issued(issuer: Certificate, cert: Certificate) -> bool:
    """Whether the issuer signed the certificate; by name only where the signature cannot be verified."""
    return cert.issuer == issuer.subject and signature(cert, issuer) is not SignatureStatus.WRONG


def is_self_signed(cert: Certificate) -> bool:
    """Whether it is a root.

    A root's own signature carries no trust, so an old one, or one too old to be verified, is enough for a CA.
    """
    if cert.subject != cert.issuer or (cert.issuer_key_id and cert.key_id and cert.issuer_key_id != cert.key_id):
        return False
    found = signature(cert, cert)
    old_root = cert.may_issue or cert.parsed.version is x509.Version.v1  # version 1 has no basic constraints
    return found is SignatureStatus.GOOD or (found is SignatureStatus.WEAK and old_root)


def signature(cert: Certificate, issuer: Certificate) -> SignatureStatus:
    """Verify the certificate's signature with the issuer's key, and that its issuer name is the issuer's subject."""
    try:
        if not (cert.is_copy or issuer.is_copy):
            cert.parsed.verify_directly_issued_by(issuer.parsed)
        elif cert.issuer == issuer.subject:
            _verify(cert.parsed, issuer.parsed.public_key(), cert.tbs)
        else:
            return SignatureStatus.WRONG
    except InvalidSignature:
        return SignatureStatus.WRONG
    except UNREADABLE:  # ValueError too where SHA-1 is asked for (cryptography 50)
        return _weak_or_unknown(cert, issuer) if cert.issuer == issuer.subject else SignatureStatus.WRONG
    return SignatureStatus.GOOD


def _weak_or_unknown(cert: Certificate, issuer: Certificate) -> SignatureStatus:
    if cert.signature in WEAK_HASHES:
        return SignatureStatus.WRONG if fits(cert.parsed, issuer, cert.tbs) is False else SignatureStatus.WEAK
    try:
        cert.parsed.signature_hash_algorithm  # noqa: B018  whether the library knows it
    except UnsupportedAlgorithm:
        return SignatureStatus.UNKNOWN
    except UNREADABLE:
        pass
    return SignatureStatus.WRONG


def fits(signed: Signed, issuer: Certificate, data: bytes) -> bool | None:
    """Whether a signature over `data` with an old hash was made by the issuer's key; None where the library does not verify it."""
    try:
        _verify(signed, issuer.parsed.public_key(), data)
    except UnsupportedAlgorithm:
        return None
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _verify(signed: Signed, key: object, data: bytes) -> None:
    """Raises InvalidSignature, or one of UNREADABLE."""
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
    name = signature_hash(signed)
    return name if name in WEAK_HASHES else None
