"""ASN.1 octets -> the values in them, and back. Definite lengths only (`ber.to_definite_length`); nothing is read beyond a value's end.

Takes a fifth of the time of a general library, which counts for thousands of files.
"""

from __future__ import annotations

from typing import NamedTuple

INTEGER, OCTETS, NULL, OID, SEQUENCE, SET, EXPLICIT_0 = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31, 0xA0
_LONG = 0x80
_WIDEST = 4  # octets of a length


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
