"""The parser of mail addresses, and the Person that a roster yields.

A parsed address is safe in a header, an envelope and the ledger: those three always have the same `Address`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import idna

from distributor.model.issues import Issue
from distributor.model.secret import Secret

LONGEST_LOCAL_PART = 64  # octets, RFC 5321 4.5.3.1.1
LONGEST_ADDRESS = 254  # octets, RFC 5321 4.5.3.1.3 less the angle brackets
LONGEST_SAID = 500  # characters of a server's response that are kept
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_LONGEST_TEXT = 1000  # characters; parsing a longer text would take long
_SEPARATORS = frozenset(",;<>")
_ATOM = re.compile(r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f-\xa0]+')  # RFC 6532 atext; named by what it excludes, which compiles 15 times as fast


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox `local@domain`: local part as written (in NFC, or it is refused), domain in lower-case A-labels (RFC 5890)."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """The same text for all spellings of a mailbox."""
        return f"{key_of(self.local)}@{self.domain}"


def key_of(address: str) -> str:
    """The `Address.key` of an address that was parsed before: A to Z in lower case, everything else unchanged.

    Exchange compares so. To a server, "strauß" and "strauss", or "Ä" and "ä", may be two people.
    """
    return address.lower() if address.isascii() else address.translate(_LOWER)


@dataclass(frozen=True, slots=True)
class Helpdesk:
    """`[organisation] helpdesk`: whom people may ask, as messages name it. Empty where it is not configured."""

    name: str = ""
    phone: str = ""
    hours: str = ""
    url: str = ""

    @property
    def line(self) -> str:
        """All but the URL, on one line; the phone number is never broken."""
        return ", ".join(filter(None, (self.name, self.phone.replace(" ", "\N{NO-BREAK SPACE}"), self.hours)))


_TOO_LONG = ("the address is too long", "use at most 64 octets before the @ and 254 in all")


@dataclass(frozen=True, slots=True)
class BadAddress:
    """A text that is not one mail address, and why."""

    text: str
    reason: str
    hint: str


@lru_cache(1024)
def parse_address(text: str) -> Address | BadAddress:
    """Read exactly one bare mail address; display names, comments, quotes, lists and encoded-words are refused."""
    text = text.strip()
    if len(text) > _LONGEST_TEXT:
        return BadAddress(f"{text[:LONGEST_ADDRESS]}...", *_TOO_LONG)
    match _fault(text):
        case (reason, hint):
            return BadAddress(text, reason, hint)
    local, _, domain = text.rpartition("@")
    ascii_domain = _a_labels(domain)
    if ascii_domain is None:
        return BadAddress(text, f'"{domain}" is not a domain name', "correct the part after the @")
    if len(local.encode()) > LONGEST_LOCAL_PART or len(local.encode()) + 1 + len(ascii_domain) > LONGEST_ADDRESS:
        return BadAddress(text, *_TOO_LONG)
    return Address(local, ascii_domain)


def _fault(text: str) -> tuple[str, str] | None:  # noqa: PLR0911  a line a fault
    if not text:
        return "the address is empty", "write one address, such as alice@example.org"
    if not _SEPARATORS.isdisjoint(text):
        return "not a single plain address", "write only the address, such as alice@example.org"
    if len(text.split(None, 1)) > 1 or _has_unsafe(text):
        return "the address has a space or an unprintable character", "retype the address"
    if "=?" in text:
        return "the address contains an encoded-word", "write the address in plain characters"
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain or "@" in local:
        return f'"{text}" is not a mail address', "write one @ with text on both sides"
    if not all(_ATOM.fullmatch(atom) for atom in local.split(".")):
        return f'"{local}" is not the local part of a mail address', "remove quotes, brackets and double dots before the @"
    if not unicodedata.is_normalized("NFC", local):
        return (
            f'"{local}" has a character that is not in Unicode normal form (NFC)',
            "retype the part before the @",
        )
    if "." not in domain:
        return f'"{text}" is not a mail address', "write a domain with a dot, such as example.org"
    return None


def is_unsafe(character: str) -> bool:
    """A control, format (bidi, zero-width), surrogate or private character, or a line separator: not for a header or a terminal."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _has_unsafe(text: str) -> bool:
    return not (text.isascii() and text.isprintable()) and any(map(is_unsafe, text))


