"""A certificate and what came with it -> what Exchange Online will hold against its chain and its CRLs (facts: exchange.md 1.1).

Anchors are the roots of the tenant's collection and nothing else; issuers come from the file, the collection, or the place that a
certificate names (caIssuers). The path is judged by pyhanko-certvalidator; the lists of every certificate on it are read once a run, so
that ten thousand certificates of one authority cost one list and one look into a set each. Without a library nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.pki.chain_certificate import ChainCertificate, read, signed_by, unpack, valid, web
from distributor.pki.path_checks import old_signature, path_weaknesses
from distributor.pki.validation.path import IssuerStore, PathGraph, TrustStore, find_issuers
from distributor.pki.validation.revocation import EXCHANGE_SECONDS, DownloadFailed, Fetched, NotRevoked, RevocationChecker
from distributor.pki.validation.validator import REPLACE, RevocationMode, validate_path

MOST_ROUNDS = 6  # of asking for issuers' issuers; a real chain has two steps
_EXPORT = "put it into the collection, and the collection into the tenant: `distributor trust export`"
_WHOLE = "have the file made with its whole chain, or put the missing certificate into the collection: `distributor trust export`"


class CrlDownloader(Protocol):
    """Who fetches: each URL once a run, several at a time."""

    def start(self, url: str, *, crl: bool) -> None:
        """Begin, if nobody has yet."""
        ...

    def get(self, url: str, *, crl: bool) -> Fetched | DownloadFailed:
        """What came; waits for it."""
        ...


@dataclass(frozen=True, slots=True)
class CertificationPath:
    """A path from an issuer to an anchor, and what is wrong with the lists of its certificates."""

    certs: tuple[ChainCertificate, ...]
    issues: tuple[Issue, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class IssuerPaths:
    """What is above all certificates of one issuer: roads, or the reason why there are none."""

    roads: tuple[CertificationPath, ...]
    above: PathGraph
    pool: IssuerStore
    misses: dict[str, str] = field(default_factory=dict)  # where an issuer was looked for in vain


class ChainValidator:
    """The chains of one run."""

    def __init__(self, collected: TrustStore, library: CrlDownloader | None, now: datetime) -> None:
        self._collected, self._library, self._now = collected, library, now
        self._lists = None if library is None else RevocationChecker(lambda url: library.get(url, crl=True), now)
        self._standings: dict[tuple[object, ...], list[IssuerPaths]] = {}

    def begin(self, leaf: bytes) -> None:
        """Let what the certificate names be fetched meanwhile."""
        cert = read(leaf) if self._library else None
        if cert is not None:
            self._start(cert)

    def _start(self, cert: ChainCertificate) -> None:
        for url in (*cert.crl_urls, *cert.change_urls) if self._library else ():
            self._library.start(url, crl=True)  # type: ignore[union-attr]  # there is one

    def validate(self, leaf: bytes, chain: Sequence[bytes]) -> list[Issue]:
        """Everything; none where it is in order."""
        cert = read(leaf)
        if cert is None:
            return [Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, "the certificate cannot be read", REPLACE)]
        if any(cert.der == anchor.der for anchor in self._collected.anchors):
            return []  # a root needs nobody above it
        standing = self._standing(cert, tuple(chain))
        if not standing.roads:
            return list(self._explain_no_path(cert, standing))
        results = []
        for path in standing.roads:
            issues = list(self._check_path(cert, path))
            if not issues:
                return []
            results.append(issues)
        return results[0]

    # --- one road ------------------------------------------------------------------------------------------------

    def _check_path(self, cert: ChainCertificate, path: CertificationPath) -> Iterator[Issue]:
        """What is wrong with the certificate by this road."""
        anchors, others = [path.certs[-1].der], [one.der for one in path.certs[:-1]]
        issue = validate_path(cert.der, anchors, others, (), self._now, RevocationMode.PATH_ONLY) or next(
            old_signature(cert, "the certificate"), None
        )
        if issue is not None:
            yield issue
        yield from path.issues
        said, seconds = self._revocation(cert, path.certs, "the certificate")
        if said is not None and (said.check is CheckId.REVOKED or (issue is None and not path.issues)):
            yield said
        elif said is None and not path.issues and path.seconds + seconds > EXCHANGE_SECONDS:
            yield _slow(path.seconds + seconds)

    def _revocation(self, cert: ChainCertificate, above: Sequence[ChainCertificate], who: str) -> tuple[Issue | None, float]:
        """What its lists say of a certificate, and how long they took; `above`: from its issuer to the anchor."""
        if self._lists is None:
            return None, 0.0
        said = self._lists.check(cert, above[0], who)
        if isinstance(said, NotRevoked):
            return None, said.seconds
        if isinstance(said, Issue):
            return said, 0.0
        lists = self._lists.of((cert, *above[:-1]))
        if lists is None:
            return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, f"the CRL of {who} is too large for what it is: {said.reason}", _ASK), 0.0
        others = [one.der for one in (*above[:-1], *self._collected.others)]
        return validate_path(cert.der, [above[-1].der], others, lists, self._now, RevocationMode.CRLS), 0.0

    # --- what is above -------------------------------------------------------------------------------------------

    def _standing(self, cert: ChainCertificate, chain: tuple[bytes, ...]) -> IssuerPaths:
        """What is above a certificate; worked out once for all that an issuer signed. Two of one name may have issued (a renewed key)."""
        known = self._standings.setdefault((cert.issuer, cert.issuer_key_id, cert.issuer_urls, chain), [])
        for standing in known:
            if signed_by(cert, standing.roads[0].certs[0]):
                return standing
        found = self._look(cert, chain)
        if found.roads:
            known.append(found)
        return found

    def _look(self, cert: ChainCertificate, chain: tuple[bytes, ...]) -> IssuerPaths:
        pool, misses = IssuerStore(self._collected, chain), dict[str, str]()
        above = find_issuers(cert, pool)
        asked: set[str] = set()
        for _ in range(MOST_ROUNDS if self._library else 0):
            urls = [url for one in above.seen for url in web(one.issuer_urls)]
            new = [url for url in dict.fromkeys(urls) if url not in asked]
            if self._timely(above.paths(cert)) or not new:
                break
            asked.update(new)
            misses |= self._fetch(new, pool)
            above = find_issuers(cert, pool)
        paths = above.paths(cert)
        timely = self._timely(paths)
        ordered = timely + [path for path in paths if path not in timely]
        return IssuerPaths(tuple(self._road(path) for path in ordered), above, pool, misses)

    def _timely(self, paths: Sequence[tuple[ChainCertificate, ...]]) -> list[tuple[ChainCertificate, ...]]:
        """The paths without an authority that has expired: the renewed one may lie where the certificate says."""
        return [path for path in paths if all(valid(one, self._now) for one in path[:-1])]

    def _fetch(self, urls: Sequence[str], pool: IssuerStore) -> dict[str, str]:
        """Issuers into the pool; why where there was none."""
        misses = {}
        library = self._library
        for url in urls if library else ():
            library.start(url, crl=False)  # type: ignore[union-attr]  # there is one
        for url in urls if library else ():
            came = library.get(url, crl=False)  # type: ignore[union-attr]
            found = unpack(came.data) if isinstance(came, Fetched) else []
            if not pool.add(found):
                misses[url] = (
                    came.reason if isinstance(came, DownloadFailed) else "the issuer is not in it" if found else "it holds no certificate"
                )
        return misses

    def _road(self, path: tuple[ChainCertificate, ...]) -> CertificationPath:
        for one in path[:-1]:
            self._start(one)
        said = [self._revocation(one, path[n + 1 :], f'the authority "{one.name}"') for n, one in enumerate(path[:-1])]
        issues = [*path_weaknesses(path), *(issue for issue, _ in said if issue is not None)]
        if not issues and self._lists is not None and len(path) > 1:  # a second opinion, once an issuer
            lists = self._lists.of(path[:-1])
            opinion = lists and validate_path(
                path[0].der, [path[-1].der], [one.der for one in path[1:-1]], lists, self._now, RevocationMode.CRLS
            )
            issues += [opinion] if opinion and opinion.check is not CheckId.CHAIN_UNTRUSTED else []
        return CertificationPath(path, tuple(issues), sum(seconds for _, seconds in said))

    # --- no road -------------------------------------------------------------------------------------------------

    def _explain_no_path(self, cert: ChainCertificate, standing: IssuerPaths) -> Iterator[Issue]:
        """Why no road leads to an anchor."""
        above = standing.above
        if above.roots:
            root = above.roots[0]
            who = "the certificate is signed by itself and" if root is cert else f'its root "{root.name}"'
            text = f"{who} is not in the collection (SHA-256 {root.sha256[:16]}…)"
            yield Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, _EXPORT)
        else:
            yield from self._incomplete(cert, standing)
        direct = above.issuers.get(cert.der, ())
        if direct and self._lists is not None:
            said = self._lists.check(cert, direct[0], "the certificate")
            if isinstance(said, Issue) and said.check is CheckId.REVOKED:
                yield said

    def _incomplete(self, cert: ChainCertificate, standing: IssuerPaths) -> Iterator[Issue]:
        top = standing.above.tops[0]
        urls = web(top.issuer_urls)
        if self._library is None and urls:
            return  # it may be found there
        who = "the certificate" if top is cert else f'"{top.name}"'
        if named := [one for one in standing.pool.candidates(top) if top.issuer_key_id is None or one.key_id is not None]:
            yield _unsigned(top, named[0], who)
            return
        places = [f'"{escape_unsafe(url)}" ({standing.misses.get(url, "the issuer is not in it")})' for url in urls]
        where = " or ".join(["in the file", "in the collection", *(f"at {place}" for place in places)])
        text = f'the issuer of {who}, "{top.issuer_name}", is not found {where}'
        yield Issue(Severity.ERROR, CheckId.CHAIN_INCOMPLETE, text if urls else f"{text}; {_no_place(top)}", _WHOLE)


def _no_place(cert: ChainCertificate) -> str:
    kinds = ", ".join(dict.fromkeys(url.partition(":")[0].upper()[:20] for url in cert.issuer_urls if ":" in url))
    return f"it names a place for it by {escape_unsafe(kinds)} only; Exchange Online fetches http" if kinds else "it names no place for it"


def _unsigned(cert: ChainCertificate, issuer: ChainCertificate, who: str) -> Issue:
    """Somebody has the issuer's name and key id, and yet did not issue it, or may not."""
    if signed_by(cert, issuer):
        text, hint = f'"{issuer.name}", which signed {who}, is no authority by its own certificate', REPLACE
    else:
        text, hint = f'the signature of {who} is not that of its issuer "{issuer.name}"', "have it issued again; it is damaged or forged"
    return Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, hint)


_ASK = "tell your authority; Exchange Online trusts no certificate whose CRL it cannot check"


def _slow(seconds: float) -> Issue:
    text = f"the CRLs of its chain take {seconds:.1f} s to fetch; Exchange Online waits {EXCHANGE_SECONDS:g} s for all of them"
    return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, text, _ASK)
