"""Checks the certificates given to `distributor trust check` as `plan` does: chain, revocation, and what the collection lacks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.errors import InvalidInput
from distributor.model.issues import CheckId

if TYPE_CHECKING:
    from datetime import datetime

    from distributor.config.schema import TrustSettings
    from distributor.microsoft.collection import ChainGap, CollectionEntry
    from distributor.model.issues import Issue

CHAIN = frozenset({CheckId.CHAIN_INCOMPLETE, CheckId.CHAIN_UNTRUSTED})


@dataclass(frozen=True, slots=True)
class CheckedCertificates:
    """What the collection lacks for each certificate, every issue, and which certificates (DER) have an error."""

    sought: tuple[ChainGap, ...] = ()
    issues: tuple[Issue, ...] = ()
    wrong: frozenset[bytes] = frozenset()

    def complete(self, one: ChainGap) -> bool:
        """Whether its chain is complete and it has no error."""
        return one.member.der not in self.wrong and (not one.member.authority or not one.lacks)


def check_certificates(
    collection: Sequence[CollectionEntry],
    certificates: Sequence[CollectionEntry],
    table: TrustSettings | None,
    now: datetime,
    *,
    offline: bool,
) -> CheckedCertificates:
    """Check certificates of people and of authorities against a collection. `table`: `[trust]`, which says how strictly."""
    from distributor.bootstrap import trust
    from distributor.microsoft import collection as chain_gaps
    from distributor.model.issues import Severity
    from distributor.workflows.revocation import judged

    if not certificates:
        return CheckedCertificates()
    sought = chain_gaps.find_gaps(collection, certificates)
    people = [one for one in sought if not one.member.authority]
    above = [member.der for member in certificates if member.authority]
    lacks = [one for one in sought if one.member.authority]
    issues: list[Issue] = []
    wrong: set[bytes] = set()
    with trust.collection_checker([member.der for member in collection], table, now, offline=offline) as checker:
        for one, found in zip(people, judged([(each.member.der, above) for each in people], checker), strict=True):
            if one.lacks and any(issue.check in CHAIN for issue in found):
                lacks.append(one)  # its issue names the certificate to add
                found = [issue for issue in found if issue.check not in CHAIN]  # noqa: PLW2901
            if one in lacks or any(issue.severity is Severity.ERROR for issue in found):
                wrong.add(one.member.der)
            address = next(iter(one.member.facts.addresses), None)
            issues += [replace(issue, source=one.member.source, address=address) for issue in found]
    missing = [replace(issue, severity=Severity.WARNING) if checker.soft else issue for issue in chain_gaps.issues(lacks)]
    return CheckedCertificates(tuple(sought), (*missing, *issues), frozenset(wrong))


def configured(chosen: Path | None) -> TrustSettings | None:
    """`[trust]` of the configuration; a configuration that was not named may be missing."""
    from distributor import bootstrap

    try:
        return bootstrap.settings(chosen).trust
    except InvalidInput:
        if chosen is not None:
            raise
        return None
