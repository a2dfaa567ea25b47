"""Refuses planned deliveries that would give two people the same certificate or the same key."""

from __future__ import annotations

from collections.abc import Sequence

from distributor.model.delivery import DeliveryRequest
from distributor.model.issues import Issue
from distributor.pki.spki import sha256_of
from distributor.workflows.matching import Candidate
from distributor.workflows.plan_messages import one_key


class KeyOwners:
    """The keys that two people of one plan have: neither gets a message, for nobody can tell whose key it is."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}  # the address of one person, by key

    def without_duplicates(self, batch: Sequence[Candidate]) -> tuple[list[Candidate], list[Issue]]:
        """The candidates that may be recorded, and an issue for each other one."""
        people: dict[str, dict[str, str]] = {}  # addresses by key and person
        for candidate in batch:
            address = candidate.draft.person.address
            people.setdefault(_key(candidate.draft), {})[address.key] = str(address)
        for key, shown in people.items():
            if len(shown) > 1:
                self._refused.setdefault(key, next(iter(shown.values())))
        good = [candidate for candidate in batch if _key(candidate.draft) not in self._refused]
        bad = [candidate for candidate in batch if _key(candidate.draft) in self._refused]
        return good, [self._issue(candidate, people[_key(candidate.draft)]) for candidate in bad]

    def _issue(self, candidate: Candidate, people: dict[str, str]) -> Issue:
        address = candidate.draft.person.address
        others = [other for who, other in people.items() if who != address.key] or [self._refused[_key(candidate.draft)]]
        return one_key(str(address), others[0], candidate.source)

    def refuse(self, draft: DeliveryRequest, other: str) -> None:
        """Nobody else in this plan gets this key."""
        self._refused[_key(draft)] = other


def _key(draft: DeliveryRequest) -> str:
    return sha256_of(draft.leaf) or draft.facts.sha256
