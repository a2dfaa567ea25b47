"""Certificates at hand -> what speaks against each, judged as `plan` judges its chain and its revocation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.errors import InvalidInput
from distributor.model.issues import CheckId

if TYPE_CHECKING:
    from datetime import datetime

    from distributor.config.schema import TrustSettings as Table
    from distributor.microsoft.chain_gaps import ChainGap
    from distributor.microsoft.collection import CollectionEntry
    from distributor.model.issues import Issue

CHAIN = frozenset({CheckId.CHAIN_INCOMPLETE, CheckId.CHAIN_UNTRUSTED})


@dataclass(frozen=True, slots=True)
class CheckedCertificates:
    """What the collection lacks for each certificate, everything against them, and the people's against which nothing serious is."""

    sought: tuple[ChainGap, ...] = ()
    issues: tuple[Issue, ...] = ()
    wrong: frozenset[bytes] = frozenset()

    def complete(self, one: ChainGap) -> bool:
        """Whether its chain is whole and nothing is wrong with it."""
        return one.member.der not in self.wrong and (not one.member.authority or not one.lacks)


def check_certificates(
    collection: Sequence[CollectionEntry], at_hand: Sequence[CollectionEntry], table: Table | None, now: datetime, *, offline: bool
) -> CheckedCertificates:
    """Everything against the certificates at hand. `table`: how `[trust]` wants it."""
    from distributor.bootstrap import trust
    from distributor.microsoft import chain_gaps
    from distributor.model.issues import Severity
    from distributor.workflows.revocation import judged

    if not at_hand:
        return CheckedCertificates()
    sought = chain_gaps.find_gaps(collection, at_hand)
    people = [one for one in sought if not one.member.authority]
    above = [member.der for member in at_hand if member.authority]
    lacks = [one for one in sought if one.member.authority]
    issues: list[Issue] = []
    wrong: set[bytes] = set()
    with trust.holding([member.der for member in collection], table, now, offline=offline) as checker:
        for one, found in zip(people, judged([(each.member.der, above) for each in people], checker), strict=True):
            if one.lacks and any(issue.check in CHAIN for issue in found):
                lacks.append(one)  # which says what to add
                found = [issue for issue in found if issue.check not in CHAIN]  # noqa: PLW2901
            if one in lacks or any(issue.severity is Severity.ERROR for issue in found):
                wrong.add(one.member.der)
            address = next(iter(one.member.facts.addresses), None)
            issues += [replace(issue, source=one.member.source, address=address) for issue in found]
    missing = [replace(issue, severity=Severity.WARNING) if checker.soft else issue for issue in chain_gaps.issues(lacks)]
    return CheckedCertificates(tuple(sought), (*missing, *issues), frozenset(wrong))


def configured(chosen: Path | None) -> Table | None:
    """`[trust]`, where there is a configuration; one that is named must be readable."""
    from distributor import bootstrap

    try:
        return bootstrap.settings(chosen).trust
    except InvalidInput:
        if chosen is not None:
            raise
        return None
