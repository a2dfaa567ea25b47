"""A roster -> its people by address, and who of them still lacks a certificate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from distributor.core.findings import Check, Issue, Severity
from distributor.core.people import Address, Person, RowHint
from distributor.core.ports import Roster

_HINT = "name the certificate's file in the row, or put it among the sources"


class People:
    """Everybody who is to receive something; compact, since a roster may have many thousand rows."""

    def __init__(self, *, from_certificates: bool = False) -> None:
        self.from_certificates = from_certificates
        self.by_key: dict[str, Person] = {}
        self.issues: list[Issue] = []
        self._served: set[str] = set()
        self._told: set[str] = set()  # who is spoken of in an error already
        self._missing: dict[str, Issue] = {}  # what a row named that is not there
        self._contradicted: set[str] = set()

    def add(self, person: Person) -> None:
        """Take in a row; a second one of the same person may name another file, but must not say something else."""
        key = person.address.key
        first = self.by_key.get(key)
        if first is None:
            self.by_key[key] = person
        elif _without_files(first) != replace(_without_files(person), address=first.address):
            self._contradicted.add(key)
            self.issues.append(_repeated(person, first, Severity.ERROR, "the row contradicts", "keep one row for a person"))
        elif _files(person) and not any(_files(person) == _files(other) for other in _rows(first)):
            self.by_key[key] = replace(first, further=(*first.further, *_hints(person)))
        else:
            self.issues.append(_repeated(person, first, Severity.NOTE, "the row repeats", "nothing is to be done; it counts once"))

    def settle(self) -> None:
        """Nobody whose rows contradict each other gets anything."""
        for key in self._contradicted:
            del self.by_key[key]

    def learn(self, address: Address, name: str) -> Person:
        """A person that only a certificate names."""
        return self.by_key.setdefault(address.key, Person(address, name))

    def of(self, addresses: Iterable[Address]) -> list[Person]:
        """The people with these addresses."""
        return [self.by_key[address.key] for address in addresses if address.key in self.by_key]

    def serve(self, person: Person) -> None:
        """Note that a person has a certificate."""
        self._served.add(person.address.key)

    def told(self, address: str) -> None:
        """An error speaks of this address."""
        self._told.add(address.casefold())

    def missing(self, issue: Issue) -> None:
        """What a row named is not there: matters only if nothing else is found for the person."""
        if issue.address is not None:
            self._missing.setdefault(issue.address.casefold(), issue)

    def named_like(self, stem: str) -> Person | None:
        """Someone without a certificate whose address or local part a file is named after."""
        wanted = stem.casefold()
        for name in (wanted, wanted.rpartition("-")[0]):
            if "@" in name and (person := self.by_key.get(name)) is not None:
                return person if name not in self._served else None
        if self._locals is None:
            self._locals = {}
            for key in self.by_key:
                self._locals.setdefault(key.partition("@")[0], []).append(key)
        keys = [key for key in self._locals.get(wanted, ()) if key not in self._served]
        return self.by_key[keys[0]] if len(keys) == 1 else None

    _locals: dict[str, list[str]] | None = None

    def lacking(self) -> Iterator[Issue]:
        """Everybody without a certificate of whom no error speaks yet."""
        if self.from_certificates:
            return
        for key, person in self.by_key.items():
            if key not in self._served and str(person.address).casefold() not in self._told:
                yield self._missing.get(str(person.address).casefold()) or _no_certificate(person)


def gather(roster: Roster | None) -> People:
    """Everybody on the roster, and what is wrong with its rows."""
    people = People(from_certificates=roster is None)
    for row in roster.people() if roster is not None else ():
        if isinstance(row, Issue):
            people.issues.append(row)
        else:
            people.add(row)
    people.settle()
    return people


def _no_certificate(person: Person) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
    return Issue(Severity.ERROR, Check.NO_CERTIFICATE, "no certificate was found for this person", _HINT, source, line, str(person.address))


def _repeated(person: Person, first: Person, severity: Severity, what: str, hint: str) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
    before = f"line {first.hint.line}" if first.hint else "another row"
    return Issue(severity, Check.DUPLICATE, f"{what} {before}, which is about the same person", hint, source, line, str(person.address))


def _without_files(person: Person) -> Person:
    return replace(person, hint=None, further=())


def _hints(person: Person) -> tuple[RowHint, ...]:
    return (person.hint,) if person.hint is not None else ()


def _rows(person: Person) -> Iterator[Person]:
    yield person
    for hint in person.further:
        yield replace(person, hint=hint, further=())


def _files(person: Person) -> tuple[object, ...]:
    """What a row says of its file."""
    hint = person.hint
    if hint is None:
        return ()
    found = (hint.file, hint.key, hint.password, hint.password_file)
    return found if any(found) else ()
