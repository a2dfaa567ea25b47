"""Turns a received mail into a notice: a request for another copy, an automatic reply, or Unknown, which is left alone. Pure.

Mails are hostile. Bytes, headers and parts are limited here; time and memory by the worker process that this runs in.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import decode_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32
from email.utils import parsedate_to_datetime
from functools import partial

from distributor.mail.authentication import unauthenticated
from distributor.model.mailboxes import LARGEST_MAIL
from distributor.model.notices import AutomaticReply, CopyRequestNotice, Notice, Unknown
from distributor.model.people import Address, key_of, parse_address

LARGEST_HEADER = 2**17  # bytes of the whole header; servers accept 65 000 to 100 000
MOST_HEADERS = 500  # header fields; real mails have up to 120
MOST_PARTS = 100  # MIME parts, and so the depth of nesting too; beyond a few hundred CPython's parser recurses too deeply
LARGEST_TEXT = 2**16  # bytes of the part whose first line is read
LONGEST_VALUE = 2000  # characters of a header field that are looked at
LONGEST_PHRASE = 100  # characters of a subject or a line that may be a request
_ID = re.compile(r"<[!-;=?-~]{1,250}>")  # a Message-ID: printable ASCII
_MOST_IDS = 50
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_REPLY_PREFIX = re.compile(r"\w{1,6}\s?(?:\[\d{1,4}\])?\s?:\s?")  # "Re:", "AW:", "R[2]:"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)|<(head|style|script|title)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_INLINE = re.compile(r"</?(?:a|b|i|u|em|font|span|strong)(?:\s[^<>]*)?>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_BETWEEN_ADDRESSES = re.compile(r'[\s<>,;:"()]+')
_BULK = frozenset({"bulk", "list", "junk", "auto_reply"})
# Fields that only automatic mails have; RFC 3834 asks not to answer them, and no single one is in all of them (facts: reliability.md 6).
_AUTOMATIC_FIELDS = ("list-id", "x-auto-response-suppress", "x-loop", "x-autoreply", "x-autorespond", "x-autoresponder")


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """What a mail is compared with."""

    own: frozenset[str]  # Address.key of the mailboxes that send messages or take requests
    phrases: frozenset[str]  # what asks for another copy, as `phrase_key` makes them
    authserv_id: str = ""  # of the receiving host, whose Authentication-Results count


def parser(rules: NoticeRules) -> Callable[[bytes], Notice]:
    """`parse` with these rules, for a pool of workers."""
    return partial(parse, rules=rules)


def parse(mail: bytes, rules: NoticeRules) -> Notice:
    """The notice in a mail; never raises."""
    try:
        return _parse(mail[:LARGEST_MAIL], rules)
    except _TooManyParts:
        return Unknown(f"more than {MOST_PARTS} parts")
    except Exception as error:  # noqa: BLE001  CPython's parser fails in many ways on malformed mails
        return Unknown(f"malformed ({type(error).__name__})")


def phrase_key(text: str) -> str:
    """A text as requests are compared: without case, surrounding punctuation and repeated spaces."""
    text = " ".join(unicodedata.normalize("NFKC", text[: 4 * LONGEST_PHRASE]).casefold().split())
    return text.strip(" .,!?:;\"'„“”«»¡¿…")


def _parse(mail: bytes, rules: NoticeRules) -> Notice:
    end = _END_OF_HEADER.search(mail)
    head = mail[: end.end() if end else len(mail)]
    if len(head) > LARGEST_HEADER:
        return Unknown("the header is too large")
    fields = _fields(head)
    if sum(map(len, fields.values())) > MOST_HEADERS:
        return Unknown("too many header fields")
    if sign := _automatic(fields):
        return AutomaticReply(sign)
    return _copy_request(mail, fields, rules)


_Fields = Mapping[str, Sequence[str]]  # by lower-case name, topmost first


def _fields(head: bytes) -> _Fields:
    """The header's fields, unfolded."""
    found: dict[str, list[str]] = {}
    for name, value in BytesHeaderParser(policy=compat32).parsebytes(head).raw_items():
        found.setdefault(name.lower(), []).append(_FOLD.sub("", str(value)).strip())
    return found


