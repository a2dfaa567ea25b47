"""Opened files and people -> drafts of deliveries, and every reason why somebody gets none: one pass, as the files come.

Certificates go to people by the address in them, never by the name of a file. But whose row names a file gets that one: where it cannot
be used, the person gets no other, for the row says which is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from distributor.model.certificates import CertificateInfo, Identity, Locator, ParsedIdentities, SourceMaterial
from distributor.model.compact import Digests, PackedList
from distributor.model.delivery import DeliveryRequest
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Address, Person, escape_unsafe, key_of
from distributor.model.ports import NewSpool, Source, Spool, WorkerPool
from distributor.pki.checks import addresses, check_certificate, subject_address
from distributor.workflows.directory_comparison import SOURCE
from distributor.workflows.plan_messages import ABSENT, common_name, locator, lost, revocation, without_rows
from distributor.workflows.roster import MergedRoster

if TYPE_CHECKING:
    from distributor.model.ports import Checker

SAID_ALREADY = frozenset(  # what a chain would be found wrong for again
    {CheckId.EXPIRED, CheckId.NOT_YET_VALID, CheckId.WEAK_SIGNATURE, CheckId.IS_CA}
)
_ADDRESS_CHECKS = frozenset({CheckId.ADDRESS_MISMATCH, CheckId.NO_ADDRESS, CheckId.BAD_ADDRESS})
_DIGEST = 8  # bytes
_NOBODY = Address("nobody", "invalid")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A draft whose chain may still speak against it. Not `good`: something else does already. `named`: by the person's own row."""

    draft: DeliveryRequest
    source: str
    good: bool
    named: bool


@dataclass(frozen=True, slots=True)
class _File:
    """A file that was opened: its name for people, where it is found again, and whose row names it (an Address.key, or nobody's)."""

    source: str
    locator: Locator
    wanted: str

    @property
    def stem(self) -> str:
        return self.source.rpartition("/")[2].rpartition(".")[0]

    @property
    def origin(self) -> bytes:
        """What tells it from every other place, and its name for people; short, since each certificate's is kept."""
        return blake2b(repr(self.locator.parts).encode(), digest_size=_DIGEST).digest() + self.source.encode()


@dataclass(frozen=True, slots=True)
class UnmatchedCertificate:
    """A certificate of nobody on the roster."""

    file: _File
    facts: CertificateInfo


