"""The certificates and private keys of one file -> identities: each key with its certificate (verified to match) and its chain."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from distributor.model.certificates import CertificateInfo, Identity, ParsedIdentities, ParseProblem
from distributor.model.issues import CheckId
from distributor.model.people import escape_unsafe
from distributor.model.secret import Secret
from distributor.pki import certificate as certificates
from distributor.pki.checks import ORDINARY_KEY, WEAK_HASHES, foreign_key
from distributor.pki.spki import is_installed

# --- signatures --------------------------------------------------------------------------------
# Two certificates -> whether one signed the other, and whether the signature is still trusted (SignatureStatus).


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


LONGEST_CHAIN = 8  # certificates above a leaf; real chains have one to three
MOST = 64  # certificates or keys in one file
_PROBE = b"does this key belong to that certificate"


def match_identities(ders: Sequence[bytes], keys: Sequence[PrivateKeyTypes], expected_sha256: str | None) -> ParsedIdentities:
    """Every identity in these certificates and keys. `expected_sha256`: the SHA-256 of the one leaf to return, verified before."""
    if len(ders) > MOST or len(keys) > MOST:
        return ParsedIdentities(
            problems=(ParseProblem(CheckId.TOO_COSTLY, f"it has more than {MOST} certificates or keys", "split it into smaller files"),)
        )
    return _KeyCertificateSet(ders, keys, expected_sha256).opened()


class _KeyCertificateSet:
    """The certificates and keys of one file."""

    def __init__(self, ders: Sequence[bytes], keys: Sequence[PrivateKeyTypes], expected_sha256: str | None) -> None:
        self.expected_sha256 = expected_sha256
        self.problems: list[ParseProblem] = []
        self.certificates: dict[bytes, x509.Certificate] = {}
        self.keys = {spki(key.public_key()): key for key in keys}
        for der in ders:
            match certificates.load(der):
                case ParseProblem() as problem:
                    self.problems.append(problem)
                case certificate:
                    self.certificates[der] = certificate

    def opened(self) -> ParsedIdentities:
        used: set[bytes] = set()
        credentials = []
        for der, certificate in self.certificates.items():
            own = public(certificate)
            key = self.keys.get(own) if own is not None else None
            if key is None or own is None:
                continue
            used.add(own)
            if (identity := self._credential(der, certificate, key)) is not None:
                credentials.append(identity)
        if self.expected_sha256 is None:
            self.problems.extend(self._left_over(used))
        return ParsedIdentities(tuple(credentials), tuple(self.problems))

    def _credential(self, der: bytes, certificate: x509.Certificate, key: PrivateKeyTypes) -> Identity | None:
        match certificates.facts(certificate, der):
            case ParseProblem() as problem:
                self.problems.append(problem)
                return None
            case CertificateInfo() as facts:
                pass
        if self.expected_sha256 is not None:
            secret = Secret(base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode())
            return Identity(facts, der, self._chain(der), secret) if facts.sha256 == self.expected_sha256 else None
        if not key_matches(key, certificate.public_key()):
            self.problems.append(
                _mismatch(f'the private key does not belong to the certificate of "{facts.subject}": its numbers do not fit')
            )
            return None
        return Identity(facts, der, self._chain(der), None)

    def _left_over(self, used: set[bytes]) -> Iterator[ParseProblem]:
        strange = [own for own in self.keys if own not in used]
        alone = {der: c for der, c in self.certificates.items() if public(c) not in used and not self._is_authority(der, c)}
        lonely = [c for der, c in alone.items() if is_installed(certificates.kind_of_key(der))]
        yield from (problem for der in alone if (problem := key_type(der)) is not None)
        if alone and not lonely:
            return  # keys of such types cannot be compared
        if strange and lonely:
            yield _mismatch("the private key does not belong to the certificate")
        elif strange:
            yield _mismatch("a private key in it belongs to no certificate in it")
        elif lonely:
            for certificate in lonely:
                yield _no_key(f'the certificate of "{escape_unsafe(certificate.subject.rfc4514_string())}" comes without its private key')
        elif not used and not self.problems:
            yield _no_key("it has no private key")

    def _is_authority(self, der: bytes, certificate: x509.Certificate) -> bool:
        """Whether it is in the file as part of a chain."""
        if certificates.is_authority(der) or certificate.subject == certificate.issuer:
            return True
        return any(other.issuer == certificate.subject for other in self.certificates.values() if other is not certificate)

    def _chain(self, leaf: bytes) -> tuple[bytes, ...]:
        """The certificates above, issuer of the leaf first; ends at a self-signed one, at a missing issuer or where it would repeat."""
        found: list[bytes] = []
        current = leaf
        while len(found) < LONGEST_CHAIN and (above := self._above(current, {leaf, *found})) is not None:
            found.append(above)
            current = above
        return tuple(found)

    def _above(self, der: bytes, below: set[bytes]) -> bytes | None:
        """The issuer's certificate, by name and signature; by name alone where the file was verified before."""
        certificate = self.certificates[der]
        if certificate.subject == certificate.issuer:
            return None
        named = [other for other, c in self.certificates.items() if other not in below and c.subject == certificate.issuer]
        if self.expected_sha256 is not None and len(named) == 1:
            return named[0]
        return next((other for other in named if is_issued_by(other, der)), None)


