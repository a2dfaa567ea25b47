"""ASN.1 octets -> the values in them, and back. Definite lengths only: `to_definite_length` makes them.

Takes a fifth of the time of a general library, which counts for thousands of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

LONGEST_OID = 64  # octets; longer ones cost the square of their length
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
    if len(value.wanted(OID).content) > LONGEST_OID:
        raise ValueError("an identifier of too many octets")
    for octet in value.content:
        number = number << 7 | octet & 0x7F
        if octet < _LONG:
            found.append(number)
            number = 0
    if not found:
        raise ValueError("an empty identifier")
    first = min(found[0] // 40, 2)
    return ".".join(map(str, (first, found[0] - 40 * first, *found[1:])))


# --- ber --------------------------------------------------------------------------------
# BER (indefinite lengths, octet strings in pieces: NSS, PKI.js, CMS libraries) -> the same with definite lengths and whole octet strings.
# Lengths in more octets than they need are shortened, since cryptography refuses them in a key. Whatever is DER stays as it is.


DEEPEST = 24  # levels; a real PKCS#12 file has about ten
MOST_VALUES = 50_000  # in one file; a real one with 64 certificates has about 2 000. They take a tenth of a second
_CONSTRUCTED, _OCTETS_IN_PIECES, _SEVERAL_OCTETS = 0x20, 0x24, 0x1F
_CONTEXT_0 = 0x80
_ENCRYPTED_CONTENT = [OID, SEQUENCE, EXPLICIT_0]  # type, algorithm, content in pieces


def to_definite_length(data: bytes) -> bytes:
    """The same value in the shortest definite lengths at every depth, octet strings in one piece; unchanged where it is so already.

    Raises ValueError for a broken structure of indefinite length. A broken one of definite length comes back as it is, since `read` may
    never look at the broken part.
    """
    if _is_definite(data):
        return data
    try:
        value = _Definite(data).whole()
    except ValueError:
        if data[1:2] == b"\x80":
            raise
        return data
    return data if value is None else value


def _is_definite(data: bytes) -> bool:
    """Whether `to_definite_length` would change nothing; False where only `_Definite` can tell. Reads each tag and length once.

    Where one value ends is not compared with where the one around it does: whatever breaks that rule stays as it is.
    """
    sequence_ends: set[int] = set()
    at, size = 0, len(data)
    for _ in range(MOST_VALUES):
        if at + 2 > size:
            return at == size
        tag, first, begin = data[at], data[at + 1], at + 2
        length, shortest = first, True
        if first >= _LONG:
            begin += first - _LONG
            length = int.from_bytes(data[at + 2 : begin])
            shortest = first != _LONG and begin - at - 1 == _length_octets(length)
        # Content after a sequence may be encrypted content in pieces; see `_Definite.value`.
        pieces = tag == _OCTETS_IN_PIECES or (tag == EXPLICIT_0 and at in sequence_ends and data[begin : begin + 1] == bytes((OCTETS,)))
        if not shortest or pieces or tag & _SEVERAL_OCTETS == _SEVERAL_OCTETS:
            return False
        if tag == SEQUENCE:
            sequence_ends.add(begin + length)
        at = begin if tag & CONSTRUCTED else begin + length
    return False


class _Definite:
    """Rewrites the values in `data`, up to a number of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MOST_VALUES

    def whole(self) -> bytes | None:
        """The one value in `data`; None: as it is."""
        value, end = self.value(0, len(self._data), DEEPEST)
        if end != len(self._data):
            raise ValueError("bytes follow the end")
        return value

    def value(self, at: int, limit: int, depth: int) -> tuple[bytes | None, int]:
        """The value at `at` (None: as it is) and where the next begins."""
        self._left -= 1
        if not depth or self._left < 0:
            raise ValueError("nested too deep, or too many values")
        tag_end, begin, end = self._head(at, limit)
        tag, name = self._data[at], self._data[at:tag_end]
        same = end is not None and begin - tag_end == _length_octets(end - begin)
        if end is not None and not tag & _CONSTRUCTED:
            return None if same else name + wrap(0, self._data[begin:end])[1:], end
        parts, after, unchanged = self._parts(begin, end, limit, depth)
        same = same and unchanged
        if tag == _OCTETS_IN_PIECES:
            return wrap(OCTETS, *_pieces(parts)), after
        if [part[0] for part in parts] == _ENCRYPTED_CONTENT and (pieces := read(parts[2]).parts()) and pieces[0].tag == OCTETS:
            # [0] IMPLICIT OCTET STRING in pieces; only its neighbours distinguish it from an explicit tag (RFC 5652 6.1)
            parts[2], same = wrap(_CONTEXT_0, *_pieces(piece.whole for piece in pieces)), False
        return None if same else name + wrap(0, *parts)[1:], after

    def _parts(self, at: int, end: int | None, limit: int, depth: int) -> tuple[list[bytes], int, bool]:
        """The values in one, where the next begins, and whether all is as it was."""
        data, same = self._data, end is not None
        found: list[bytes] = []
        while at != end:
            if end is None and data[at : at + 2] == b"\0\0":
                return found, at + 2, False
            value, after = self.value(at, limit if end is None else end, depth - 1)
            found.append(data[at:after] if value is None else value)
            same, at = same and value is None, after
        return found, at, same

    def _head(self, at: int, limit: int) -> tuple[int, int, int | None]:
        """Where the tag ends, where the content begins, and where it ends (None: indefinite)."""
        data, tag_end = self._data, at + 1
        if at >= limit:
            raise ValueError("cut off")
        if data[at] & _SEVERAL_OCTETS == _SEVERAL_OCTETS:
            while data[tag_end : tag_end + 1] >= b"\x80":
                tag_end += 1
            tag_end += 1
        if tag_end >= limit:
            raise ValueError("cut off")
        first = data[tag_end]
        if first == _LONG:
            if not data[at] & _CONSTRUCTED:
                raise ValueError("an indefinite length where none may be")
            return tag_end, tag_end + 1, None
        begin = tag_end + 1 + (size := max(0, first - _LONG))
        end = begin + (int.from_bytes(data[tag_end + 1 : begin]) if size else first)
        if size > _WIDEST or end > limit:
            raise ValueError("cut off")
        return tag_end, begin, end


def _length_octets(length: int) -> int:
    return 1 if length < _LONG else 1 + (length.bit_length() + 7) // 8


def _pieces(values: Iterable[bytes]) -> Iterator[bytes]:
    for value in values:
        yield read(value).octets()
