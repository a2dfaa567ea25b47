"""Builds the bytes of a MIME message (RFC 5322, 2045, 2047; CRLF) with text, HTML and the package. No I/O, no clock, no randomness.

Built by hand: the standard library's EmailMessage makes the same message seventy times slower, and its parser rewrites
addresses (facts: sending.md B5, reliability.md 0.7). Only an `Address`, a name without unsafe characters or an encoded-word
enters a header.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Protocol

from distributor.model.people import Address, has_unsafe_chars

LONGEST_LINE = 76  # characters of a header line we make; RFC 5322 2.1.1 allows 998 and asks for 78
LONGEST_WORD = 75  # characters of an encoded-word, RFC 2047 2
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_TEXT = re.compile(r"[ -~]*")
_TOKEN = re.compile(r"[A-Za-z0-9=_.+-]+")
PACKAGE = "application/x-pkcs12"  # Android opens exactly this type, not the registered one (facts: pkcs12.md A0.5)
_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
_ADDRESSED = re.compile(rb"\n(to|cc|bcc|resent-(?:to|cc|bcc))[ \t]*:")  # in lower case
_ADDRESS = r"[^\s\x00-\x20\x7f()<>\[\]:;@\\,\"]+@[^\s\x00-\x20\x7f()<>\[\]:;@\\,\"]+"
_MAILBOX = re.compile(
    rf"(?P<bare>{_ADDRESS})"
    r"|(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+"  # a phrase of atoms or encoded-words, as `mailbox` writes it, or a quoted one
    rf'|"(?:[^"\\\r\n]|\\.)*") ?<(?P<named>{_ADDRESS})>'
)


@dataclass(frozen=True, slots=True)
class RenderedText:
    """The rendered subject, text and HTML of a message in one language."""

    language: str  # the tag of the templates that were used
    subject: str
    text: str
    html: str


class Renderer(Protocol):
    """Renders the texts of messages."""

    def render(self, language: str, values: Mapping[str, object]) -> RenderedText:
        """Render a message in the nearest available language. Raises InvalidInput naming the template's file and line."""
        ...


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address with its display name."""

    address: Address
    name: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file, and the type that mail programs open it by: the package, unless it is named."""

    file_name: str  # ASCII
    data: bytes
    content_type: str = PACKAGE


@dataclass(frozen=True, slots=True)
class MessageHeaders:
    """The values of the headers; made once for each generation."""

    sender: Mailbox
    recipient: Mailbox
    date: datetime  # aware
    message_id: str  # without angle brackets
    boundary: str


def compose(headers: MessageHeaders, rendered: RenderedText, attachment: Attachment | None) -> bytes:
    """The message. Raises ValueError for a value that is not allowed in a header."""
    boundary = _checked(_TOKEN, headers.boundary, "boundary")
    outer, inner = f"=_{boundary}.1", f"=_{boundary}.2"
    words = (
        f'Content-Type: multipart/alternative; boundary="{inner}"\r\n\r\n',
        _text_part(inner, "plain", rendered.text),
        _text_part(inner, "html", rendered.html),
        f"--{inner}--\r\n",
    )
    if attachment is None:
        return "".join((*_headers(headers, rendered), *words)).encode()
    text = "".join(
        (
            *_headers(headers, rendered),
            f'Content-Type: multipart/mixed; boundary="{outer}"\r\n\r\n--{outer}\r\n',
            *words,
            f"\r\n--{outer}\r\n",
            *_attached(attachment),
            f"--{outer}--\r\n",
        )
    )
    return text.encode()


def _headers(headers: MessageHeaders, rendered: RenderedText) -> tuple[str, ...]:
    # Never "All" or "NDR" in the suppression: non-delivery reports are needed (facts: sending.md 7).
    return (
        f"From: {mailbox(headers.sender, len('From: '))}\r\n",
        f"To: {mailbox(headers.recipient, len('To: '))}\r\n",
        f"Subject: {unstructured(rendered.subject, len('Subject: '))}\r\n",
        f"Date: {format_datetime(headers.date)}\r\n",
        f"Message-ID: <{_message_id(headers.message_id)}>\r\n",
        "MIME-Version: 1.0\r\n",
        f"Content-Language: {_checked(_TOKEN, rendered.language, 'language')}\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "X-Auto-Response-Suppress: RN, NRN, OOF, AutoReply\r\n",
    )


