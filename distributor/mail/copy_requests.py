"""Recognises a mail in which a person asks for another copy: a phrase as the subject or the first line. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from distributor.mail.authentication import unauthenticated
from distributor.mail.received import LONGEST_VALUE, Mail, header_text, message_ids, only, text_of, texts
from distributor.model.notices import CopyRequestNotice, Unknown
from distributor.model.people import Address, key_of, parse_address

LONGEST_PHRASE = 100  # characters of a subject or a line that may be a request
_REPLY_PREFIX = re.compile(r"\w{1,6}\s?(?:\[\d{1,4}\])?\s?:\s?")  # "Re:", "AW:", "R[2]:"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_BETWEEN_ADDRESSES = re.compile(r'[\s<>,;:"()]+')


def phrase_key(text: str) -> str:
    """A text as requests are compared: without case, surrounding punctuation and repeated spaces."""
    text = " ".join(unicodedata.normalize("NFKC", text[: 4 * LONGEST_PHRASE]).casefold().split())
    return text.strip(" .,!?:;\"'„“”«»¡¿…")


def copy_request(mail: Mail, own: AbstractSet[str], phrases: AbstractSet[str], authserv_id: str) -> CopyRequestNotice | Unknown:
    """The request in a mail, or why there is none."""
    fields = mail.fields
    sender = sender_of(only(fields, "from"))
    if sender is None:
        return Unknown("not one sender")
    if sender.key in own:
        return Unknown("sent by one of our own mailboxes")
    message_id = message_ids(fields, "message-id")
    if len(message_id) != 1 or message_id[0] != only(fields, "message-id"):
        return Unknown("no Message-ID")
    answers = message_ids(fields, "in-reply-to", "references")
    direct = any(key_of(word) in own for name in ("to", "cc") for value in fields.get(name, ()) for word in _words(value))
    if not answers and not direct:
        return Unknown("neither a reply nor addressed to one of our mailboxes")
    if _subject(only(fields, "subject")) not in phrases and _first_line(mail) not in phrases:
        return Unknown("asks for nothing that is known")
    why = unauthenticated(fields.get("authentication-results", ()), authserv_id, sender.domain)
    return CopyRequestNotice(sender, message_id[0], answers, direct, _date(only(fields, "date")), why)


def sender_of(value: str) -> Address | None:
    """The one address of From: alone, or in angle brackets after a name. Anything that programs read differently is refused."""
    address = value
    if value.endswith(">"):
        name, _, address = value[:-1].rpartition("<")
        if set(_QUOTED.sub("", name)) & set('@<>(),;:"\\'):
            return None
    found = parse_address(address)
    return found if isinstance(found, Address) else None


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
    text = header_text(value)
    for _ in range(5):
        text = _REPLY_PREFIX.sub("", text.strip(), count=1) if _REPLY_PREFIX.match(text.strip()) else text
    return phrase_key(text) if len(text) <= LONGEST_PHRASE else ""


def _first_line(mail: Mail) -> str:
    """The first line that the sender wrote, for comparison: not quoted, of the first text part. Empty where there is none."""
    parts = list(texts(mail.message))
    for kind in ("plain", "html"):
        for part in parts:
            if part.get_content_subtype() == kind:
                lines = (line.strip() for line in text_of(part).splitlines())
                first = next((line for line in lines if line and not line.startswith(">")), "")
                return phrase_key(first) if len(first) <= LONGEST_PHRASE else ""
    return ""
