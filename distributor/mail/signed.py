"""Finds the S/MIME signature of a mail and the exact bytes that it signs (RFC 8551): multipart/signed or application/pkcs7-mime. Pure.

Only a signature over the whole mail counts: one over a part of it, inside a mailing list's footer or as an attachment, says nothing about
the rest. Verifying it needs `pki`, which is not loaded here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32

from distributor.model.mailboxes import LARGEST_MAIL
from distributor.model.notices import Reference
from distributor.model.people import Address, parse_address

LARGEST_HEADER = 2**17  # bytes of the whole header
MOST_PARTS = 100  # MIME parts, and so the depth of nesting too
LONGEST_VALUE = 2000  # characters of a header field that are looked at
_MOST_IDS = 50
_DELIVERY = re.compile(r"(?<![\w-])d-[0-9a-hjkmnp-tv-z]{26}(?![\w-])", re.IGNORECASE)  # an identifier as the ledger makes them
_MOST_NAMED = 10
_ID = re.compile(r"<[!-;=?-~]{1,250}>")  # a Message-ID: printable ASCII
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_BARE_END_OF_LINE = re.compile(rb"(?<!\r)\n")
_DETACHED = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_OPAQUE = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_SIGNED, _TWO = "multipart/signed", 2
_PARTLY = "only a part of the mail is signed"


@dataclass(frozen=True, slots=True)
class SignedParts:
    """A signed mail taken apart. Everything but `content`, and what is in `cms`, may have been written by anybody."""

    sender: str  # Address.key of From; empty where there is not one
    message_id: str
    about: Reference
    cms: bytes = b""  # SignedData, in DER or BER
    content: bytes | None = None  # what it signs; None: that is inside it
    reason: str = ""  # why nothing can be verified


def signed_parts(mail: bytes) -> SignedParts | None:
    """The signature of a mail; None where it has none. Raises whatever CPython's parser does on malformed mails."""
    if len(mail) > LARGEST_MAIL or len(_head(mail)) > LARGEST_HEADER or b"pkcs7" not in mail.lower():
        return None
    whole = _parsed(mail)
    if whole is None:
        return None
    found = _signature(whole, mail)
    if found is None:
        return None
    cms, content, reason = found
    fields = _fields(whole)
    sender = _sender(_only(fields, "from"))
    message_id = _ID.fullmatch(_only(fields, "message-id"))
    answers = dict.fromkeys(one for name in ("in-reply-to", "references") for value in fields.get(name, ()) for one in _ids(value))
    about = Reference(answers=tuple(answers))
    return SignedParts("" if sender is None else sender.key, message_id[0] if message_id else "", about, cms, content, reason)


def named_deliveries(content: bytes) -> tuple[str, ...]:
    """The deliveries whose identifiers stand in the texts of a signed content, as the ledger writes them."""
    whole = _parsed(content)
    found: dict[str, None] = {}
    for part in whole.walk() if whole is not None else ():
        if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
            for match in _DELIVERY.finditer(_text(part)):
                found[match[0][:2].lower() + match[0][2:].upper()] = None
                if len(found) == _MOST_NAMED:
                    return tuple(found)
    return tuple(found)


# --- the signature ---------------------------------------------------------------------------------------------------


def _signature(whole: Message, mail: bytes) -> tuple[bytes, bytes | None, str] | None:
    """SignedData, the content beside it, and why neither can be had; None where the mail has no signature."""
    kind = whole.get_content_type()
    if kind == _SIGNED:
        return _detached(whole, mail) if _protocol(whole) in _DETACHED else None
    if kind in _OPAQUE:
        return (_decoded(whole), None, "") if _is_signature(whole) else None
    inside = whole.get_payload() if whole.is_multipart() and kind != "message/rfc822" else ()
    if any(isinstance(part, Message) and _is_signed(part) for part in inside):
        return b"", None, _PARTLY
    return None


def _is_signed(part: Message) -> bool:
    kind = part.get_content_type()
    return (kind == _SIGNED and _protocol(part) in _DETACHED) or (kind in _OPAQUE and _is_signature(part))


def _is_signature(part: Message) -> bool:
    """Whether application/pkcs7-mime holds a signature, as far as it says: encrypted mails have the same type."""
    return str(part.get_param("smime-type", "signed-data")).lower() == "signed-data"


def _protocol(part: Message) -> str:
    return str(part.get_param("protocol", "")).lower()


def _detached(whole: Message, mail: bytes) -> tuple[bytes, bytes | None, str]:
    parts = whole.get_payload()
    if not isinstance(parts, list) or len(parts) != _TWO:
        return b"", None, "a signed mail has two parts, its content and the signature"
    signature = parts[1]
    if not isinstance(signature, Message) or signature.get_content_type() not in _DETACHED:
        return b"", None, "the signature is not where it must be"
    content = _first_part(mail, str(whole.get_boundary("")))
    if content is None:
        return b"", None, "the signed part has no end"
    return _decoded(signature), content, ""


def _first_part(mail: bytes, boundary: str) -> bytes | None:
    """The first part as it was signed: without the end of line before the next delimiter, with CRLF everywhere."""
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary.encode("ascii", "replace")) + rb"[ \t]*(?=\r?\n|\Z)")
    body = mail[len(_head(mail)) :]
    first = delimiter.search(body)
    start = body.find(b"\n", first.end()) + 1 if first else 0
    # the line before an empty part's delimiter ends the delimiter before it
    second = delimiter.search(body, start - 1) if start else None
    return _BARE_END_OF_LINE.sub(b"\r\n", body[start : second.start()]) if second else None


def _decoded(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


# --- parsing ---------------------------------------------------------------------------------------------------------


class _TooManyParts(Exception):
    """The mail has more than MOST_PARTS parts."""


def _parsed(mail: bytes) -> Message | None:
    """The mail; None where it has too many parts."""
    parts = 0

    def part(policy: object = None) -> Message:
        nonlocal parts
        parts += 1
        if parts > MOST_PARTS:
            raise _TooManyParts
        del policy  # that of the parser
        return Message(policy=compat32)

    try:
        return BytesParser(part, policy=compat32).parsebytes(mail)
    except _TooManyParts:
        return None


def _head(mail: bytes) -> bytes:
    end = _END_OF_HEADER.search(mail)
    return mail[: end.end() if end else len(mail)]


_Fields = Mapping[str, Sequence[str]]  # by lower-case name, topmost first


def _fields(whole: Message) -> _Fields:
    """The header's fields, unfolded."""
    found: dict[str, list[str]] = {}
    for name, value in whole.raw_items():
        found.setdefault(name.lower(), []).append(_FOLD.sub("", str(value)).strip())
    return found


def _only(fields: _Fields, name: str) -> str:
    """The value of a field that must be there once; empty otherwise."""
    values = fields.get(name, ())
    return values[0] if len(values) == 1 and len(values[0]) <= LONGEST_VALUE else ""


def _sender(value: str) -> Address | None:
    """The one address of From: alone, or in angle brackets after a name. Anything that programs read differently is refused."""
    address = value
    if value.endswith(">"):
        name, _, address = value[:-1].rpartition("<")
        if set(_QUOTED.sub("", name)) & set('@<>(),;:"\\'):
            return None
    found = parse_address(address)
    return found if isinstance(found, Address) else None


def _ids(value: str) -> list[str]:
    return _ID.findall(value[-10 * LONGEST_VALUE :])[-_MOST_IDS:]


def _text(part: Message) -> str:
    try:
        return _decoded(part).decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):  # no such charset, or one that is no charset of texts
        return _decoded(part).decode("utf-8", "replace")
