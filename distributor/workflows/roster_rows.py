"""What a roster's rows name and what came of it: files that were found or not, that cannot be used, and rows that were refused.

Whose row names a file is to get that one: no other is sent in its stead, for the row says which is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from distributor.model.certificates import SourceMaterial
from distributor.model.compact import BitSet
from distributor.model.issues import CheckId, Issue
from distributor.model.packed_people import PackedPeople
from distributor.model.people import Address, Person, RosterRow, key_of, parse_address

_WORD = re.compile(r"[^\s<>()\[\],;:\"'\\]+")
_LONGEST = 1000  # characters of what a row has for an address that are looked through for one


def hints(person: Person) -> tuple[RosterRow, ...]:
    """Every row of a person."""
    return (person.hint, *person.more_rows) if person.hint is not None else person.more_rows


def files(hint: RosterRow | None) -> tuple[object, ...]:
    """What a row says of its file."""
    found = (hint.file, hint.key, hint.password, hint.password_file) if hint is not None else ()
    return found if any(found) else ()


class RosterRows:
    """The rows of a roster, by the people's `Address.key`."""

    def __init__(self, people: PackedPeople) -> None:
        self._people = people
        self._met = BitSet()  # numbers of people with a single row, whose file is there
        self._found: set[tuple[str, str]] = set()  # people with several, and the base names of files that their rows name
        self._missed: dict[tuple[str, str | None, int | None], Issue] = {}  # by person and row
        self._misled: set[str] = set()  # whose file cannot be used
        self._passed_over: dict[str, str] = {}  # what lay there for somebody whose row names something else
        self._refused: dict[str, str] = {}  # people, and where the row stands that says nothing of use

    def refuse(self, row: Issue) -> None:
        """Note whom a row is about that cannot be used."""
        for text in _WORD.findall((row.address or "")[:_LONGEST]):
            if "@" in text and isinstance(address := parse_address(text), Address) and row.line is not None:
                self._refused.setdefault(address.key, f"{row.source} line {row.line}")

    def refused(self, addresses: Iterable[Address]) -> str | None:
        """The refused row of one of these people."""
        return next((self._refused[address.key] for address in addresses if address.key in self._refused), None)

    def found(self, material: SourceMaterial) -> None:
        """Note that what a row names is there."""
        if material.requested_for:
            part = material.parts[0]
            if self._people[material.requested_for].more_rows:
                self._found.add((material.requested_for, _base(part.path if part.member is None else part.member)))
            else:
                self._met.add(self._people.number(material.requested_for))

    def miss(self, issue: Issue) -> None:
        """Note what a row names and is not there, or not to be touched; another source may have it all the same."""
        row = (key_of(issue.address or ""), issue.source, issue.line)
        if row not in self._missed or self._missed[row].check is CheckId.NO_CERTIFICATE:
            self._missed[row] = issue

    @property
    def missed(self) -> bool:
        """Whether anything is wrong with any row."""
        return bool(self._missed)

    def mark_file_unusable(self, address: str) -> None:
        """Note that what this person's row names cannot be used; its fault is told."""
        self._misled.add(key_of(address))

    def is_misled(self, person: Person) -> bool:
        """Whether a row of this person names a file that cannot be used. Final once every source was looked into."""
        return person.address.key in self._misled or any(self.unmet(person))

    def note_alternative(self, person: Person, source: str) -> None:
        """Note a file that would do and that the row does not mean."""
        self._passed_over.setdefault(person.address.key, source)

    def unmet(self, person: Person) -> Iterator[Issue]:
        """What is wrong with the rows that name a file which is nowhere."""
        for hint in hints(person) if self._missed else ():
            issue = self._missed.get((person.address.key, hint.source, hint.line))
            if issue is not None and _named(hint) and not self._has(person, hint):
                other = self._passed_over.get(person.address.key)
                there = f'; or name "{other}", which holds a certificate for this person' if other else ""
                yield replace(issue, hint=f"{issue.hint}{there}")

    def _has(self, person: Person, hint: RosterRow) -> bool:
        """Whether what a row names was found in any source."""
        if person.more_rows:
            return (person.address.key, _base(_named(hint))) in self._found
        return self._people.number(person.address.key) in self._met

    def row_without_file_issue(self, person: Person) -> Issue | None:
        """What is wrong with a row that names no file; it matters only if no certificate is found."""
        rows = ((person.address.key, hint.source, hint.line) for hint in hints(person) if not _named(hint))
        return next((self._missed[row] for row in rows if row in self._missed), None)

    @staticmethod
    def naming(person: Person | None, source: str) -> str | None:
        """Where the row of a person stands that names this file."""
        rows = (hint for hint in hints(person) if _named(hint) and _base(_named(hint)) == _base(source)) if person else ()
        return next((f"{hint.source} line {hint.line}" for hint in rows), None)

    @staticmethod
    def names_files(person: Person) -> bool:
        """Whether a row of this person names a file."""
        return any(_named(hint) for hint in hints(person))


def _named(hint: RosterRow) -> str:
    return hint.file or hint.key


def _base(name: str) -> str:
    return name.strip().replace("\\", "/").rpartition("/")[2].casefold()
