"""Tracks the files that a roster's rows name: found, missing or unusable; and the rows that were refused.

A person whose row names a file gets that one: no other is sent instead, for the row says which is meant.
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
_LONGEST = 1000  # characters of a bad address cell that are searched for addresses


def hints(person: Person) -> tuple[RosterRow, ...]:
    """Every row of a person."""
    return (person.hint, *person.more_rows) if person.hint is not None else person.more_rows


def files(hint: RosterRow | None) -> tuple[object, ...]:
    """What a row says about its file and password; empty where it says nothing."""
    found = (hint.file, hint.key, hint.password, hint.password_file) if hint is not None else ()
    return found if any(found) else ()


class RosterRows:
    """The rows of a roster, by the people's `Address.key`."""

    def __init__(self, people: PackedPeople) -> None:
        self._people = people
        self._found_single = BitSet()  # numbers of people with a single row, whose file is there
        self._found: set[tuple[str, str]] = set()  # people with several rows, and the base names of their files that are there
        self._missing: dict[tuple[str, str | None, int | None], Issue] = {}  # by person and row
        self._unusable: set[str] = set()  # people whose file cannot be used
        self._alternatives: dict[str, str] = {}  # a file with a certificate for somebody whose row names another
        self._refused: dict[str, str] = {}  # people, and where their unusable row is

    def refuse(self, row: Issue) -> None:
        """Note which people a refused row may be about."""
        for text in _WORD.findall((row.address or "")[:_LONGEST]):
            if "@" in text and isinstance(address := parse_address(text), Address) and row.line is not None:
                self._refused.setdefault(address.key, f"{row.source} line {row.line}")

    def refused(self, addresses: Iterable[Address]) -> str | None:
        """The refused row of one of these people."""
        return next((self._refused[address.key] for address in addresses if address.key in self._refused), None)

    def note_found(self, material: SourceMaterial) -> None:
        """Note that a file that a row names was found."""
        if material.requested_for:
            part = material.parts[0]
            if self._people[material.requested_for].more_rows:
                self._found.add((material.requested_for, _base(part.path if part.member is None else part.member)))
            else:
                self._found_single.add(self._people.number(material.requested_for))

    def note_missing(self, issue: Issue) -> None:
        """Note that a file that a row names is not there, or must not be read; another source may still have it."""
        row = (key_of(issue.address or ""), issue.source, issue.line)
        if row not in self._missing or self._missing[row].check is CheckId.NO_CERTIFICATE:
            self._missing[row] = issue

    @property
    def has_missing(self) -> bool:
        """Whether any row names a file that was missing in a source."""
        return bool(self._missing)

    def mark_file_unusable(self, address: str) -> None:
        """Note that the file that this person's row names cannot be used, which is reported elsewhere."""
        self._unusable.add(key_of(address))

    def has_unusable_file(self, person: Person) -> bool:
        """Whether a row of this person names a file that cannot be used. Final once every source was read."""
        return person.address.key in self._unusable or any(self.missing_files(person))

    def note_alternative(self, person: Person, source: str) -> None:
        """Note a usable file that the person's row does not name."""
        self._alternatives.setdefault(person.address.key, source)

    def missing_files(self, person: Person) -> Iterator[Issue]:
        """The issues of rows that name a file which is in no source."""
        for hint in hints(person) if self._missing else ():
            issue = self._missing.get((person.address.key, hint.source, hint.line))
            if issue is not None and _named(hint) and not self._has(person, hint):
                other = self._alternatives.get(person.address.key)
                there = f'; or name "{other}", which holds a certificate for this person' if other else ""
                yield replace(issue, hint=f"{issue.hint}{there}")

    def _has(self, person: Person, hint: RosterRow) -> bool:
        """Whether the file that a row names was found in any source."""
        if person.more_rows:
            return (person.address.key, _base(_named(hint))) in self._found
        return self._people.number(person.address.key) in self._found_single

    def row_without_file_issue(self, person: Person) -> Issue | None:
        """The issue of a row that names no file; it matters only if no certificate is found."""
        rows = ((person.address.key, hint.source, hint.line) for hint in hints(person) if not _named(hint))
        return next((self._missing[row] for row in rows if row in self._missing), None)

    @staticmethod
    def row_naming(person: Person | None, source: str) -> str | None:
        """Source and line of the person's row that names this file."""
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
