"""Certificates that are to be sent -> what Exchange Online will hold against their chains, weighed as the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Protocol

from distributor.core.findings import Check, Issue, Severity
from distributor.core.revoking import Issued, Revocations, Struck
from distributor.core.trust import Chains, Library
from distributor.core.trust_paths import Collected

TOGETHER = 200  # certificates whose lists are fetched side by side


class Checker(Protocol):
    """Who knows whether a chain is in order."""

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:
        """Let what will be needed be fetched meanwhile; does not wait."""
        ...

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> list[Issue]:
        """Everything against the chain, or nothing."""
        ...


class Trust:
    """Chains held against one collection at one time.

    `library`: None where nothing may be fetched; `soft`: all but revocation are warnings.
    """

    def __init__(self, collected: Collected, library: Library | None, now: datetime, *, soft: bool = False) -> None:
        self._chains, self._soft = Chains(collected, library, now), soft

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:  # noqa: ARG002  the door's argument
        """Let its CRLs be fetched."""
        self._chains.begin(leaf)

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> list[Issue]:
        """Everything against it."""
        return [self._weighed(issue) for issue in self._chains.objections(leaf, chain)]

    def _weighed(self, issue: Issue) -> Issue:
        if self._soft and issue.check is not Check.REVOKED:
            return replace(issue, severity=Severity.WARNING)
        return issue


@dataclass
class Watched:
    """What a look at everything in use came to: how many certificates, whose deliveries were told, and what could not be found out."""

    checked: int = 0
    revoked: list[Struck] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)  # each fault once, however many certificates it concerns


def watch(ledger: Revocations, checker: Checker, *, now: datetime, tell: Callable[[int], None] = lambda _: None) -> Watched:
    """Hold every certificate in use against fresh CRLs; what was revoked is written on its deliveries, what has not left is withdrawn."""
    done, faults = Watched(), dict[str, Issue]()
    certificates = ledger.issued(now)
    while batch := list(islice(certificates, TOGETHER)):
        for one, issues in _checked(batch, checker):
            revoked = next((issue for issue in issues if issue.check is Check.REVOKED), None)
            if revoked is not None:
                done.revoked += ledger.revoke(one.sha256, revoked.message)
            else:
                faults |= {issue.message: issue for issue in issues}
            done.checked += 1
            tell(done.checked)
    done.issues = list(faults.values())
    return done


def _checked(batch: Sequence[Issued], checker: Checker) -> Iterator[tuple[Issued, list[Issue]]]:
    for one in batch:
        checker.begin(one.leaf, one.chain)
    for one in batch:
        yield one, checker.check(one.leaf, one.chain)
