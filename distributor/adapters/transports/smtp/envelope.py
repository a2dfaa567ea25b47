"""Builds the commands MAIL and RCPT and the bytes after DATA. Pure.

The bytes after DATA are the frozen ones with dots doubled (RFC 5321 4.5.2) and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from distributor.model.outcomes import OutboundMessage, Rejected
from distributor.model.people import is_unsafe

Offers = Callable[[str], bool]
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")


def validate_message(outbound: OutboundMessage) -> str | None:
    """Why a message must not be sent: with a bare CR or LF a server might see two messages in it (SMTP smuggling)."""
    message = outbound.message
    lines = message.count(b"\r\n")  # counting is a hundred times faster than one expression over the whole message
    if not message.endswith(b"\r\n") or message.count(b"\n") != lines or message.count(b"\r") != lines:
        return "the message has a line end that is not CRLF"
    if not (_harmless(outbound.sender) and _harmless(outbound.address)):
        return "an address of the envelope has a character that is not allowed"
    return None


def _harmless(address: str) -> bool:
    plain = address.isascii() and address.isprintable()
    return (plain or not any(is_unsafe(c) for c in address)) and not any(c in address for c in "<> ")


def mail(message: OutboundMessage, offers: Offers) -> tuple[bytes, ...] | Rejected:
    """MAIL with what the server offers: SIZE, 8BITMIME, SMTPUTF8, and a request for notices (RFC 3461)."""
    words = [b"MAIL", b"FROM:<" + message.sender.encode() + b">"]
    if offers("size"):
        words.append(b"SIZE=%d" % len(message.message))
    if not (message.address.isascii() and message.sender.isascii()):
        if not offers("smtputf8"):
            return Rejected("the server does not offer SMTPUTF8, which this address needs")
        words.append(b"SMTPUTF8")
    if offers("8bitmime") and not message.message.isascii():
        words.append(b"BODY=8BITMIME")
    if offers("dsn"):
        words += [b"RET=HDRS", b"ENVID=" + xtext(message.delivery).encode()]
    return tuple(words)


def rcpt(message: OutboundMessage, offers: Offers) -> tuple[bytes, ...]:
    """RCPT, asking for every kind of notice where the server sends them."""
    words = [b"RCPT", b"TO:<" + message.address.encode() + b">"]
    if offers("dsn"):
        words.append(b"NOTIFY=SUCCESS,FAILURE,DELAY")
        if message.address.isascii():
            words.append(b"ORCPT=rfc822;" + xtext(message.address).encode())
    return tuple(words)


def dot_stuff(message: bytes) -> bytes:
    """The message as it is transmitted, end of data included."""
    doubled = message.replace(b"\r\n.", b"\r\n..")
    return (b"." if message.startswith(b".") else b"") + doubled + b".\r\n"


def xtext(text: str) -> str:
    """RFC 3461 4: everything but printable ASCII, and `+` and `=`, as a plus and two hexadecimal digits."""
    return _NOT_XTEXT.sub(lambda found: "".join(f"+{byte:02X}" for byte in found[0].encode()), text)
