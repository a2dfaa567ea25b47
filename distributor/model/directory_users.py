"""What a directory says of a user, as far as a certificate goes: who it is, by which other addresses, and whether it is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from distributor.model.issues import Issue
from distributor.model.people import Person


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """A user. The person's address is the primary one: what Outlook holds a certificate against."""

    person: Person
    enabled: bool = True
    aliases: tuple[str, ...] = ()  # keys (Address.key) of what else leads to this user: further addresses, the sign-in name
    authoritative: bool = True  # the mail system calls the address primary; an attribute that anybody fills in says less


class Directory(Protocol):
    """A roster that knows more of its people than a list does."""

    is_full_directory: bool  # everybody of an organisation, and not those who are to receive something

    def entries(self) -> Iterator[DirectoryUser | Issue]:
        """Every user with an address, disabled ones too, or what is wrong with one. Raises ServiceUnavailable when it cannot be asked."""
        ...


def in_use(entries: Iterable[DirectoryUser | Issue]) -> Iterator[Person | Issue]:
    """The people whose accounts are in use, and what is wrong with others."""
    for entry in entries:
        if isinstance(entry, Issue):
            yield entry
        elif entry.enabled:
            yield entry.person