class Matching:
    """The state of one pass."""

    def __init__(
        self, people: MergedRoster, languages: Sequence[str], now: datetime, checker: Checker | None, spool: NewSpool = list
    ) -> None:
        self._people, self._rows = people, people.rows
        self._checker = checker
        self._languages = languages
        self._now = now
        self.issues: Spool[Issue] = people.issues  # those of rows come first
        self.left: Spool[Issue] = spool()  # what lay there and is no certificate
        self._strays: Spool[UnmatchedCertificate] = spool()
        self._held: Spool[tuple[Identity, _File, str]] = spool()  # for people whose rows name files
        self._seen = Digests()  # certificates
        self._origins = PackedList()  # where each of them came from (`_File.origin`)
        self._unread: dict[str, Issue] = {}  # passwords that could not be read, by the file they are for

    def candidates(
        self, source: Source, pool: WorkerPool[SourceMaterial, ParsedIdentities], tell: Callable[[int], None]
    ) -> Iterator[Candidate]:
        """Every delivery that nothing but its chain may speak against, and those whose chain is worth a look all the same."""
        for number, (material, opened) in enumerate(pool.map(self._materials(source)), 1):
            yield from self._opened(_File(material.source, locator(material), material.requested_for), opened)
            tell(number)
        for identity, file, key in self._held:
            person = self._people.by_key[key]
            if self._rows.is_misled(person):
                self._rows.note_alternative(person, file.source)
            else:
                yield from self._examined(identity, file, person)

    def _materials(self, source: Source) -> Iterator[SourceMaterial]:
        for find in source.finds(self._people.by_key):
            match find:
                case SourceMaterial():
                    self._rows.found(find)
                    yield find
                case Issue(severity=Severity.NOTE, check=CheckId.WRONG_PASSWORD, source=str(name)):
                    self._unread[name] = find
                case Issue(severity=Severity.NOTE):
                    self.left.append(find)
                case Issue(address=str(), line=int()):
                    self._rows.miss(find)
                case Issue(address=str(address)):
                    self._rows.mark_file_unusable(address)
                    self._say(self._with_row(find, address))
                case _:
                    self._say(find)

    def _opened(self, file: _File, opened: ParsedIdentities | WorkerFailure) -> Iterator[Candidate]:
        wanted = self._people.by_key.get(file.wanted)
        found = () if isinstance(opened, WorkerFailure) else opened.identities
        for issue in self._wrong(file, opened):
            self._say(self._about(issue, file, wanted))
        mine = [wanted is not None and self._is_for(identity.facts, wanted) for identity in found]
        strange = wanted is not None and not any(mine)
        fits = False
        for identity, is_mine in zip(found, mine, strict=True):
            if self._is_repeated(identity, file):
                fits = fits or is_mine
            else:
                for candidate in self._placed(identity, file, strange=strange):
                    fits = fits or (is_mine and candidate.good)
                    yield candidate
        if strange and wanted is not None and found:
            self._say_all(self._about_address(found[0].facts, wanted), file, wanted)
        if wanted is not None and not fits:
            self._rows.mark_file_unusable(str(wanted.address))

    def _wrong(self, file: _File, opened: ParsedIdentities | WorkerFailure) -> Iterator[Issue]:
        """What is wrong with a file as such."""
        if isinstance(opened, WorkerFailure):
            yield lost(opened)
            return
        unread = self._unread.pop(file.source, None)
        for problem in opened.problems:
            issue = Issue(Severity.ERROR, problem.check, problem.message, problem.hint)
            if unread is not None and problem.check is CheckId.WRONG_PASSWORD:
                issue = replace(issue, message=unread.message, hint=unread.hint)
            yield issue

    def _is_repeated(self, identity: Identity, file: _File) -> bool:
        """Whether this certificate came before; in another place, that is worth a note."""
        number = self._seen.number(bytes.fromhex(identity.facts.sha256))
        if number == len(self._origins):
            self._origins.append(file.origin)
            return False
        if (first := self._origins[number]) != file.origin:
            message = f'the same certificate came already in "{first[_DIGEST:].decode()}"'
            issue = Issue(Severity.NOTE, CheckId.DUPLICATE, message, "nothing is to be done; it is sent once")
            self._say(self._about(issue, file, None))
        return True

    def _placed(self, identity: Identity, file: _File, *, strange: bool) -> Iterator[Candidate]:
        """To whom a certificate goes. `strange`: a row named the file, and nothing in it is that person's; that is told anyway."""
        if self._people.origin == "certificates":
            match subject_address(identity.facts):
                case Address() as address:
                    yield from self._examined(identity, file, self._people.learn(address, common_name(identity.facts)))
                case issue:
                    self._say_all([*check_certificate(identity.facts, None, self._now), issue], file, None)
            return
        match self._people.of(addresses(identity.facts)[0]):
            case [person] if file.wanted != person.address.key and self._rows.names_files(person):
                self._held.append((identity, file, person.address.key))
            case [person]:
                yield from self._examined(identity, file, person)
            case [_, _, *_] as people:
                self._shared(people, file)
            case _ if not strange:
                self._strays.append(UnmatchedCertificate(file, identity.facts))

    def _examined(self, identity: Identity, file: _File, person: Person) -> Iterator[Candidate]:
        issues = self._objections(identity.facts, person)
        self._say_all(issues, file, person)
        errors = {issue.check for issue in issues if issue.severity is Severity.ERROR}
        if not self._people.may_have(person) or (errors and (self._checker is None or errors & SAID_ALREADY)):
            return
        if not errors:
            self._people.mark_served(person)
        if self._checker is not None:
            self._checker.begin(identity.leaf, identity.chain)
        yield Candidate(self._draft(identity, file, person), file.source, not errors, file.wanted == person.address.key)

    def _draft(self, identity: Identity, file: _File, person: Person) -> DeliveryRequest:
        language = person.language or self._languages[0]
        whom = replace(person, hint=None, more_rows=())
        return DeliveryRequest(whom, language, identity.facts, identity.leaf, identity.chain, file.locator)

    def trusted(self, batch: Sequence[Candidate], revoked: Mapping[str, str]) -> list[Candidate]:
        """Those that may be planned; what is wrong with the others' chains is said. `revoked`: what the ledger knows, by SHA-256."""
        return [candidate for candidate in batch if self._is_trusted(candidate, revoked.get(candidate.draft.facts.sha256))]

    def _is_trusted(self, candidate: Candidate, known: str | None) -> bool:
        request = candidate.draft
        issues = self._checker.check(request.leaf, request.chain) if self._checker is not None else []
        if known is not None and all(issue.check is not CheckId.REVOKED for issue in issues):
            issues = [*issues, revocation(known)]
        for issue in issues:
            self._say(replace(issue, source=candidate.source, address=str(request.person.address)))
        good = candidate.good and all(issue.severity is not Severity.ERROR for issue in issues)
        if candidate.named and not good:
            self._rows.mark_file_unusable(str(request.person.address))
        return good and (candidate.named or not self._rows.is_misled(request.person))

    def _objections(self, info: CertificateInfo, person: Person) -> list[Issue]:
        issues = check_certificate(info, self._people.primary(person), self._now)
        if self._people.origin == SOURCE:
            issues = [without_rows(issue) for issue in issues]
        objection = self._people.objection(person)
        return [*issues, objection] if objection else issues

    def _about_address(self, info: CertificateInfo, person: Person) -> list[Issue]:
        return [issue for issue in self._objections(info, person) if issue.check in _ADDRESS_CHECKS]

    def _is_for(self, info: CertificateInfo, person: Person) -> bool:
        return any(one.address.key == person.address.key for one in self._people.of(addresses(info)[0]))

    def _shared(self, people: Sequence[Person], file: _File) -> None:
        names = ", ".join(str(person.address) for person in people)
        for person in people:
            message = f"one certificate is for several people on the roster: {names}"
            issue = Issue(Severity.ERROR, CheckId.DUPLICATE, message, "give each person a certificate of their own")
            self._say(self._about(issue, file, person))

    def missing(self) -> Iterator[Issue]:
        """Certificates without a person, then people without a certificate."""
        for unmatched in self._strays:
            issue = self._stray(unmatched)
            if issue.severity is Severity.ERROR and issue.address is not None:
                self._people.told(issue.address)
            yield issue
        yield from self._people.lacking()

    def _stray(self, unmatched: UnmatchedCertificate) -> Issue:
        found = addresses(unmatched.facts)[0]
        person = self._people.named_like(unmatched.file.stem) if self._people.origin != SOURCE else None  # nobody named files after them
        told = self._about_address(unmatched.facts, person or Person(_NOBODY)) if person or not found else []
        if told:
            return replace(told[0], source=unmatched.file.source, address=str(person.address) if person else None)
        names = ", ".join(escape_unsafe(str(address)) for address in found)
        absent, hint = ABSENT[self._people.origin]
        where = f"is not {absent}"
        if row := self._rows.refused(found):
            where, hint = f"is {absent}, but not with a row that can be used", f"correct {row}"
        message = f'the certificate is for "{names}", who {where}'
        return Issue(Severity.WARNING, CheckId.NO_PERSON, message, hint, unmatched.file.source, None, names if ", " not in names else None)

    def _about(self, issue: Issue, file: _File, person: Person | None) -> Issue:
        """An issue of a file and a person, with the row that names the file."""
        found = replace(issue, source=file.source, address=str(person.address) if person else None)
        return self._with_row(found, file.wanted) if person and file.wanted == person.address.key else found

    def _with_row(self, issue: Issue, address: str) -> Issue:
        person = self._people.by_key.get(key_of(address))
        row = self._rows.naming(person, issue.source or "") if issue.severity is Severity.ERROR else None
        return issue if row is None else replace(issue, hint="; ".join(filter(None, (issue.hint, f"{row} names this file"))))

    def _say_all(self, issues: Sequence[Issue], file: _File, person: Person | None) -> None:
        for issue in issues:
            self._say(self._about(issue, file, person))

    def _say(self, issue: Issue) -> None:
        if issue.severity is Severity.ERROR and issue.address is not None:
            self._people.told(issue.address)
        self.issues.append(issue)
