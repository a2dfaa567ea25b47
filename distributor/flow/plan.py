"""People and certificates -> a plan: who is to get what, and every reason why somebody is not. Sends nothing.

Certificates go to people by the address in them, never by the name of a file. One pass: certificates are opened, matched, examined and
recorded as they come; only people and what could not be matched are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from distributor.core.credentials import Credential, Facts, Locator, Material, Opened
from distributor.core.deliveries import Delivery, Draft, Known
from distributor.core.findings import Check, Failed, Issue, Severity
from distributor.core.people import Address, Person, printable
from distributor.core.ports import Ledger, Pool, Roster, Source
from distributor.core.preflight import addresses, examine, owner
from distributor.flow.people import People, gather

BATCH = 200  # drafts a transaction


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned, and what was not and why."""

    plan: str
    deliveries: tuple[Delivery, ...]
    issues: tuple[Issue, ...]
    known: tuple[Known, ...]


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
    tell: Callable[[int], None] = lambda _: None,
) -> Planned:
    """Plan all that is good.

    Without a roster, each certificate's own address is its person. `inputs` is kept in the ledger: absolute paths, never secrets.
    `tell` hears how many files were opened so far.
    """
    people = gather(roster)
    ledger.begin_plan(plan_id, inputs)
    work = _Work(people, languages, now)
    batch: list[Draft] = []
    results: list[Delivery | Known] = []
    for number, draft in enumerate(work.drafts(source, pool, tell)):
        batch.append(draft)
        if number % BATCH == BATCH - 1:
            results += ledger.plan(plan_id, batch)
            batch.clear()
    results += ledger.plan(plan_id, batch) if batch else []
    known = tuple(result for result in results if isinstance(result, Known))
    issues = (*people.issues, *work.issues, *work.lacking(), *map(_already, known))
    return Planned(plan_id, tuple(result for result in results if isinstance(result, Delivery)), issues, known)


def _already(known: Known) -> Issue:
    message = f"this certificate is {known.state} for this person since {known.since:%Y-%m-%d}"
    source = known.draft.locator.parts[0]
    name = (source[1] or source[0]).replace("\\", "/").rpartition("/")[2]
    hint = "`distributor resend` makes a new letter with a new password"
    return Issue(Severity.NOTE, Check.ALREADY_SENT, message, hint, printable(name), None, str(known.draft.person.address))


class _Work:
    """The state of one pass."""

    def __init__(self, people: People, languages: Sequence[str], now: datetime) -> None:
        self._people = people
        self._languages = languages
        self._now = now
        self.issues: list[Issue] = []
        self._strays: list[_Stray] = []
        self._seen: dict[str, tuple[str, Locator]] = {}  # by the certificate's SHA-256

    def drafts(self, source: Source, pool: Pool[Material, Opened], tell: Callable[[int], None]) -> Iterator[Draft]:
        """Every delivery that nothing speaks against."""
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

    def _opened(self, material: Material, opened: Opened | Failed) -> Iterator[Draft]:
        wanted = self._people.by_key.get(material.wanted)
        if isinstance(opened, Failed):
            self._say(_failed(opened, material, wanted))
            return
        for problem in opened.problems:
            self._say(_about(Issue(Severity.ERROR, problem.check, problem.message, problem.hint), material, wanted))
        strange = wanted is not None and not any(_is_for(credential.facts, wanted) for credential in opened.credentials)
        for credential in opened.credentials:
            if not self._is_repeated(credential, material):
                yield from self._placed(credential, material, strange=strange)
        if strange and wanted is not None and opened.credentials:
            self._say_all(_about_address(opened.credentials[0].facts, wanted.address, self._now), material, wanted)

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

    def _placed(self, credential: Credential, material: Material, *, strange: bool) -> Iterator[Draft]:
        """To whom a certificate goes. `strange`: a row named the file, and nothing in it is that person's; that is told anyway."""
        if self._people.from_certificates:
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

    def _examined(self, credential: Credential, material: Material, person: Person) -> Iterator[Draft]:
        issues = examine(credential.facts, person.address, self._now)
        self._say_all(issues, material, person)
        if any(issue.severity is Severity.ERROR for issue in issues):
            return
        self._people.serve(person)
        language = person.language or self._languages[0]
        yield Draft(
            replace(person, hint=None, further=()), language, credential.facts, credential.leaf, credential.chain, _locator(material)
        )

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
        person = self._people.named_like(stray.stem)
        if person is not None or not addresses(stray.facts)[0]:
            (issue,) = _about_address(stray.facts, person.address if person else _NOBODY, self._now)
            return replace(issue, source=stray.source, address=str(person.address) if person else None)
        names = ", ".join(printable(str(address)) for address in addresses(stray.facts)[0])
        message, hint = f'the certificate is for "{names}", who is not on the roster', "add the person to the roster, or remove the file"
        return Issue(Severity.WARNING, Check.NO_PERSON, message, hint, stray.source, None, names if ", " not in names else None)

    def _say_all(self, issues: Sequence[Issue], material: Material, person: Person | None) -> None:
        for issue in issues:
            self._say(_about(issue, material, person))

    def _say(self, issue: Issue) -> None:
        if issue.severity is Severity.ERROR and issue.address is not None:
            self._people.told(issue.address)
        self.issues.append(issue)


def _is_for(facts: Facts, person: Person) -> bool:
    return any(address.key == person.address.key for address in addresses(facts)[0])


def _about_address(facts: Facts, person: Address, now: datetime) -> list[Issue]:
    return [issue for issue in examine(facts, person, now) if issue.check in _ADDRESS_CHECKS]


_ADDRESS_CHECKS = frozenset({Check.ADDRESS_MISMATCH, Check.NO_ADDRESS, Check.BAD_ADDRESS})
_NOBODY = Address("nobody", "invalid")


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
