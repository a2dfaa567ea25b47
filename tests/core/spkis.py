"""Certificates whose public key says otherwise of itself than its numbers: the same key, another algorithm or other parameters."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from distributor.core import der, spki
from distributor.core.der import wrap
from tests.authority import Authority, Identity, Key

NULL = wrap(der.NULL)


def oid(dotted: str) -> bytes:
    """An object identifier in DER."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytes([40 * first + second])
    for number in rest:
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.insert(0, number & 0x7F | 0x80)
        content += bytes(octets)
    return wrap(der.OID, content)


def info(key: Key, algorithm: str, *parameters: bytes) -> bytes:
    """The public key as SubjectPublicKeyInfo under another algorithm."""
    plain = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bits = der.read(plain).sequence(2)[1].whole
    return wrap(der.SEQUENCE, wrap(der.SEQUENCE, oid(algorithm), *parameters), bits)


def reissued(identity: Identity, authority: Authority, key_info: bytes) -> bytes:
    """The certificate in DER with another SubjectPublicKeyInfo, signed again by its issuer."""
    signed, algorithm, _signature = der.read(identity.der).sequence(3)
    old = spki.of(identity.der)
    fields = b"".join(key_info if part.whole == old else part.whole for part in signed.parts())
    body = wrap(der.SEQUENCE, fields)
    assert isinstance(authority.root_key, rsa.RSAPrivateKey)
    signature = authority.issuer_key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    return wrap(der.SEQUENCE, body, algorithm.whole, wrap(0x03, b"\0", signature))
