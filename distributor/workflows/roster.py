"""Merges a roster and a directory into the people by address, and tells who of them has no certificate yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from distributor.model.compact import BitSet
from distributor.model.directory_users import Directory
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.packed_people import PackedPeople
from distributor.model.people import Address, Person, key_of
from distributor.model.ports import NewSpool, Roster, Spool
from distributor.workflows.directory_comparison import SOURCE, Users, compare, disabled, select_users, without_certificate
from distributor.workflows.roster_rows import RosterRows, files, hints

_HINT = "name the certificate's file in the row, or put it among the sources"


class MergedRoster:
    """Everybody who is to receive a certificate; compact, since a roster may have many thousand rows."""

    def __init__(self, origin: str = "roster", spool: NewSpool = list) -> None:
        self.origin = origin  # "roster", "directory" or "certificates"
        self.by_key = PackedPeople()
        self.rows = RosterRows(self.by_key)
        self.issues: Spool[Issue] = spool()
        self._served = BitSet()  # by the people's numbers
        self._reported: set[str] = set()  # who is named in an error already
        self._contradicted: set[str] = set()
        self._users: Users | None = None  # those of them that the directory knows
        self._excluded: set[str] = set()  # to whom nothing may be sent, whatever is found
        self._whole = False

    def add(self, person: Person) -> None:
        """Add a row; a second one of the same person may name another file, but must not contradict the first."""
        key = person.address.key
        first = self.by_key.get(key)
        if first is None:
            self.by_key[key] = person
        elif _without_files(first) != replace(_without_files(person), address=first.address):
            self._contradicted.add(key)
            self.refuse(_repeated(person, first, Severity.ERROR, "the row contradicts", "keep one row for a person"))
        elif files(person.hint) and files(person.hint) not in map(files, hints(first)):
            self.by_key[key] = replace(first, more_rows=(*first.more_rows, *hints(person)))
        else:
            self.issues.append(_repeated(person, first, Severity.NOTE, "the row repeats", "nothing is to be done; it counts once"))

    def refuse(self, row: Issue) -> None:
        """Add the issue of a row that cannot be used; its person counts as on the roster all the same."""
        self.issues.append(row)
        self.rows.refuse(row)

    @property
    def nobody(self) -> str | None:
        """The origin, where it names no person and has no issue."""
        return self.origin if self.origin != "certificates" and not self.by_key and not self.issues else None

    def remove_contradicted(self) -> None:
        """Remove everybody whose rows contradict each other."""
        for key in self._contradicted:
            del self.by_key[key]

    def compare_with_directory(self, directory: Directory) -> None:
        """Compare everybody on the roster with the directory, and take the language from there where a row has none."""
        self._users = select_users(directory.entries(), self.by_key)
        for key, person in self.by_key.items():
            entry = self._users.find(key)
            if (issue := compare(person, entry)) is not None:
                self.issues.append(issue)
                if issue.severity is Severity.ERROR:
                    self._excluded.add(key)
            if entry is not None and entry.person.language and not person.language:
                self.by_key[key] = replace(person, language=entry.person.language)

    def load_directory(self, directory: Directory) -> None:
        """Add everybody in the directory."""
        self._users, self._whole = Users(), directory.is_full_directory
        for entry in directory.entries():
            if isinstance(entry, Issue):
                self.issues.append(entry)
            else:
                self._users.add(entry)
        for key, entry in self._users.by_key.items():
            self.by_key[key] = entry.person
            if not entry.enabled:
                self._excluded.add(key)

    def learn(self, address: Address, name: str) -> Person:
        """Add a person whom only a certificate names."""
        return self.by_key.setdefault(address.key, Person(address, name))

    def of(self, addresses: Iterable[Address]) -> list[Person]:
        """The people with these addresses; if there are none, those who have them in the directory."""
        keys = [address.key for address in addresses if address.key in self.by_key]
        if not keys and self._users is not None:
            known = (self._users.canonical_key(address, self.by_key) for address in addresses)
            keys = list(dict.fromkeys(key for key in known if key is not None))
        main = {key: self.primary(self.by_key[key]).key for key in keys}
        return [self.by_key[key] for key in keys if key == main[key] or main[key] not in main]

    def primary(self, person: Person) -> Address:
        """The person's primary address, which a certificate must contain."""
        entry = self._users.find(person.address.key) if self._users is not None else None
        return person.address if entry is None else entry.person.address

    def may_have(self, person: Person) -> bool:
        """Whether anything may be sent to a person."""
        return person.address.key not in self._excluded

    def objection(self, person: Person) -> Issue | None:
        """The issue of a certificate for somebody who may have none; of people on a roster it was reported before."""
        return disabled() if self.origin == SOURCE and not self.may_have(person) else None

    def mark_served(self, person: Person) -> None:
        """Note that a person has a certificate."""
        self._served.add(self.by_key.number(person.address.key))

    def mark_reported(self, address: str) -> None:
        """Note that an error names this address."""
        self._reported.add(key_of(address))

    def named_like(self, stem: str) -> Person | None:
        """Someone without a certificate whose address or local part a file is named after."""
        name_key = key_of(stem)
        for name in (name_key, name_key.rpartition("-")[0]):
            if "@" in name and (person := self.by_key.get(name)) is not None:
                return person if self.by_key.number(name) not in self._served else None
        if self._locals is None:
            self._locals = {}
            for key in self.by_key:
                self._locals.setdefault(key.partition("@")[0], []).append(key)
        keys = [key for key in self._locals.get(name_key, ()) if self.by_key.number(key) not in self._served]
        return self.by_key[keys[0]] if len(keys) == 1 else None

    _locals: dict[str, list[str]] | None = None

    def missing(self) -> Iterator[Issue]:
        """An issue for everybody without a certificate whom no error names yet."""
        if self.origin == "certificates":
            return
        if self._whole:
            yield from without_certificate(sum(map(self._is_without, self.by_key)))
            return
        for key in self.by_key:
            if key not in self._excluded and (self.rows.has_missing or self._is_without(key)):
                yield from self._missing_for(self.by_key[key])

    def _missing_for(self, person: Person) -> Iterator[Issue]:
        """The files that rows name and that are nowhere; else that there is no certificate, unless an error says so already."""
        missing = list(self.rows.missing_files(person))
        if not missing and self._is_without(person.address.key):
            missing = [self.rows.row_without_file_issue(person) or _no_certificate(person, SOURCE if self.origin == SOURCE else None)]
        yield from missing

    def _is_without(self, key: str) -> bool:
        return self.by_key.number(key) not in self._served and key not in self._excluded and key not in self._reported


