"""Certificates whose public key says otherwise of itself than its numbers: the same key, another algorithm or other parameters."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from distributor.pki import asn1, spki
from distributor.pki.asn1 import wrap
from tests.authority import Authority, Identity, Key

NULL = wrap(asn1.NULL)


def oid(dotted: str) -> bytes:
    """An object identifier in DER."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytes([40 * first + second])
    for number in rest:
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.insert(0, number & 0x7F | 0x80)
        content += bytes(octets)
    return wrap(asn1.OID, content)


def info(key: Key, algorithm: str, *parameters: bytes) -> bytes:
    """The public key as SubjectPublicKeyInfo under another algorithm."""
    plain = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bits = asn1.read(plain).sequence(2)[1].whole
    return wrap(asn1.SEQUENCE, wrap(asn1.SEQUENCE, oid(algorithm), *parameters), bits)


def reissued(identity: Identity, authority: Authority, key_info: bytes) -> bytes:
    """The certificate in DER with another SubjectPublicKeyInfo, signed again by its issuer."""
    signed, algorithm, _signature = asn1.read(identity.der).sequence(3)
    old = spki.public_key_info(identity.der)
    fields = b"".join(key_info if part.whole == old else part.whole for part in signed.parts())
    body = wrap(asn1.SEQUENCE, fields)
    assert isinstance(authority.root_key, rsa.RSAPrivateKey)
    signature = authority.issuer_key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    return wrap(asn1.SEQUENCE, body, algorithm.whole, wrap(0x03, b"\0", signature))
