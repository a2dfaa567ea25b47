"""A file that `plan` opened before -> the PackageContent of one leaf, without checking the rest of the file again.

A fast path beside `parse_material` for the common file: PKCS#12 with one shrouded key. The bytes are known by their hash, so their
iterations, MAC and certificates were checked by `plan`. For anything unusual it returns None: then `parse_material` reads all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from distributor.model.certificates import SourceMaterial
from distributor.pki import asn1
from distributor.pki.asn1 import Value
from distributor.pki.package import Key, PackageContent

_DATA = bytes.fromhex("2a864886f70d010701")
_SHROUDED_KEY = bytes.fromhex("2a864886f70d010c0a0102")


def load_known_key(material: SourceMaterial, leaf: bytes, chain: tuple[bytes, ...]) -> PackageContent | None:
    """Leaf and chain as the ledger has them, with the leaf's key; None when the fast path does not apply."""
    try:
        certificate = x509.load_der_x509_certificate(leaf)
    except ValueError:
        return None
    key = _key(material, certificate)
    return None if key is None else PackageContent(key, certificate, chain)


def _key(material: SourceMaterial, leaf: x509.Certificate) -> Key | None:
    try:
        shrouded = list(_shrouded(material.parts[0].data)) if material.form == "pkcs12" else []
    except (ValueError, IndexError):
        return None
    if len(shrouded) != 1:
        return None
    for password in material.passwords:
        try:
            # `plan` verified that it belongs to the leaf; the library's own check would take 37 ms (facts: pkcs12.md B3).
            key = load_der_private_key(shrouded[0], password.reveal().encode(), unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, Key) and key.public_key() == leaf.public_key():
            return key
    return None


def _shrouded(data: bytes) -> Iterator[bytes]:
    """The encrypted keys of a PFX in DER (RFC 7292 4): in its plain safes, not inside other bags."""
    _version, auth_safe, *_mac = asn1.read(data).sequence(2)
    for info in asn1.read(_content(auth_safe)).sequence(0):
        if _kind(info) == _DATA:
            for bag in asn1.read(_content(info)).sequence(0):
                if _kind(bag) == _SHROUDED_KEY:
                    yield bag.parts()[1].content


def _kind(value: Value) -> bytes:
    return value.sequence(2)[0].content


def _content(info: Value) -> bytes:
    """The octets in a ContentInfo of type data."""
    kind, explicit = info.sequence(2)
    if kind.content != _DATA:
        raise ValueError("not data")
    return asn1.read(explicit.wanted(asn1.EXPLICIT_0).content).octets()
