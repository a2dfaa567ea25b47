"""Merges a roster and a directory into the people by address, and tells who of them has no certificate yet."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace

from distributor.model.certificates import SourceMaterial
from distributor.model.compact import BitSet, PackedPeople
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, Directory, DirectoryUser, Person, RosterRow, key_of, parse_address
from distributor.model.ports import NewSpool, Roster, Spool

# --- directory comparison --------------------------------------------------------------------------------
# Compares people on a roster with a directory's users, found by any of their addresses. Keeps only the users that are needed.


SOURCE = "directory"  # of an issue that comes from no file
PRIMARY_ONLY = "Outlook hides a certificate whose address is not the primary one"
_DISABLED = "this person's account is disabled in the directory"


class Users:
    """Users of a directory; an address belongs to one user at most."""

    def __init__(self) -> None:
        self.by_key: dict[str, DirectoryUser] = {}  # by the primary address
        self._others: dict[str, str] = {}  # another address -> the primary one

    def add(self, entry: DirectoryUser) -> None:
        """Add a user. Of two with the same primary address, the authoritative one counts, then the enabled one."""
        key = entry.person.address.key
        known = self.by_key.setdefault(key, entry)
        if (entry.authoritative, entry.enabled) > (known.authoritative, known.enabled):
            self.by_key[key] = entry
        for other in entry.aliases:
            self._others.setdefault(other, key)

    def find(self, key: str) -> DirectoryUser | None:
        """The user with this address, primary or alias."""
        return self.by_key.get(key) or self.by_key.get(self._others.get(key, ""))

    def canonical_key(self, address: Address, selected: Container[str]) -> str | None:
        """The key among `selected` that belongs to the user with this address."""
        entry = self.find(address.key)
        keys = _keys(entry) if entry is not None else ()
        return next((key for key in keys if key in selected and self.find(key) is entry), None)


def select_users(entries: Iterable[DirectoryUser | Issue], selected: Container[str]) -> Users:
    """The users with one of these address keys; issues about other users do not matter here."""
    users = Users()
    for entry in entries:
        if isinstance(entry, DirectoryUser) and any(key in selected for key in _keys(entry)):
            users.add(entry)
    return users


def _keys(entry: DirectoryUser) -> tuple[str, ...]:
    return entry.person.address.key, *entry.aliases


def compare(person: Person, entry: DirectoryUser | None) -> Issue | None:
    """How a person on the roster differs from the directory. An error: nothing may be sent to them."""
    if entry is None:
        hint = "check the address and the filter of [[rosters]]; if the person has left, have the certificate revoked"
        return _about(person, Severity.WARNING, CheckId.NO_PERSON, "this person is not in the directory", hint)
    primary = entry.person.address
    if not entry.enabled:
        hint = "remove the row, or run `distributor plan` again when the account is enabled"
        return _about(person, Severity.ERROR, CheckId.NO_PERSON, _DISABLED, hint)
    if primary.key != person.address.key:
        message = f'the primary address of this person is "{primary}" in the directory'
        hint = f"{PRIMARY_ONLY}; use that address in the row, with a certificate for it"
        return _about(person, Severity.ERROR, CheckId.ADDRESS_MISMATCH, message, hint)
    if primary.local != person.address.local:
        hint = "if the certificate does not appear in Outlook, write both addresses alike: Outlook may compare case"
        return _about(person, Severity.WARNING, CheckId.ADDRESS_CASE, f'the directory writes "{primary}"', hint)
    return None


def _about(person: Person, severity: Severity, check: CheckId, message: str, hint: str) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
    return Issue(severity, check, message, hint, source, line, str(person.address))


def disabled() -> Issue:
    """The issue of a certificate whose owner's account is disabled."""
    return Issue(
        Severity.ERROR,
        CheckId.NO_PERSON,
        _DISABLED,
        "have the certificate revoked, or run `distributor plan` again when the account is enabled",
    )


def without_certificate(count: int) -> Iterator[Issue]:
    """One note for all people without a certificate in a whole directory, where nobody named them."""
    if count:
        message = (
            f"{count} people in the directory have no certificate here"
            if count > 1
            else "one person in the directory has no certificate here"
        )
        hint = "set a group in [[rosters]] to list its people without a certificate"
        yield Issue(Severity.NOTE, CheckId.NO_CERTIFICATE, message, hint, SOURCE)


