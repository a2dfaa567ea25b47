"""Matches certificates to people, file by file, and says why a person gets none.

A certificate is matched by the address in it, never by the name of its file. But a person whose row names a file gets that one: where it
cannot be used, the person gets no other, for the row says which is meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from distributor.model.certificates import CertificateInfo, Identity, Locator, ParsedIdentities, SourceMaterial
from distributor.model.compact import BitSet, Digests, PackedList
from distributor.model.delivery import DeliveryRequest
from distributor.model.issues import CheckedChain, CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Address, Person, escape_unsafe, key_of
from distributor.model.ports import NewSpool, Source, Spool, WorkerPool
from distributor.pki.checks import addresses, check_certificate, check_old, subject_address
from distributor.workflows.password_recipients import PasswordRecipients
from distributor.workflows.plan_messages import (
    ABSENT,
    OLD_SIGNING_KEY,
    common_name,
    locator,
    lost,
    other_language,
    revocation,
    too_few_files,
    without_rows,
)
from distributor.workflows.roster import SOURCE, MergedRoster

if TYPE_CHECKING:
    from distributor.model.ports import Checker


# checks whose fault the chain check would report again
_ALSO_IN_CHAIN = frozenset({CheckId.EXPIRED, CheckId.NOT_YET_VALID, CheckId.WEAK_SIGNATURE, CheckId.IS_CA})
_ADDRESS_CHECKS = frozenset({CheckId.ADDRESS_MISMATCH, CheckId.NO_ADDRESS, CheckId.BAD_ADDRESS})
_USES = {"sign": "signing", "encrypt": "encrypting"}
_DIGEST = 8  # bytes
_NOBODY = Address("nobody", "invalid")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A delivery whose chain is not checked yet. Not `good`: another check failed. `named`: by the person's own row."""

    draft: DeliveryRequest
    source: str
    good: bool
    named: bool
    further: tuple[bytes, ...] = ()  # Identity.further


@dataclass(frozen=True, slots=True)
class _File:
    """An opened file: its displayed name, its locator, and the Address.key of the person whose row names it (empty: nobody's)."""

    source: str
    locator: Locator
    requested_for: str

    @property
    def stem(self) -> str:
        return _stem(self.source)

    @property
    def origin(self) -> bytes:
        """A digest of its place, and its displayed name; short, since each certificate's is kept."""
        return blake2b(repr(self.locator.parts).encode(), digest_size=_DIGEST).digest() + self.source.encode()


def _stem(source: str) -> str:
    return source.rpartition("/")[2].rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class UnmatchedCertificate:
    """A certificate that belongs to nobody on the roster."""

    file: _File
    facts: CertificateInfo


