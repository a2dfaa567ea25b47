"""Packs planned deliveries: child processes make their messages (`workflows/message_factory.py`), the ledger stores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from heapq import nlargest
from time import monotonic, sleep

from distributor.errors import Error
from distributor.model.attempts import PackedMessage, PackingJob, PackingTask
from distributor.model.certificates import ParseProblem, SourceMaterial
from distributor.model.clocks import bounded_lease
from distributor.model.delivery import DeliveryFilter, LeaseHolder
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Address, Person, key_of
from distributor.model.ports import Ledger, Now, Source, WorkerPool
from distributor.workflows.sending.report import WaitNotice

BATCH = 200  # deliveries leased, and messages stored, in one transaction; sending still starts within a second
LOOK_AGAIN = 0.5  # seconds between two looks at what other processes pack
GROUP = 16  # of them that a child process makes step by step; more is hardly faster, and what is lost with one of them is done again


@dataclass(frozen=True, slots=True)
class Batch:
    """Ids of deliveries that are queued now, and why others stay planned."""

    stored: tuple[str, ...]
    issues: tuple[Issue, ...]


OpenPlan = Callable[[Mapping[str, object]], tuple[Source, Mapping[str, Person]]]


def pack(  # noqa: PLR0913  what a use case needs
    ledger: Ledger,
    open_plan: OpenPlan,
    pool: WorkerPool[PackingJob, PackedMessage | ParseProblem],
    *,
    owner: LeaseHolder,
    lease: timedelta,
    scope: DeliveryFilter,
    limit: int | None,
    now: Now,
    stop: Callable[[], bool],
    senders: Sequence[str] = (),
    alive: Callable[[LeaseHolder], bool | None] | None = None,
) -> Iterator[Batch | WaitNotice]:
    """Pack planned deliveries, batch by batch, until none is left, `limit` are tried or `stop` returns True.

    `senders`: the addresses of the mailboxes, where there are several. `alive`: whether a lease's process runs, None where it cannot be
    known; with it, what another process packs is waited for, and packed here where that process ends.
    What cannot be packed stays planned and leased to `owner`, so that no other process tries it again meanwhile.
    """
    issues: list[Issue] = []
    plans = _Plans(ledger, open_plan)
    tasks = _Tasks(ledger, owner, lease, scope, SenderBalance(senders, ledger.due(DeliveryFilter(), early=True) if senders else {}), limit)
    done: list[PackedMessage] = []
    while True:
        for job, result in pool.map(_jobs(tasks.leased(stop), plans, now, issues)):
            match result:
                case PackedMessage():
                    done.append(result)
                case _:
                    issues.append(_issue(job, result))
            if len(done) + len(issues) >= BATCH:
                yield tasks.stored(done, issues)
        if done or issues:
            yield tasks.stored(done, issues)
        if alive is None or not (yield from tasks.wait_for_others(alive, stop)):
            return


class SenderBalance:
    """Chooses the mailbox that sends to each person; all get about as many messages.

    `waiting`: the messages that wait for each mailbox already. Two processes that pack at the same time may choose two mailboxes for two
    messages of one new person; a stored message keeps its own.
    """

    def __init__(self, senders: Sequence[str], waiting: Mapping[str, int]) -> None:
        self._keys = {sender: key_of(sender) for sender in senders}
        self._messages = Counter(waiting)
        self._chosen: dict[str, str] = {}  # by person; only of messages that are not stored yet

    def choose(self, person: Address, last: str | None) -> str | None:
        """The sender of the person's `last` message while it is configured, else the emptier of the two that their hash puts first.

        Where a mailbox is removed, only its own people move. None without mailboxes to choose from.
        """
        if not self._keys:
            return last
        known = (sender for sender in (last, self._chosen.get(person.key)) if sender in self._keys)
        sender = next(known, None) or min(self._best(person.key), key=lambda one: self._messages[one])
        self._chosen[person.key] = sender
        self._messages[sender] += 1
        return sender

    def _best(self, person: str) -> list[str]:
        """By rendezvous hashing."""
        return nlargest(2, self._keys, key=lambda sender: sha256(f"{self._keys[sender]}\0{person}".encode()).digest())

    def forget(self, person: str) -> None:
        """The ledger knows the person's sender now. `person`: as `Address.key`."""
        self._chosen.pop(person, None)


