"""People's credentials as the program holds them, from the throw-away authority."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives import serialization as ser

from distributor.core.credentials import Credential, Facts
from distributor.core.secret import Secret
from tests.authority import Identity


def credential(identity: Identity) -> Credential:
    """What opening a file would have found."""
    certificate = identity.certificate
    key = identity.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    facts = Facts(
        sha256=hashlib.sha256(identity.der).hexdigest(),
        serial=f"{certificate.serial_number:x}",
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        addresses=("alice@example.org",),
        subject_addresses=(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key="rsa-2048",
        signature="sha256",
        is_ca=False,
        key_usage=None,
        extended_key_usage=None,
        usages=("sign", "encrypt"),
    )
    chain = tuple(c.public_bytes(ser.Encoding.DER) for c in identity.chain)
    return Credential(facts, identity.der, chain, Secret(base64.b64encode(key).decode()))
