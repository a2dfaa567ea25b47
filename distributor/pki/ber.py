"""BER with indefinite lengths, as NSS (Thunderbird, Firefox) writes it -> the same with definite lengths; anything else is unchanged."""

from __future__ import annotations

from distributor.pki.asn1 import wrap

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
