"""A PEM or DER file without a partner of the same name -> its public key, by which certificate and key files are paired.

Runs in a child process: a hostile file decides how long it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from distributor.model.certificates import CertificateInfo, Limits
from distributor.model.secret import Secret
from distributor.pki import certificate, keypairs, pem
from distributor.pki.pbe import Unsupported
from distributor.pki.pem import Block


@dataclass(frozen=True, slots=True)
class UnpairedFile:
    """A file of certificates, or of a key with the passwords to try."""

    data: bytes
    passwords: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyFingerprint:
    """The public key (SubjectPublicKeyInfo in DER) of the key, else of the first certificate; `authority`: all its certificates are CAs."""

    public: bytes | None = None
    authority: bool = False


def fingerprints(loose: UnpairedFile, limits: Limits) -> KeyFingerprint:
    """The fingerprint of a file; empty where it cannot be read."""
    try:
        found = list(pem.blocks(loose.data))
        key = next((block for block in found if block.is_key), None)
        if key is not None:
            return KeyFingerprint(_public(key, loose.passwords, limits))
        return _of_certificates([block.der for block in found if block.is_certificate])
    except (Unsupported, ValueError, IndexError):
        return KeyFingerprint()


def _public(key: Block, passwords: Sequence[Secret], limits: Limits) -> bytes | None:
    """The key's, if a password decrypts it and all attempts together stay within the iteration limit."""
    candidates: Sequence[Secret | None] = passwords if key.encrypted else (None,)
    if not 0 <= pem.rounds(key) * len(candidates) <= limits.iterations:
        return None
    for secret in candidates:
        try:
            return keypairs.spki(pem.load_key(key, secret).public_key())
        except Unsupported:
            continue
    return None


def _of_certificates(ders: Sequence[bytes]) -> KeyFingerprint:
    found = [one for one in map(certificate.load, ders[: keypairs.MOST]) if isinstance(one, x509.Certificate)]
    if not found:
        return KeyFingerprint()
    info = [certificate.facts(one, b"") for one in found]
    return KeyFingerprint(
        keypairs.public(found[0]), len(info) == len(ders) and all(isinstance(one, CertificateInfo) and one.is_ca for one in info)
    )
