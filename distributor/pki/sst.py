"""A serialized certificate store (.sst) <-> the certificates in it, byte for byte as Windows writes it ([MS-OSHARED] 2.3.2.5 and 2.3.9.1).

All numbers are four bytes, little-endian: a version (0), "CERT", then elements of properties and one context each, then twelve zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from distributor.pki.asn1 import Unreadable

MAGIC = struct.pack("<I4s", 0, b"CERT")
END = bytes(12)
CERTIFICATE, CRL, CTL = 32, 33, 34  # the context types; the last two from wincrypt.h
FRIENDLY_NAME = 11  # a property: UTF-16LE, ends with a zero
_ENCODING = 1  # X.509
_LAST_PROPERTY = 0xFFFF
_ENTRY = struct.Struct("<III")  # id, encoding, length


@dataclass(frozen=True, slots=True)
class Stored:
    """One certificate of a store and its properties by number, whose values are not verified."""

    certificate: bytes
    properties: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The friendly name, or nothing."""
        return self.properties.get(FRIENDLY_NAME, b"").decode("utf-16-le", "replace").partition("\0")[0]


@dataclass(frozen=True, slots=True)
class Collection:
    """The content of a store, in its order; CRLs and CTLs are only counted."""

    stored: tuple[Stored, ...]
    crls: int = 0
    ctls: int = 0

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The certificates in DER, duplicates too."""
        return tuple(one.certificate for one in self.stored)


class _Entry(NamedTuple):
    at: int
    id: int
    value: bytes


def write(certificates: Sequence[bytes]) -> bytes:
    """The store of these certificates in DER, each once and without properties. Raises ValueError for none, or for an empty one."""
    distinct = dict.fromkeys(certificates)
    if not distinct:
        raise ValueError("a collection without a certificate")
    if b"" in distinct:
        raise ValueError("an empty certificate")
    return MAGIC + b"".join(_ENTRY.pack(CERTIFICATE, _ENCODING, len(one)) + one for one in distinct) + END


def read(data: bytes) -> Collection:
    """Parse a store. Raises Unreadable for anything else, or for bytes after its end."""
    if data[: len(MAGIC)] != MAGIC:
        raise _malformed(0, "not a serialized certificate store")
    stored: list[Stored] = []
    others = {CRL: 0, CTL: 0}
    for context, properties in _elements(data):
        if context.id == CERTIFICATE:
            stored.append(Stored(context.value, properties))
        else:
            others[context.id] += 1
    return Collection(tuple(stored), others[CRL], others[CTL])


def _elements(data: bytes) -> Iterator[tuple[_Entry, dict[int, bytes]]]:
    """Each context element with the properties before it."""
    properties: dict[int, bytes] = {}
    last = 0
    for entry in _entries(data):
        last = entry.at
        if entry.id in {CERTIFICATE, CRL, CTL}:
            yield entry, properties
            properties = {}
        else:
            properties[entry.id] = entry.value
    if properties:
        raise _malformed(last, "properties without a certificate after them")


def _entries(data: bytes) -> Iterator[_Entry]:
    at = len(MAGIC)
    while data[at : at + len(END)] != END:
        entry = _entry(data, at)
        yield entry
        at += _ENTRY.size + len(entry.value)
    if len(data) != at + len(END):
        raise _malformed(at + len(END), f"{len(data) - at - len(END)} bytes follow the end")


def _entry(data: bytes, at: int) -> _Entry:
    if at + _ENTRY.size > len(data):
        raise _malformed(at, "cut off; the end is missing")
    number, encoding, length = _ENTRY.unpack_from(data, at)
    if not 0 < number <= _LAST_PROPERTY:
        raise _malformed(at, f"an entry of the unknown kind {number}")
    if encoding != _ENCODING:
        raise _malformed(at + 4, f"an entry in the unknown encoding {encoding}")
    begin = at + _ENTRY.size
    if length > len(data) - begin:
        raise _malformed(at + 8, f"an entry of {length} bytes where {len(data) - begin} are left")
    if number == CERTIFICATE and not length:
        raise _malformed(at + 8, "an empty certificate")
    return _Entry(at, number, data[begin : begin + length])


def _malformed(offset: int, reason: str) -> Unreadable:
    return Unreadable(f"byte {offset}: {reason}")
