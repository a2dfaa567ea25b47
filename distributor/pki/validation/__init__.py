"""A certificate and its chain -> the Issues that Exchange Online will have with the chain and its CRLs (facts: exchange.md 1.1).

Trust anchors are the roots of the tenant's collection and nothing else; issuers come from the file, the collection, or the URL that a
certificate names (caIssuers). What is above the certificates of one issuer is examined once a run, so that ten thousand certificates of
one CA cost one CRL and one lookup each. Without a downloader nothing is fetched. The numbered steps are in `ChainValidator.validate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from distributor.errors import Error
from distributor.model.issues import CheckedChain, CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.pki.certificate import Certificate, read, unpack, web
from distributor.pki.checks import authority_faults, signature_fault, validity_fault
from distributor.pki.issuers import issued
from distributor.pki.validation.path import MOST_ABOVE, IssuerStore, PathEnd, PathGraph, TrustStore, find_issuers
from distributor.pki.validation.revocation import EXCHANGE_SECONDS, DownloadFailed, Fetched, NotRevoked, RevocationChecker
from distributor.pki.validation.validator import REPLACE, RevocationMode, validate_path

MOST_ROUNDS = 6  # of downloading issuers' issuers; a real chain has two steps
_EXPORT = "add it to the collection with `distributor trust export`, then upload that (see docs/trust.md#the-tenants-collection)"
_WHOLE = "export the file with its whole chain, or add the missing certificate to the collection (see docs/trust.md#the-tenants-collection)"
_OWN_CHAIN = "export the file again, with only the certificates of its own chain"
_RENEW = "ask the CA to renew it and to issue a new certificate"
_MAIL = "report it to the CA, and have a certificate issued by a CA for mail"
_ASK = "report it to the CA; Exchange Online does not trust a certificate whose revocation list (CRL) it cannot check"


class CrlDownloader(Protocol):
    """Downloads each URL once a run, several at a time."""

    def start(self, url: str, *, crl: bool) -> None:
        """Start the download of a URL unless it was started before."""
        ...

    def get(self, url: str, *, crl: bool) -> Fetched | DownloadFailed:
        """Wait for the download."""
        ...


@dataclass(frozen=True, slots=True)
class CertificationPath:
    """The CA certificates from an issuer to an anchor, and what is wrong with them."""

    certs: tuple[Certificate, ...]
    issues: tuple[Issue, ...] = ()
    seconds: float = 0.0  # that their CRLs took to download


@dataclass(frozen=True, slots=True)
class IssuerPaths:
    """The paths from an issuer to anchors, best first; without any, `graph` and `not_found` tell why."""

    paths: tuple[CertificationPath, ...]
    graph: PathGraph
    store: IssuerStore
    not_found: dict[str, str] = field(default_factory=dict)  # caIssuers URL -> why it gave no issuer


class ChainValidator:
    """Validates the chains of one run."""

    def __init__(self, trusted: TrustStore, downloader: CrlDownloader | None, now: datetime) -> None:
        self._trusted, self._downloader, self._now = trusted, downloader, now
        self._revocation = None if downloader is None else RevocationChecker(lambda url: downloader.get(url, crl=True), now)
        self._known_paths: dict[tuple[object, ...], list[IssuerPaths]] = {}

    def begin(self, leaf: bytes) -> None:
        """Start the downloads of the CRLs that the certificate names; `validate` reports what is wrong with it."""
        with _contained():
            if self._downloader is not None and (cert := read(leaf)) is not None:
                self._start_crls(self._downloader, cert)

    def validate(self, leaf: bytes, chain: Sequence[bytes]) -> CheckedChain:
        """Everything that is wrong with a certificate's chain, or no issue and the path that is in order.

        `chain`: the other certificates of its file, in any order. Never raises for what is in the certificates or CRLs.
        """
        # (0) One hostile file costs only itself: whatever is raised below becomes an issue of this certificate.
        with _contained() as issues:
            checked = CheckedChain(issues)
            checked = self._validate(leaf, tuple(chain))
        return checked  # noqa: RET504  what is raised above leaves the first one

    def _validate(self, leaf: bytes, chain: tuple[bytes, ...]) -> CheckedChain:
        # (1) Read the certificate.
        cert = read(leaf)
        if cert is None:
            return CheckedChain([Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, "cannot read the certificate", REPLACE)])

        # (2) A root of the collection is trusted by itself.
        if any(cert.der == anchor.der for anchor in self._trusted.anchors):
            return CheckedChain([], ())

        # (3) Find its issuers up to trust anchors: in the file, in the collection, then at the caIssuers URLs. Each step is a checked
        #     signature, and only an anchor ends a path (`find_issuers`, `PathGraph.paths`).
        # (4) Examine the CA certificates of each path: hash, key size and extended key usage, then their own CRLs (`_examine`).
        #     Both are done once for all certificates of an issuer.
        above = self._paths_of(cert, chain)

        # (5) Without a path, say where the search ended: untrusted root, missing issuer, too many certificates, or a circle.
        if not above.paths:
            return CheckedChain([*self._why_no_path(cert, above), *self._revoked_all_the_same(cert, above)])

        first: list[Issue] | None = None
        for path in above.paths:
            # (6) Validate the path as RFC 5280 6.1 does: dates, basic constraints, path length, names, policies (pyhanko-certvalidator).
            anchors, others = [path.certs[-1].der], [one.der for one in path.certs[:-1]]
            issue = validate_path(cert.der, anchors, others, (), self._now, RevocationMode.PATH_ONLY)
            if issue is None and (fault := signature_fault(cert)):
                issue = Issue(Severity.ERROR, fault[0], f"the certificate {fault[1]}", _RENEW)
            found = [*([issue] if issue else []), *path.issues]

            # (7) Look the certificate up in its CRL. That it was revoked counts always, other faults of the CRL only on a good path.
            status, seconds = self._crl_status(cert, path.certs, "the certificate")
            if status is not None and (status.check is CheckId.REVOKED or not found):
                found.append(status)

            # (8) All CRLs of the path must arrive within the time that Exchange Online waits.
            elif status is None and not path.issues and path.seconds + seconds > EXCHANGE_SECONDS:
                found.append(_slow(path.seconds + seconds))

            # (9) One path in order is enough; otherwise the issues of the best one are reported.
            if not found:
                return CheckedChain([], tuple(one.der for one in path.certs))
            first = first or found
        return CheckedChain(first or [])

    # --- certification paths (steps 3 and 4) -----------------------------------------------------------------------

    def _paths_of(self, cert: Certificate, chain: tuple[bytes, ...]) -> IssuerPaths:
        """The paths above a certificate. Two CA certificates of one name may have issued (a renewed key), so the signature is checked."""
        known = self._known_paths.setdefault((cert.issuer, cert.issuer_key_id, cert.issuer_urls, chain), [])
        for above in known:
            if issued(above.paths[0].certs[0], cert):
                return above
        above = self._search(cert, chain)
        if above.paths:
            known.append(above)
        return above

    def _search(self, cert: Certificate, chain: tuple[bytes, ...]) -> IssuerPaths:
        store, not_found = IssuerStore(self._trusted, chain), dict[str, str]()
        graph = find_issuers(cert, store)
        asked: set[str] = set()
        for _ in range(MOST_ROUNDS if self._downloader else 0):
            urls = [url for one in graph.seen for url in web(one.issuer_urls)]
            new = [url for url in dict.fromkeys(urls) if url not in asked]
            if self._unexpired(graph.paths()) or not new:
                break
            asked.update(new)
            not_found |= self._download_issuers(new, store)
            graph = find_issuers(cert, store)
        paths = graph.paths()
        best = self._unexpired(paths)
        return IssuerPaths(tuple(map(self._examine, best + [path for path in paths if path not in best])), graph, store, not_found)

    def _unexpired(self, paths: Sequence[tuple[Certificate, ...]]) -> list[tuple[Certificate, ...]]:
        """The paths without an expired intermediate; a renewed one may lie at its caIssuers URL."""
        return [path for path in paths if not any(validity_fault(one, self._now) for one in path[:-1])]

    def _download_issuers(self, urls: Sequence[str], store: IssuerStore) -> dict[str, str]:
        """Add what lies at the URLs to the store; returns why a URL gave nothing new."""
        not_found = {}
        downloader = self._downloader
        for url in urls if downloader else ():
            downloader.start(url, crl=False)  # type: ignore[union-attr]  # there is one
        for url in urls if downloader else ():
            response = downloader.get(url, crl=False)  # type: ignore[union-attr]
            if isinstance(response, DownloadFailed):
                not_found[url] = response.reason
            elif not store.add_untrusted(found := unpack(response.data)):
                not_found[url] = "the issuer is not in it" if found else "no certificate there"
        return not_found

    def _examine(self, path: tuple[Certificate, ...]) -> CertificationPath:
        """What is wrong with the CA certificates of a path, whomever they certify."""
        for one in path[:-1] if self._downloader else ():
            self._start_crls(self._downloader, one)  # type: ignore[arg-type]  # there is one
        statuses = [self._crl_status(one, path[n + 1 :], f'the CA "{one.name}"') for n, one in enumerate(path[:-1])]
        issues = [*_unfit(path), *(issue for issue, _ in statuses if issue is not None)]
        if not issues and self._revocation is not None and len(path) > 1:  # a second opinion, once an issuer
            lists = self._revocation.of(path[:-1])
            opinion = lists and validate_path(
                path[0].der, [path[-1].der], [one.der for one in path[1:-1]], lists, self._now, RevocationMode.CRLS
            )
            issues += [opinion] if opinion and opinion.check is not CheckId.CHAIN_UNTRUSTED else []
        return CertificationPath(path, tuple(issues), sum(seconds for _, seconds in statuses))

    # --- revocation (steps 4 and 7) --------------------------------------------------------------------------------

    @staticmethod
    def _start_crls(downloader: CrlDownloader, cert: Certificate) -> None:
        for url in (*cert.crl_urls, *cert.delta_urls):
            downloader.start(url, crl=True)

    def _crl_status(self, cert: Certificate, above: Sequence[Certificate], who: str) -> tuple[Issue | None, float]:
        """What the CRLs say about a certificate, and the seconds of their download; `above`: from its issuer to the anchor."""
        if self._revocation is None:
            return None, 0.0
        status = self._revocation.check(cert, above[0], who)
        if isinstance(status, NotRevoked):
            return None, status.seconds
        if isinstance(status, Issue):
            return status, 0.0
        lists = self._revocation.of((cert, *above[:-1]))
        if lists is None:
            text = f"the revocation list (CRL) of {who} is too large: {status.reason}"
            return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, text, _ASK), 0.0
        others = [one.der for one in (*above[:-1], *self._trusted.others)]
        return validate_path(cert.der, [above[-1].der], others, lists, self._now, RevocationMode.CRLS), 0.0

    # --- no path (step 5) ------------------------------------------------------------------------------------------

    def _why_no_path(self, cert: Certificate, above: IssuerPaths) -> Iterator[Issue]:
        """Why no path leads to an anchor."""
        graph = above.graph
        urls = web(url for one in graph.seen for url in one.issuer_urls)
        if roots := graph.ending(PathEnd.UNTRUSTED_ROOT):
            root = roots[0]
            who = "the certificate is self-signed and" if root is cert else f'its root "{root.name}"'
            text = f"{who} is not in the collection (SHA-256 {root.sha256[:16]}…)"
            yield Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, _EXPORT)
        elif last := graph.ending(PathEnd.NO_ISSUER):
            yield from self._no_issuer(cert, last[0], above)
        elif graph.ending(PathEnd.TRUNCATED) or any(graph.ends.get(one.der) is PathEnd.ANCHOR for one in graph.seen):
            text = f"its chain is too complex: more than {MOST_ABOVE} CA certificates"
            yield Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, _OWN_CHAIN)
        elif self._downloader is not None or not urls:
            names = ", ".join(f'"{one.name}"' for one in graph.seen[1:3])
            text = f"its chain is circular and leads to no root: {names}"
            yield Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, _WHOLE)

    def _revoked_all_the_same(self, cert: Certificate, above: IssuerPaths) -> Iterator[Issue]:
        """That its issuer, though untrusted, revoked it."""
        direct = above.graph.issuers[cert.der]
        if direct and self._revocation is not None:
            status = self._revocation.check(cert, direct[0], "the certificate")
            if isinstance(status, Issue) and status.check is CheckId.REVOKED:
                yield status

    def _no_issuer(self, cert: Certificate, last: Certificate, above: IssuerPaths) -> Iterator[Issue]:
        urls = web(last.issuer_urls)
        if self._downloader is None and urls:
            return  # it may be found there
        who = "the certificate" if last is cert else f'"{last.name}"'
        if named := [one for one in above.store.candidates(last) if last.issuer_key_id is None or one.key_id is not None]:
            yield _not_signed(last, named[0], who)
            return
        places = [f'"{escape_unsafe(url)}" ({above.not_found.get(url, "the issuer is not in it")})' for url in urls]
        where = " or ".join(["in the file", "in the collection", *(f"at {place}" for place in places)])
        text = f'the issuer of {who}, "{last.issuer_name}", was not found {where}'
        yield Issue(Severity.ERROR, CheckId.CHAIN_INCOMPLETE, text if urls else f"{text}; {_no_url(last)}", _WHOLE)


@contextmanager
def _contained() -> Iterator[list[Issue]]:
    """Turn whatever is raised inside into an issue. A panic of a parser in Rust is no Exception; only our own errors and Ctrl-C pass."""
    issues: list[Issue] = []
    try:
        yield issues
    except (Error, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  hostile bytes; the parser's own words may quote them
        text = f"cannot check its chain: a certificate or CRL in it cannot be processed ({type(error).__name__})"
        issues[:] = [Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, _OWN_CHAIN)]


def _no_url(cert: Certificate) -> str:
    kinds = ", ".join(dict.fromkeys(url.partition(":")[0].upper()[:20] for url in cert.issuer_urls if ":" in url))
    return f"it gives only a URL by {escape_unsafe(kinds)} for it; Exchange Online uses only http" if kinds else "it gives no URL for it"


def _not_signed(cert: Certificate, issuer: Certificate, who: str) -> Issue:
    """A CA certificate has the issuer's name and key identifier, but did not sign, or may not."""
    if issued(issuer, cert):
        text, hint = f'"{issuer.name}", which signed {who}, is not a CA', REPLACE
    else:
        text, hint = (
            f'the signature of {who} does not match its issuer "{issuer.name}"',
            "have the certificate issued again; it is damaged or forged",
        )
    return Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, text, hint)


def _unfit(path: Sequence[Certificate]) -> Iterator[Issue]:
    """What makes the authorities of a path unfit for mail. That each may issue was decided when the path was built."""
    for one in path:
        for check, text in authority_faults(one, root=one is path[-1]):
            if check is not CheckId.KEY_USAGE:
                check, hint = (CheckId.CHAIN_UNTRUSTED, _MAIL) if check is CheckId.NOT_FOR_MAIL else (check, _RENEW)  # noqa: PLW2901
                yield Issue(Severity.ERROR, check, f'the CA "{one.name}" {text}', hint)


def _slow(seconds: float) -> Issue:
    text = f"the CRLs of its chain take {seconds:.1f} s to download; Exchange Online waits {EXCHANGE_SECONDS:g} s for all of them"
    return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, text, _ASK)
