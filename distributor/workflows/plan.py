"""Plans deliveries: opens certificates, matches them to people, checks them, records what is good. Sends nothing.

It streams, for a plan of 100 000 people must not fill the memory: people are kept packed, and what is needed at the end goes into spools,
which may be files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from distributor.errors import RequestDenied
from distributor.model.certificates import ParsedIdentities, SourceMaterial
from distributor.model.channels import PasswordTo
from distributor.model.delivery import Delivery, DeliveryRequest, ExistingDelivery, Taken
from distributor.model.issues import Issue
from distributor.model.people import Directory
from distributor.model.ports import Ledger, NewSpool, Roster, Source, Spool, WorkerPool
from distributor.model.states import State, Way
from distributor.workflows.key_owners import KeyOwners
from distributor.workflows.matching import Candidate, Matching
from distributor.workflows.password_recipients import PasswordRecipients
from distributor.workflows.plan_messages import already, already_taken, one_key, revocation, served_otherwise
from distributor.workflows.roster import gather
from distributor.workflows.series import in_series

if TYPE_CHECKING:
    from distributor.model.ports import Checker

BATCH = 200  # deliveries recorded in one transaction


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The planned deliveries, and the issues that kept others from being planned."""

    plan: str
    deliveries: Spool[Any]  # each as `show` returned it
    issues: Spool[Issue]
    known: Counter[State] = field(default_factory=Counter)  # deliveries that the ledger had already, by state
    left: Spool[Issue] = field(default_factory=list)  # files that are no certificates and were left alone
    chains: Mapping[int, int] = field(default_factory=dict)  # how many planned deliveries have that many CA certificates
    old: tuple[int, int] = (0, 0)  # how many planned deliveries are of old certificates, and of how many people
    elsewhere: int = 0  # certificates of people who are served by another way
    renewals: int = 0  # how many renew another certificate
    nobody: str | None = None  # "roster" or "directory", where it names no person at all

    @property
    def recorded(self) -> bool:
        """Whether the ledger knows the plan: not where there was nothing to plan."""
        return bool(len(self.deliveries) or self.known)

    @property
    def fruitless(self) -> bool:
        """Whether nothing at all is to be delivered, by this way or another."""
        return not self.recorded and not self.elsewhere


def plan(  # noqa: PLR0913  what a use case needs
    ledger: Ledger,
    roster: Roster | None,
    source: Source,
    pool: WorkerPool[SourceMaterial, ParsedIdentities],
    *,
    plan_id: str,
    inputs: Mapping[str, object],
    languages: Sequence[str],
    now: datetime,
    directory: Directory | None = None,
    checker: Checker | None = None,
    tell: Callable[[int], None] = lambda _: None,
    written_in: Callable[[str], str] = lambda language: language,
    password_to: PasswordTo | None = None,
    way: Way = Way.MAIL,
    both: bool = False,
    history: bool = False,
    show: Callable[[Delivery, DeliveryRequest], Any] = lambda delivery, _: delivery,
    spool: NewSpool = list,
) -> PlanResult:
    """Plan a delivery for every good certificate.

    People on the roster are compared with the directory; without a roster, everybody in the directory is planned. Without either, each
    certificate's own address is its person. `inputs` is kept in the ledger: absolute paths, never secrets. `tell` gets the number of files
    opened so far; `written_in` turns a language into that of the message; `password_to`: where passwords are mailed to; `both`: also
    people who are served by another way than `way`; `history`: also expired certificates, whose keys are for old mail; `show` turns a
    planned delivery into what the result keeps of it; `spool` makes the lists that are kept until the end.
    """
    people = gather(roster, directory, spool)
    nobody = people.nobody  # before issues of other kinds are added
    recipients = PasswordRecipients(password_to) if password_to is not None else None
    old: Spool[Candidate] | None = spool() if history else None
    work = Matching(people, languages, now, checker, spool, written_in, recipients, old)
    record = _Record(ledger, plan_id, inputs, show, spool)
    record.only = None if both else way
    for batch in _batches(replace(one, draft=replace(one.draft, way=way)) for one in work.candidates(source, pool, tell)):
        record.keep(work.trusted(batch, ledger.revoked([], {candidate.draft.facts.sha256: candidate.draft.leaf for candidate in batch})))
    if old is not None:
        for batch in _batches(replace(one, draft=replace(one.draft, way=way)) for one in in_series(old, ledger)):
            record.keep(_not_revoked(batch, ledger, work.issues))
    for late in (work.missing(), record.notes):
        for issue in late:
            work.issues.append(issue)
    found = PlanResult(plan_id, record.deliveries, work.issues, record.known, work.left, record.deliveries.chains, nobody=nobody)
    return replace(found, old=(record.old.total(), len(record.old)), renewals=record.renewals, elsewhere=record.elsewhere)


