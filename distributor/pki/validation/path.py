"""Authorities that are at hand -> which of them stand above a certificate, and the paths on which they lead to an anchor.

Every step is a checked signature. Only what leads to an anchor is ever judged further, so that nobody can make a maze of certificates of
their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from distributor.pki.chain_certificate import ChainCertificate, authority, is_self_signed, signed_by, valid

MOST_AT_HAND = 32  # authorities of one file that are looked at; a real chain has three
MOST_ABOVE = 24  # authorities above one certificate, on all its paths
MOST_NAMESAKES = 8  # of one name
MOST_PATHS = 16  # from one certificate to anchors; as a rule there is one


@dataclass(frozen=True, slots=True)
class TrustStore:
    """What is trusted: the roots of a collection, and what else is in it."""

    anchors: tuple[ChainCertificate, ...]
    others: tuple[ChainCertificate, ...] = ()


def build_trust_store(ders: Iterable[bytes], now: datetime) -> TrustStore:
    """The collection's certificates sorted; of roots with one name and key the one that is valid, and lasts longest."""
    roots: dict[tuple[bytes, bytes], ChainCertificate] = {}
    others: list[ChainCertificate] = []
    for cert in filter(None, map(authority, dict.fromkeys(ders))):
        if not is_self_signed(cert):
            others.append(cert)
            continue
        key = (cert.subject, cert.key)
        roots[key] = max(roots.get(key, cert), cert, key=lambda one: (valid(one, now), one.parsed.not_valid_after_utc))
    return TrustStore(tuple(roots.values()), tuple(others))


class IssuerStore:
    """Authorities at hand for one certificate: the collection's, those of its file, and what was fetched."""

    def __init__(self, collected: TrustStore, chain: Sequence[bytes] = ()) -> None:
        self._anchors = {cert.der for cert in collected.anchors}
        self._by_name: dict[bytes, list[ChainCertificate]] = {}
        self._known: set[bytes] = set()
        for cert in (*collected.anchors, *collected.others):
            self._take(cert)
        self.add(chain[:MOST_AT_HAND])

    def add(self, ders: Iterable[bytes]) -> bool:
        """More of them; whether any was new."""
        before = len(self._known)
        for cert in filter(None, map(authority, ders)):
            if len(self._by_name.get(cert.subject, ())) < MOST_NAMESAKES:
                self._take(cert)
        return len(self._known) > before

    def _take(self, cert: ChainCertificate) -> None:
        if cert.der not in self._known:
            self._known.add(cert.der)
            self._by_name.setdefault(cert.subject, []).append(cert)

    def is_anchor(self, cert: ChainCertificate) -> bool:
        """Whether it is trusted by itself."""
        return cert.der in self._anchors

    def candidates(self, cert: ChainCertificate) -> list[ChainCertificate]:
        """Whoever bears the name of the certificate's issuer and, as far as both say, has its key."""
        return [one for one in self._by_name.get(cert.issuer, ()) if _fits(cert, one)]

    def issuers(self, cert: ChainCertificate) -> list[ChainCertificate]:
        """Who issued the certificate: name, key and signature fit, and it is an authority (an anchor is one by being trusted)."""
        return [one for one in self.candidates(cert) if (one.is_authority or self.is_anchor(one)) and signed_by(cert, one)]


def _fits(cert: ChainCertificate, issuer: ChainCertificate) -> bool:
    return cert.issuer_key_id is None or issuer.key_id is None or cert.issuer_key_id == issuer.key_id


@dataclass(frozen=True, slots=True)
class PathGraph:
    """What stands above a certificate."""

    seen: tuple[ChainCertificate, ...]  # the certificate itself first
    issuers: dict[bytes, tuple[ChainCertificate, ...]]  # of each certificate on the way, by its DER; an anchor has none
    useful: tuple[ChainCertificate, ...]  # those that lead to an anchor, anchors too, nearest first
    tops: tuple[ChainCertificate, ...]  # certificates whose issuer is not at hand, maybe the certificate itself
    roots: tuple[ChainCertificate, ...]  # self-signed ones that are no anchors

    def paths(self, cert: ChainCertificate) -> list[tuple[ChainCertificate, ...]]:
        """The ways from the certificate's issuer to an anchor, the shortest first."""
        found: list[tuple[ChainCertificate, ...]] = []
        open_ends: list[tuple[ChainCertificate, ...]] = [()]
        for way in open_ends:  # it grows while it is walked
            for issuer in self.issuers[(way or (cert,))[-1].der]:
                if issuer.der not in self.issuers:
                    found.append((*way, issuer))
                elif issuer in self.useful and issuer not in way and len(open_ends) <= MOST_PATHS:
                    open_ends.append((*way, issuer))
        return sorted(found, key=len)[:MOST_PATHS]


def find_issuers(cert: ChainCertificate, pool: IssuerStore) -> PathGraph:
    """Everything above the certificate."""
    issuers: dict[bytes, tuple[ChainCertificate, ...]] = {}
    seen = [cert]
    for one in seen:  # it grows while it is walked
        if pool.is_anchor(one):
            continue
        issuers[one.der] = tuple(issuer for issuer in pool.issuers(one) if issuer.der != one.der)
        seen += [issuer for issuer in issuers[one.der] if issuer not in seen and len(seen) <= MOST_ABOVE]
    found = [one for one in seen if one.der in issuers and not issuers[one.der]]
    roots = tuple(one for one in found if one.subject == one.issuer and is_self_signed(one))
    tops = tuple(one for one in found if one not in roots)
    return PathGraph(tuple(seen), issuers, _leading(seen[1:], issuers, pool), tops, roots)


def _leading(
    seen: Sequence[ChainCertificate], issuers: dict[bytes, tuple[ChainCertificate, ...]], pool: IssuerStore
) -> tuple[ChainCertificate, ...]:
    """Of these, what leads to an anchor."""
    good = {one.der for one in seen if pool.is_anchor(one)}
    size = -1
    while size != len(good):
        size = len(good)
        good |= {one.der for one in seen if any(issuer.der in good for issuer in issuers.get(one.der, ()))}
    return tuple(one for one in seen if one.der in good)
