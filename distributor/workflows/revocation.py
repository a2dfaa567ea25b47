"""Checks the chains of certificates as Exchange Online will, and watches those in use for revocation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from distributor.model.certificates import CertificateInUse, Revocations, RevokedDelivery
from distributor.model.issues import CheckedChain, CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.model.ports import Checker
from distributor.model.revocation import GOOD_AGAIN
from distributor.pki.validation import ChainValidator, CrlDownloader
from distributor.pki.validation.path import TrustStore

SHOWN = 3  # people named in an issue that concerns more
TOGETHER = 200  # certificates whose CRLs are fetched side by side


class ChainChecker:
    """Checks chains against one trust store at one time.

    `downloader`: None where nothing may be fetched; `soft`: everything but a revocation is a warning.
    """

    def __init__(self, trust_store: TrustStore, downloader: CrlDownloader | None, now: datetime, *, soft: bool = False) -> None:
        self._chains, self.soft = ChainValidator(trust_store, downloader, now), soft

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:  # noqa: ARG002  part of the port
        """Start to fetch its CRLs."""
        self._chains.begin(leaf)

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> CheckedChain:
        """Every issue of a certificate's chain, and the path that was validated."""
        checked = self._chains.validate(leaf, chain)
        return replace(checked, issues=[self._with_severity(issue) for issue in checked.issues])

    def _with_severity(self, issue: Issue) -> Issue:
        if self.soft and issue.check is not CheckId.REVOKED:
            return replace(issue, severity=Severity.WARNING)
        return issue


def judged(certificates: Sequence[tuple[bytes, Sequence[bytes]]], checker: Checker) -> Iterator[list[Issue]]:
    """The issues of each certificate's chain; `certificates` are pairs of leaf and chain. CRLs are fetched side by side."""
    for start in range(0, len(certificates), TOGETHER):
        part = certificates[start : start + TOGETHER]
        for leaf, chain in part:
            checker.begin(leaf, chain)
        for leaf, chain in part:
            yield checker.check(leaf, chain).issues


@dataclass
class Watched:
    """The result of checking every certificate in use: how many, whose deliveries changed, and what could not be found out."""

    checked: int = 0
    revoked: list[RevokedDelivery] = field(default_factory=list)
    reinstated: list[RevokedDelivery] = field(default_factory=list)  # no longer on hold
    issues: list[Issue] = field(default_factory=list)  # each fault once, with the people whose certificates it concerns


def watch(ledger: Revocations, checker: Checker, *, now: datetime, tell: Callable[[int], None] = lambda _: None) -> Watched:
    """Check every certificate in use against fresh CRLs; record revocations on their deliveries, withdraw what has not left.

    One that was on hold is good again once its chain has no issue at all: a CRL that cannot be read proves nothing.
    """
    done, faults = Watched(), dict[str, _Fault]()
    certificates = ledger.issued(now)
    while batch := list(islice(certificates, TOGETHER)):
        for one, issues in _checked(batch, checker):
            revoked = next((issue for issue in issues if issue.check is CheckId.REVOKED), None)
            if revoked is not None:
                done.revoked += ledger.revoke(one.sha256, revoked.message)
            elif not issues and one.revoked is not None:
                done.reinstated += ledger.reinstate(one.sha256, GOOD_AGAIN)
            for issue in () if revoked else issues:
                faults.setdefault(issue.message, _Fault(issue)).people.update(dict.fromkeys(one.addresses))
            done.checked += 1
            tell(done.checked)
    done.issues = [fault.summary() for fault in faults.values()]
    return done


@dataclass(frozen=True)
class _Fault:
    """Something that could not be found out, and about whose certificates."""

    issue: Issue
    people: dict[str, None] = field(default_factory=dict)

    def summary(self) -> Issue:
        """The issue with the person, or with some of the people where there are several."""
        match list(self.people):
            case []:
                return self.issue
            case [one]:
                return replace(self.issue, address=one)
            case several:
                shown = ", ".join(escape_unsafe(one) for one in several[:SHOWN])
                more = f" and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
                return replace(self.issue, message=f"{self.issue.message} ({shown}{more})")


def _checked(batch: Sequence[CertificateInUse], checker: Checker) -> Iterator[tuple[CertificateInUse, list[Issue]]]:
    yield from zip(batch, judged([(one.leaf, one.chain) for one in batch], checker), strict=True)
