"""People and certificates -> a plan: who is to get what, and every reason why somebody is not. Sends nothing.

Certificates go to people by the address in them, never by the name of a file. One pass: certificates are opened, matched, examined and
recorded as they come; only people and what could not be matched are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from distributor.core.credentials import Credential, Facts, Locator, Material, Opened
from distributor.core.deliveries import Delivery, Draft, Known
from distributor.core.directory import Directory
from distributor.core.findings import Check, Failed, Issue, Severity
from distributor.core.people import Address, Person, printable
from distributor.core.ports import Ledger, Pool, Roster, Source
from distributor.core.preflight import addresses, examine, owner
from distributor.flow.directory import PRIMARY_ONLY, SOURCE
from distributor.flow.people import People, gather

if TYPE_CHECKING:
    from distributor.flow.trust import Checker  # its chains are heavy to load, and not everybody has them checked

BATCH = 200  # drafts a transaction
SAID_ALREADY = frozenset(  # what a chain would be found wrong for again
    {Check.EXPIRED, Check.NOT_YET_VALID, Check.WEAK_SIGNATURE, Check.IS_CA}
)


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned, and what was not and why."""

    plan: str
    deliveries: tuple[Delivery, ...]
    issues: tuple[Issue, ...]
    known: tuple[Known, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A draft whose chain may still speak against it. Not `good`: something else does already."""

    draft: Draft
    source: str
    good: bool


@dataclass(frozen=True, slots=True)
class _Stray:
    """A certificate of nobody on the roster."""

    source: str
    stem: str
    facts: Facts


def plan(  # noqa: PLR0913  each is one of the doors
    ledger: Ledger,
    roster: Roster | None,
    source: Source,
    pool: Pool[Material, Opened],
    *,
    plan_id: str,
    inputs: Mapping[str, object],
    languages: Sequence[str],
    now: datetime,
    directory: Directory | None = None,
    checker: Checker | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Planned:
    """Plan all that is good.

    People on the roster are held against the directory; without a roster, its people are meant. Without either, each certificate's own
    address is its person. `inputs` is kept in the ledger: absolute paths, never secrets.
    `tell` hears how many files were opened so far.
    """
    people = gather(roster, directory)
    ledger.begin_plan(plan_id, inputs)
    work = _Work(people, languages, now, checker)
    results: list[Delivery | Known] = []
    for batch in _batches(work.candidates(source, pool, tell)):
        drafts = work.trusted(batch)
        results += ledger.plan(plan_id, drafts) if drafts else []
    known = tuple(result for result in results if isinstance(result, Known))
    issues = (*people.issues, *work.issues, *work.lacking(), *map(_already, known))
    return Planned(plan_id, tuple(result for result in results if isinstance(result, Delivery)), issues, known)


def _batches(candidates: Iterator[_Candidate]) -> Iterator[list[_Candidate]]:
    while batch := list(islice(candidates, BATCH)):
        yield batch


def _already(known: Known) -> Issue:
    message = f"this certificate is {known.state} for this person since {known.since:%Y-%m-%d}"
    source = known.draft.locator.parts[0]
    name = (source[1] or source[0]).replace("\\", "/").rpartition("/")[2]
    hint = "`distributor resend` makes a new letter with a new password"
    return Issue(Severity.NOTE, Check.ALREADY_SENT, message, hint, printable(name), None, str(known.draft.person.address))


class _Work:
    """The state of one pass."""

    def __init__(self, people: People, languages: Sequence[str], now: datetime, checker: Checker | None) -> None:
        self._people = people
        self._checker = checker
        self._languages = languages
        self._now = now
        self.issues: list[Issue] = []
        self._strays: list[_Stray] = []
        self._seen: dict[str, tuple[str, Locator]] = {}  # by the certificate's SHA-256

    def candidates(self, source: Source, pool: Pool[Material, Opened], tell: Callable[[int], None]) -> Iterator[_Candidate]:
        """Every delivery that nothing but its chain may speak against, and those whose chain is worth a look all the same."""
        for number, (material, opened) in enumerate(pool.map(self._materials(source)), 1):
            yield from self._opened(material, opened)
            tell(number)

    def _materials(self, source: Source) -> Iterator[Material]:
        for find in source.finds(self._people.by_key):
            if isinstance(find, Material):
                yield find
            elif find.check is Check.NO_CERTIFICATE:
                self._people.missing(find)
            else:
                self._say(find)

    def _opened(self, material: Material, opened: Opened | Failed) -> Iterator[_Candidate]:
        wanted = self._people.by_key.get(material.wanted)
        if isinstance(opened, Failed):
            self._say(_failed(opened, material, wanted))
            return
        for problem in opened.problems:
            self._say(_about(Issue(Severity.ERROR, problem.check, problem.message, problem.hint), material, wanted))
        strange = wanted is not None and not any(self._is_for(credential.facts, wanted) for credential in opened.credentials)
        for credential in opened.credentials:
            if not self._is_repeated(credential, material):
                yield from self._placed(credential, material, strange=strange)
        if strange and wanted is not None and opened.credentials:
            self._say_all(self._about_address(opened.credentials[0].facts, wanted), material, wanted)

    def _is_repeated(self, credential: Credential, material: Material) -> bool:
        """Whether this certificate came before; in another place, that is worth a note."""
        here = (material.source, _locator(material))
        source, place = self._seen.setdefault(credential.facts.sha256, here)
        if place is here[1]:
            return False
        if place.parts != here[1].parts:
            message = f'the same certificate came already in "{source}"'
            self._say(_about(Issue(Severity.NOTE, Check.DUPLICATE, message, "nothing is to be done; it is sent once"), material, None))
        return True

    def _placed(self, credential: Credential, material: Material, *, strange: bool) -> Iterator[_Candidate]:
        """To whom a certificate goes. `strange`: a row named the file, and nothing in it is that person's; that is told anyway."""
        if self._people.origin == "certificates":
            match owner(credential.facts):
                case Address() as address:
                    person = self._people.learn(address, _common_name(credential.facts))
                    yield from self._examined(credential, material, person)
                case issue:
                    self._say_all([*examine(credential.facts, None, self._now), issue], material, None)
            return
        people = self._people.of(addresses(credential.facts)[0])
        if len(people) == 1:
            yield from self._examined(credential, material, people[0])
        elif people:
            self._shared(people, material)
        elif not strange:
            self._strays.append(_Stray(material.source, _stem(material), credential.facts))

    def _examined(self, credential: Credential, material: Material, person: Person) -> Iterator[_Candidate]:
        issues = self._objections(credential.facts, person)
        self._say_all(issues, material, person)
        errors = {issue.check for issue in issues if issue.severity is Severity.ERROR}
        if not self._people.may_have(person) or (errors and (self._checker is None or errors & SAID_ALREADY)):
            return
        if not errors:
            self._people.serve(person)
        if self._checker is not None:
            self._checker.begin(credential.leaf, credential.chain)
        yield _Candidate(self._draft(credential, material, person), material.source, not errors)

    def _draft(self, credential: Credential, material: Material, person: Person) -> Draft:
        language = person.language or self._languages[0]
        whom = replace(person, hint=None, further=())
        return Draft(whom, language, credential.facts, credential.leaf, credential.chain, _locator(material))

    def trusted(self, batch: Sequence[_Candidate]) -> list[Draft]:
        """Those that may be planned; what is wrong with the others' chains is said."""
        return [candidate.draft for candidate in batch if self._is_trusted(candidate)]

    def _is_trusted(self, candidate: _Candidate) -> bool:
        draft = candidate.draft
        issues = self._checker.check(draft.leaf, draft.chain) if self._checker is not None else []
        for issue in issues:
            self._say(replace(issue, source=candidate.source, address=str(draft.person.address)))
        return candidate.good and all(issue.severity is not Severity.ERROR for issue in issues)

    def _objections(self, facts: Facts, person: Person) -> list[Issue]:
        issues = examine(facts, self._people.primary(person), self._now)
        if self._people.origin == SOURCE:
            issues = [_without_rows(issue) for issue in issues]
        objection = self._people.objection(person)
        return [*issues, objection] if objection else issues

    def _about_address(self, facts: Facts, person: Person) -> list[Issue]:
        return [issue for issue in self._objections(facts, person) if issue.check in _ADDRESS_CHECKS]

    def _is_for(self, facts: Facts, person: Person) -> bool:
        return any(one.address.key == person.address.key for one in self._people.of(addresses(facts)[0]))

    def _shared(self, people: Sequence[Person], material: Material) -> None:
        names = ", ".join(str(person.address) for person in people)
        for person in people:
            message = f"one certificate is for several people on the roster: {names}"
            issue = Issue(Severity.ERROR, Check.DUPLICATE, message, "give each person a certificate of their own")
            self._say(_about(issue, material, person))

    def lacking(self) -> Iterator[Issue]:
        """Certificates without a person, then people without a certificate."""
        for stray in self._strays:
            issue = self._stray(stray)
            if issue.severity is Severity.ERROR and issue.address is not None:
                self._people.told(issue.address)
            yield issue
        yield from self._people.lacking()

    def _stray(self, stray: _Stray) -> Issue:
        person = self._people.named_like(stray.stem) if self._people.origin != SOURCE else None  # nobody named files after them
        told = self._about_address(stray.facts, person or Person(_NOBODY)) if person or not addresses(stray.facts)[0] else []
        if told:
            return replace(told[0], source=stray.source, address=str(person.address) if person else None)
        names = ", ".join(printable(str(address)) for address in addresses(stray.facts)[0])
        where, hint = _ABSENT[self._people.origin]
        message = f'the certificate is for "{names}", who is not {where}'
        return Issue(Severity.WARNING, Check.NO_PERSON, message, hint, stray.source, None, names if ", " not in names else None)

    def _say_all(self, issues: Sequence[Issue], material: Material, person: Person | None) -> None:
        for issue in issues:
            self._say(_about(issue, material, person))

    def _say(self, issue: Issue) -> None:
        if issue.severity is Severity.ERROR and issue.address is not None:
            self._people.told(issue.address)
        self.issues.append(issue)


def _without_rows(issue: Issue) -> Issue:
    """A mismatch where there is no row to correct."""
    return replace(issue, hint=f"{PRIMARY_ONLY}; have one issued for that") if issue.check is Check.ADDRESS_MISMATCH else issue


_ADDRESS_CHECKS = frozenset({Check.ADDRESS_MISMATCH, Check.NO_ADDRESS, Check.BAD_ADDRESS})
_NOBODY = Address("nobody", "invalid")
_ABSENT = {
    "roster": ("on the roster", "add the person to the roster, or remove the file"),
    "directory": ("in the directory", "have the certificate revoked if the person has left; [[rosters]] may also leave them out"),
}


def _about(issue: Issue, material: Material, person: Person | None) -> Issue:
    return replace(issue, source=material.source, address=str(person.address) if person else None)


def _failed(failed: Failed, material: Material, wanted: Person | None) -> Issue:
    hint = "see what it is; export it again from where it was made"
    match failed.reason:
        case "time":
            issue = Issue(Severity.ERROR, Check.TOO_COSTLY, "opening it takes longer than `limits.open_seconds` allows", hint)
        case "memory":
            issue = Issue(Severity.ERROR, Check.TOO_COSTLY, "opening it takes more memory than allowed", hint)
        case _:
            issue = Issue(Severity.ERROR, Check.UNREADABLE, "the program that tried to open it crashed", hint)
    return _about(issue, material, wanted)


def _locator(material: Material) -> Locator:
    return Locator(material.form, tuple((part.path, part.member, part.sha256) for part in material.parts))


def _stem(material: Material) -> str:
    return material.source.rpartition("/")[2].rpartition(".")[0]


def _common_name(facts: Facts) -> str:
    """The name in the subject (RFC 4514), unless it is an address."""
    for part in facts.subject.replace("\\,", "\0").split(","):
        kind, _, value = part.partition("=")
        if kind.strip().upper() == "CN" and "@" not in value:
            return value.replace("\0", ",").replace("\\", "").strip()
    return ""
