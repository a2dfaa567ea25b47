"""The certificates of a path -> Issues: old signatures, short keys, and extended key usages without mail.

pyhanko-certvalidator reports the first two in its own words and does not check the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric import rsa

from distributor.model.issues import CheckId, Issue, Severity
from distributor.pki.chain_certificate import ChainCertificate
from distributor.pki.checks import SMALLEST_RSA
from distributor.pki.keypairs import UNREADABLE, weak_hash

_RENEW = "have its authority renew it, and a new certificate issued below it"
_MAIL = "have a certificate issued below an authority for mail, and tell your authority"


def path_weaknesses(path: Sequence[ChainCertificate]) -> Iterator[Issue]:
    """What is wrong with a path from an issuer to an anchor. An anchor's signature does not matter: it is trusted without it."""
    for one in path[:-1]:
        yield from old_signature(one, f'the authority "{one.name}"')
    for one in path:
        yield from _purpose(one)
        yield from _short(one)


def old_signature(cert: ChainCertificate, who: str) -> Iterator[Issue]:
    """The issue of a signature that can be forged by now; `who` is how messages call the certificate."""
    name = weak_hash(cert.parsed)
    if name is not None:
        text = f"{who} is signed with {name.upper()}, which is no longer trusted"
        yield Issue(Severity.ERROR, CheckId.WEAK_SIGNATURE, text, _RENEW)


def _purpose(cert: ChainCertificate) -> Iterator[Issue]:
    if not cert.for_mail:
        text = f'the authority "{cert.name}" is for other uses than mail by its extended key usage, and so is all below it'
        yield Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, _MAIL)


def _short(cert: ChainCertificate) -> Iterator[Issue]:
    try:
        key = cert.parsed.public_key()
    except UNREADABLE:
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA:
        text = f'the authority "{cert.name}" has an RSA key of {key.key_size} bits; at least {SMALLEST_RSA} are wanted'
        yield Issue(Severity.ERROR, CheckId.WEAK_KEY, text, _RENEW)
