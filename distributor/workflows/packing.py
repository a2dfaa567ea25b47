"""Packs planned deliveries: child processes make their messages (`workflows/message_factory.py`), the ledger stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from distributor.errors import Error
from distributor.model.certificates import ParseProblem, SourceMaterial
from distributor.model.delivery import DeliveryFilter, LeaseHolder, PackedMessage, PackingJob, PackingTask
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Person
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
) -> Iterator[Batch]:
    """Pack planned deliveries, batch by batch, until none is left, `limit` are tried or `stop` returns True.

    What cannot be packed stays planned and leased to `owner`, so that no other process tries it again meanwhile.
    """
    issues: list[Issue] = []
    plans = _Plans(ledger, open_plan)
    tried: set[str] = set()  # and not stored: its lease may expire during a long run, and it would be leased again
    jobs = _jobs(_leased(ledger, owner, lease, scope, limit, stop, tried), plans, now, issues)
    done: list[PackedMessage] = []
    for job, result in pool.map(jobs):
        match result:
            case PackedMessage():
                done.append(result)
            case _:
                issues.append(_issue(job, result))
        if len(done) + len(issues) >= BATCH:
            yield _stored(ledger, owner, done, issues, tried)
    if done or issues:
        yield _stored(ledger, owner, done, issues, tried)


def _leased(  # noqa: PLR0913, PLR0917  what `lease` needs, and when to end
    ledger: Ledger,
    owner: LeaseHolder,
    lease: timedelta,
    scope: DeliveryFilter,
    limit: int | None,
    stop: Callable[[], bool],
    tried: set[str],
) -> Iterator[PackingTask]:
    number = 0
    while limit is None or number < limit:
        count = BATCH if limit is None else min(BATCH, limit - number)
        tasks = [] if stop() else ledger.lease(owner, count, lease, scope)
        for todo in tasks:
            if stop():
                return
            if todo.id not in tried:
                tried.add(todo.id)
                number += 1
                yield todo
        if not tasks:
            return


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


def _stored(ledger: Ledger, owner: LeaseHolder, done: list[PackedMessage], issues: list[Issue], tried: set[str]) -> Batch:
    queued = ledger.enqueue(done, owner) if done else []
    tried.difference_update(packed.id for packed in done)
    batch = Batch(tuple(packed.id for packed, good in zip(done, queued, strict=True) if good), tuple(issues))
    done.clear()
    issues.clear()
    return batch