def gather(roster: Roster | None, directory: Directory | None = None, spool: NewSpool = list) -> MergedRoster:
    """The people of the roster, compared with the directory; without a roster, those of the directory; without both, nobody yet."""
    if roster is None and directory is not None:
        people = MergedRoster("directory", spool)
        people.load_directory(directory)
        return people
    people = MergedRoster("roster" if roster is not None else "certificates", spool)
    for row in roster.people() if roster is not None else ():
        if isinstance(row, Issue):
            people.refuse(row)
        else:
            people.add(row)
    people.remove_contradicted()
    if directory is not None:
        people.compare_with_directory(directory)
    return people


def _no_certificate(person: Person, source: str | None) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (source, None)
    hint = _HINT if person.hint else "put the certificate's file among the sources"
    return Issue(
        Severity.ERROR, CheckId.NO_CERTIFICATE, "no certificate was found for this person", hint, source, line, str(person.address)
    )


def _repeated(person: Person, first: Person, severity: Severity, what: str, hint: str) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
    before = f"line {first.hint.line}" if first.hint else "another row"
    return Issue(severity, CheckId.DUPLICATE, f"{what} {before}, which is about the same person", hint, source, line, str(person.address))


def _without_files(person: Person) -> Person:
    return replace(person, hint=None, more_rows=())
