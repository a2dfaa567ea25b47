"""Planned deliveries -> frozen letters in the ledger: opened, packaged, worded and sealed in child processes.

What a child makes is made once: package, password, Message-ID, Date and boundary of a generation never change afterwards.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from distributor.core import letter, package, passwords
from distributor.core.credentials import Credential, Limits, Material, Problem
from distributor.core.deliveries import Owner, Packed, Scope, ToPack
from distributor.core.findings import Check, Failed, Issue, Severity
from distributor.core.letter import Attachment, Head, Mailbox, Words
from distributor.core.opening import open_material
from distributor.core.package import Content
from distributor.core.passwords import Recipe
from distributor.core.people import Person, hides
from distributor.core.ports import Ledger, Now, Pool, Source
from distributor.core.reopening import reopen
from distributor.core.secret import Secret
from distributor.errors import Error, Unusable

BATCH = 50  # deliveries lent, and letters stored, at a time: one commit for all of them, and sending starts early


@dataclass(frozen=True, slots=True)
class PackJob:
    """What a child needs to make one letter."""

    todo: ToPack
    material: Material
    now: datetime  # the letter's Date


@dataclass(frozen=True, slots=True)
class Batch:
    """What was stored (ids of deliveries now queued), and what stays planned and why."""

    stored: tuple[str, ...]
    issues: tuple[Issue, ...]


@dataclass(frozen=True, slots=True)
class Packer:
    """What a child does with a job. Everything it needs crosses into the process once; nothing here is secret."""

    words: Words
    seal: Callable[[Secret], bytes]
    organisation: str
    sender: Mailbox
    channel: str = "reveal"
    expires: timedelta | None = None
    profile: str = "phone"
    include_root: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    limits: Limits = field(default_factory=Limits)

    def __call__(self, job: PackJob) -> Packed | Problem:
        """Make the letter of one delivery."""
        found = _content(job, self.limits)
        if isinstance(found, Problem):
            return found
        try:
            return self._pack(job, found)
        except Unusable as error:  # a template that lacks a value, or is faulty: this letter is not made, others may be
            return Problem(Check.BAD_ROW, str(error), error.hint)

    def _pack(self, job: PackJob, content: Content) -> Packed:
        todo = job.todo
        password = passwords.make(self.recipe, secrets.choice)
        name = package.friendly_name(todo.person, todo.not_before)
        data = package.seal(content, password, self.profile, name, include_root=self.include_root)
        attachment = Attachment(package.file_name(todo.person, todo.not_before), data)
        wording = self.words.letter(todo.language, self._values(todo, attachment.file_name))
        head = Head(
            self.sender,
            Mailbox(todo.person.address, todo.person.name),
            job.now,
            f"{secrets.token_hex(16)}@{self.sender.address.domain}",
            secrets.token_hex(12),
        )
        return Packed(
            id=todo.id,
            message_id=f"<{head.message_id}>",
            message=letter.compose(head, wording, attachment),
            package_sha256=hashlib.sha256(data).hexdigest(),
            profile=self.profile,
            sender=str(self.sender.address),
            sealed=self.seal(password),
            channel=self.channel,
            expires=self.expires,
        )

    def _values(self, todo: ToPack, file_name: str) -> dict[str, object]:
        """What templates see. Never the password; a name that hides something is left out."""
        person = todo.person
        sender = str(self.sender.address)
        return {
            "organisation": {"name": self.organisation},
            "person": {
                "name": "" if hides(person.name) else person.name,
                "address": str(person.address),
                "columns": dict(person.columns),
            },
            "column": dict(person.columns),
            "certificate": {
                "not_before": todo.not_before,
                "not_after": todo.not_after,
                "serial": todo.certificate_serial,
                "issuer": todo.certificate_issuer,
                "sha256": todo.certificate_sha256,
            },
            "file_name": file_name,
            "sender": {"address": sender, "name": self.sender.name},
            "contact": sender,
            "channel": self.channel,
            "password": {
                "groups": self.recipe.groups,
                "length": self.recipe.length,
                "shape": self.recipe.shape,
                "plain": self.recipe.alphabet.isalpha() and self.recipe.alphabet.islower(),
            },
            "generation": todo.generation,
            "expires": self.expires.days if self.expires else 0,
        }


def _content(job: PackJob, limits: Limits) -> Content | Problem:
    todo = job.todo
    if todo.leaf and (quick := reopen(job.material, todo.leaf, todo.chain)):
        return quick
    found = _credential(job, limits)
    return found if isinstance(found, Problem) else package.content(found)


def _credential(job: PackJob, limits: Limits) -> Credential | Problem:
    opened = open_material(job.material, limits, proven=job.todo.certificate_sha256)
    for credential in opened.credentials:
        if credential.facts.sha256 == job.todo.certificate_sha256:
            return credential
    return next(iter(opened.problems), Problem(Check.NO_CERTIFICATE, "the certificate is no longer in it", "run `distributor plan` again"))


OpenPlan = Callable[[Mapping[str, object]], tuple[Source, Mapping[str, Person]]]


def pack(  # noqa: PLR0913  the doors of a verb
    ledger: Ledger,
    open_plan: OpenPlan,
    pool: Pool[PackJob, Packed | Problem],
    *,
    owner: Owner,
    lease: timedelta,
    scope: Scope,
    limit: int | None,
    now: Now,
    stop: Callable[[], bool],
) -> Iterator[Batch]:
    """Freeze planned deliveries, batch by batch, until none is left, `limit` are tried or `stop` says so.

    What cannot be packed stays planned and lent to `owner` for the rest of the run, so that nobody tries it again meanwhile.
    """
    issues: list[Issue] = []
    plans = _Plans(ledger, open_plan)
    jobs = _jobs(_taken(ledger, owner, lease, scope, limit, stop), plans, now, issues)
    done: list[Packed] = []
    for job, result in pool.map(jobs):
        match result:
            case Packed():
                done.append(result)
            case _:
                issues.append(_issue(job, result))
        if len(done) + len(issues) >= BATCH:
            yield _stored(ledger, owner, done, issues)
    if done or issues:
        yield _stored(ledger, owner, done, issues)


def _taken(  # noqa: PLR0913, PLR0917  as `take` has them, and two ways to end
    ledger: Ledger, owner: Owner, lease: timedelta, scope: Scope, limit: int | None, stop: Callable[[], bool]
) -> Iterator[ToPack]:
    seen: set[str] = set()
    while limit is None or len(seen) < limit:
        room = BATCH if limit is None else min(BATCH, limit - len(seen))
        lent = [] if stop() else ledger.take(owner, room, lease, scope)
        for todo in lent:
            if stop():
                return
            if todo.id not in seen:  # a loan that ran out during a long run comes back
                seen.add(todo.id)
                yield todo
        if not lent:
            return


class _Plans:
    """Each plan's source and people, opened once."""

    def __init__(self, ledger: Ledger, open_plan: OpenPlan) -> None:
        self._ledger, self._open = ledger, open_plan
        self._known: dict[str, tuple[Source, Mapping[str, Person]] | Issue] = {}

    def material(self, todo: ToPack) -> Material | Issue:
        if todo.plan not in self._known:
            self._known[todo.plan] = self._opened(todo.plan)
        match self._known[todo.plan]:
            case Issue() as issue:
                return issue
            case (source, people):
                return source.fetch(todo.locator, people.get(todo.person.address.key, todo.person))

    def _opened(self, plan: str) -> tuple[Source, Mapping[str, Person]] | Issue:
        try:
            return self._open(self._ledger.plan_inputs(plan) or {})
        except Error as error:
            return Issue(Severity.ERROR, Check.UNREADABLE, error.message, error.hint, source=error.where)


