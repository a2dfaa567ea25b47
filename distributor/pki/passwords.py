"""Passwords as they were given -> the encodings to try on a PFX, the likeliest first. Programs differ in how they encode one and the same.

MAC and PBES1 work on a BMPString, PBES2 on octets (RFC 7292 B.1, RFC 8018 3); a program may get one right and the other wrong.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from distributor.model.secret import Secret
from distributor.pki.pbe import EncodedPassword

FEW = 3  # passwords given; line ends are tried behind so few only, since that triples the time of a list of wrong ones
_LINE_ENDS = ("\n", "\r\n")


def candidates(passwords: Sequence[Secret]) -> list[EncodedPassword]:
    """What to try on a PFX: all of them as given, then as other programs may have spelled them.

    Without a password, and for an empty one, none and the empty one: programs disagree which of the two they mean.
    """
    texts: list[str | None] = [*spelled([secret.reveal() for secret in passwords] or [""])]
    if "" in texts:
        texts.insert(texts.index("") + 1, None)
    return [EncodedPassword.of(text) for text in texts]


def spelled(texts: Sequence[str]) -> list[str]:
    """All of them as given, then in other spellings."""
    found = [*texts, *(other for text in texts for other in _spellings(text))]
    if len(texts) <= FEW:  # a program that took a whole file or line for the password
        found += [text + end for text in texts if text for end in _LINE_ENDS]
    return list(dict.fromkeys(found))


def _spellings(text: str) -> Iterator[str]:
    """Other spellings of a password that ends in blanks or is not ASCII; at most eight."""
    if (bare := text.rstrip()) != text and bare:
        yield bare
        text = bare
    if text.isascii():
        return
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))  # macOS types NFD in places, others NFC
    yield from (composed, decomposed)
    yield from _misread(composed, "utf-8", "latin-1")  # OpenSSL before 1.1, and later in a locale that is not UTF-8
    yield from _misread(composed, "utf-8", "cp1252")  # a password file read with the code page of Windows
    yield from _misread(composed, "cp1252", "utf-8")  # the list that was given is what was misread
    yield from _misread(composed, "cp850", "latin-1")  # OpenSSL in a console of Windows
    yield from _misread(decomposed, "utf-8", "latin-1")


def _misread(text: str, written: str, read: str) -> Iterator[str]:
    """The text written in one encoding and read in another, where both are possible."""
    try:
        yield text.encode(written).decode(read)
    except ValueError:
        return


def with_octets(word: EncodedPassword) -> list[EncodedPassword]:
    """The same BMPString with each octet string that programs use for PBES2 beside it. They cost nothing unless the MAC fits."""
    text = word.bmp[:-2].decode("utf-16-be", "surrogatepass")
    octets = (
        word.utf8,
        text.encode("latin-1", "replace"),  # as typed, in OpenSSL; old Bouncy Castle; "?" for others in Java
        text.encode("cp1252", "replace"),
        unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass"),  # GnuTLS
        word.bmp,  # NSS before 3.31
        word.bmp[:-2],
    )
    return [EncodedPassword(word.bmp, each) for each in dict.fromkeys(octets)]
