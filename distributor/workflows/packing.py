"""Packs planned deliveries: child processes make their messages (`workflows/message_factory.py`), the ledger stores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from heapq import nlargest

from distributor.errors import Error
from distributor.model.certificates import ParseProblem, SourceMaterial
from distributor.model.delivery import DeliveryFilter, LeaseHolder, PackedMessage, PackingJob, PackingTask
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Address, Person, key_of
from distributor.model.ports import Ledger, Now, Source, WorkerPool

BATCH = 200  # deliveries leased, and messages stored, in one transaction; sending still starts within a second
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
) -> Iterator[Batch]:
    """Pack planned deliveries, batch by batch, until none is left, `limit` are tried or `stop` returns True.

    `senders`: the addresses of the mailboxes, where there are several.
    What cannot be packed stays planned and leased to `owner`, so that no other process tries it again meanwhile.
    """
    issues: list[Issue] = []
    plans = _Plans(ledger, open_plan)
    tasks = _Tasks(ledger, owner, lease, scope, SenderBalance(senders, ledger.due(DeliveryFilter(), early=True) if senders else {}))
    done: list[PackedMessage] = []
    for job, result in pool.map(_jobs(tasks.leased(limit, stop), plans, now, issues)):
        match result:
            case PackedMessage():
                done.append(result)
            case _:
                issues.append(_issue(job, result))
        if len(done) + len(issues) >= BATCH:
            yield tasks.stored(done, issues)
    if done or issues:
        yield tasks.stored(done, issues)


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

    def __init__(self, ledger: Ledger, owner: LeaseHolder, lease: timedelta, scope: DeliveryFilter, senders: SenderBalance) -> None:
        self._ledger, self._owner, self._lease, self._scope, self._senders = ledger, owner, lease, scope, senders
        # The person of each that was tried and not stored: its lease may expire during a long run, and it would be leased again.
        self._tried: dict[str, str] = {}

    def leased(self, limit: int | None, stop: Callable[[], bool]) -> Iterator[PackingTask]:
        number = 0
        while limit is None or number < limit:
            count = BATCH if limit is None else min(BATCH, limit - number)
            tasks = [] if stop() else self._ledger.lease(self._owner, count, self._lease, self._scope)
            new = [self._begin(task) for task in tasks if task.id not in self._tried]
            for task in new:
                if stop():
                    return
                number += 1
                yield task
            if not tasks:
                return

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
