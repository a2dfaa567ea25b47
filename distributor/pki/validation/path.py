"""Known CA certificates -> those above a certificate, and its certification paths to a trust anchor.

Every step is a checked signature. Only certificates that lead to an anchor are examined further, so that a file full of CA certificates
that certify each other costs little. A path ends at a certificate of the collection (ANCHOR) and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from distributor.pki.certificate import Certificate, read
from distributor.pki.checks import validity_fault
from distributor.pki.issuers import IssuerIndex, is_self_signed, issued

MOST_IN_FILE = 32  # CA certificates of one file that are used; a real chain has three
MOST_ABOVE = 24  # CA certificates above one certificate, on all its paths
MOST_OF_ONE_NAME = 8  # CA certificates with the same subject
MOST_PATHS = 16  # from one certificate to anchors; as a rule there is one
MOST_PARTIAL_PATHS = 16 * MOST_ABOVE  # tried for them


@dataclass(frozen=True, slots=True)
class TrustStore:
    """A collection: its roots are the trust anchors, the others are intermediates."""

    anchors: tuple[Certificate, ...]
    others: tuple[Certificate, ...] = ()


def build_trust_store(ders: Iterable[bytes], now: datetime) -> TrustStore:
    """Sort a collection's certificates; of roots with the same name and key keep the one that is valid and lasts longest."""
    roots: dict[tuple[bytes, bytes], Certificate] = {}
    others: list[Certificate] = []
    for cert in filter(None, map(read, dict.fromkeys(ders))):
        if not is_self_signed(cert):
            others.append(cert)
            continue
        key = (cert.subject, cert.public_key or cert.der)
        roots[key] = max(roots.get(key, cert), cert, key=lambda one: (validity_fault(one, now) is None, one.not_after))
    return TrustStore(tuple(roots.values()), tuple(others))


class IssuerStore(IssuerIndex):
    """The CA certificates among which issuers of one certificate are sought: the collection's, its file's, and downloaded ones."""

    def __init__(self, collected: TrustStore, chain: Sequence[bytes] = ()) -> None:
        super().__init__((*collected.anchors, *collected.others))
        self._anchors = frozenset(cert.der for cert in collected.anchors)
        self.add_untrusted(chain[:MOST_IN_FILE])

    def add_untrusted(self, ders: Iterable[bytes]) -> bool:
        """Add certificates from elsewhere, at most MOST_OF_ONE_NAME of a name; whether any of them was new."""
        new = False
        for cert in filter(None, map(read, ders)):
            if len(self.named(cert.subject)) < MOST_OF_ONE_NAME:
                new |= self.add(cert)
        return new

    def is_anchor(self, cert: Certificate) -> bool:
        """Whether it is a root of the collection."""
        return cert.der in self._anchors

    def issuers(self, cert: Certificate) -> list[Certificate]:
        """Those of the candidates whose key made the signature and that are CAs (an anchor is one because it is trusted)."""
        return [one for one in self.candidates(cert) if (one.may_issue or self.is_anchor(one)) and issued(one, cert)]


class PathEnd(Enum):
    """Why a path stops at a certificate."""

    ANCHOR = "anchor"  # it is a root of the collection
    UNTRUSTED_ROOT = "untrusted root"  # it signed itself and is not in the collection
    NO_ISSUER = "no issuer"  # its issuer's certificate was not found
    TRUNCATED = "truncated"  # some of its issuers were not followed, because of MOST_ABOVE


@dataclass(frozen=True, slots=True)
class PathGraph:
    """A certificate and the CA certificates above it."""

    cert: Certificate
    seen: tuple[Certificate, ...]  # the certificate itself first
    issuers: dict[bytes, tuple[Certificate, ...]]  # of each of them, by its DER; only issuers that are in `seen`
    ends: dict[bytes, PathEnd]  # by the DER of those where a path ends

    def ending(self, end: PathEnd) -> list[Certificate]:
        """The certificates where a path ends in this way, nearest first."""
        return [one for one in self.seen if self.ends.get(one.der) is end]

    def paths(self) -> list[tuple[Certificate, ...]]:
        """The certification paths from the certificate's issuer to an anchor, the shortest first."""
        trusted = self._leading_to_anchor()
        found: list[tuple[Certificate, ...]] = []
        partial: list[tuple[Certificate, ...]] = [()]
        for path in partial:  # it grows while it is walked
            for issuer in self.issuers[(path or (self.cert,))[-1].der]:
                if self.ends.get(issuer.der) is PathEnd.ANCHOR:
                    found.append((*path, issuer))
                elif issuer.der in trusted and issuer not in path and len(partial) <= MOST_PARTIAL_PATHS:
                    partial.append((*path, issuer))
        return sorted(found, key=len)[:MOST_PATHS]

    def _leading_to_anchor(self) -> set[bytes]:
        """The DER of anchors and of all below them, without the certificate itself: it is not above itself."""
        above = self.seen[1:]
        good = {one.der for one in above if self.ends.get(one.der) is PathEnd.ANCHOR}
        size = -1
        while size != len(good):
            size = len(good)
            good |= {one.der for one in above if any(issuer.der in good for issuer in self.issuers[one.der])}
        return good


def find_issuers(cert: Certificate, store: IssuerStore) -> PathGraph:
    """Everything above the certificate, as far as MOST_ABOVE allows."""
    seen = {cert.der: cert}
    issuers: dict[bytes, tuple[Certificate, ...]] = {}
    ends: dict[bytes, PathEnd] = {}
    queue = [cert]
    for one in queue:  # it grows while it is walked
        if store.is_anchor(one):
            issuers[one.der], ends[one.der] = (), PathEnd.ANCHOR
            continue
        found = [issuer for issuer in store.issuers(one) if issuer.der != one.der]
        new = [issuer for issuer in found if issuer.der not in seen][: MOST_ABOVE + 1 - len(seen)]
        seen |= {issuer.der: issuer for issuer in new}
        queue += new
        issuers[one.der] = tuple(issuer for issuer in found if issuer.der in seen)
        if len(issuers[one.der]) < len(found):
            ends[one.der] = PathEnd.TRUNCATED
        elif not found:
            ends[one.der] = PathEnd.UNTRUSTED_ROOT if is_self_signed(one) else PathEnd.NO_ISSUER
    return PathGraph(cert, tuple(seen.values()), issuers, ends)