class _Tasks:
    """Planned deliveries, leased batch by batch, each with its sender; and their messages, stored likewise."""

    def __init__(  # noqa: PLR0913, PLR0917  what `pack` is given
        self, ledger: Ledger, owner: LeaseHolder, lease: timedelta, scope: DeliveryFilter, senders: SenderBalance, limit: int | None
    ) -> None:
        self._ledger, self._owner, self._lease, self._scope, self._senders = ledger, owner, lease, scope, senders
        self._left = limit
        self._told = False  # that others are waited for
        self._dead: frozenset[str] = frozenset()  # owners whose leases are over
        # The person of each that was tried and not stored: its lease may expire during a long run, and it would be leased again.
        self._tried: dict[str, str] = {}

    def leased(self, stop: Callable[[], bool]) -> Iterator[PackingTask]:
        while self._left is None or self._left > 0:
            count = BATCH if self._left is None else min(BATCH, self._left)
            tasks = [] if stop() else self._ledger.lease(self._owner, count, self._lease, self._scope, self._dead)
            new = [self._begin(task) for task in tasks if task.id not in self._tried]
            for task in new:
                if stop():
                    return
                if self._left is not None:
                    self._left -= 1
                yield task
            if not tasks:
                return

    def wait_for_others(self, alive: Callable[[LeaseHolder], bool | None], stop: Callable[[], bool]) -> Generator[WaitNotice, None, bool]:
        """Wait while other processes pack; whether something may be free now.

        One that runs and stores nothing for as long as a lease lasts only keeps what it could not pack.
        """
        if self._left == 0:
            return False
        before, began = self._ledger.packers(self._owner, self._scope), monotonic()
        while before and not stop():
            self._dead |= {holder.id for holder in before if alive(holder) is False}
            if self._dead & {holder.id for holder in before}:
                return True
            if not self._told:
                self._told = True
                yield WaitNotice(None, "another `distributor send` is packing; waiting for it to finish")
            sleep(LOOK_AGAIN)
            if self._ledger.packers(self._owner, self._scope) != before:
                return True
            if monotonic() - began > bounded_lease(self._lease).total_seconds():
                return False
        return False

    def _begin(self, task: PackingTask) -> PackingTask:
        self._tried[task.id] = task.person.address.key
        return replace(task, sender=self._senders.choose(task.person.address, task.sender))

    def stored(self, done: list[PackedMessage], issues: list[Issue]) -> Batch:
        """Store what is done; both lists are empty afterwards."""
        queued = self._ledger.enqueue(done, self._owner) if done else []
        for packed in done:
            self._senders.forget(self._tried.pop(packed.id))
        batch = Batch(tuple(packed.id for packed, good in zip(done, queued, strict=True) if good), tuple(issues))
        done.clear()
        issues.clear()
        return batch


class _Plans:
    """Each plan's source and people, opened once."""

    def __init__(self, ledger: Ledger, open_plan: OpenPlan) -> None:
        self._ledger, self._open = ledger, open_plan
        self._known: dict[str, tuple[Source, Mapping[str, Person]] | Issue] = {}

    def material(self, todo: PackingTask) -> SourceMaterial | Issue:
        if todo.plan not in self._known:
            self._known[todo.plan] = self._opened(todo.plan)
        match self._known[todo.plan]:
            case Issue() as issue:
                return issue
            case (source, people):
                found = source.fetch(todo.locator, people.get(todo.person.address.key, todo.person))
                return replace(found, message=f"{found.source}: {found.message}") if isinstance(found, Issue) else found

    def _opened(self, plan: str) -> tuple[Source, Mapping[str, Person]] | Issue:
        try:
            return self._open(self._ledger.plan_inputs(plan) or {})
        except Error as error:
            return Issue(Severity.ERROR, CheckId.UNREADABLE, str(error), error.hint, source=error.where)


def _jobs(todos: Iterator[PackingTask], plans: _Plans, now: Now, issues: list[Issue]) -> Iterator[PackingJob]:
    for todo in todos:
        match plans.material(todo):
            case Issue() as issue:
                issues.append(replace(issue, address=str(todo.person.address)))
            case material:
                yield PackingJob(todo, material, now())


_LOST = {
    "time": (
        CheckId.TOO_COSTLY,
        "opening the file and building its message took too long",
        "check the file and your own templates, or raise [limits] open_seconds",
    ),
    "memory": (CheckId.TOO_COSTLY, "opening the file needs too much memory", "check the file"),
}
_CRASHED = (CheckId.UNREADABLE, "opening the file crashed the worker process", "export the certificate again and run `distributor plan`")


def _issue(job: PackingJob, result: ParseProblem | WorkerFailure) -> Issue:
    match result:
        case ParseProblem(check, message, hint):
            pass
        case WorkerFailure(reason):
            check, message, hint = _LOST.get(reason, _CRASHED)
    if check is not CheckId.BAD_ROW:  # whose message names the template
        message = f"{job.material.source}: {message}"
    return Issue(Severity.ERROR, check, message, hint, source=job.material.source, address=str(job.task.person.address))