def _text_part(boundary: str, kind: str, text: str) -> str:
    # Quoted-printable, since spam filters distrust text in base64.
    body = "\r\n".join(map(_quoted, text.splitlines()))
    return f"--{boundary}\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{body}\r\n\r\n"


@functools.lru_cache(maxsize=4096)  # people's messages share all but a few lines
def _quoted(line: str) -> str:
    """A line in quoted-printable, with soft line ends where it is long."""
    return binascii.b2a_qp(line.encode(), istext=True).decode("ascii").replace("\n", "\r\n")


def _attached(attachment: Attachment) -> tuple[str, ...]:
    name = _checked(_FILE_NAME, attachment.file_name, "file name")
    return (
        f'Content-Type: {_checked(_CONTENT_TYPE, attachment.content_type, "content type")};\r\n name="{name}"\r\n',
        f'Content-Disposition: attachment;\r\n filename="{name}"\r\n',
        "Content-Transfer-Encoding: base64\r\n\r\n",
        base64.encodebytes(attachment.data).decode("ascii").replace("\n", "\r\n"),
    )


def mailbox(box: Mailbox, used: int = 0) -> str:
    """`Name <address>` for a header, folded; the address alone where the name is unsafe to show. `used`: characters taken on the line."""
    address = str(box.address)
    name = " ".join(box.name.split(" "))
    if not name.strip() or has_unsafe_chars(name):
        return address
    written = _phrase(name.strip(), used)
    last = written.rpartition("\r\n")[2]
    taken = len(last) + (used if last is written else 0)
    gap = " " if taken + len(address) + 3 <= LONGEST_LINE else "\r\n "
    return f"{written}{gap}<{address}>"


def recipient(message: bytes) -> str | None:
    """The recipient in a message's header; None unless there is exactly one, in a single To."""
    head = b"\n" + message[: message.find(b"\r\n\r\n") + 2]
    fields = list(_ADDRESSED.finditer(head.lower()))
    if len(fields) != 1 or fields[0][1] != b"to":
        return None
    value = head[fields[0].end() :]
    while (end := value.find(b"\r\n")) >= 0 and value[end + 2 : end + 3] in {b" ", b"\t"}:  # a folded line
        value = value[:end] + value[end + 2 :]
    found = _MAILBOX.fullmatch(value[:end].decode(errors="replace").strip(" "))
    return None if found is None else found["bare"] or found["named"]


def _phrase(name: str, used: int) -> str:
    if "=?" in name or not _TEXT.fullmatch(name) or len(name) + used > LONGEST_LINE - 4:
        return encoded_words(name, used)
    if _ATOMS.fullmatch(name) and "  " not in name:
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unstructured(text: str, used: int = 0) -> str:
    """A subject for a header, folded. Raises ValueError where it has a line end or another unsafe character."""
    if has_unsafe_chars(text):
        raise ValueError("the subject has an unprintable character")
    if _TEXT.fullmatch(text) and "=?" not in text and len(text) + used <= LONGEST_LINE and text == text.strip() and text:
        return text
    return encoded_words(text, used)


def encoded_words(text: str, used: int = 0) -> str:
    """RFC 2047 encoded-words in base64 of UTF-8, one on each line, never splitting a character."""
    words, piece, limit = [], bytearray(), _word_octets(used)
    for character in text:
        octets = character.encode()
        if len(piece) + len(octets) > limit:
            words.append(_word(piece))
            piece, limit = bytearray(), _word_octets(1)
        piece += octets
    return "\r\n ".join([*words, _word(piece)])


def _word_octets(used: int) -> int:
    """How many octets fit an encoded-word on a line of which `used` characters are taken."""
    return (min(LONGEST_WORD, LONGEST_LINE - used) - len("=?utf-8?b??=")) // 4 * 3


def _word(octets: bytes | bytearray) -> str:
    return f"=?utf-8?b?{base64.b64encode(octets).decode('ascii')}?="


def _message_id(text: str) -> str:
    left, at, right = text.partition("@")
    if not at or not _TOKEN.fullmatch(left) or not _TOKEN.fullmatch(right):
        raise ValueError("the Message-ID is not of the form left@right")
    return text


def _checked(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"the {what} cannot be used in a header")
    return text
