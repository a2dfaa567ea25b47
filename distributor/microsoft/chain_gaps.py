"""A collection and other certificates -> which issuers the collection lacks for them, each once, with how many need it."""

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
