"""People and certificates -> a plan: who is to get what, and every reason why somebody is not. Sends nothing.

One pass: certificates are opened, matched, examined and recorded as they come. Of a plan of 100 000 people little may stay in memory:
people are packed, and what is told or looked at again at the end goes into spools, which may be files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from distributor.core.credentials import Facts, Material, Opened
from distributor.core.deliveries import Delivery, Known
from distributor.core.directory import Directory
from distributor.core.findings import Issue
from distributor.core.ports import Ledger, NewSpool, Pool, Roster, Source, Spool
from distributor.core.states import State
from distributor.flow.matching import Candidate, Matching
from distributor.flow.people import gather
from distributor.flow.wording import already

if TYPE_CHECKING:
    from distributor.flow.trust import Checker  # its chains are heavy to load, and not everybody has them checked

BATCH = 200  # drafts a transaction


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned, and what was not and why."""

    plan: str
    deliveries: Spool[Any]  # each as it was asked for
    issues: Spool[Issue]
    known: Counter[State] = field(default_factory=Counter)  # pairs that the ledger knew already, by state
    left: Spool[Issue] = field(default_factory=list)  # files that are no certificates and were left alone
    nobody: str | None = None  # "roster" or "directory", where it names no person at all

    @property
    def recorded(self) -> bool:
        """Whether the ledger knows the plan: not where there was nothing to plan."""
        return bool(len(self.deliveries) or self.known)


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
    show: Callable[[Delivery, Facts], Any] = lambda delivery, _: delivery,
    spool: NewSpool = list,
) -> Planned:
    """Plan all that is good.

    People on the roster are held against the directory; without a roster, its people are meant. Without either, each certificate's own
    address is its person. `inputs` is kept in the ledger: absolute paths, never secrets.
    `tell` hears how many files were opened so far; `show` makes of a planned delivery what is kept of it. `spool` makes lists for what is
    kept until the end.
    """
    people = gather(roster, directory, spool)
    nobody = people.nobody  # before there is anything else to say
    work = Matching(people, languages, now, checker, spool)
    record = _Record(ledger, plan_id, inputs, show, spool)
    for batch in _batches(work.candidates(source, pool, tell)):
        record.keep(work.trusted(batch, ledger.revoked([candidate.draft.facts.sha256 for candidate in batch])))
    for late in (work.lacking(), record.notes):
        for issue in late:
            work.issues.append(issue)
    return Planned(plan_id, record.deliveries, work.issues, record.known, work.left, nobody)


def _batches(candidates: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    while batch := list(islice(candidates, BATCH)):
        yield batch


class _Record:
    """A plan in the ledger, begun with its first draft."""

    def __init__(
        self, ledger: Ledger, plan_id: str, inputs: Mapping[str, object], show: Callable[[Delivery, Facts], Any], spool: NewSpool
    ) -> None:
        self._ledger, self._plan, self._inputs, self._show = ledger, plan_id, inputs, show
        self.deliveries: Spool[Any] = spool()
        self.known: Counter[State] = Counter()
        self.notes: Spool[Issue] = spool()

    def keep(self, batch: Sequence[Candidate]) -> None:
        """Record a batch in one transaction."""
        if not batch:
            return
        if not len(self.deliveries) and not self.known:
            self._ledger.begin_plan(self._plan, self._inputs)
        results = self._ledger.plan(self._plan, [candidate.draft for candidate in batch])
        for candidate, result in zip(batch, results, strict=True):
            if isinstance(result, Known):
                self.known[result.state] += 1
                self.notes.append(already(result, candidate.source))
            else:
                self.deliveries.append(self._show(result, candidate.draft.facts))
