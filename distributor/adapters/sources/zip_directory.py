"""Measures the central directory of a zip, its size and number of members, before `zipfile` loads it into memory.

Follows the records as `zipfile` does, so that both read the same directory. The number of members in the records is not trusted: the
directory's headers are counted.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

_END = struct.Struct("<4s4H2LH")  # APPNOTE 4.3.16: signature, disk numbers and entries, size and offset of the directory, length of comment
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_HEADER = struct.Struct("<4s24x3H12x")  # 4.3.12: signature, lengths of name, extra field and comment
_LONGEST_COMMENT = 2**16
_CHUNK = 2**16


class BadZip(ValueError):
    """The file does not end as a zip does, or its directory is not where it should be."""


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """A zip's central directory. `size` in bytes; `entries` as counted, no further than asked for."""

    size: int
    entries: int


def zip_directory(file: IO[bytes], largest: int, most: int) -> ZipDirectory:
    """The directory of an open zip; one larger than `largest` is not read, and counting ends after one member more than `most`."""
    size, place = _directory(file)
    if place < 0:
        raise BadZip("the directory is not in the file")
    entries = _count(file, place, size, most) if size <= largest else 0
    file.seek(0)
    return ZipDirectory(size, entries)


def _directory(file: IO[bytes]) -> tuple[int, int]:
    """The directory's size and where it begins."""
    length = os.fstat(file.fileno()).st_size
    file.seek(max(0, length - _END.size - _LONGEST_COMMENT))
    base, tail = file.tell(), file.read()
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise BadZip("there is no end of a directory")
    size = _END.unpack_from(tail, at)[5]
    place = base + at - size
    return _directory64(file, base + at) or (size, place)


def _directory64(file: IO[bytes], end: int) -> tuple[int, int] | None:
    """The same from the zip64 record before the end record; None where there is none."""
    start = end - _LOCATOR.size - _END64.size
    if start < 0:
        return None
    file.seek(start)
    record = file.read(_END64.size + _LOCATOR.size)
    if record[_END64.size : _END64.size + 4] != b"PK\6\7" or record[:4] != b"PK\6\6":
        return None
    size = _END64.unpack_from(record)[8]
    return size, start - size


def _count(file: IO[bytes], place: int, size: int, most: int) -> int:
    """The number of headers in the directory."""
    file.seek(place)
    window, at, entries = b"", 0, 0
    while size > 0 and entries <= most:
        if len(window) - at < _HEADER.size:
            window, at = window[at:] + file.read(_CHUNK), 0
        if len(window) < _HEADER.size:
            raise BadZip("the directory is cut off")
        signature, *lengths = _HEADER.unpack_from(window, at)
        if signature != b"PK\1\2":
            raise BadZip("the directory is damaged")
        length = _HEADER.size + sum(lengths)
        entries, size, at = entries + 1, size - length, at + length
        if at > len(window):
            file.seek(at - len(window), os.SEEK_CUR)
            window, at = b"", 0
    if size < 0:
        raise BadZip("the directory's last entry reaches beyond it")
    return entries
