"""Decodes lists and password files: UTF-8 with or without BOM, UTF-16, Windows-1252 or -1250, Mac Roman. Pure.

Bytes that do not fit stay recognisable. Of the single-byte encodings the one is taken in which the words look like words.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_STRANGE = frozenset(map(chr, range(0xDC80, 0xDD00))) | {"\ufffd"}
UNUSUAL = {"cp1250": "Windows-1250 (Central European)", "mac_roman": "Mac Roman"}  # single-byte encodings that a reader is told of
_SINGLE = ("cp1252", "mac_roman", "cp1250")  # the likeliest first
_CENTRAL = frozenset(b"pl cz sk hu si hr ro rs ba".split())  # domains of countries whose lists are in Windows-1250
_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
_COUNTRY = re.compile(rb"@[A-Za-z0-9.-]+\.([A-Za-z]{2})\b")
_MOST_WORDS = 2000


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

    By its byte order mark, by the NUL bytes of UTF-16, UTF-8 where any multi-byte character is valid, else by its words.
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
    return _eight_bits(chain([data], rest))


def _eight_bits(pieces: Iterator[bytes]) -> str:
    """UTF-8, perhaps with a few wrong bytes, or one of the single-byte encodings."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    wrong, words, countries = False, set[bytes](), Counter[bytes]()
    for piece in chain(pieces, [b""]):
        text = decoder.decode(piece, not piece)
        if not text.isascii():
            wrong = wrong or is_broken(text)
            if any(c > "\x7f" and c not in _STRANGE for c in set(text)):
                return "utf-8"
            if len(words) < _MOST_WORDS:
                words.update(_WORD.findall(piece))
        countries.update(map(bytes.lower, _COUNTRY.findall(piece)))
    return _single_byte(words, countries) if wrong else "utf-8"


def _single_byte(words: Iterable[bytes], countries: Counter[bytes]) -> str:
    central = sum(countries[country] for country in _CENTRAL) * 2 > countries.total()
    order = ("cp1250", *_SINGLE[:2]) if central else _SINGLE
    oddities = {encoding: sum(_oddities(word.decode(encoding, "replace")) for word in words) for encoding in order}
    return min(order, key=lambda encoding: oddities[encoding])


def _oddities(word: str) -> int:
    """How many characters do not belong into a word: symbols, letters of other scripts, a capital between small letters."""
    odd = 0
    for before, char, after in zip(f" {word}", word, f"{word[1:]} ", strict=False):
        if char > "\x7f":
            inside = char.isupper() and (before.islower() or (before.isalpha() and after.islower()))
            odd += inside or not (char.isalpha() and unicodedata.name(char, "").startswith("LATIN"))
    return odd
