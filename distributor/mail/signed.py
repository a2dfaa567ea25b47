"""Finds the S/MIME signature of a mail and the exact bytes that it signs (RFC 8551): multipart/signed or application/pkcs7-mime. Pure.

Only a signature over the whole mail counts: one over a part of it, inside a mailing list's footer or as an attachment, says nothing about
the rest. Verifying it needs `pki`, which is not loaded here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message

from distributor.mail.copy_requests import sender_of
from distributor.mail.received import Mail, children, content_type, decoded, message_ids, only, read_mail, texts
from distributor.model.notices import Reference

_DELIVERY = re.compile(r"(?<![\w-])d-[0-9a-hjkmnp-tv-z]{26}(?![\w-])", re.IGNORECASE)  # an identifier as the ledger makes them
_MOST_NAMED = 10
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


def signed_parts(mail: Mail) -> SignedParts | None:
    """The signature of a mail; None where it has none."""
    found = _signature(mail)
    if found is None:
        return None
    cms, content, reason = found
    sender, message_id = sender_of(only(mail.fields, "from")), message_ids(mail.fields, "message-id")
    about = Reference(answers=message_ids(mail.fields, "in-reply-to", "references"))
    return SignedParts("" if sender is None else sender.key, message_id[0] if len(message_id) == 1 else "", about, cms, content, reason)


def named_deliveries(content: bytes) -> tuple[str, ...]:
    """The deliveries whose identifiers stand in the texts of a signed content, as the ledger writes them."""
    found: dict[str, None] = {}
    for part in texts(read_mail(content).message):
        for match in _DELIVERY.finditer(decoded(_decoded(part), part.get_content_charset("utf-8"))):
            found[match[0][:2].lower() + match[0][2:].upper()] = None
            if len(found) == _MOST_NAMED:
                return tuple(found)
    return tuple(found)


# --- the signature ---------------------------------------------------------------------------------------------------


def _signature(mail: Mail) -> tuple[bytes, bytes | None, str] | None:
    """SignedData, the content beside it, and why neither can be had; None where the mail has no signature."""
    whole, kind = mail.message, content_type(mail.message)
    if kind == _SIGNED:
        return _detached(mail) if _protocol(whole) in _DETACHED else None
    if kind in _OPAQUE:
        return (_decoded(whole), None, "") if _is_signature(whole) else None
    return (b"", None, _PARTLY) if any(map(_is_signed, children(whole))) else None


def _is_signed(part: Message) -> bool:
    kind = content_type(part)
    return (kind == _SIGNED and _protocol(part) in _DETACHED) or (kind in _OPAQUE and _is_signature(part))


def _is_signature(part: Message) -> bool:
    """Whether application/pkcs7-mime holds a signature, as far as it says: encrypted mails have the same type."""
    return str(part.get_param("smime-type", "signed-data")).lower() == "signed-data"


def _protocol(part: Message) -> str:
    return str(part.get_param("protocol", "")).lower()


def _detached(mail: Mail) -> tuple[bytes, bytes | None, str]:
    parts = children(mail.message)
    if len(parts) != _TWO:
        return b"", None, "a signed mail has two parts, its content and the signature"
    signature = parts[1]
    if content_type(signature) not in _DETACHED:
        return b"", None, "the signature is not where it must be"
    content = _first_part(mail.body, str(mail.message.get_boundary("")))
    if content is None:
        return b"", None, "the signed part has no end"
    return _decoded(signature), content, ""


def _first_part(body: bytes, boundary: str) -> bytes | None:
    """The first part as it was signed: without the end of line before the next delimiter, with CRLF everywhere."""
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary.encode("ascii", "replace")) + rb"[ \t]*(?=\r?\n|\Z)")
    first = delimiter.search(body)
    start = body.find(b"\n", first.end()) + 1 if first else 0
    # the line before an empty part's delimiter ends the delimiter before it
    second = delimiter.search(body, start - 1) if start else None
    return _BARE_END_OF_LINE.sub(b"\r\n", body[start : second.start()]) if second else None


def _decoded(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
