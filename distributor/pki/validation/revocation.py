"""Downloaded CRLs -> whether a certificate is revoked, by the CRLs that it names itself. Each CRL is read and verified once a run.

Hard-fail, as Exchange Online has it: a certificate without a valid CRL is not in order (facts: exchange.md 1.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.pki.certificate import Certificate, web
from distributor.pki.validation import crls
from distributor.pki.validation.crls import Crl, CrlError, Revoked, UnsupportedCrl

EXCHANGE_SECONDS = 10.0  # for all CRLs of a chain (OWACRLRetrievalTimeout; facts: exchange.md 1.2)
LARGEST_FOR_LIBRARY = 2**20  # bytes of a CRL that only pyhanko-certvalidator can judge; it takes a second for 50 000 entries
LONGEST_URL = 200  # characters shown
_TELL = "report it to the CA; Exchange Online does not trust a certificate whose revocation list (CRL) it cannot check"


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes at a URL, and the seconds that their download took."""

    data: bytes
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DownloadFailed:
    """Why a download failed."""

    reason: str
    private: bool = False  # its address is one that `trust.private_addresses` would allow
    silent: bool = False  # no answer in time


@dataclass(frozen=True, slots=True)
class NotRevoked:
    """A valid CRL covers the certificate, which is not on it; `seconds` is how long the download took."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DeltaCrl:
    """A delta CRL, and what is wrong with it; no `crl` where it cannot be used at all."""

    url: str = ""
    crl: Crl | None = None
    fault: CrlError | None = None


Get = Callable[[str], Fetched | DownloadFailed]


CrlStatus = Revoked | NotRevoked | CrlError | UnsupportedCrl | DownloadFailed  # of a certificate by one CRL


class RevocationChecker:
    """The CRLs of one run."""

    def __init__(self, get: Get, now: datetime) -> None:
        self._get, self._now = get, now
        self._read: dict[str, Crl | CrlError | DownloadFailed] = {}
        self._objections: dict[tuple[str, bytes], CrlError | UnsupportedCrl | None] = {}

    def check(self, cert: Certificate, issuer: Certificate, who: str) -> NotRevoked | Issue | UnsupportedCrl:
        """The certificate's status by its CRLs; `who` is how messages call it."""
        if not cert.crl_urls:
            return _no_crl_url(cert, who)
        found = [(url, self._status(url, cert, issuer)) for url in cert.crl_urls]
        status = _best(found, who)
        if isinstance(status, NotRevoked):
            return self._in_time(found, who)
        if isinstance(status, Issue) and status.check is not CheckId.REVOKED and any(point.foreign for point in cert.points):
            return UnsupportedCrl("issued by another CA (indirect CRL)")
        return status

    def _in_time(self, found: list[tuple[str, CrlStatus]], who: str) -> NotRevoked | Issue:
        """The seconds until Exchange has the first valid CRL: it tries one URL after the other."""
        seconds = 0.0
        for url, status in found:
            if isinstance(status, NotRevoked):
                seconds += status.seconds
                break
            if isinstance(status, DownloadFailed) and status.silent:
                return _no_answer(url, who)
            seconds += self._seconds(url)
        return NotRevoked(seconds)

    def _status(self, url: str, cert: Certificate, issuer: Certificate) -> CrlStatus:
        """The status by one CRL. An entry counts even on a CRL that is stale: its issuer did revoke the certificate."""
        crl = self.at(url)
        if not isinstance(crl, Crl):
            return crl
        if crl.base is not None:
            return CrlError("a delta CRL, not a complete one")
        fault = self._objection(url, crl, issuer)
        unfit = fault if fault is not None and not _still_revokes(fault) else crls.scope_error(crl, cert)
        if unfit is not None:
            return unfit
        deltas = [self._delta(urls, crl, issuer) for urls in _sources(crl, cert)]
        entry = _entry(cert.serial, crl, deltas)
        faults = [one for one in (fault, *(delta.fault for delta in deltas)) if one is not None]
        seconds = self._seconds(url) + sum(self._seconds(delta.url) for delta in deltas)
        return entry or (faults[0] if faults else NotRevoked(seconds))

    def _delta(self, urls: tuple[str, ...], crl: Crl, issuer: Certificate) -> DeltaCrl:
        """The delta CRL for a CRL. Windows and the library require one wherever the CRL or the certificate names one."""
        best = DeltaCrl(fault=CrlError("gives only an LDAP URL for its delta CRL"))
        for url in urls:
            one = self._delta_at(url, crl, issuer)
            if one.fault is None:
                return one
            best = one if best.crl is None else best
        return best

    def _delta_at(self, url: str, crl: Crl, issuer: Certificate) -> DeltaCrl:
        delta = self.at(url)
        if not isinstance(delta, Crl):
            return DeltaCrl(fault=_unusable_delta(url, delta))
        fault = self._objection(url, delta, issuer)
        unfit = fault if fault is not None and not _still_revokes(fault) else crls.delta_error(delta, crl)
        if unfit is not None:
            return DeltaCrl(fault=_unusable_delta(url, unfit))
        return DeltaCrl(url, delta, _unusable_delta(url, fault) if fault else None)

    def at(self, url: str) -> Crl | CrlError | DownloadFailed:
        """The CRL at a URL."""
        if url not in self._read:
            response = self._get(url)
            self._read[url] = crls.read(response.data) if isinstance(response, Fetched) else response
        return self._read[url]

    def _objection(self, url: str, crl: Crl, issuer: Certificate) -> CrlError | UnsupportedCrl | None:
        key = (url, issuer.der)
        if key not in self._objections:
            self._objections[key] = crls.objection(crl, issuer, self._now)
        return self._objections[key]

    def _seconds(self, url: str) -> float:
        response = self._get(url) if url else None
        return response.seconds if isinstance(response, Fetched) else 0.0

    def of(self, certs: Iterable[Certificate]) -> list[bytes] | None:
        """Every CRL that these certificates name, for pyhanko-certvalidator; None when one is too large for it."""
        found = list(dict.fromkeys(crl.der for cert in certs for crl in self._all(cert)))
        return None if any(len(der) > LARGEST_FOR_LIBRARY for der in found) else found

    def _all(self, cert: Certificate) -> Iterator[Crl]:
        for url in cert.crl_urls:
            crl = self.at(url)
            if isinstance(crl, Crl):
                yield crl
                deltas = map(self.at, dict.fromkeys(url for urls in _sources(crl, cert) for url in urls))
                yield from (delta for delta in deltas if isinstance(delta, Crl))


