"""The certificates of a virtual certificate collection -> the Issues that Exchange Online would have with it (facts: exchange.md 1.1, 1.2).

Exchange Online trusts only what is in the collection, and refuses the whole collection when one certificate in it has expired.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush

from cryptography import x509

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.pki.certificate import Certificate, load
from distributor.pki.checks import authority_faults, validity_fault
from distributor.pki.issuers import IssuerIndex, seems_issued
from distributor.pki.sst import Stored

SOON = timedelta(days=90)  # an authority's renewal takes longer than a person's
KINDS = ("root", "intermediate", "person")
_HINTS = {
    CheckId.KEY_USAGE: "ask the CA",
    CheckId.NOT_FOR_MAIL: "remove it, or ask the CA for the certificate that issues its mail certificates",
}
_ADD = "add it: `distributor trust export`, then `distributor trust runbook` (see docs/trust.md#the-tenants-collection)"
NOT_AN_AUTHORITY = "remove it; a collection contains only CA certificates, and people's certificates are trusted through them"


@dataclass(frozen=True, slots=True)
class CollectionEntry:
    """A certificate with its fields, whether it seems to be signed by itself, and its file."""

    cert: Certificate
    facts: CertificateInfo
    self_signed: bool
    source: str
    name: str = ""  # the friendly one of a Windows store

    @property
    def der(self) -> bytes:
        """Its bytes."""
        return self.cert.der

    @property
    def authority(self) -> bool:
        """Whether it is a CA; a root of version 1 has no basic constraints."""
        return self.cert.is_ca or (self.self_signed and self.cert.parsed.version is x509.Version.v1)

    @property
    def called(self) -> str:
        """How messages call it."""
        return f'"{self.facts.subject}"' if self.facts.subject else f"the certificate with serial {self.facts.serial}"

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        if not self.authority:
            return "person"
        return "root" if self.self_signed else "intermediate"


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences between two collections."""

    same: tuple[CollectionEntry, ...]
    only_here: tuple[CollectionEntry, ...]
    only_there: tuple[CollectionEntry, ...]


def members(found: Iterable[tuple[str, Stored]]) -> tuple[list[CollectionEntry], list[Issue]]:
    """Parse (file, certificate) pairs; an issue for each that cannot be read."""
    good: list[CollectionEntry] = []
    issues = []
    for source, stored in found:
        match _member(source, stored):
            case ParseProblem() as problem:
                issues.append(Issue(Severity.ERROR, problem.check, problem.message, "remove it, or download it again", source))
            case member:
                good.append(member)
    return good, issues


def _member(source: str, stored: Stored) -> CollectionEntry | ParseProblem:
    cert = load(stored.certificate)
    if isinstance(cert, ParseProblem):
        return cert
    if isinstance(cert.info, ParseProblem):
        return cert.info
    return CollectionEntry(cert, cert.info, seems_issued(cert, cert), source, escape_unsafe(stored.name))


def ordered(found: Iterable[CollectionEntry]) -> list[CollectionEntry]:
    """Each certificate once, roots first, then by name, so that the same certificates make the same file."""
    once = {member.der: member for member in found}
    return sorted(once.values(), key=lambda member: (KINDS.index(member.kind), member.facts.subject, member.facts.sha256))


def examine(found: Sequence[CollectionEntry], now: datetime, *, repeated: Severity = Severity.ERROR) -> list[Issue]:
    """Every issue of these certificates as a collection. `repeated`: the severity of a duplicate."""
    issues = [issue for member in ordered(found) for issue in _alone(member, now)]
    issues += _repeated(found, repeated)
    if not found:
        message = "no certificates in the collection, so nothing is trusted"
        return [Issue(Severity.ERROR, CheckId.NO_CERTIFICATE, message, "distributor trust export --output FILE.sst CERT...")]
    return issues + list(_together(ordered(found)))


def _alone(member: CollectionEntry, now: datetime) -> Iterator[Issue]:
    if not member.authority:
        yield error(CheckId.IS_CA, f"{member.called} is a person's certificate, not a CA certificate", NOT_AN_AUTHORITY, member)
        return
    yield from _time(member, now)
    for check, text in authority_faults(member.cert, root=member.self_signed):
        yield _warning(check, f"{member.called} {text}", _HINTS.get(check, "ask the CA to renew it"), member)