def has_unsafe_chars(text: str) -> bool:
    """Whether the text has an unsafe character."""
    if text.isascii() and text.isprintable():
        return False
    return any(is_unsafe(character) and not _joins(text, place) for place, character in enumerate(text))


def _joins(text: str, place: int) -> bool:
    """Whether a zero-width joiner or non-joiner is between two letters of a script that is spelled with them, such as Persian."""
    beside = (text[max(place - 1, 0) : place], text[place + 1 : place + 2])
    return text[place] in "\u200c\u200d" and all(c and not c.isascii() and unicodedata.category(c)[0] in "LM" for c in beside)


def escape_unsafe(text: str) -> str:
    """The text with every unsafe character written as an escape, for messages and terminals."""
    if not _has_unsafe(text):
        return text
    return "".join(c.encode("unicode_escape").decode() if is_unsafe(c) else c for c in text)


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full-width forms, read alike


def neutralise_formula(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe in front, also where a text starts with one already."""
    if text[:1].isalnum() or text[:1] == "{":  # most are hashes, words and documents
        return text
    return f"'{text}" if text.startswith(("'", *_FORMULA)) or text.lstrip().startswith(_FORMULA) else text


def bounded(text: str) -> str:
    """The text as one line without control characters, cut to the length that the ledger keeps."""
    text = escape_unsafe(" ".join(text.split()))
    return text if len(text) <= LONGEST_SAID else text[: LONGEST_SAID - 1] + "…"


@lru_cache(1024)
def _a_labels(domain: str) -> str | None:
    try:
        encoded = idna.encode(domain, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        return None
    return encoded if all(encoded.split(".")) else None


@dataclass(frozen=True, slots=True)
class RosterRow:
    """A roster row's file: names as written (relative to the roster), a password, and the row's place."""

    source: str  # the roster's name, for messages
    line: int  # first physical line of the row, from 1
    file: str = ""
    key: str = ""  # a PEM key beside a PEM certificate in `file`
    password: Secret | None = None
    password_file: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who is to receive a certificate. `language` is a tag such as `de-AT` or empty; `columns` reach the templates."""

    address: Address
    name: str = ""
    language: str = ""
    phone: str = ""
    manager: str = ""
    alternate_email: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    hint: RosterRow | None = None
    more_rows: tuple[RosterRow, ...] = ()  # rows of the same person that name other files

    @property
    def rows(self) -> tuple[RosterRow, ...]:
        """Every row of the person."""
        return (self.hint, *self.more_rows) if self.hint is not None else self.more_rows


# --- directory users --------------------------------------------------------------------------------
# Users of a directory, as far as planning needs them: the person, other addresses, and whether the account is enabled.


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """A user. The person's address is the primary one, which Outlook compares with the certificate."""

    person: Person
    enabled: bool = True
    aliases: tuple[str, ...] = ()  # `Address.key` of further addresses and of the sign-in name
    authoritative: bool = True  # the mail system itself says that the address is primary, not an attribute that anybody may fill in


class Directory(Protocol):
    """A roster that also knows aliases and disabled accounts."""

    is_full_directory: bool  # all users of an organisation, not only the recipients

    def entries(self) -> Iterator[DirectoryUser | Issue]:
        """Every user with an address, disabled ones too, or an Issue about one. Raises ServiceUnavailable."""
        ...

    def find(self, address: Address) -> DirectoryUser | None:
        """The user with this primary address, by a query for it; of several an enabled one. Raises ServiceUnavailable, InvalidInput."""
        ...


def with_primary(address: Address, entries: Iterable[DirectoryUser | Issue | None]) -> DirectoryUser | None:
    """The user with this primary address; of several an enabled one. An alias does not count: it may be another person's by now."""
    found = [entry for entry in entries if isinstance(entry, DirectoryUser) and entry.person.address.key == address.key]
    return next((user for user in found if user.enabled), next(iter(found), None))


def in_use(entries: Iterable[DirectoryUser | Issue]) -> Iterator[Person | Issue]:
    """The people whose accounts are enabled, and the issues."""
    for entry in entries:
        if isinstance(entry, Issue):
            yield entry
        elif entry.enabled:
            yield entry.person