class Matching:
    """The state of one plan's matching."""

    def __init__(  # noqa: PLR0913, PLR0917  what a plan knows
        self,
        people: MergedRoster,
        languages: Sequence[str],
        now: datetime,
        checker: Checker | None,
        spool: NewSpool = list,
        written_in: Callable[[str], str] = lambda language: language,
        recipients: PasswordRecipients | None = None,
        history: Spool[Candidate] | None = None,
    ) -> None:
        """`history`: gets expired certificates that can decrypt, whose keys are to be delivered for old mail."""
        self._history = history
        self._people, self._rows = people, people.rows
        self._checker, self._recipients = checker, recipients
        self._languages = languages
        self._written_in = written_in
        self._messages: Counter[str] = Counter()  # planned, by language
        self._now = now
        self.issues: Spool[Issue] = people.issues  # those of rows come first
        self.left: Spool[Issue] = spool()  # files that are no certificates
        self._unmatched: Spool[UnmatchedCertificate] = spool()
        self._alternatives: Spool[tuple[Identity, _File, str]] = spool()  # other certificates of people whose rows name files
        self._seen = Digests()  # certificates
        self._origins = PackedList()  # where each of them came from (`_File.origin`)
        self._single_use: Spool[tuple[Issue, str, str]] = spool()  # that a certificate is for one use only, its person's key, the other use
        self._planned = {"sign": BitSet(), "encrypt": BitSet()}  # by use, the numbers of people who get a certificate for it
        self._unopened: Spool[str] = spool()  # stems of files without a certificate that could be read, and that no row names
        self._unread: dict[str, Issue] = {}  # unreadable password files, by the file they are for

    def candidates(
        self, source: Source, pool: WorkerPool[SourceMaterial, ParsedIdentities], tell: Callable[[int], None]
    ) -> Iterator[Candidate]:
        """Every delivery that passed the other checks, and those whose chain is worth checking all the same."""
        for number, (material, opened) in enumerate(pool.map(self._materials(source)), 1):
            yield from self._opened(_File(material.source, locator(material), material.requested_for), opened)
            tell(number)
        for identity, file, key in self._alternatives:
            person = self._people.by_key[key]
            if self._rows.has_unusable_file(person):
                self._rows.note_alternative(person, file.source)
            else:
                yield from self._check(identity, file, person)

    def _materials(self, source: Source) -> Iterator[SourceMaterial]:
        for find in source.finds(self._people.by_key):
            match find:
                case SourceMaterial():
                    self._rows.note_found(find)
                    yield find
                case Issue(severity=Severity.NOTE, check=CheckId.WRONG_PASSWORD, source=str(name)):
                    self._unread[name] = find
                case Issue(severity=Severity.NOTE):
                    self.left.append(find)
                case Issue(address=str(), line=int()):
                    self._rows.note_missing(find)
                case Issue(address=str(address)):
                    self._rows.mark_file_unusable(address)
                    self._report(self._with_row(find, address))
                case Issue(severity=Severity.ERROR, source=str(name)):
                    self._unopened.append(_stem(name))
                    self._report(find)
                case _:
                    self._report(find)

    def _opened(self, file: _File, opened: ParsedIdentities | WorkerFailure) -> Iterator[Candidate]:
        named_by = self._people.by_key.get(file.requested_for)  # the person whose row names the file
        found = () if isinstance(opened, WorkerFailure) else opened.identities
        for issue in self._file_issues(file, opened):
            self._report(self._about(issue, file, named_by))
        if not found and named_by is None:
            self._unopened.append(file.stem)
        matches = [named_by is not None and self._is_for(identity.facts, named_by) for identity in found]
        foreign = named_by is not None and not any(matches)
        fits = False
        for identity, is_match in zip(found, matches, strict=True):
            if self._is_repeated(identity, file):
                fits = fits or is_match
            else:
                for candidate in self._assign(identity, file, foreign=foreign):
                    fits = fits or (is_match and candidate.good)
                    yield candidate
        if foreign and named_by is not None and found:
            self._report_all(self._about_address(found[0].facts, named_by), file, named_by)
        if named_by is not None and not fits:
            self._rows.mark_file_unusable(str(named_by.address))

    def _file_issues(self, file: _File, opened: ParsedIdentities | WorkerFailure) -> Iterator[Issue]:
        """What is wrong with a file as a whole."""
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
        """Whether this certificate was seen before; in another place, that is reported as a note."""
        number = self._seen.number(bytes.fromhex(identity.facts.sha256))
        if number == len(self._origins):
            self._origins.append(file.origin)
            return False
        if (first := self._origins[number]) != file.origin:
            message = f'the same certificate is also in "{first[_DIGEST:].decode()}"'
            issue = Issue(Severity.NOTE, CheckId.DUPLICATE, message, "no action needed; it is sent once")
            self._report(self._about(issue, file, None))
        return True

    def _assign(self, identity: Identity, file: _File, *, foreign: bool) -> Iterator[Candidate]:
        """Find whose certificate it is. `foreign`: a row named the file for another person; that is reported for the file."""
        if self._people.origin == "certificates":
            match subject_address(identity.facts):
                case Address() as address:
                    yield from self._check(identity, file, self._people.learn(address, common_name(identity.facts)))
                case issue:
                    self._report_all([*check_certificate(identity.facts, None, self._now), issue], file, None)
            return
        match self._people.of(addresses(identity.facts)[0]):
            case [person] if file.requested_for != person.address.key and self._rows.names_files(person):
                self._alternatives.append((identity, file, person.address.key))
            case [person]:
                yield from self._check(identity, file, person)
            case [_, _, *_] as people:
                self._report_shared(people, file)
            case _ if not foreign:
                self._unmatched.append(UnmatchedCertificate(file, identity.facts))

    def _keep_old(self, identity: Identity, file: _File, person: Person, history: Spool[Candidate]) -> None:
        """Note an expired certificate for the series of its person, or report why its key is not delivered."""
        issues = check_old(identity.facts, self._people.primary(person))
        if "encrypt" not in identity.facts.usages:
            issues = [Issue(Severity.NOTE, CheckId.EXPIRED, OLD_SIGNING_KEY, "nothing to do; no mail needs it")]
        self._report_all(issues, file, person)
        if not issues and self._people.may_have(person):
            history.append(Candidate(self._draft(identity, file, person), file.source, good=True, named=True))

    def _check(self, identity: Identity, file: _File, person: Person) -> Iterator[Candidate]:
        if self._history is not None and identity.facts.not_after <= self._now:
            self._keep_old(identity, file, person, self._history)
            return
        issues = self._objections(identity.facts, person)
        single = [issue for issue in issues if issue.check is CheckId.KEY_USAGE and issue.severity is Severity.WARNING]
        self._report_all([issue for issue in issues if issue not in single], file, person)
        for issue in single:  # reported at the end, unless another certificate of the person is for the other use
            other = "encrypt" if identity.facts.usages == ("sign",) else "sign"
            self._single_use.append((self._about(issue, file, person), person.address.key, other))
        errors = {issue.check for issue in issues if issue.severity is Severity.ERROR}
        if self._recipients is not None and self._recipients.refuses(person, identity.facts, self._people, self._report):
            errors.add(CheckId.BAD_ADDRESS)
        if not self._people.may_have(person) or (errors and (self._checker is None or errors & _ALSO_IN_CHAIN)):
            return
        if not errors:
            self._people.mark_served(person)
        if self._checker is not None:
            self._checker.begin(identity.leaf, identity.chain)
        named = file.requested_for == person.address.key
        yield Candidate(self._draft(identity, file, person), file.source, not errors, named, identity.further)

    def _draft(self, identity: Identity, file: _File, person: Person) -> DeliveryRequest:
        language = person.language or self._languages[0]
        whom = replace(person, hint=None, more_rows=())
        return DeliveryRequest(whom, language, identity.facts, identity.leaf, identity.chain, file.locator)

    def trusted(self, batch: Sequence[Candidate], revoked: Mapping[str, str]) -> list[Candidate]:
        """Those whose chains are good; reports what is wrong with the others. `revoked`: what the ledger knows, by SHA-256."""
        found = (self._trusted(candidate, revoked.get(candidate.draft.facts.sha256)) for candidate in batch)
        return [candidate for candidate in found if candidate is not None]

    def _trusted(self, candidate: Candidate, known: str | None) -> Candidate | None:
        """The candidate, with the path that was validated in place of its file's chain."""
        request = candidate.draft
        checked = self._checker.check(request.leaf, (*request.chain, *candidate.further)) if self._checker is not None else CheckedChain([])
        issues = checked.issues
        if known is not None and all(issue.check is not CheckId.REVOKED for issue in issues):
            issues = [*issues, revocation(known)]
        for issue in issues:
            self._report(replace(issue, source=candidate.source, address=str(request.person.address)))
        good = candidate.good and all(issue.severity is not Severity.ERROR for issue in issues)
        if candidate.named and not good:
            self._rows.mark_file_unusable(str(request.person.address))
        good = good and (candidate.named or not self._rows.has_unusable_file(request.person))
        if not good:
            return None
        self._note_use(candidate)
        self._messages[request.language] += 1
        return candidate if checked.path is None else replace(candidate, draft=replace(request, chain=checked.path, validated=True))

    def _note_use(self, candidate: Candidate) -> None:
        """Note what a planned certificate is for, and report a second one of a person for the same use."""
        person = candidate.draft.person
        number = self._people.by_key.number(person.address.key)
        uses = [use for use in candidate.draft.facts.usages if number in self._planned[use]]
        if uses:
            what = " and ".join(_USES[use] for use in uses)
            message = f"the person has another valid certificate for {what} in this plan; each comes in a message of its own"
            hint = "keep both, or remove the file that is no longer needed"
            self._report(Issue(Severity.NOTE, CheckId.DUPLICATE, message, hint, candidate.source, None, str(person.address)))
        for use in candidate.draft.facts.usages:
            self._planned[use].add(number)

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

    def _report_shared(self, people: Sequence[Person], file: _File) -> None:
        names = ", ".join(str(person.address) for person in people)
        for person in people:
            message = f"one certificate is for several people on the roster: {names}"
            issue = Issue(Severity.ERROR, CheckId.DUPLICATE, message, "give each person a certificate of their own")
            self._report(self._about(issue, file, person))

    def missing(self) -> Iterator[Issue]:
        """Certificates for one use without another for the other use, those without a person, then people without a certificate."""
        for issue, key, other in self._single_use:
            if self._people.by_key.number(key) not in self._planned[other]:
                yield issue
        for language, number in self._messages.items():
            if (written := self._written_in(language)).partition("-")[0].lower() != re.split("[-_]", language)[0].lower():
                yield other_language(language, written, number)
        for unmatched in self._unmatched:
            issue = self._no_person(unmatched)
            if issue.severity is Severity.ERROR and issue.address is not None:
                self._people.mark_reported(issue.address)
            yield issue
        unopened = self._unopened_of_nobody()
        if self._people.origin == "roster" and unopened < (without := self._people.count_without()) < 2 * unopened:
            yield too_few_files(without, unopened)
        yield from self._people.missing(unopened)

    def _unopened_of_nobody(self) -> int:
        """How many files that could not be opened are named after nobody. For who has such a file, its issue says enough."""
        number = 0
        for stem in self._unopened:
            person = self._people.named_like(stem)
            if person is None:
                number += 1
            else:
                self._people.mark_reported(str(person.address))
        return number

    def _no_person(self, unmatched: UnmatchedCertificate) -> Issue:
        found = addresses(unmatched.facts)[0]
        person = self._people.named_like(unmatched.file.stem) if self._people.origin != SOURCE else None  # nobody named files after them
        issues = self._about_address(unmatched.facts, person or Person(_NOBODY)) if person or not found else []
        if issues:
            return replace(issues[0], source=unmatched.file.source, address=str(person.address) if person else None)
        names = ", ".join(escape_unsafe(str(address)) for address in found)
        absent, hint = ABSENT[self._people.origin]
        where = f"is not {absent}"
        if row := self._rows.refused(found):
            where, hint = f"is {absent}, but the row cannot be used", f"correct {row}"
        message = f'the certificate is for "{names}", who {where}'
        return Issue(Severity.WARNING, CheckId.NO_PERSON, message, hint, unmatched.file.source, None, names if ", " not in names else None)

    def _about(self, issue: Issue, file: _File, person: Person | None) -> Issue:
        """An issue of a file and a person, with the row that names the file."""
        found = replace(issue, source=file.source, address=str(person.address) if person else None)
        return self._with_row(found, file.requested_for) if person and file.requested_for == person.address.key else found

    def _with_row(self, issue: Issue, address: str) -> Issue:
        person = self._people.by_key.get(key_of(address))
        row = self._rows.row_naming(person, issue.source or "") if issue.severity is Severity.ERROR else None
        return issue if row is None else replace(issue, hint="; ".join(filter(None, (issue.hint, f"{row} names this file"))))

    def _report_all(self, issues: Sequence[Issue], file: _File, person: Person | None) -> None:
        for issue in issues:
            self._report(self._about(issue, file, person))

    def _report(self, issue: Issue) -> None:
        if issue.severity is Severity.ERROR and issue.address is not None:
            self._people.mark_reported(issue.address)
        self.issues.append(issue)
