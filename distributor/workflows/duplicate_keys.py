"""Refuses planned deliveries that would give two people the same certificate or the same key."""

from __future__ import annotations

from collections.abc import Sequence

from distributor.model.delivery import DeliveryRequest, Taken
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.states import State
from distributor.pki.spki import sha256_of
from distributor.workflows.matching import Candidate

OWN_KEY = "have a certificate with a key of its own issued for each"
_MAY_GO_BACK = frozenset({State.PLANNED, State.QUEUED, State.DEFERRED, State.REJECTED, State.BOUNCED})


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
        for key, addresses in people.items():
            if len(addresses) > 1:
                self._refused.setdefault(key, next(iter(addresses.values())))
        good = [candidate for candidate in batch if _key(candidate.draft) not in self._refused]
        issues = [self._issue(candidate, people[_key(candidate.draft)]) for candidate in batch if candidate not in good]
        return good, issues

    def _issue(self, candidate: Candidate, people: dict[str, str]) -> Issue:
        address = candidate.draft.person.address
        others = [other for who, other in people.items() if who != address.key] or [self._refused[_key(candidate.draft)]]
        return one_key(str(address), others[0], candidate.source)

    def refuse(self, draft: DeliveryRequest, other: str) -> None:
        """Nobody else in this plan gets this key."""
        self._refused[_key(draft)] = other


def _key(draft: DeliveryRequest) -> str:
    return sha256_of(draft.leaf) or draft.facts.sha256


def one_key(address: str, other: str, source: str | None) -> Issue:
    """The issue of two people of one plan who have the same key."""
    message = f'the certificates of "{address}" and "{other}" are about the same key: whoever has it reads the mail of both'
    return Issue(Severity.ERROR, CheckId.DUPLICATE, message, OWN_KEY, source, None, address)


def already_taken(found: Taken, source: str) -> Issue:
    """The issue of a certificate or key that another person has according to the ledger."""
    address = str(found.draft.person.address)
    who = f'"{found.address}"' + (f" ({found.name})" if found.name else "")
    unclear = ", and may have arrived there," if found.state is State.WITHDRAWN else ""
    standing = f"{found.state} for {who} since {found.since:%Y-%m-%d}{unclear}"
    if found.same_certificate:
        message = f'this certificate is {standing} and cannot be for "{address}" too: one certificate is for one person'
    else:
        message = f'a certificate about the same key is {standing}, so "{address}" could read the mail of both'
    hint = f'have a certificate with a new key issued for "{address}", also where both are one person with a new address'
    if found.state in _MAY_GO_BACK:
        hint = f"{hint}; or, if the other is the wrong one: distributor withdraw {found.delivery} --reason TEXT"
    return Issue(Severity.ERROR, CheckId.DUPLICATE, message, hint, source, None, address)
