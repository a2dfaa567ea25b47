"""How many `phone` packages a second the library itself makes here, on one core; nothing of ours in between."""

from __future__ import annotations

import os
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from tests.authority import Authority

SECONDS = 3.0


def one_core() -> float:
    """Packages a second."""
    identity = Authority("Bench").issue("alice@example.org", name="Alice")
    made, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        how = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(2048)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())  # noqa: S303  the profile that every phone opens
            .build(b"abcde-fghjk-mnpqr-stuvw-xyzab")
        )
        pkcs12.serialize_key_and_certificates(b"Alice", identity.key, identity.certificate, identity.chain[:1], how)
        made += 1
    return made / (time.perf_counter() - began)


def machine() -> float:
    """Packages a second if every core did nothing else."""
    return one_core() * (os.cpu_count() or 1)
