"""Fetched CRLs -> whether a certificate is revoked, by the lists that it names itself (Lists). Each list is read and checked once a run.

Hard-fail, as Exchange Online has it: what no sound list speaks for is not in order (facts: exchange.md 1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.pki.chain_certificate import ChainCertificate, web
from distributor.pki.validation import crls
from distributor.pki.validation.crls import Crl, CrlError, Revoked, UnsupportedCrl

EXCHANGE_SECONDS = 10.0  # for all CRLs of a chain (OWACRLRetrievalTimeout; facts: exchange.md 1.2)
LARGEST_ODD = 2**20  # bytes of a list that the library is to look through; it takes a second for 50 000 entries
LONGEST_URL = 200  # characters shown
_TELL = "tell your authority; Exchange Online trusts no certificate whose CRL it cannot check"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What lies at a URL, and how many seconds it took to come."""

    data: bytes
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DownloadFailed:
    """Why nothing came."""

    reason: str
    private: bool = False  # it lies at an address that `trust.private_addresses` would allow
    silent: bool = False  # nobody answered in time


@dataclass(frozen=True, slots=True)
class NotRevoked:
    """A sound list speaks for the certificate; it took so long to come."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """A list of changes, and why it is not enough to have it; no list where it is worth nothing."""

    url: str = ""
    crl: Crl | None = None
    fault: CrlError | None = None


Get = Callable[[str], Fetched | DownloadFailed]


Said = Revoked | NotRevoked | CrlError | UnsupportedCrl | DownloadFailed  # of one list


class RevocationChecker:
    """The CRLs of one run."""

    def __init__(self, get: Get, now: datetime) -> None:
        self._get, self._now = get, now
        self._read: dict[str, Crl | CrlError | DownloadFailed] = {}
        self._objections: dict[tuple[str, bytes], CrlError | UnsupportedCrl | None] = {}

    def check(self, cert: ChainCertificate, issuer: ChainCertificate, who: str) -> NotRevoked | Issue | UnsupportedCrl:
        """What the certificate's lists say; `who` it is, for people."""
        if not cert.crl_urls:
            return _nameless(cert, who)
        found = [(url, self._by(url, cert, issuer)) for url in cert.crl_urls]
        said = _best(found, who)
        if isinstance(said, NotRevoked):
            return self._in_time(found, who)
        if isinstance(said, Issue) and said.check is not CheckId.REVOKED and any(point.foreign for point in cert.points):
            return UnsupportedCrl("it is made by another issuer")
        return said

    def _in_time(self, found: list[tuple[str, Said]], who: str) -> NotRevoked | Issue:
        """The sound list that Exchange comes to first, as it asks one place after the other: its seconds, and those lost before."""
        seconds = 0.0
        for url, said in found:
            if isinstance(said, NotRevoked):
                seconds += said.seconds
                break
            if isinstance(said, DownloadFailed) and said.silent:
                return _silent(url, who)
            seconds += self._seconds(url)
        return NotRevoked(seconds)

    def _by(self, url: str, cert: ChainCertificate, issuer: ChainCertificate) -> Said:
        """What one list says of a certificate. Whom its issuer put on it was revoked, even if it is good for nothing else any more."""
        crl = self.at(url)
        if not isinstance(crl, Crl):
            return crl
        if crl.base is not None:
            return CrlError("it is a list of changes (delta CRL) and not a whole one")
        fault = self._objection(url, crl, issuer)
        unfit = fault if fault is not None and not _tells(fault) else crls.scope_error(crl, cert)
        if unfit is not None:
            return unfit
        changes = [self._change(urls, crl, issuer) for urls in _sources(crl, cert)]
        entry = _entry(cert.parsed.serial_number, crl, changes)
        faults = [one for one in (fault, *(change.fault for change in changes)) if one is not None]
        seconds = self._seconds(url) + sum(self._seconds(change.url) for change in changes)
        return entry or (faults[0] if faults else NotRevoked(seconds))

    def _change(self, urls: tuple[str, ...], crl: Crl, issuer: ChainCertificate) -> Change:
        """The changes since the list was made. Windows and the library want them wherever somebody says that there are some."""
        best = Change(fault=CrlError("it names its changes (delta CRL) by LDAP only"))
        for url in urls:
            one = self._change_at(url, crl, issuer)
            if one.fault is None:
                return one
            best = one if best.crl is None else best
        return best

    def _change_at(self, url: str, crl: Crl, issuer: ChainCertificate) -> Change:
        delta = self.at(url)
        if not isinstance(delta, Crl):
            return Change(fault=_useless(url, delta))
        fault = self._objection(url, delta, issuer)
        unfit = fault if fault is not None and not _tells(fault) else crls.delta_error(delta, crl)
        if unfit is not None:
            return Change(fault=_useless(url, unfit))
        return Change(url, delta, _useless(url, fault) if fault else None)

    def at(self, url: str) -> Crl | CrlError | DownloadFailed:
        """The list at a URL."""
        if url not in self._read:
            came = self._get(url)
            self._read[url] = crls.read(came.data) if isinstance(came, Fetched) else came
        return self._read[url]

    def _objection(self, url: str, crl: Crl, issuer: ChainCertificate) -> CrlError | UnsupportedCrl | None:
        key = (url, issuer.der)
        if key not in self._objections:
            self._objections[key] = crls.objection(crl, issuer, self._now)
        return self._objections[key]

    def _seconds(self, url: str) -> float:
        came = self._get(url) if url else None
        return came.seconds if isinstance(came, Fetched) else 0.0

    def of(self, certs: Iterable[ChainCertificate]) -> list[bytes] | None:
        """Every list that these certificates name, for the library; None when one is too large for it."""
        found = list(dict.fromkeys(crl.der for cert in certs for crl in self._all(cert)))
        return None if any(len(der) > LARGEST_ODD for der in found) else found

    def _all(self, cert: ChainCertificate) -> Iterator[Crl]:
        for url in cert.crl_urls:
            crl = self.at(url)
            if isinstance(crl, Crl):
                yield crl
                deltas = map(self.at, dict.fromkeys(url for urls in _sources(crl, cert) for url in urls))
                yield from (delta for delta in deltas if isinstance(delta, Crl))


