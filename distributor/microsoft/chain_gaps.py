"""A collection and the certificates at hand -> what the collection lacks for them, each lack once, with how many want it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509

from distributor.microsoft.collection import CollectionEntry, error, fetched_from
from distributor.model.issues import CheckId, Issue
from distributor.pki.keypairs import is_issued_by


@dataclass(frozen=True, slots=True)
class MissingIssuer:
    """`member` is at hand and not in the collection, or (`above`) its issuer is neither here nor there."""

    member: CollectionEntry
    above: bool = False
    namesake: bool = False  # somebody of the issuer's name is there, with another key


@dataclass(frozen=True, slots=True)
class ChainGap:
    """A certificate at hand, and what keeps it from a root in the collection."""

    member: CollectionEntry
    lacks: tuple[MissingIssuer, ...]


def find_gaps(collection: Iterable[CollectionEntry], at_hand: Sequence[CollectionEntry]) -> list[ChainGap]:
    """What each certificate at hand lacks, by the way to a root that lacks least."""
    ways = _IssuerGraph(collection, at_hand)
    return [ChainGap(member, ways.lacking(member)) for member in at_hand]


class _IssuerGraph:
    def __init__(self, collection: Iterable[CollectionEntry], at_hand: Iterable[CollectionEntry]) -> None:
        self._inside = {member.der: member for member in collection if member.authority}
        others = {member.der: member for member in at_hand if member.authority and member.der not in self._inside}
        self._named: dict[x509.Name, list[CollectionEntry]] = defaultdict(list)
        for member in (*self._inside.values(), *others.values()):
            self._named[member.certificate.subject].append(member)
        self._known: dict[bytes, tuple[MissingIssuer, ...]] = {}

    def lacking(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        if member.der not in self._known:
            self._known[member.der] = (MissingIssuer(member, above=True),)  # what goes in a circle leads nowhere
            self._known[member.der] = self._own(member) + self._above(member)
        return self._known[member.der]

    def _own(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        wanted = member.authority or member.self_signed
        return (MissingIssuer(member),) if wanted and member.der not in self._inside else ()

    def _above(self, member: CollectionEntry) -> tuple[MissingIssuer, ...]:
        if member.self_signed:
            return ()
        named = self._named.get(member.certificate.issuer, [])
        ways = [self.lacking(issuer) for issuer in named if is_issued_by(issuer.der, member.der)]
        return min(ways, key=len, default=(MissingIssuer(member, above=True, namesake=bool(named)),))


def issues(sought: Iterable[ChainGap]) -> Iterator[Issue]:
    """Each lack once."""
    wanting: dict[tuple[object, bool], list[tuple[MissingIssuer, CollectionEntry]]] = defaultdict(list)
    for one in sought:
        for lack in one.lacks:
            wanting[(lack.member.certificate.issuer if lack.above else lack.member.der), lack.above].append((lack, one.member))
    for found in wanting.values():
        lack = found[0][0]
        people = sum(not member.authority for _, member in found)
        need = f"; {people} people's certificates at hand need it" if people > 1 else ""
        yield _unknown(lack, need) if lack.above else _absent(lack.member, need)


def _absent(member: CollectionEntry, need: str) -> Issue:
    if not member.authority:
        told = f"{member.called} signed itself, so nothing in a collection vouches for it"
        return error(CheckId.CHAIN_UNTRUSTED, told, "have one issued by an authority", member)
    if member.self_signed:
        told = f"the root {member.called} is not in the collection{need}"
        return error(CheckId.CHAIN_UNTRUSTED, told, "add it: distributor trust export, then trust runbook", member)
    told = f"the intermediate {member.called} is not in the collection{need}"
    return error(CheckId.CHAIN_INCOMPLETE, told, "add it: distributor trust export, then trust runbook", member)


def _unknown(lack: MissingIssuer, need: str) -> Issue:
    member = lack.member
    other = "; a certificate of that name is, but with another key" if lack.namesake else ""
    told = f'the issuer "{member.facts.issuer}" of {member.called} is neither in the collection nor at hand{other}{need}'
    return error(CheckId.CHAIN_INCOMPLETE, told, f"get its certificate and add it{fetched_from(member)}", member)