def _jobs(todos: Iterator[ToPack], plans: _Plans, now: Now, issues: list[Issue]) -> Iterator[PackJob]:
    for todo in todos:
        match plans.material(todo):
            case Issue() as issue:
                issues.append(_addressed(issue, todo))
            case material:
                yield PackJob(todo, material, now())


def _addressed(issue: Issue, todo: ToPack) -> Issue:
    return Issue(issue.severity, issue.check, issue.message, issue.hint, issue.source, issue.line, str(todo.person.address))


_LOST = {
    "time": (Check.TOO_COSTLY, "it took too long to open", "check the file; [limits] open_seconds is the time one may take"),
    "memory": (Check.TOO_COSTLY, "it needs more memory than a certificate may", "check the file"),
}
_CRASHED = (Check.UNREADABLE, "it broke the process that opened it", "export the certificate again and run `distributor plan`")


def _issue(job: PackJob, result: Problem | Failed) -> Issue:
    match result:
        case Problem(check, message, hint):
            pass
        case Failed(reason):
            check, message, hint = _LOST.get(reason, _CRASHED)
    return Issue(Severity.ERROR, check, message, hint, source=job.material.source, address=str(job.todo.person.address))


def _stored(ledger: Ledger, owner: Owner, done: list[Packed], issues: list[Issue]) -> Batch:
    kept = ledger.store(done, owner) if done else []
    batch = Batch(tuple(packed.id for packed, good in zip(done, kept, strict=True) if good), tuple(issues))
    done.clear()
    issues.clear()
    return batch
