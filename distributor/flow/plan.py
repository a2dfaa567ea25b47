"""People and certificates -> a plan: who is to get what, and every reason why somebody is not. Sends nothing.

One pass: certificates are opened, matched, examined and recorded as they come; only people, what could not be matched and what waits
for a person's own file are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from distributor.core.credentials import Material, Opened
from distributor.core.deliveries import Delivery, Known, Taken
from distributor.core.directory import Directory
from distributor.core.findings import Issue
from distributor.core.ports import Ledger, Pool, Roster, Source
from distributor.errors import Refused
from distributor.flow.matching import Candidate, Matching
from distributor.flow.people import gather
from distributor.flow.sharing import Keys, already_taken, one_key
from distributor.flow.wording import already

if TYPE_CHECKING:
    from distributor.flow.trust import Checker  # its chains are heavy to load, and not everybody has them checked

BATCH = 200  # drafts a transaction


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned, and what was not and why."""

    plan: str
    deliveries: tuple[Delivery, ...]
    issues: tuple[Issue, ...]
    known: tuple[Known, ...]
    left: tuple[Issue, ...] = ()  # files that are no certificates and were left alone
    nobody: str | None = None  # "roster" or "directory", where it names no person at all

    @property
    def recorded(self) -> bool:
        """Whether the ledger knows the plan: not where there was nothing to plan."""
        return bool(self.deliveries or self.known)


def plan(  # noqa: PLR0913  each is one of the doors
    ledger: Ledger,
    roster: Roster | None,
    source: Source,
    pool: Pool[Material, Opened],
    *,
    plan_id: str,
    inputs: Mapping[str, object],
    languages: Sequence[str],
    now: datetime,
    directory: Directory | None = None,
    checker: Checker | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Planned:
    """Plan all that is good.

    People on the roster are held against the directory; without a roster, its people are meant. Without either, each certificate's own
    address is its person. `inputs` is kept in the ledger: absolute paths, never secrets.
    `tell` hears how many files were opened so far.
    """
    people = gather(roster, directory)
    work = Matching(people, languages, now, checker)
    record = _Record(ledger, plan_id, inputs)
    for batch in _batches(work.candidates(source, pool, tell)):
        record.keep(work.trusted(batch, ledger.revoked([candidate.draft.facts.sha256 for candidate in batch])))
    issues = (*people.issues, *work.issues, *work.lacking(), *record.notes)
    return Planned(plan_id, tuple(record.deliveries), issues, tuple(record.known), tuple(work.left), people.nobody)


def _batches(candidates: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    while batch := list(islice(candidates, BATCH)):
        yield batch


class _Record:
    """A plan in the ledger, begun with its first draft."""

    def __init__(self, ledger: Ledger, plan_id: str, inputs: Mapping[str, object]) -> None:
        self._ledger, self._plan, self._inputs = ledger, plan_id, inputs
        self._keys, self._begun = Keys(), False
        self.deliveries: list[Delivery] = []
        self.known: list[Known] = []
        self.notes: list[Issue] = []

    def keep(self, batch: Sequence[Candidate]) -> None:
        """Record a batch in one transaction."""
        good, refused = self._keys.sift(batch)
        self.notes += refused
        if not good:
            return
        if not self._begun:
            self._ledger.begin_plan(self._plan, self._inputs)
            self._begun = True
        results = self._ledger.plan(self._plan, [candidate.draft for candidate in good])
        for candidate, result in zip(good, results, strict=True):
            match result:
                case Known():
                    self.known.append(result)
                    self.notes.append(already(result, candidate.source))
                case Taken():
                    self._taken(result, candidate.source)
                case _:
                    self.deliveries.append(result)

    def _taken(self, found: Taken, source: str) -> None:
        """Somebody else has it; where that is a delivery of this plan, nobody gets it."""
        ours = next((delivery for delivery in self.deliveries if delivery.id == found.delivery), None)
        if ours is None:
            self.notes.append(already_taken(found, source))
            return
        first = one_key(ours.address, str(found.draft.person.address), None)
        try:
            self._ledger.withdraw(ours.id, first.message)
        except Refused:  # a `send` beside this plan has it already
            self.notes.append(already_taken(found, source))
            return
        self._keys.refuse(found.draft, ours.address)
        self.deliveries.remove(ours)
        self.notes += [first, one_key(str(found.draft.person.address), ours.address, source)]
