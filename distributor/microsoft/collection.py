"""The certificates of a virtual certificate collection -> the Issues that Exchange Online would have with it (facts: exchange.md 1.1, 1.2).

Exchange Online trusts only what is in the collection, and refuses the whole collection when one certificate in it has expired.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.pki import certificate as certificates
from distributor.pki.checks import ANY_USE, EMAIL_PROTECTION, SMALLEST_RSA, WEAK_HASHES
from distributor.pki.keypairs import is_issued_by, public
from distributor.pki.sst import Stored

SOON = timedelta(days=90)  # an authority's renewal takes longer than a person's
KINDS = ("root", "intermediate", "person")
NOT_AN_AUTHORITY = "take it out; a collection is for the authorities' certificates, and people's are trusted through them"


@dataclass(frozen=True, slots=True)
class CollectionEntry:
    """A certificate: its fields, whether it signed itself, whether it is a CA, and its file."""

    der: bytes
    facts: CertificateInfo
    certificate: x509.Certificate
    self_signed: bool
    authority: bool
    source: str
    name: str = ""  # the friendly one of a Windows store

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
                issues.append(Issue(Severity.ERROR, problem.check, problem.message, "take it out, or get it again", source))
            case member:
                good.append(member)
    return good, issues


def _member(source: str, stored: Stored) -> CollectionEntry | ParseProblem:
    certificate = certificates.load(stored.certificate)
    if isinstance(certificate, ParseProblem):
        return certificate
    info = certificates.facts(certificate, stored.certificate)
    if isinstance(info, ParseProblem):
        return info
    own = certificate.subject == certificate.issuer and is_issued_by(stored.certificate, stored.certificate)
    old_root = own and certificate.version is x509.Version.v1  # version 1 has no basic constraints
    return CollectionEntry(stored.certificate, info, certificate, own, info.is_ca or old_root, source, escape_unsafe(stored.name))


def ordered(found: Iterable[CollectionEntry]) -> list[CollectionEntry]:
    """Each certificate once, roots first, then by name, so that the same certificates make the same file."""
    once = {member.der: member for member in found}
    return sorted(once.values(), key=lambda member: (KINDS.index(member.kind), member.facts.subject, member.facts.sha256))


def examine(found: Sequence[CollectionEntry], now: datetime, *, repeated: Severity = Severity.ERROR) -> list[Issue]:
    """Every issue of these certificates as a collection. `repeated`: the severity of a duplicate."""
    issues = [issue for member in ordered(found) for issue in _alone(member, now)]
    issues += _repeated(found, repeated)
    if not found:
        message = "there is no certificate in it, so nothing is trusted"
        return [Issue(Severity.ERROR, CheckId.NO_CERTIFICATE, message, "distributor trust export --output FILE.sst CERT...")]
    return issues + list(_together(ordered(found)))


def _alone(member: CollectionEntry, now: datetime) -> Iterator[Issue]:
    if not member.authority:
        yield error(CheckId.IS_CA, f"{member.called} is a person's certificate, not an authority's", NOT_AN_AUTHORITY, member)
        return
    yield from _time(member, now)
    usage = member.facts.key_usage
    if usage is not None and "keyCertSign" not in usage:
        yield _warning(CheckId.KEY_USAGE, f"{member.called} may not sign certificates by its key usage", "ask its authority", member)
    uses = member.facts.extended_key_usage
    if uses is not None and not uses & {EMAIL_PROTECTION, ANY_USE}:
        text = f"{member.called} is for other uses than mail by its extended key usage"
        yield _warning(CheckId.NOT_FOR_MAIL, text, "take it out, or ask its authority for the one of its mail certificates", member)
    kind, _, size = member.facts.key.partition("-")
    if kind == "rsa" and int(size) < SMALLEST_RSA:
        yield _warning(CheckId.WEAK_KEY, f"{member.called} has an RSA key of {size} bits", "have its authority renew it", member)
    if member.facts.signature in WEAK_HASHES and not member.self_signed:
        text = f"{member.called} is signed with {member.facts.signature.upper()}, which is no longer trusted"
        yield _warning(CheckId.WEAK_SIGNATURE, text, "have its authority renew it", member)


def _time(member: CollectionEntry, now: datetime) -> Iterator[Issue]:
    info = member.facts
    if info.not_after <= now:
        hint = "take it out: Exchange Online refuses the whole collection for it"
        yield error(CheckId.EXPIRED, f"{member.called} expired on {_day(info.not_after)}", hint, member)
    elif info.not_before > now:
        hint = "leave it out until then; Exchange Online checks every certificate of a collection"
        yield error(CheckId.NOT_YET_VALID, f"{member.called} is valid from {_day(info.not_before)} on", hint, member)
    elif info.not_after - now < SOON:
        hint = "get its successor and upload a new collection before; with an expired one in it, none can be uploaded"
        yield _warning(CheckId.EXPIRES_SOON, f"{member.called} expires on {_day(info.not_after)}", hint, member)


def _repeated(found: Sequence[CollectionEntry], weight: Severity) -> Iterator[Issue]:
    times = Counter(member.der for member in found)
    for member in ordered(found):
        if (number := times[member.der]) > 1:
            hint = "it is written once" if weight is Severity.NOTE else "write the collection again: distributor trust export"
            yield Issue(weight, CheckId.DUPLICATE, f"{member.called} is there {number} times", hint, member.source)


def _together(found: Sequence[CollectionEntry]) -> Iterator[Issue]:
    """What is missing among them: a root, or the issuer of one of them."""
    authorities = [member for member in found if member.authority]
    if not any(member.self_signed for member in authorities):
        message = "there is no root (a self-signed certificate) in it, so nothing is trusted"
        hint = "add the root's certificate of each authority"
        yield Issue(Severity.ERROR, CheckId.CHAIN_INCOMPLETE, message, hint, _source(found))
    dangling = [member for member in authorities if not member.self_signed and not issuers(member, authorities)]
    for member in dangling:
        whole = [other for other in authorities if other not in dangling and _same_key(other, member)]
        text = f'{member.called}: its issuer "{member.facts.issuer}" is not in it'
        if whole:  # a cross-certificate; another certificate for the same key has a path to a root
            yield _warning(CheckId.CHAIN_INCOMPLETE, text, "it can be taken out; another certificate for the same key is complete", member)
        else:
            yield error(CheckId.CHAIN_INCOMPLETE, text, f"add that certificate{fetched_from(member)}", member)


def _source(found: Iterable[CollectionEntry]) -> str | None:
    """The file that all of them come from, if it is one."""
    sources = {member.source for member in found}
    return sources.pop() if len(sources) == 1 else None


def issuers(member: CollectionEntry, among: Iterable[CollectionEntry]) -> list[CollectionEntry]:
    """Those that signed it."""
    wanted = member.certificate.issuer
    return [other for other in among if other.certificate.subject == wanted and is_issued_by(other.der, member.der)]


def _same_key(one: CollectionEntry, other: CollectionEntry) -> bool:
    return one.certificate.subject == other.certificate.subject and public(one.certificate) == public(other.certificate)


def fetched_from(member: CollectionEntry) -> str:
    """`; it is at http://...` by the certificate's authority information access, or nothing."""
    try:
        access = member.certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return ""
    for one in access:
        location = one.access_location
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(location, x509.UniformResourceIdentifier):
            return f"; it is at {escape_unsafe(location.value)}"
    return ""


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
        message = f"{member.called} is not in the tenant's collection; what it issued is not trusted there"
        yield error(CheckId.CHAIN_UNTRUSTED, message, "upload this collection: distributor trust runbook", member)
    for member in difference.only_there:
        over = f", where it expired on {_day(member.facts.not_after)}" if member.facts.not_after <= now else ""
        message = f"{member.called} is only in the tenant's collection{over}; uploading this one takes it away"
        yield _warning(CheckId.CHAIN_UNTRUSTED, message, "add it to this one if people have certificates of it", member)


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


