"""A certificate that the library is too strict for -> a copy with the same values that it can read. For reading only: no signature fits it.

Texts become UTF-8 (Latin-1 in a T61String, "@" in a PrintableString), times end in Z, booleans are DER, and of the subject alternative
names only mail addresses are left. Extensions that decide nothing here are left out, unless they are critical.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from distributor.pki import asn1
from distributor.pki.asn1 import Value, wrap

DEEPEST = 24  # values within values; a real extension has about eight
_BOOLEAN, _BITS, _UTF8, _UTC_TIME, _TIME = 0x01, 0x03, 0x0C, 0x17, 0x18
_TEXTS = {_UTF8: "utf-8", 0x12: "utf-8", 0x13: "utf-8", 0x14: "utf-8", 0x16: "utf-8", 0x1A: "utf-8", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
_EIGHT_BITS = frozenset({0x12, 0x13, 0x14, 0x16, 0x1A})  # in which other programs leave Latin-1
_EXTENSIONS = 0xA3
_OTHER_NAME, _RFC822_NAME = 0xA0, 0x81
_KEY_USAGE, _NAMES, _CONSTRAINTS = (bytes.fromhex(f"551d{number}") for number in ("0f", "11", "13"))
_KEPT = {  # and read as they are: subject and authority key identifier, extended key usage, CRLs, freshest CRL, authority information
    *(bytes.fromhex(f"551d{number}") for number in ("0e", "23", "25", "1f", "2e")),
    bytes.fromhex("2b06010505070101"),
}
_SMTP_UTF8_MAILBOX = bytes.fromhex("2b06010505070809")
_MOMENTS = {  # the year has two digits, or four
    tag: re.compile(rb"(\d{%d})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?(?:[.,]\d+)?(?:Z|([+-])(\d\d)(\d\d))" % digits)
    for tag, digits in ((_UTC_TIME, 2), (_TIME, 4))
}
_PIVOT = 50  # two-digit years from here on are of the last century (RFC 5280 4.1.2.5.1)


class OddTime(ValueError):
    """A date that no program reads."""

    def __str__(self) -> str:
        return "its dates are not written as X.509 requires"


def readable_copy(der: bytes) -> bytes:
    """The copy. Raises ValueError where the certificate is damaged, or its two signature algorithms differ."""
    whole = asn1.read(der)
    signed, algorithm, signature = _exactly(whole.sequence(3), 3)
    if wrap(asn1.SEQUENCE, whole.content) != der:  # the same certificate would have another SHA-256
        raise ValueError("its length is not DER")
    fields = signed.sequence(6)
    first = 1 if fields[0].tag == asn1.EXPLICIT_0 else 0
    if fields[first + 1].whole != algorithm.whole:
        raise ValueError("two signature algorithms")
    parts = [field.whole for field in fields]
    for number in (first + 2, first + 4):  # issuer and subject
        parts[number] = _utf8(fields[number])
    parts[first + 3] = wrap(asn1.SEQUENCE, *map(_time, fields[first + 3].sequence(2)))
    if fields[-1].tag == _EXTENSIONS:
        found = asn1.read(fields[-1].content).sequence(0)
        parts[-1] = wrap(_EXTENSIONS, wrap(asn1.SEQUENCE, *map(_extension, found)))
    return wrap(asn1.SEQUENCE, wrap(asn1.SEQUENCE, *parts), algorithm.whole, signature.whole)


def _exactly(parts: Sequence[Value], most: int) -> Sequence[Value]:
    if len(parts) > most:  # other readers would not open it
        raise ValueError("more parts than there should be")
    return parts


def _utf8(value: Value, depth: int = DEEPEST) -> bytes:
    """A value with every text in it as UTF8String."""
    if not depth:
        raise ValueError("nested too deep")
    if value.tag in _TEXTS:
        return wrap(_UTF8, _text(value).encode())
    if value.tag & asn1.CONSTRUCTED:
        return wrap(value.tag, *(_utf8(part, depth - 1) for part in value.parts()))
    return value.whole


def _text(value: Value) -> str:
    try:
        return value.content.decode(_TEXTS[value.tag])
    except UnicodeDecodeError:
        if value.tag not in _EIGHT_BITS:
            raise
        return value.content.decode("latin-1")


def _time(value: Value) -> bytes:
    found = _MOMENTS[value.tag].fullmatch(value.content) if value.tag in _MOMENTS else None
    if not found:
        raise OddTime
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    if value.tag == _UTC_TIME:
        year += 1900 if year >= _PIVOT else 2000
    if int(found[8] or 0) > 23 or int(found[9] or 0) > 59:  # noqa: PLR2004  of a day, of an hour
        raise OddTime
    ahead = timedelta(hours=int(found[8] or 0), minutes=int(found[9] or 0))
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - (-ahead if found[7] == b"-" else ahead)
    except (ValueError, OverflowError):  # a 13th month
        raise OddTime from None
    if 1900 + _PIVOT <= moment.year < 2000 + _PIVOT:
        return wrap(_UTC_TIME, f"{moment:%y%m%d%H%M%S}Z".encode())
    return wrap(_TIME, f"{moment.year:04}{moment:%m%d%H%M%S}Z".encode())


def _extension(value: Value) -> bytes:
    """An extension in DER; empty where it is left out."""
    name, *flag, octets = _exactly(value.sequence(2), 3)
    critical = bool(flag) and flag[0].wanted(_BOOLEAN).content != b"\0"
    if flag and len(flag[0].content) != 1:
        raise ValueError("a boolean of several octets")
    kind = name.wanted(asn1.OID).content
    content = octets.octets()
    if kind == _NAMES:
        content = _addresses(asn1.read(content))
    elif kind == _CONSTRAINTS:
        content = _constraints(asn1.read(content))
    elif kind == _KEY_USAGE:
        content = _key_usage(asn1.read(content))
    elif kind in _KEPT:
        content = _utf8(asn1.read(content))
    elif not critical:
        return b""
    return wrap(asn1.SEQUENCE, name.whole, *([wrap(_BOOLEAN, b"\xff")] if critical else []), wrap(asn1.OCTETS, content))


def _addresses(names: Value) -> bytes:
    """The mail addresses. What is no ASCII becomes a blank, which no address has, so that it cannot turn into somebody else's."""
    kept = []
    for name in names.sequence(0):
        if name.tag == _RFC822_NAME:
            kept.append(wrap(_RFC822_NAME, name.content.decode("ascii", "replace").replace("\ufffd", " ").encode()))
        elif name.tag == _OTHER_NAME and name.parts()[0].content == _SMTP_UTF8_MAILBOX:
            kept.append(name.whole)
    return wrap(asn1.SEQUENCE, *kept)


def _constraints(value: Value) -> bytes:
    parts = value.sequence(0)
    is_ca = bool(parts) and parts[0].tag == _BOOLEAN and any(parts[0].content)
    length = (part.whole for part in parts if part.tag == asn1.INTEGER)
    return wrap(asn1.SEQUENCE, *([wrap(_BOOLEAN, b"\xff")] if is_ca else []), *length)


def _key_usage(value: Value) -> bytes:
    """The bits, with zeros in the part of the last octet that does not count."""
    unused, bits = value.wanted(_BITS).content[0], value.content[1:]
    if unused > 7 or (unused and not bits):  # noqa: PLR2004  an octet has eight bits
        raise ValueError("an odd number of bits")
    return wrap(_BITS, bytes([unused]) + bits[:-1] + bytes([bits[-1] >> unused << unused]) if bits else b"\0")