def _only(fields: _Fields, name: str) -> str:
    """The value of a field that must be there once; empty otherwise."""
    values = fields.get(name, ())
    return values[0] if len(values) == 1 and len(values[0]) <= LONGEST_VALUE else ""


def _automatic(fields: _Fields) -> str:
    """The field that shows that a program wrote the mail (RFC 3834), if any."""
    if any(value.replace(" ", "") == "<>" for value in fields.get("return-path", ())):
        return "Return-Path"
    if any(value.partition(";")[0].partition("(")[0].strip().lower() != "no" for value in fields.get("auto-submitted", ())):
        return "Auto-Submitted"
    if any(value.strip().lower() in _BULK for value in fields.get("precedence", ())):
        return "Precedence"
    return next((name for name in _AUTOMATIC_FIELDS if name in fields), "")


# --- requests --------------------------------------------------------------------------------------------------------


def _copy_request(mail: bytes, fields: _Fields, rules: NoticeRules) -> Notice:
    sender = _sender(_only(fields, "from"))
    if sender is None:
        return Unknown("not one sender")
    if sender.key in rules.own:
        return Unknown("sent by one of our own mailboxes")
    message_id = _ID.fullmatch(_only(fields, "message-id"))
    if message_id is None:
        return Unknown("no Message-ID")
    answers = [found for name in ("in-reply-to", "references") for value in fields.get(name, ()) for found in _ids(value)]
    direct = any(key_of(word) in rules.own for name in ("to", "cc") for value in fields.get(name, ()) for word in _words(value))
    if not answers and not direct:
        return Unknown("neither a reply nor addressed to one of our mailboxes")
    if _subject(_only(fields, "subject")) not in rules.phrases and _first_line(mail) not in rules.phrases:
        return Unknown("asks for nothing that is known")
    why = unauthenticated(fields.get("authentication-results", ()), rules.authserv_id, sender.domain)
    return CopyRequestNotice(sender, message_id[0], tuple(dict.fromkeys(answers)), direct, _date(_only(fields, "date")), why)


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


def _words(value: str) -> list[str]:
    return _BETWEEN_ADDRESSES.split(value[: 10 * LONGEST_VALUE])


def _date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _subject(value: str) -> str:
    """The subject without "Re:" and the like, for comparison."""
    try:
        text = "".join(part if isinstance(part, str) else _decoded(part, charset or "ascii") for part, charset in decode_header(value))
    except (ValueError, LookupError):
        text = value
    for _ in range(5):
        text = _REPLY_PREFIX.sub("", text.strip(), count=1) if _REPLY_PREFIX.match(text.strip()) else text
    return phrase_key(text) if len(text) <= LONGEST_PHRASE else ""


class _TooManyParts(Exception):
    """The mail has more than MOST_PARTS parts."""


def _first_line(mail: bytes) -> str:
    """The first line that the sender wrote, for comparison: not quoted, of the first text part. Empty where there is none."""
    parts = 0

    def part(policy: object = None) -> Message:
        nonlocal parts
        parts += 1
        if parts > MOST_PARTS:
            raise _TooManyParts
        del policy  # that of the parser
        return Message(policy=compat32)

    message = BytesParser(part, policy=compat32).parsebytes(mail)
    texts = [each for each in message.walk() if each.get_content_maintype() == "text" and each.get_content_disposition() != "attachment"]
    for kind in ("plain", "html"):
        for each in texts:
            if each.get_content_subtype() == kind:
                return _first_written(_text(each) if kind == "plain" else _text_of_html(_text(each)))
    return ""


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return _decoded(payload[:LARGEST_TEXT], part.get_content_charset("utf-8")) if isinstance(payload, bytes) else ""


def _decoded(text: bytes, charset: str) -> str:
    try:
        return text.decode(charset, "replace")
    except (LookupError, ValueError):  # no such charset, or one that is no charset of texts
        return text.decode("utf-8", "replace")


def _first_written(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith(">")), "")
    return phrase_key(first) if len(first) <= LONGEST_PHRASE else ""


def _text_of_html(source: str) -> str:
    """The text, a line for each block. By expressions that take linear time, which HTMLParser does not on hostile input."""
    visible = _HIDDEN.sub(" ", source)
    blocks = _INLINE.sub("", " ".join(visible.split()))
    return html.unescape(_TAG.sub("\n", blocks))
