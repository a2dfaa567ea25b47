"""Users of a directory, as far as planning needs them: the person, other addresses, and whether the account is enabled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from distributor.model.issues import Issue
from distributor.model.people import Person


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


def in_use(entries: Iterable[DirectoryUser | Issue]) -> Iterator[Person | Issue]:
    """The people whose accounts are enabled, and the issues."""
    for entry in entries:
        if isinstance(entry, Issue):
            yield entry
        elif entry.enabled:
            yield entry.person
