"""Reads a received mail within limits: header fields, MIME parts, texts, Message-IDs. Attached messages stay unparsed bytes. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.header import decode_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32

LARGEST_HEADER = 2**17  # bytes of the whole header; servers accept 65 000 to 100 000
MOST_HEADERS = 500  # header fields; real mails have up to 120
MOST_PARTS = 100  # MIME parts, and so the depth of nesting too; beyond a few hundred CPython's parser recurses too deeply
LARGEST_TEXT = 2**16  # bytes of a part that is read as text
LONGEST_VALUE = 2000  # characters of a header field that are looked at
MOST_IDS = 50  # Message-IDs of a header field, the newest ones: they stand last

Fields = Mapping[str, Sequence[str]]  # header fields by lower-case name, topmost first, unfolded

_ID = re.compile(r"<[!-;=?-~]{1,250}>")  # a Message-ID: printable ASCII
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)|<(head|style|script|title)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_INLINE = re.compile(r"</?(?:a|b|i|u|em|font|span|strong)(?:\s[^<>]*)?>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_EDGES = re.compile(r" ?\n ?")
_MAIL_SYSTEM = re.compile(
    r"mailer.?daemon|mdaemon|postmaster|system.?administrator|mail.?(?:delivery|system|service|administrator)|delivery.?(?:sub)?system",
    re.IGNORECASE,
)
_BOUNCE = re.compile(
    r"\s*(?:non-?delivery|undeliver(?:able|ed)|mail delivery|delivery (?:failure|status|notification)|returned mail|failure notice)",
    re.IGNORECASE,
)


class BeyondLimits(Exception):
    """The mail is larger than a real one; the text says in what."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A received mail. `message` is its outermost MIME part."""

    raw: bytes
    fields: Fields
    message: Message

    @property
    def body(self) -> bytes:
        """What follows the header."""
        end = _END_OF_HEADER.search(self.raw)
        return self.raw[end.end() :] if end else b""

    @property
    def from_mail_system(self) -> bool:
        """Whether its sender is named like a mail system, or not named at all."""
        senders = self.fields.get("from", ("",))
        return any("@" not in sender or _MAIL_SYSTEM.search(sender[:LONGEST_VALUE]) for sender in senders)

    @property
    def titled_as_bounce(self) -> bool:
        """Whether its subject begins as those of bounces do, so that it is neither a reply nor forwarded."""
        return any(_BOUNCE.match(header_text(value[:LONGEST_VALUE])) for value in self.fields.get("subject", ()))

    @property
    def null_sender(self) -> bool:
        """Whether the envelope had the null reverse-path, as reports have (RFC 5321, 4.5.5)."""
        paths = [value.replace(" ", "").lower() for value in self.fields.get("return-path", ())]
        return any(path == "<>" or path.startswith("<mailer-daemon") for path in paths)


def read_mail(raw: bytes) -> Mail:
    """Parse a mail once; raises BeyondLimits, and what CPython's parser raises."""
    end = _END_OF_HEADER.search(raw)
    head = raw[: end.end() if end else len(raw)]
    if len(head) > LARGEST_HEADER:
        raise BeyondLimits("the header is too large")
    fields = header_fields(head)
    if sum(map(len, fields.values())) > MOST_HEADERS:
        raise BeyondLimits("too many header fields")
    parts = 0

    def part(policy: object = None) -> Message:
        nonlocal parts
        parts += 1
        if parts > MOST_PARTS:
            raise BeyondLimits(f"more than {MOST_PARTS} parts")
        del policy  # that of the parser
        return _Part(policy=compat32)

    return Mail(raw, fields, BytesParser(part, policy=compat32).parsebytes(raw))


class _Part(Message):
    """A part that the parser takes for a leaf where it is an attached message: neither depth nor encoding of that one matters then."""

    def get_content_type(self) -> str:
        kind = super().get_content_type()
        return f"application/{kind[8:]}" if kind.startswith("message/") else kind

    def set_raw(self, name: str, value: str) -> None:
        """A field as the parser found it, of those with parameters the beginning: CPython's takes time by the square of their length."""
        super().set_raw(name, value[:LONGEST_VALUE] if name.lower().startswith("content-") else value)


def header_fields(head: bytes) -> dict[str, list[str]]:
    """The fields of a header, unfolded; in UTF-8 (RFC 6532) where they are not ASCII."""
    found: dict[str, list[str]] = {}
    for name, value in BytesHeaderParser(policy=compat32).parsebytes(head).raw_items():
        text = str(value).encode("ascii", "surrogateescape").decode("utf-8", "replace")
        found.setdefault(name.lower(), []).append(_FOLD.sub("", text).strip())
    return found


def only(fields: Fields, name: str) -> str:
    """The value of a field that must be there once; empty otherwise."""
    values = fields.get(name, ())
    return values[0] if len(values) == 1 and len(values[0]) <= LONGEST_VALUE else ""


def header_text(value: str) -> str:
    """The text of a field with encoded-words (RFC 2047); as it is where they are malformed."""
    try:
        return "".join(part if isinstance(part, str) else decoded(part, charset or "ascii") for part, charset in decode_header(value))
    except (ValueError, LookupError):
        return value


def message_ids(fields: Fields, *names: str) -> tuple[str, ...]:
    """The Message-IDs in these fields, each once."""
    values = (value[-10 * LONGEST_VALUE :] for name in names for value in fields.get(name, ()))
    return tuple(dict.fromkeys(found for value in values for found in _ID.findall(value)[-MOST_IDS:]))


def content_type(part: Message) -> str:
    """The type of a part as its header has it, in lower case."""
    return Message.get_content_type(part)


def children(part: Message) -> Sequence[Message]:
    """The parts directly in a multipart."""
    inner = part.get_payload()
    return [each for each in inner if isinstance(each, Message)] if isinstance(inner, list) else ()


def content(part: Message) -> bytes:
    """The first LARGEST_TEXT bytes of a part, decoded from base64 or quoted-printable; empty for a multipart."""
    payload = part.get_payload(decode=True)
    return payload[:LARGEST_TEXT] if isinstance(payload, bytes) else b""


def texts(message: Message) -> Iterator[Message]:
    """The text parts that the mail itself shows: neither attached nor in an attached message."""
    for part in message.walk():
        if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
            yield part


def text_of(part: Message) -> str:
    """The text of a part, HTML with a line for each block."""
    text = decoded(content(part), part.get_content_charset("utf-8"))
    return _text_of_html(text) if part.get_content_subtype() == "html" else text


def decoded(text: bytes, charset: str) -> str:
    """Text in a charset that may not exist."""
    try:
        return text.decode(charset, "replace")
    except (LookupError, ValueError):  # no such charset, or one that is no charset of texts
        return text.decode("utf-8", "replace")


def _text_of_html(source: str) -> str:
    # by expressions that take linear time, which HTMLParser does not on hostile input
    visible = _HIDDEN.sub(" ", source)
    blocks = _INLINE.sub("", " ".join(visible.split()))
    return html.unescape(_EDGES.sub("\n", _TAG.sub("\n", blocks)))