class _IssuerGraph:
    def __init__(self, collection: Iterable[CollectionEntry], certificates: Iterable[CollectionEntry]) -> None:
        self._inside = {member.der: member for member in collection if member.authority}
        others = {member.der: member for member in certificates if member.authority and member.der not in self._inside}
        self._named: dict[x509.Name, list[CollectionEntry]] = defaultdict(list)
        for member in (*self._inside.values(), *others.values()):
            self._named[member.certificate.subject].append(member)
        self._known: dict[bytes, tuple[MissingIssuer, ...]] = {}

    def lacking(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        if member.der not in self._known:
            self._known[member.der] = (MissingIssuer(member, above=True),)  # certificates that sign each other lead to no root
            self._known[member.der] = self._own(member) + self._above(member)
        return self._known[member.der]

    def _own(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        wanted = member.authority or member.self_signed
        return (MissingIssuer(member),) if wanted and member.der not in self._inside else ()

    def _above(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        if member.self_signed:
            return ()
        named = self._named.get(member.certificate.issuer, [])
        paths = [self.lacking(issuer) for issuer in named if is_issued_by(issuer.der, member.der)]
        return min(paths, key=len, default=(MissingIssuer(member, above=True, same_name=bool(named)),))


def issues(sought: Iterable[ChainGap]) -> Iterator[Issue]:
    """An issue for each missing certificate."""
    wanting: dict[tuple[object, bool], list[tuple[MissingIssuer, CollectionEntry]]] = defaultdict(list)
    for one in sought:
        for lack in one.lacks:
            wanting[(lack.member.certificate.issuer if lack.above else lack.member.der), lack.above].append((lack, one.member))
    for found in wanting.values():
        lack = found[0][0]
        people = sum(not member.authority for _, member in found)
        need = f"; {people} people's certificates need it" if people > 1 else ""
        yield _unknown(lack, need) if lack.above else _absent(lack.member, need)


def _absent(member: CollectionEntry, need: str) -> Issue:
    if not member.authority:
        text = f"{member.called} signed itself, so nothing in a collection vouches for it"
        return error(CheckId.CHAIN_UNTRUSTED, text, "have one issued by an authority", member)
    if member.self_signed:
        text = f"the root {member.called} is not in the collection{need}"
        return error(CheckId.CHAIN_UNTRUSTED, text, "add it: distributor trust export, then trust runbook", member)
    text = f"the intermediate {member.called} is not in the collection{need}"
    return error(CheckId.CHAIN_INCOMPLETE, text, "add it: distributor trust export, then trust runbook", member)


def _unknown(lack: MissingIssuer, need: str) -> Issue:
    member = lack.member
    other = "; a certificate of that name is, but with another key" if lack.same_name else ""
    text = (
        f'the issuer "{member.facts.issuer}" of {member.called} is neither in the collection nor among the given certificates{other}{need}'
    )
    return error(CheckId.CHAIN_INCOMPLETE, text, f"get its certificate and add it{fetched_from(member)}", member)
