"""The certificates and private keys of one file -> identities: each key with its certificate (verified to match) and its chain."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from distributor.model.certificates import Identity, ParsedIdentities, ParseProblem
from distributor.model.issues import CheckId
from distributor.model.secret import Secret
from distributor.pki.certificate import Certificate, kind_of_key, load
from distributor.pki.checks import ORDINARY_KEY, foreign_key
from distributor.pki.issuers import IssuerIndex
from distributor.pki.spki import is_installed

LONGEST_CHAIN = 8  # certificates above a leaf; real chains have one to three
MOST_ABOVE = 24  # certificates above a leaf, after which no more are sought
MOST_PATHS = 200  # looked at, where CAs sign each other
MOST = 64  # certificates or keys in one file
_PROBE = b"does this key belong to that certificate"


def match_identities(ders: Sequence[bytes], keys: Sequence[PrivateKeyTypes], expected_sha256: str | None) -> ParsedIdentities:
    """Every identity in these certificates and keys. `expected_sha256`: the SHA-256 of the one leaf to return, verified before."""
    if len(ders) > MOST or len(keys) > MOST:
        return ParsedIdentities(
            problems=(ParseProblem(CheckId.TOO_COSTLY, f"more than {MOST} certificates or keys in the file", "split the file"),)
        )
    return _KeyCertificateSet(ders, keys, expected_sha256).opened()


class _KeyCertificateSet:
    """The certificates and keys of one file."""

    def __init__(self, ders: Sequence[bytes], keys: Sequence[PrivateKeyTypes], expected_sha256: str | None) -> None:
        self.expected_sha256 = expected_sha256
        self.problems: list[ParseProblem] = []
        self.unread = False  # whether a certificate cannot be read: a key without a certificate may be its key
        self.certificates: dict[bytes, Certificate] = {}
        self.keys = {spki(key.public_key()): key for key in keys}
        for der in ders:
            match load(der):
                case ParseProblem() as problem:
                    self.problems.append(problem)
                    self.unread = True
                case certificate:
                    self.certificates[der] = certificate
        self.index = IssuerIndex(self.certificates.values())

    def opened(self) -> ParsedIdentities:
        used: set[bytes] = set()
        credentials = []
        for certificate in self.certificates.values():
            own = certificate.public_key
            key = self.keys.get(own) if own is not None else None
            if key is None or own is None:
                continue
            used.add(own)
            if (identity := self._credential(certificate, key)) is not None:
                credentials.append(identity)
        if self.expected_sha256 is None:
            self.problems.extend(self._left_over(used))
        return ParsedIdentities(tuple(credentials), tuple(self.problems))

    def _credential(self, certificate: Certificate, key: PrivateKeyTypes) -> Identity | None:
        facts = certificate.info
        if isinstance(facts, ParseProblem):
            self.problems.append(facts)
            return None
        if self.expected_sha256 is not None:
            secret = Secret(base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode())
            return Identity(facts, certificate.der, self._chain(certificate), secret) if facts.sha256 == self.expected_sha256 else None
        if not key_matches(key, certificate.parsed.public_key()):
            self.problems.append(
                _mismatch(f'the private key does not belong to the certificate of "{facts.subject}": the public keys differ')
            )
            return None
        chain = self._chain(certificate)
        return Identity(facts, certificate.der, chain, None, _further(certificate, chain, self.index))

    def _left_over(self, used: set[bytes]) -> Iterator[ParseProblem]:
        strange = [] if self.unread else [own for own in self.keys if own not in used]
        alone = [c for c in self.certificates.values() if c.public_key not in used and not self._is_authority(c)]
        lonely = [c for c in alone if is_installed(kind_of_key(c.der))]
        yield from (problem for c in alone if (problem := key_type(c.der)) is not None)
        if alone and not lonely:
            return  # keys of such types cannot be compared
        if strange and lonely:
            yield _mismatch("the private key does not belong to the certificate")
        elif strange:
            yield _mismatch("a private key in it belongs to no certificate in it")
        elif lonely:
            for certificate in lonely:
                yield _no_key(f'the certificate of "{certificate.subject_text}" has no private key in the file')
        elif not used and not self.problems:
            yield _no_key("it has no private key")

    def _is_authority(self, certificate: Certificate) -> bool:
        """Whether it is in the file as part of a chain."""
        if certificate.is_ca or certificate.subject == certificate.issuer:
            return True
        return any(other.issuer == certificate.subject for other in self.certificates.values() if other is not certificate)

    def _chain(self, leaf: Certificate) -> tuple[bytes, ...]:
        return _above([leaf], self.index)


def complete_chains(opened: ParsedIdentities, issuers: Sequence[bytes]) -> ParsedIdentities:
    """The same identities, with chains that go on as far as these CA certificates lead; each step is a checked signature."""
    index = IssuerIndex(_loaded(issuers))
    longer = []
    for identity in opened.identities:
        known = _loaded((identity.leaf, *identity.chain))
        chain, every = _above(known, index), IssuerIndex(_loaded((*identity.chain, *identity.further, *issuers)))
        longer.append(replace(identity, chain=chain, further=_further(known[0], chain, every)))
    return replace(opened, identities=tuple(longer))


def _loaded(ders: Iterable[bytes]) -> list[Certificate]:
    """Those that can be read."""
    return [found for found in map(load, ders) if isinstance(found, Certificate)]


def _further(leaf: Certificate, chain: Sequence[bytes], index: IssuerIndex) -> tuple[bytes, ...]:
    """The certificates above a leaf on any path, but for those of its chain; nearest first."""
    seen = {leaf.der: leaf}
    queue = [leaf]
    for one in queue:  # it grows while it is walked
        if len(seen) > MOST_ABOVE:
            break
        new = {above.der: above for above in index.seeming_issuers(one) if above.der not in seen}
        seen |= new
        queue += new.values()
    return tuple(der for der in seen if der != leaf.der and der not in chain)


def _above(known: Sequence[Certificate], index: IssuerIndex) -> tuple[bytes, ...]:
    """The certificates above the first of those known, its issuer first: the shortest path to a self-signed one.

    Where none leads there, the shortest to a missing issuer: a way round by other CAs, or by one that took the name and key of another,
    is the longer one.
    """
    paths, ended = [list(known)], None
    for _ in range(MOST_PATHS):
        if not paths:
            break
        path = paths.pop(0)
        if path[-1].subject == path[-1].issuer:
            return tuple(one.der for one in path[1:])
        above = [one for one in index.seeming_issuers(path[-1]) if one not in path] if len(path) <= LONGEST_CHAIN else []
        ended = ended or (None if above else path)
        paths += [[*path, one] for one in above]
    return tuple(one.der for one in (ended or known)[1:])


def key_type(der: bytes) -> ParseProblem | None:
    """The problem of a certificate whose type of key phones do not install."""
    kind = kind_of_key(der)
    return None if is_installed(kind) else ParseProblem(CheckId.KEY_TYPE, foreign_key(kind), ORDINARY_KEY)


def key_types(ders: Sequence[bytes]) -> ParsedIdentities | None:
    """The problems of people's certificates with such keys, which explain why a private key beside them could not be read."""
    people = [der for der in dict.fromkeys(ders) if not (isinstance(one := load(der), Certificate) and one.is_ca)]
    found = tuple(problem for der in people if (problem := key_type(der)) is not None)
    return ParsedIdentities(problems=found) if found else None


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
    return ParseProblem(CheckId.KEY_MISMATCH, message, "export the certificate and its key together again")


def _no_key(message: str) -> ParseProblem:
    return ParseProblem(CheckId.NO_KEY, message, "export the certificate again with its private key")
