"""Decodes rosters and password files: UTF-8 with or without BOM, UTF-16, Windows-1252. Bytes that do not fit stay recognisable."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain

LONGEST_CELL = 32_767  # characters of a list's cell, as in a spreadsheet
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_STRANGE = frozenset(map(chr, range(0xDC80, 0xDD00))) | {"\ufffd"}


def decode(data: bytes) -> str:
    """The text; bytes that do not fit the encoding become a lone surrogate or U+FFFD (`is_broken`)."""
    encoding = guess([data])
    return data.decode(encoding, errors(encoding))


def errors(encoding: str) -> str:
    """The error handler that keeps bytes that do not fit an encoding recognisable."""
    return "replace" if encoding.startswith("utf-16") else "surrogateescape"


def is_broken(text: str) -> bool:
    """Whether the text had bytes that do not fit its encoding."""
    return not text.isascii() and not _STRANGE.isdisjoint(text)


def guess(pieces: Iterable[bytes]) -> str:
    """The encoding of a text in pieces, the first of at least two bytes if there are as many.

    By its byte order mark, by the NUL bytes of UTF-16, UTF-8 where any multi-byte character is valid, else Windows-1252.
    """
    rest = iter(pieces)
    data = next(rest, b"")
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return "utf-16-le"
    if data[:1] == b"\0" and data[1:2] not in {b"\0", b""}:
        return "utf-16-be"
    return "utf-8" if _is_utf8(chain([data], rest)) else "cp1252"


def _is_utf8(pieces: Iterator[bytes]) -> bool:
    """Whether the text is UTF-8, perhaps with a few wrong bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    right = wrong = False
    for piece in chain(pieces, [b""]):
        text = decoder.decode(piece, not piece)
        if not text.isascii():
            wrong = wrong or is_broken(text)
            right = right or any(c > "\x7f" and c not in _STRANGE for c in set(text))
        if right:
            return True
    return not wrong
