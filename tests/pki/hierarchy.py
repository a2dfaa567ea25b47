"""A root, an authority below it and a person, whose CRLs are downloaded without a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from distributor.model.issues import Issue
from distributor.pki.validation import ChainValidator
from distributor.pki.validation.path import build_trust_store
from distributor.pki.validation.revocation import DownloadFailed, Fetched
from tests.authority import Identity
from tests.doubles.pki import CA, der, root

NOW = datetime.now(UTC)
WEB = "http://pki.example"
LEAF, SUB = f"{WEB}/leaf.crl", f"{WEB}/sub.crl"


@dataclass
class Downloads:
    """A downloader without a network."""

    pages: dict[str, bytes | Fetched | DownloadFailed] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.1

    def start(self, url: str, *, crl: bool) -> None:
        """Nothing is to be begun."""

    def get(self, url: str, *, crl: bool) -> Fetched | DownloadFailed:  # noqa: ARG002  the port's argument
        self.asked[url] += 1
        page = self.pages.get(url, DownloadFailed("the server responded with 404"))
        return Fetched(page, self.seconds) if isinstance(page, bytes) else page


@dataclass
class Hierarchy:
    """A root, an authority below it, a person, and their lists; a test spoils one thing."""

    root: CA
    sub: CA
    person: Identity
    downloads: Downloads
    collection: Sequence[bytes]

    def chains(self, *, offline: bool = False) -> ChainValidator:
        return ChainValidator(build_trust_store(self.collection, NOW), None if offline else self.downloads, NOW)

    def issues(self, person: Identity | None = None, *, offline: bool = False) -> list[Issue]:
        one = person or self.person
        return self.chains(offline=offline).validate(one.der, [der(above) for above in one.chain]).issues

    def checks(self, person: Identity | None = None, *, offline: bool = False) -> list[str]:
        return [str(issue.check) for issue in self.issues(person, offline=offline)]


def hierarchy(top: CA | None = None, sub: CA | None = None, person: Identity | None = None) -> Hierarchy:
    top = top or root()
    sub = sub or top.sub("Mail CA", crl=SUB, path_length=0)
    person = person or sub.person("a@example.org", crl=LEAF)
    return Hierarchy(top, sub, person, Downloads({SUB: top.crl(), LEAF: sub.crl()}), [top.der])


_SHA256, _SHA1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")  # with RSA


def aged(signed: x509.Certificate | x509.CertificateRevocationList, key: object, *, wrong: bool = False) -> bytes:
    """The same signed with SHA-1, as nobody's library does any more; `wrong`: the signature is another's."""
    assert isinstance(key, rsa.RSAPrivateKey)
    body = signed.tbs_certificate_bytes if isinstance(signed, x509.Certificate) else signed.tbs_certlist_bytes
    old = body.replace(_SHA256, _SHA1)
    made = key.sign(old + b"!" * wrong, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303  that is the point
    return der(signed).replace(body, old).replace(_SHA256, _SHA1)[: -len(made)] + made


def old_ca(ca: CA, *, wrong: bool = False) -> CA:
    """An authority whose certificate was signed with SHA-1 by the one above it, or by itself."""
    signer = ca.above[0].key if ca.above else ca.key
    return CA(ca.key, x509.load_der_x509_certificate(aged(ca.certificate, signer, wrong=wrong)), ca.above)
