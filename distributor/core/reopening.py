"""The very bytes that a plan opened before -> what goes into the package of the one leaf wanted, nothing else looked at.

A short cut beside `opening`, taken for the common file: PKCS#12 with one shrouded key. The bytes are known by their hash, so their
cost, MAC and certificates were judged when they were planned. Whatever is unusual is None: then `opening` looks at all of it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from distributor.core.credentials import Material
from distributor.core.package import Content, Key

_SEQUENCE, _OCTETS, _OID, _EXPLICIT = 0x30, 0x04, 0x06, 0xA0
_DATA = bytes.fromhex("2a864886f70d010701")
_SHROUDED_KEY = bytes.fromhex("2a864886f70d010c0a0102")


def reopen(material: Material, leaf: bytes, chain: tuple[bytes, ...]) -> Content | None:
    """Leaf and chain as the ledger keeps them, with the key that belongs to the leaf; None when it is not to be had this way."""
    try:
        certificate = x509.load_der_x509_certificate(leaf)
    except ValueError:
        return None
    key = _key(material, certificate)
    return None if key is None else Content(key, certificate, chain)


def _key(material: Material, leaf: x509.Certificate) -> Key | None:
    try:
        shrouded = list(_shrouded(material.parts[0].data)) if material.form == "pkcs12" else []
    except (ValueError, IndexError):
        return None
    if len(shrouded) != 1:
        return None
    for password in material.passwords:
        try:
            # Proved at the plan to belong to the leaf; the library's own check would take 37 ms (facts: pkcs12.md B3).
            key = load_der_private_key(shrouded[0], password.reveal().encode(), unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, Key) and key.public_key() == leaf.public_key():
            return key
    return None


def _shrouded(data: bytes) -> Iterator[bytes]:
    """The encrypted keys of a PFX in DER (RFC 7292 4): in its plain safes, not inside other bags."""
    _version, auth_safe, *_mac = _Node.only(data, _SEQUENCE).children()
    for info in _Node.only(_content(auth_safe), _SEQUENCE).children():
        if info.first_is(_DATA):
            for bag in _Node.only(_content(info), _SEQUENCE).children():
                if bag.first_is(_SHROUDED_KEY):
                    yield bag.children()[1].inside()


def _content(info: _Node) -> bytes:
    """The octets of a ContentInfo that holds data."""
    kind, explicit = info.children()
    if kind.tag != _OID or kind.inside() != _DATA or explicit.tag != _EXPLICIT:
        raise ValueError("not data")
    return _Node.only(explicit.inside(), _OCTETS).inside()


@dataclass(frozen=True, slots=True)
class _Node:
    """A DER element within `data`, from `start` to `end` without its head."""

    data: bytes
    tag: int
    start: int
    end: int

    @classmethod
    def at(cls, data: bytes, at: int) -> _Node:
        """The element that begins here; ValueError unless it has a definite length and fits."""
        tag, length, start = data[at], data[at + 1], at + 2
        if length > 0x80:  # noqa: PLR2004  DER's long form
            start += length - 0x80
            length = int.from_bytes(data[at + 2 : start])
        elif length == 0x80:  # noqa: PLR2004  BER's indefinite form
            raise ValueError("indefinite")
        if start + length > len(data):
            raise ValueError("cut off")
        return cls(data, tag, start, start + length)

    @classmethod
    def only(cls, data: bytes, tag: int) -> _Node:
        """The one element that these bytes are."""
        node = cls.at(data, 0)
        if node.tag != tag or node.end != len(data):
            raise ValueError("something else")
        return node

    def children(self) -> list[_Node]:
        """What a constructed element is made of."""
        found, at = [], self.start
        while at < self.end:
            found.append(node := self.at(self.data, at))
            at = node.end
        return found

    def inside(self) -> bytes:
        """The content octets."""
        return self.data[self.start : self.end]

    def first_is(self, oid: bytes) -> bool:
        """Whether it begins with this object identifier."""
        first = self.at(self.data, self.start)
        return first.tag == _OID and first.inside() == oid
