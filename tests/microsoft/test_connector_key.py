"""The connector's exported key: both forms, and everything that is not one, with what to do."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from distributor.errors import InvalidInput
from distributor.microsoft.connector_key import encrypt, fingerprint, parse_key
from distributor.microsoft.pfx_import import Padding
from distributor.model.secret import Secret
from tests import intune

WHERE = "intune.connector.public_key"


def test_both_forms_are_the_same_key() -> None:
    found = {fingerprint(parse_key(data, WHERE)) for data in (intune.blob(), intune.pem(), b"\xef\xbb\xbf" + intune.pem())}
    assert found == {fingerprint(intune.CONNECTOR.public_key())}


ELLIPTIC = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def small() -> bytes:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  too small, which is the point
    return intune.pem(key)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "neither a CNG key blob nor a public key in PEM"),
        (intune.blob()[:-1], "the exported key is damaged"),
        (intune.blob()[:20], "the exported key is damaged"),
        (b"RSA1" + struct.pack("<5I", 2048, 3, 2**31, 0, 0), "the exported key is damaged"),
        (b"RSA2" + intune.blob()[4:], "this is a private key, which must never leave the connector"),
        (intune.private().encode(), "this is a private key, which must never leave the connector"),
        (
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "not an RSA key",
        ),
        (small(), "the key has 1024 bits"),
    ],
)
def test_anything_else_is_refused_with_a_way_out(data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_key(data, WHERE)
    assert refused.value.message == says
    assert refused.value.where == WHERE
    assert refused.value.hint


def test_a_password_that_the_connector_would_cut_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encrypt(Secret("größer"), parse_key(intune.pem(), WHERE), Padding.SHA512)