def _time(member: CollectionEntry, now: datetime) -> Iterator[Issue]:
    if fault := validity_fault(member.cert, now):
        hint = "remove it: Exchange Online rejects the whole collection because of it"
        if fault[0] is CheckId.NOT_YET_VALID:
            hint = "remove it until then; Exchange Online checks every certificate in a collection"
        yield error(fault[0], f"{member.called} {fault[1]}", hint, member)
    elif member.facts.not_after - now < SOON:
        hint = "upload a new collection with its successor before then; Exchange Online rejects a collection with an expired certificate"
        yield _warning(CheckId.EXPIRES_SOON, f"{member.called} expires on {_day(member.facts.not_after)}", hint, member)


def _repeated(found: Sequence[CollectionEntry], weight: Severity) -> Iterator[Issue]:
    times = Counter(member.der for member in found)
    for member in ordered(found):
        if (number := times[member.der]) > 1:
            hint = (
                "no action needed: it is written only once"
                if weight is Severity.NOTE
                else "write the collection again: `distributor trust export`"
            )
            yield Issue(weight, CheckId.DUPLICATE, f"{member.called} is in the collection {number} times", hint, member.source)


def _together(found: Sequence[CollectionEntry]) -> Iterator[Issue]:
    """What is missing among them: a root, or the issuer of one of them."""
    authorities = [member for member in found if member.authority]
    if not any(member.self_signed for member in authorities):
        message = "no root (self-signed certificate) in the collection, so nothing is trusted"
        hint = "add the root certificate of each CA"
        yield Issue(Severity.ERROR, CheckId.CHAIN_INCOMPLETE, message, hint, _source(found))
    index = IssuerIndex(member.cert for member in authorities)
    dangling = [member for member in authorities if not member.self_signed and not any(index.seeming_issuers(member.cert))]
    for member in dangling:
        whole = [other for other in authorities if other not in dangling and _same_key(other, member)]
        text = f'{member.called}: its issuer "{member.facts.issuer}" is not in the collection'
        if whole:  # a cross-certificate; another certificate for the same key has a path to a root
            yield _warning(
                CheckId.CHAIN_INCOMPLETE, text, "you can remove it; another certificate with the same key has a complete chain", member
            )
        else:
            yield error(CheckId.CHAIN_INCOMPLETE, text, f"add that certificate{fetched_from(member)}", member)


def _source(found: Iterable[CollectionEntry]) -> str | None:
    """The file that all of them come from, if it is one."""
    sources = {member.source for member in found}
    return sources.pop() if len(sources) == 1 else None


def _same_key(one: CollectionEntry, other: CollectionEntry) -> bool:
    return (one.cert.subject, one.cert.public_key) == (other.cert.subject, other.cert.public_key)


def fetched_from(member: CollectionEntry) -> str:
    """`; it is at http://...` by the certificate's authority information access, or nothing."""
    urls = member.cert.issuer_urls
    return f"; download it from {escape_unsafe(urls[0])}" if urls else ""


def compare(here: Iterable[CollectionEntry], there: Iterable[CollectionEntry]) -> Difference:
    """Compare two collections, each certificate once."""
    ours, theirs = ordered(here), ordered(there)
    known, known_there = {member.der for member in ours}, {member.der for member in theirs}
    return Difference(
        tuple(member for member in ours if member.der in known_there),
        tuple(member for member in ours if member.der not in known_there),
        tuple(member for member in theirs if member.der not in known),
    )


def differing(difference: Difference, now: datetime) -> Iterator[Issue]:
    """The issues of a tenant that has another collection."""
    for member in difference.only_here:
        message = f"{member.called} is not in the tenant's collection; certificates it issued are not trusted there"
        yield error(CheckId.CHAIN_UNTRUSTED, message, "upload this collection: `distributor trust runbook`", member)
    for member in difference.only_there:
        over = f", where it expired on {_day(member.facts.not_after)}" if member.facts.not_after <= now else ""
        message = f"{member.called} is only in the tenant's collection{over}; uploading this one removes it"
        yield _warning(CheckId.CHAIN_UNTRUSTED, message, "add it to this one if people have certificates it issued", member)


def error(check: CheckId, message: str, hint: str, member: CollectionEntry) -> Issue:
    """An error about a certificate."""
    return Issue(Severity.ERROR, check, message, hint, member.source)


def _warning(check: CheckId, message: str, hint: str, member: CollectionEntry) -> Issue:
    return Issue(Severity.WARNING, check, message, hint, member.source)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


# --- chain gaps --------------------------------------------------------------------------------
# A collection and other certificates -> which issuers the collection lacks for them, each once, with how many need it.