# --- roster rows --------------------------------------------------------------------------------
# Tracks the files that a roster's rows name: found, missing or unusable; and the rows that were refused.
#
# A person whose row names a file gets that one: no other is sent instead, for the row says which is meant.


_WORD = re.compile(r"[^\s<>()\[\],;:\"'\\]+")
_LONGEST = 1000  # characters of a bad address cell that are searched for addresses


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
        for hint in person.rows if self._missing else ():
            issue = self._missing.get((person.address.key, hint.source, hint.line))
            if issue is not None and _named(hint) and not self._has(person, hint):
                other = self._alternatives.get(person.address.key)
                there = f'; or name "{other}", which has a certificate for this person' if other else ""
                yield replace(issue, hint=f"{issue.hint}{there}")

    def _has(self, person: Person, hint: RosterRow) -> bool:
        """Whether the file that a row names was found in any source."""
        if person.more_rows:
            return (person.address.key, _base(_named(hint))) in self._found
        return self._people.number(person.address.key) in self._found_single

    def row_without_file_issue(self, person: Person) -> Issue | None:
        """The issue of a row that names no file; it matters only if no certificate is found."""
        rows = ((person.address.key, hint.source, hint.line) for hint in person.rows if not _named(hint))
        return next((self._missing[row] for row in rows if row in self._missing), None)

    @staticmethod
    def row_naming(person: Person | None, source: str) -> str | None:
        """Source and line of the person's row that names this file."""
        rows = (hint for hint in person.rows if _named(hint) and _base(_named(hint)) == _base(source)) if person else ()
        return next((f"{hint.source} line {hint.line}" for hint in rows), None)

    @staticmethod
    def names_files(person: Person) -> bool:
        """Whether a row of this person names a file."""
        return any(_named(hint) for hint in person.rows)


def _named(hint: RosterRow) -> str:
    return hint.file or hint.key


def _base(name: str) -> str:
    return name.strip().replace("\\", "/").rpartition("/")[2].casefold()


_HINT = "put the file name in the row, or add the file to the sources"


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
        elif replace(first, hint=None, more_rows=()) != replace(person, hint=None, more_rows=(), address=first.address):
            self._contradicted.add(key)
            self.refuse(_repeated(person, first, Severity.ERROR, "the row contradicts", "keep one row per person"))
        elif files(person.hint) and files(person.hint) not in map(files, first.rows):
            self.by_key[key] = replace(first, more_rows=(*first.more_rows, *person.rows))
        else:
            self.issues.append(_repeated(person, first, Severity.NOTE, "the row repeats", "no action needed; it counts once"))

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

    def missing(self, unopened: int = 0) -> Iterator[Issue]:
        """An issue for everybody without a certificate whom no error names yet; a note where `unopened` files may explain most of them."""
        if self.origin == "certificates":
            return
        if self._whole:
            yield from without_certificate(self.count_without())
            return
        explained = bool(unopened) and self.count_without() < 2 * unopened
        for key in self.by_key:
            if key not in self._excluded and (self.rows.has_missing or self._is_without(key)):
                yield from self._missing_for(self.by_key[key], explained=explained)

    def _missing_for(self, person: Person, *, explained: bool) -> Iterator[Issue]:
        """The files that rows name and that are nowhere; else that there is no certificate, unless an error says so already."""
        missing = list(self.rows.missing_files(person))
        if not missing and self._is_without(person.address.key):
            source = SOURCE if self.origin == SOURCE else None
            missing = [self.rows.row_without_file_issue(person) or _no_certificate(person, source, explained=explained)]
        yield from missing

    def count_without(self) -> int:
        """How many people have no certificate and are named in no error yet."""
        return sum(map(self._is_without, self.by_key))

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


def _no_certificate(person: Person, source: str | None, *, explained: bool) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (source, None)
    if explained:
        message = "no certificate was found for this person; it may be in a file that could not be opened"
        hint = "correct what is wrong with those files and plan again"
        return Issue(Severity.NOTE, CheckId.NO_CERTIFICATE, message, hint, source, line, str(person.address))
    hint = _HINT if person.hint else "add the person's file to the sources"
    return Issue(Severity.ERROR, CheckId.NO_CERTIFICATE, "no certificate found for this person", hint, source, line, str(person.address))


def _repeated(person: Person, first: Person, severity: Severity, what: str, hint: str) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
    before = f"line {first.hint.line}" if first.hint else "another row"
    return Issue(severity, CheckId.DUPLICATE, f"{what} {before}, which is about the same person", hint, source, line, str(person.address))
