"""How many `phone` packages a second the library itself makes here, on one core; nothing of ours in between.

And what it cannot do without before it has a key to package: the key derivations of the PFX that came.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from tests.authority import Authority

SECONDS = 3.0
ROUNDS = 2048


def one_core() -> float:
    """Packages a second."""
    identity = Authority("Bench").issue("alice@example.org", name="Alice")

    def package() -> None:
        how = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(ROUNDS)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())  # noqa: S303  the profile that every phone opens
            .build(b"abcde-fghjk-mnpqr-stuvw-xyzab")
        )
        pkcs12.serialize_key_and_certificates(b"Alice", identity.key, identity.certificate, identity.chain[:1], how)

    return _rate(package)


def derivations() -> float:
    """How often a second a core derives what a PFX of today asks for: the key of its MAC, of its certificates and, twice, of its key."""

    def derive() -> None:
        part = b"password and salt"
        for _ in range(ROUNDS):  # RFC 7292 B.2, for which no library has a call
            part = hashlib.sha256(part).digest()
        for _ in range(3):
            PBKDF2HMAC(hashes.SHA256(), 32, b"12345678", ROUNDS).derive(b"password")

    return _rate(derive)


def _rate(work: Callable[[], None]) -> float:
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        work()
        done += 1
    return done / (time.perf_counter() - began)


def machine() -> float:
    """Packages a second if every core did nothing else."""
    return one_core() * (os.cpu_count() or 1)
