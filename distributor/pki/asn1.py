"""ASN.1 octets -> the values in them, and back. Definite lengths only (`ber.to_definite_length`); nothing is read beyond a value's end.

Takes a fifth of the time of a general library, which counts for thousands of files.
"""

from __future__ import annotations

from typing import NamedTuple

INTEGER, OCTETS, NULL, OID, SEQUENCE, SET, EXPLICIT_0 = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31, 0xA0
CONSTRUCTED = 0x20  # bit of a tag: the content is values
_LONG = 0x80
_WIDEST = 4  # octets of a length


class Unreadable(ValueError):
    """The bytes cannot be read as what they are meant to be. The message says why, for users; that of any other ValueError is not."""


class Value(NamedTuple):
    """A value inside `data`: its tag, where it begins, where its content begins and where it ends."""

    data: bytes
    tag: int
    start: int
    begin: int
    end: int

    @property
    def content(self) -> bytes:
        """The octets in it."""
        return self.data[self.begin : self.end]

    @property
    def whole(self) -> bytes:
        """Tag, length and content."""
        return self.data[self.start : self.end]

    def parts(self) -> list[Value]:
        """The values in it."""
        found, at = [], self.begin
        while at < self.end:
            value = _at(self.data, at, self.end)
            found.append(value)
            at = value.end
        return found

    def octets(self) -> bytes:
        """The content of an octet string."""
        return self.wanted(OCTETS).content

    def number(self) -> int:
        """The content of an integer."""
        return int.from_bytes(self.wanted(INTEGER).content, signed=True)

    def sequence(self, at_least: int) -> list[Value]:
        """The parts of a sequence."""
        found = self.wanted(SEQUENCE).parts()
        if len(found) < at_least:
            raise ValueError("something is missing")
        return found

    def wanted(self, tag: int) -> Value:
        """The value itself. Raises ValueError for another tag."""
        if self.tag != tag:
            raise ValueError("something else was expected")
        return self


def read(data: bytes) -> Value:
    """The one value in these octets. Raises ValueError when there is more or less than one."""
    value = _at(data, 0, len(data))
    if value.end != len(data):
        raise ValueError("bytes follow the end")
    return value


def _at(data: bytes, start: int, limit: int) -> Value:
    if start + 2 > limit:
        raise ValueError("cut off")
    length, begin = data[start + 1], start + 2
    if length >= _LONG:
        size = length - _LONG
        if not 0 < size <= _WIDEST:
            raise ValueError("an odd length")
        begin += size
        length = int.from_bytes(data[start + 2 : begin])
    end = begin + length
    if end > limit:
        raise ValueError("cut off")
    return Value(data, data[start], start, begin, end)


def wrap(tag: int, *contents: bytes) -> bytes:
    """A value with this tag and content."""
    content = b"".join(contents)
    size = len(content)
    if size < _LONG:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _LONG + len(length))) + length + content


def dotted(value: Value) -> str:
    """An object identifier in dotted notation."""
    found: list[int] = []
    number = 0
    for octet in value.wanted(OID).content:
        number = number << 7 | octet & 0x7F
        if octet < _LONG:
            found.append(number)
            number = 0
    if not found:
        raise ValueError("an empty identifier")
    first = min(found[0] // 40, 2)
    return ".".join(map(str, (first, found[0] - 40 * first, *found[1:])))


# --- ber --------------------------------------------------------------------------------
# BER with indefinite lengths, as NSS (Thunderbird, Firefox) writes it -> the same with definite lengths; anything else is unchanged.


DEEPEST = 24  # levels; a real PKCS#12 file has about ten
_INDEFINITE, _CONSTRUCTED, _OCTETS, _MULTIPLE = 0x80, 0x20, 0x04, 0x1F

_CONTEXT_0 = 0x80
_ENCRYPTED_CONTENT = [0x06, 0x30, 0xA0]  # type, algorithm, content


def to_definite_length(data: bytes) -> bytes:
    """The same value with definite lengths if its first length is indefinite. Raises ValueError for a broken structure."""
    if data[1:2] != b"\x80":
        return data
    value, end = _value(data, 0, DEEPEST)
    if end != len(data):
        raise ValueError("bytes follow the end")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[bytes, int]:
    """One value from `at` on, and where the next begins."""
    tag, length, begin = _head(data, at)
    if not depth:
        raise ValueError("nested too deep")
    if length is not None:
        end = begin + length
        if end > len(data):
            raise ValueError("cut off")
        if not tag & _CONSTRUCTED:
            return data[at:end], end
    parts, end = _parts(data, begin, None if length is None else begin + length, depth)
    if tag == _OCTETS | _CONSTRUCTED:
        return wrap(_OCTETS, b"".join(_content(part) for part in parts)), end
    if [part[0] for part in parts] == _ENCRYPTED_CONTENT:
        parts[2] = _implicit(parts[2])
    return wrap(tag, b"".join(parts)), end


def _implicit(value: bytes) -> bytes:
    """`[0] IMPLICIT OCTET STRING` in pieces -> in one. Only its neighbours distinguish it from an explicit tag (RFC 5652 6.1)."""
    begin = _head(value, 0)[2]
    pieces, _ = _parts(value, begin, len(value), DEEPEST)
    return wrap(_CONTEXT_0, b"".join(_content(piece) for piece in pieces))


def _parts(data: bytes, at: int, end: int | None, depth: int) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    while at != end:
        if end is None and data[at : at + 2] == b"\0\0":
            return found, at + 2
        part, at = _value(data, at, depth - 1)
        found.append(part)
        if end is not None and at > end:
            raise ValueError("a part is longer than the whole")
    return found, at


def _head(data: bytes, at: int) -> tuple[int, int | None, int]:
    """Tag, length (None: indefinite) and where the content begins."""
    if at + 2 > len(data):
        raise ValueError("cut off")
    tag, first = data[at], data[at + 1]
    if tag & _MULTIPLE == _MULTIPLE:
        raise ValueError("a tag of several bytes")
    if first < _INDEFINITE:
        return tag, first, at + 2
    if first == _INDEFINITE:
        if not tag & _CONSTRUCTED:
            raise ValueError("an indefinite length where none may be")
        return tag, None, at + 2
    size = first - _INDEFINITE
    if size > 4 or at + 2 + size > len(data):  # noqa: PLR2004  four bytes count to 4 GiB
        raise ValueError("cut off")
    return tag, int.from_bytes(data[at + 2 : at + 2 + size]), at + 2 + size


def _content(value: bytes) -> bytes:
    tag, _, begin = _head(value, 0)
    if tag != _OCTETS:
        raise ValueError("a string of other things than octets")
    return value[begin:]