@dataclass(frozen=True, slots=True)
class MissingIssuer:
    """`member` is not in the collection, or (`above`) its issuer is neither in the collection nor among the other certificates."""

    member: CollectionEntry
    above: bool = False
    same_name: bool = False  # a certificate with the issuer's name is there, with another key


@dataclass(frozen=True, slots=True)
class ChainGap:
    """A certificate, and what is missing between it and a root in the collection."""

    member: CollectionEntry
    lacks: tuple[MissingIssuer, ...]


def find_gaps(collection: Iterable[CollectionEntry], certificates: Sequence[CollectionEntry]) -> list[ChainGap]:
    """What is missing for each of the certificates, on the path to a root that lacks least."""
    graph = _IssuerGraph(collection, certificates)
    return [ChainGap(member, graph.lacking(member)) for member in certificates]


# how much is missing, the numbers of its issuers among their like, its certificates, what is missing, whether it ends
_PartialPath = tuple[int, tuple[int, ...], tuple[CollectionEntry, ...], tuple[MissingIssuer, ...], bool]


class _IssuerGraph:
    def __init__(self, collection: Iterable[CollectionEntry], certificates: Iterable[CollectionEntry]) -> None:
        self._inside = {member.der: member for member in collection if member.authority}
        others = {member.der: member for member in certificates if member.authority and member.der not in self._inside}
        self._entries = self._inside | others
        self._index = IssuerIndex(member.cert for member in self._entries.values())

    def lacking(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        """Best first, so that certificates which sign each other are passed once; among equals the first issuer counts."""
        own = self._own(member)
        queue: list[_PartialPath] = [(len(own), (0,), (member,), own, member.self_signed)]
        passed: set[bytes] = set()
        while queue:
            _, order, path, lacks, ends = heappop(queue)
            if ends:
                return lacks
            if path[-1].der in passed:
                continue
            passed.add(path[-1].der)
            for number, (issuer, more, last) in enumerate(self._above(path)):
                heappush(queue, (len(lacks + more), (*order, number), (*path, issuer), lacks + more, last))
        return (*own, MissingIssuer(member, above=True))  # those above it sign each other

    def _own(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        wanted = member.authority or member.self_signed
        return (MissingIssuer(member),) if wanted and member.der not in self._inside else ()

    def _above(self, path: tuple[CollectionEntry, ...]) -> Iterator[tuple[CollectionEntry, tuple[MissingIssuer, ...], bool]]:
        """Each issuer of the last one, what it adds to what is missing, and whether the path ends there."""
        cert, found = path[-1].cert, False
        for issuer in self._index.seeming_issuers(cert):
            entry, found = self._entries[issuer.der], True
            circle = entry in path
            yield entry, (MissingIssuer(entry, above=True),) if circle else self._own(entry), circle or entry.self_signed
        if not found:
            yield path[-1], (MissingIssuer(path[-1], above=True, same_name=bool(self._index.named(cert.issuer))),), True


def issues(sought: Iterable[ChainGap]) -> Iterator[Issue]:
    """An issue for each missing certificate."""
    wanting: dict[tuple[object, bool], list[tuple[MissingIssuer, CollectionEntry]]] = defaultdict(list)
    for one in sought:
        for lack in one.lacks:
            wanting[(lack.member.cert.issuer if lack.above else lack.member.der), lack.above].append((lack, one.member))
    for found in wanting.values():
        lack = found[0][0]
        people = sum(not member.authority for _, member in found)
        need = f"; needed by {people} people's certificates" if people > 1 else ""
        yield _unknown(lack, need) if lack.above else _absent(lack.member, need)


def _absent(member: CollectionEntry, need: str) -> Issue:
    if not member.authority:
        text = f"{member.called} is self-signed, so no CA in a collection vouches for it"
        return error(CheckId.CHAIN_UNTRUSTED, text, "have one issued by a CA", member)
    if member.self_signed:
        text = f"the root {member.called} is not in the collection{need}"
        return error(CheckId.CHAIN_UNTRUSTED, text, _ADD, member)
    text = f"the intermediate certificate {member.called} is not in the collection{need}"
    return error(CheckId.CHAIN_INCOMPLETE, text, _ADD, member)


def _unknown(lack: MissingIssuer, need: str) -> Issue:
    member = lack.member
    other = "; a certificate of that name is, but its key differs" if lack.same_name else ""
    text = (
        f'the issuer "{member.facts.issuer}" of {member.called} is neither in the collection nor among the given certificates{other}{need}'
    )
    return error(CheckId.CHAIN_INCOMPLETE, text, f"add the issuer's certificate{fetched_from(member)}", member)