def _not_revoked(batch: Sequence[Candidate], ledger: Ledger, issues: Spool[Issue]) -> list[Candidate]:
    """Those without a recorded revocation or incident; a chain that has expired is not checked."""
    known = ledger.revoked([], {one.draft.facts.sha256: one.draft.leaf for one in batch})
    for one in batch:
        if (why := known.get(one.draft.facts.sha256)) is not None:
            issues.append(replace(revocation(why), source=one.source, address=str(one.draft.person.address)))
    return [one for one in batch if one.draft.facts.sha256 not in known]


def _batches(candidates: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    while batch := list(islice(candidates, BATCH)):
        yield batch


class _Record:
    """A plan in the ledger, begun with its first delivery."""

    def __init__(
        self, ledger: Ledger, plan_id: str, inputs: Mapping[str, object], show: Callable[[Delivery, DeliveryRequest], Any], spool: NewSpool
    ) -> None:
        self.only: Way | None = None  # people who are served by another way alone are left out
        self._ledger, self._plan, self._inputs, self._show = ledger, plan_id, inputs, show
        self._keys, self._begun = KeyOwners(), False
        self.deliveries = Kept(spool())
        self.known: Counter[State] = Counter()
        self.old: Counter[str] = Counter()  # planned old certificates, by Address.key
        self.renewals = self.elsewhere = 0
        self.notes: Spool[Issue] = spool()

    def keep(self, batch: Sequence[Candidate]) -> None:
        """Record a batch in one transaction."""
        good, refused = self._keys.without_duplicates(self._not_served_otherwise(batch))
        for issue in refused:
            self.notes.append(issue)
        if not good:
            return
        if not self._begun:
            self._ledger.begin_plan(self._plan, self._inputs)
            self._begun = True
        results = self._ledger.plan(self._plan, [candidate.draft for candidate in good])
        for candidate, result in zip(good, results, strict=True):
            match result:
                case ExistingDelivery():
                    self.known[result.state] += 1
                    self.notes.append(already(result, candidate.source))
                case Taken():
                    self._taken(result, candidate.source)
                case _:
                    self.renewals += result.predecessor is not None
                    if result.series:
                        self.old[candidate.draft.person.address.key] += 1
                    self.deliveries.append((result.id, self._show(result, candidate.draft), len(candidate.draft.chain)))

    def _not_served_otherwise(self, batch: Sequence[Candidate]) -> Sequence[Candidate]:
        if self.only is None:
            return batch
        others = self._ledger.served_otherwise(sorted({one.draft.person.address.key for one in batch}), self.only)
        for one in batch:
            if (other := others.get(one.draft.person.address.key)) is not None:
                self.elsewhere += 1
                self.notes.append(served_otherwise(str(one.draft.person.address), other, one.source))
        return [one for one in batch if one.draft.person.address.key not in others] if others else batch

    def _taken(self, found: Taken, source: str) -> None:
        """Another person has the certificate or key; where that is by this plan, neither gets it."""
        other = self._ledger.delivery(found.delivery)
        if other is None or other.plan != self._plan:
            self.notes.append(already_taken(found, source))
            return
        first = one_key(other.address, str(found.draft.person.address), None)
        try:
            self._ledger.withdraw(other.id, first.message)
        except RequestDenied:  # a `send` at the same time has claimed it
            self.notes.append(already_taken(found, source))
            return
        self._keys.refuse(found.draft, other.address)
        self.deliveries.remove(other.id)
        self.notes.append(first)
        self.notes.append(one_key(str(found.draft.person.address), other.address, source))


class Kept:
    """The planned deliveries without those that were withdrawn again; a Spool."""

    def __init__(self, spool: Spool[tuple[str, Any, int]]) -> None:
        self._all, self._removed = spool, set[str]()
        self.chains: Counter[int] = Counter()  # how many deliveries have that many CA certificates

    def append(self, kept: tuple[str, Any, int]) -> None:
        """Add a delivery's id, what `show` returned for it, and how many CA certificates come with it."""
        self._all.append(kept)
        self.chains[kept[2]] += 1

    def remove(self, delivery: str) -> None:
        """Leave out one that was withdrawn."""
        self._removed.add(delivery)
        self.chains[next(chain for known, _, chain in self._all if known == delivery)] -= 1

    def __len__(self) -> int:
        return len(self._all) - len(self._removed)

    def __iter__(self) -> Iterator[Any]:
        return (kept for delivery, kept, _ in self._all if delivery not in self._removed)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401  whatever `show` returned
        return next(islice(self, index, None))