def key_type(der: bytes) -> ParseProblem | None:
    """The problem of a certificate whose type of key phones do not install."""
    kind = certificates.kind_of_key(der)
    return None if is_installed(kind) else ParseProblem(CheckId.KEY_TYPE, foreign_key(kind), ORDINARY_KEY)


def key_types(ders: Sequence[bytes]) -> ParsedIdentities | None:
    """The problems of people's certificates with such keys, which explain why a private key beside them could not be read."""
    problems = (key_type(der) for der in dict.fromkeys(ders) if not certificates.is_authority(der))
    found = tuple(problem for problem in problems if problem is not None)
    return ParsedIdentities(problems=found) if found else None


@lru_cache(64)
def is_issued_by(issuer: bytes, subject: bytes) -> bool:
    """Whether one certificate signed another; by name only where the signature is too old to be verified."""
    above, below = certificates.load(issuer), certificates.load(subject)
    if isinstance(above, ParseProblem) or isinstance(below, ParseProblem):
        return False
    return signature(below, above) is not SignatureStatus.WRONG


def public(certificate: x509.Certificate) -> bytes | None:
    """The public key in DER; None for an unknown type."""
    try:
        return spki(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def spki(key: PublicKeyTypes) -> bytes:
    """A public key in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_matches(key: PrivateKeyTypes, public: PublicKeyTypes) -> bool:
    """Whether private and public key belong together.

    An RSA key that splits the certificate's modulus is its key, which proves as much as a signature. Other keys sign.
    """
    try:
        match key, public:
            case rsa.RSAPrivateKey(), rsa.RSAPublicKey():
                return _rsa_fits(key, public)
            case ec.EllipticCurvePrivateKey(), ec.EllipticCurvePublicKey():
                public.verify(key.sign(_PROBE, ec.ECDSA(hashes.SHA256())), _PROBE, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True  # preflight refuses every other kind (key-type)


def _rsa_fits(key: rsa.RSAPrivateKey, public: rsa.RSAPublicKey) -> bool:
    n = key.private_numbers()
    e, modulus = public.public_numbers().e, public.public_numbers().n
    if (n.public_numbers.n, n.public_numbers.e) != (modulus, e) or n.p * n.q != modulus or min(n.p, n.q) <= 1:
        return False
    halves = ((n.p, n.dmp1), (n.q, n.dmq1))
    return n.q * n.iqmp % n.p == 1 and all(e * d % (prime - 1) == 1 == e * n.d % (prime - 1) for prime, d in halves)


def _mismatch(message: str) -> ParseProblem:
    return ParseProblem(CheckId.KEY_MISMATCH, message, "export certificate and key together from the same place again")


def _no_key(message: str) -> ParseProblem:
    return ParseProblem(CheckId.NO_KEY, message, "export it again with its private key")
