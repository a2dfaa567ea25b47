"""Passwords that leave by letter or by mail: what the ledger tells of them, and to which other mailbox a password may go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

from distributor.model.people import Address, BadAddress, key_of, parse_address
from distributor.model.secret import Secret

_LABELS = 10_000  # four digits: they cannot be mistaken for a group of the password


class PasswordTo(StrEnum):
    """`[password] to`: the roster's column with the mailbox that passwords are sent to."""

    ALTERNATE_EMAIL = "alternate_email"
    MANAGER = "manager"


def label(delivery: str) -> str:
    """Four digits that a message and its password share, and that say nothing about the certificate."""
    return f"{int.from_bytes(sha256(delivery.encode()).digest()[:8]) % _LABELS:04d}"


@dataclass(frozen=True, slots=True)
class ReadyPassword:
    """A ready password with what its letter or message needs, as the ledger has it."""

    delivery: str
    address: str
    name: str
    language: str
    columns: Mapping[str, str]
    alternate_email: str
    manager: str
    leaf: bytes  # the certificate, DER
    not_after: datetime  # of the certificate
    sender: str | None  # of the message that the package came in
    sent_at: datetime  # when that message was sent
    expires_at: datetime | None
    sealed: bytes = field(repr=False)

    def second_address(self, to: PasswordTo) -> str:
        """The roster's other mailbox, as written there."""
        return self.manager if to is PasswordTo.MANAGER else self.alternate_email


def check_recipient(text: str, to: PasswordTo, own: Iterable[str], is_own: Callable[[Address], bool] | None = None) -> Address | BadAddress:
    """The mailbox that a password may be sent to, or why it may not.

    `own`: addresses of the person and of the certificate. `is_own`: whether a directory knows that an address leads to the same mailbox.
    """
    if not text.strip():
        return BadAddress(text, f"{to} is empty, so the password cannot be sent", f"add a mail address in the column {to}")
    found = parse_address(text)
    if isinstance(found, BadAddress):
        return BadAddress(text, f"{to}: {found.reason}", f"write one mail address in the column {to}")
    mine = {_mailbox(key_of(address)) for address in own}
    if _mailbox(found.key) in mine or (is_own is not None and is_own(found)):
        reason = f"{to} leads to the mailbox that the certificate is sent to"
        return BadAddress(text, reason, "write an address of another mailbox; package and password must not meet in one")
    return found


def _mailbox(key: str) -> str:
    """Without a subaddress (RFC 5233): "alice+x@" is the mailbox of "alice@" at Exchange and others."""
    local, _, domain = key.rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}".lower()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a person's password is not handed over; it stays ready."""

    address: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter with its texts as the templates rendered them.

    `text`: the heading, then paragraphs with a blank line between them. One that begins with `[[1]]` introduces the first password,
    one with `>>` is set to the right. `spelling`: a line a character, and one for `capital`.
    """

    address: tuple[str, ...]  # its first line is the name
    text: str
    spelling: str
    passwords: tuple[Secret, ...]


class LetterPrinter(Protocol):
    """Prints letters into one PDF."""

    font: str  # what it prints with, for `doctor`
    every_script: bool  # whether it can print Greek and Cyrillic names too

    def unprintable(self, letter: Letter) -> str:
        """The characters that it cannot print right; empty where it can print the letter."""
        ...

    def print(self, letters: Sequence[Letter], tell: Callable[[], object]) -> bytes:
        """The PDF, a page or more for each letter; `tell` is called for each."""
        ...


@dataclass(frozen=True, slots=True)
class LettersFile:
    """A PDF of letters whose passwords are handed over. It was written as `part`, to be renamed to `path`."""

    sha256: str
    path: str
    part: str
    letters: int = 0
    at: datetime | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class PasswordMail:
    """The message that a password leaves in."""

    to: str
    column: PasswordTo
    message_id: str  # with angle brackets


class PasswordChannels(Protocol):
    """The ledger's methods for passwords that leave by letter or by mail."""

    def ready_passwords(self, channel: str, plan: str | None = None) -> list[ReadyPassword]:
        """Ready passwords of a channel that are not over their time, by address; of one plan, if it is named."""
        ...

    def hand_over_letters(self, passwords: Sequence[ReadyPassword], file: LettersFile, reason: str) -> None:
        """Hand over all of them in one transaction, or none: RequestDenied where one is not ready any more."""
        ...

    def unfinished_letters(self) -> list[LettersFile]:
        """Files whose passwords are handed over, and that are not known to be in their places."""
        ...

    def letter_recipients(self, file: LettersFile) -> list[str]:
        """The addresses of the people whose letters are in an unfinished file."""
        ...

    def finish_letters(self, file: LettersFile, outcome: str) -> None:
        """Record that a file is complete in its place (`written`), or gone (`lost`)."""
        ...

    def hand_over_mail(self, password: ReadyPassword, mail: PasswordMail, reason: str) -> None:
        """Hand a password over to a message that is about to be sent. Raises RequestDenied where it is not ready any more."""
        ...

    def note_password_mail(self, delivery: str, outcome: str, said: str) -> None:
        """Record the server's answer to the message with a password: `accepted` or `ambiguous`."""
        ...

    def unanswered_mails(self, before: datetime) -> list[tuple[str, str]]:
        """Delivery and address of passwords handed over to a message before then whose answer was never recorded: of a killed command."""
        ...

    def take_back_mail(self, password: ReadyPassword, said: str) -> bool:
        """Make a password ready again whose message was certainly not sent; False where a resend or an incident came between."""
        ...