def _best(found: list[tuple[str, Said]], who: str) -> NotRevoked | Issue | UnsupportedCrl:
    for _, said in found:
        if isinstance(said, Revoked):
            return revoked(said, who)
    for kind in (NotRevoked, UnsupportedCrl):
        for _, said in found:
            if isinstance(said, kind):
                return said
    faults = [(url, said) for url, said in found if isinstance(said, CrlError | DownloadFailed)]
    stale = [(url, said) for url, said in faults if isinstance(said, CrlError) and said.stale]
    return _unusable(*(stale or faults)[0], who)


def _is_stale(fault: CrlError | UnsupportedCrl | DownloadFailed | None) -> bool:
    return isinstance(fault, CrlError) and fault.stale


def _tells(fault: CrlError | UnsupportedCrl) -> bool:
    return isinstance(fault, CrlError) and fault.signature_valid


def _useless(url: str, fault: CrlError | UnsupportedCrl | DownloadFailed) -> CrlError:
    return CrlError(f'its changes (delta CRL) at "{_shown(url)}" cannot be used: {fault.reason}', _is_stale(fault))


def _sources(crl: Crl, cert: ChainCertificate) -> list[tuple[str, ...]]:
    """Where changes lie: by the list, and by the certificate itself (RFC 5280 4.2.1.15) if not by LDAP only; each place once."""
    listed = [web(url for point in crl.freshest for url in point.urls)] if crl.freshest else []
    return list(dict.fromkeys([*listed, *([cert.change_urls] if cert.change_urls else [])]))


def _entry(serial: int, crl: Crl, changes: list[Change]) -> Revoked | None:
    """What the newest list that speaks of the certificate says."""
    deltas = sorted((one.crl for one in changes if one.crl is not None), key=lambda one: one.number or 0, reverse=True)
    for one in (*deltas, crl):
        entry = one.entry(serial)
        if entry is not None:
            return None if entry.reason == crls.REMOVED else entry
    return None


def revoked(said: Revoked, who: str) -> Issue:
    """The certificate is on a list."""
    return Issue(Severity.ERROR, CheckId.REVOKED, f"{who} was revoked ({said})", "have a new certificate issued; this one must not be used")


def _nameless(cert: ChainCertificate, who: str) -> Issue:
    named = [url for point in cert.points for url in point.urls]
    kinds = ", ".join(dict.fromkeys(url.partition(":")[0].upper()[:20] for url in named))
    text = f"names its CRL by {escape_unsafe(kinds)} only; Exchange Online fetches http" if named else "names no CRL"
    return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, f"{who} {text}", "have one issued that names a CRL by http")


def _unusable(url: str, fault: CrlError | DownloadFailed, who: str) -> Issue:
    check = CheckId.CRL_STALE if _is_stale(fault) else CheckId.CRL_UNREACHABLE
    text = "is out of date" if check is CheckId.CRL_STALE else "cannot be used"
    hint = "set `trust.private_addresses = true` if it may lie there" if isinstance(fault, DownloadFailed) and fault.private else _TELL
    return Issue(Severity.ERROR, check, f'the CRL of {who} at "{_shown(url)}" {text}: {fault.reason}', hint)


def _silent(url: str, who: str) -> Issue:
    text = f'the CRL of {who} at "{_shown(url)}" does not answer; Exchange Online waits {EXCHANGE_SECONDS:g} s for all of a chain'
    return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, f"{text}, and never comes to the next place", _TELL)


def _shown(url: str) -> str:
    text = escape_unsafe(url)
    return text if len(text) <= LONGEST_URL else text[: LONGEST_URL - 1] + "…"