def _best(found: list[tuple[str, CrlStatus]], who: str) -> NotRevoked | Issue | UnsupportedCrl:
    for _, status in found:
        if isinstance(status, Revoked):
            return revoked(status, who)
    for kind in (NotRevoked, UnsupportedCrl):
        for _, status in found:
            if isinstance(status, kind):
                return status
    faults = [(url, status) for url, status in found if isinstance(status, CrlError | DownloadFailed)]
    stale = [(url, status) for url, status in faults if isinstance(status, CrlError) and status.stale]
    return _unusable(*(stale or faults)[0], who)


def _is_stale(fault: CrlError | UnsupportedCrl | DownloadFailed | None) -> bool:
    return isinstance(fault, CrlError) and fault.stale


def _still_revokes(fault: CrlError | UnsupportedCrl) -> bool:
    return isinstance(fault, CrlError) and fault.signature_valid


def _unusable_delta(url: str, fault: CrlError | UnsupportedCrl | DownloadFailed) -> CrlError:
    return CrlError(f'its delta CRL at "{_shown(url)}" cannot be used: {fault.reason}', _is_stale(fault))


def _sources(crl: Crl, cert: Certificate) -> list[tuple[str, ...]]:
    """The URLs of delta CRLs, named by the CRL and by the certificate (RFC 5280 4.2.1.15), without those by LDAP; each once."""
    listed = [web(url for point in crl.freshest for url in point.urls)] if crl.freshest else []
    return list(dict.fromkeys([*listed, *([cert.delta_urls] if cert.delta_urls else [])]))


def _entry(serial: int, crl: Crl, deltas: list[DeltaCrl]) -> Revoked | None:
    """The entry on the newest CRL that has one for the certificate."""
    newest = sorted((one.crl for one in deltas if one.crl is not None), key=lambda one: one.number or 0, reverse=True)
    for one in (*newest, crl):
        entry = one.entry(serial)
        if entry is not None:
            return None if entry.reason == crls.REMOVED else entry
    return None


def revoked(status: Revoked, who: str) -> Issue:
    """The issue of a certificate that is on a CRL."""
    return Issue(
        Severity.ERROR, CheckId.REVOKED, f"{who} was revoked ({status})", "have a new certificate issued; this one must not be used"
    )


def _no_crl_url(cert: Certificate, who: str) -> Issue:
    named = [url for point in cert.points for url in point.urls]
    kinds = ", ".join(dict.fromkeys(url.partition(":")[0].upper()[:20] for url in named))
    text = (
        f"gives only a URL by {escape_unsafe(kinds)} for its revocation list (CRL); Exchange Online uses only http"
        if named
        else "gives no URL for its revocation list (CRL)"
    )
    return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, f"{who} {text}", "have one issued with an http URL for its CRL")


def _unusable(url: str, fault: CrlError | DownloadFailed, who: str) -> Issue:
    check = CheckId.CRL_STALE if _is_stale(fault) else CheckId.CRL_UNREACHABLE
    text = "is out of date" if check is CheckId.CRL_STALE else "cannot be used"
    hint = (
        "set `trust.private_addresses = true` to allow private addresses" if isinstance(fault, DownloadFailed) and fault.private else _TELL
    )
    return Issue(Severity.ERROR, check, f'the revocation list (CRL) of {who} at "{_shown(url)}" {text}: {fault.reason}', hint)


def _no_answer(url: str, who: str) -> Issue:
    text = f'the revocation list (CRL) of {who} at "{_shown(url)}" does not respond; Exchange Online waits {EXCHANGE_SECONDS:g} s per chain'
    return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, f"{text} and does not try the next URL", _TELL)


def _shown(url: str) -> str:
    text = escape_unsafe(url)
    return text if len(text) <= LONGEST_URL else text[: LONGEST_URL - 1] + "…"
