"""Reminders: which are due, their messages, and sending them.

(1) A child process renders the texts and makes the calendar file, (2) the transport connects and announces the message, (3) the event
`reminded` is recorded, durable, (4) the message leaves, (5) a definite refusal is recorded, so that the next run tries again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from distributor.errors import Error, InvalidInput, RequestDenied
from distributor.mail import message
from distributor.mail.message import Attachment, Mailbox, MessageHeaders, RenderedText
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, OutboundMessage, Outcome
from distributor.model.issues import WorkerFailure
from distributor.model.people import BadAddress, Helpdesk, has_unsafe_chars, key_of, parse_address
from distributor.model.ports import Ledger, WorkerPool
from distributor.model.reminders import Reminder, ReminderKind
from distributor.workflows.sending.direct import DirectReport, DirectSender, DirectSendingContext

A_DAY = timedelta(days=1)
CALENDAR_FILE = "calendar.txt"  # the title of a calendar entry, then its text

# --- which are due ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overview:
    """Everybody who may need a reminder, in the order in which it matters."""

    expiring: list[Reminder]
    uncollected: list[Reminder]
    unconfirmed: list[Reminder]

    def due(self, now: datetime) -> list[tuple[Reminder, str]]:
        """Those whose step has come, with the step."""
        everybody = (*self.expiring, *self.uncollected, *self.unconfirmed)
        return [(one, step) for one in everybody if (step := one.due_step(now)) is not None]


def overview(
    ledger: Ledger, within: timedelta, usages: Callable[[bytes], Collection[str]], addresses: Collection[str] = frozenset()
) -> Overview:
    """Everybody, or only the people with these addresses (Address.key)."""
    found: dict[ReminderKind, list[Reminder]] = {kind: [] for kind in ReminderKind}
    for one in ledger.reminders(ledger.now() + within, usages):
        if not addresses or key_of(one.address) in addresses:
            found[one.kind].append(one)
    return Overview(
        sorted(found[ReminderKind.EXPIRING], key=lambda one: one.not_after),
        sorted(found[ReminderKind.UNCOLLECTED], key=lambda one: (one.expires_at is None, one.expires_at or one.since)),
        sorted(found[ReminderKind.UNCONFIRMED], key=lambda one: one.since),
    )


# --- their messages --------------------------------------------------------------------------------------------------


class Texts(Protocol):
    """Renders the texts of one kind of reminder."""

    def render(self, language: str, values: Mapping[str, object]) -> RenderedText:
        """Subject, text and HTML in the nearest available language. Raises InvalidInput."""
        ...

    def render_files(self, language: str, names: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
        """These files in the nearest available language. Raises InvalidInput."""
        ...


@dataclass(frozen=True, slots=True)
class ReminderJob:
    """A reminder whose message a child process makes."""

    reminder: Reminder
    step: str
    sender: Mailbox
    columns: Mapping[str, str]
    now: datetime


@dataclass(frozen=True, slots=True)
class ReminderMaker:
    """What a child process calls for each job: the message, or why there is none. `portal`: its address without a scheme."""

    texts: Mapping[ReminderKind, Texts]
    organisation: str
    helpdesk: Helpdesk = field(default_factory=Helpdesk)
    portal: str = ""

    def __call__(self, job: ReminderJob) -> OutboundMessage | InvalidInput:
        """Make the message."""
        recipient = parse_address(job.reminder.address)
        if isinstance(recipient, BadAddress):
            return InvalidInput(recipient.reason, where=job.reminder.address, hint="run `distributor audit verify`")
        headers = MessageHeaders(
            job.sender,
            Mailbox(recipient, job.reminder.name),
            job.now,
            f"{secrets.token_hex(16)}@{job.sender.address.domain}",
            secrets.token_hex(12),
        )
        try:
            made = self._compose(headers, job)
        except InvalidInput as error:
            return error
        name = f"{job.reminder.delivery}-reminder"  # in its ENVID: a report about it is not one about the delivery's message
        return OutboundMessage(name, str(job.sender.address), str(recipient), f"<{headers.message_id}>", made)

    def _compose(self, headers: MessageHeaders, job: ReminderJob) -> bytes:
        reminder, texts, values = job.reminder, self.texts[job.reminder.kind], self._values(job)
        rendered = texts.render(reminder.language, values)
        if reminder.kind is not ReminderKind.EXPIRING or reminder.not_after <= job.now:
            return message.compose(headers, rendered, None)
        from distributor.mail import calendar  # noqa: PLC0415  the parent process needs none

        (entry,) = texts.render_files(reminder.language, (CALENDAR_FILE,), values)
        title, _, text = entry.strip().partition("\n")
        last = calendar.LastDay(reminder.certificate, reminder.not_after, title.strip(), text.strip())
        name = f"certificate-{reminder.not_after:%Y-%m-%d}.ics"
        return message.compose(headers, rendered, Attachment(name, calendar.calendar_file(last, now=job.now), calendar.CONTENT_TYPE))

    def _values(self, job: ReminderJob) -> dict[str, object]:
        reminder, columns = job.reminder, dict(job.columns)
        name = "" if has_unsafe_chars(reminder.name) else reminder.name
        ends = reminder.expires_at
        return {
            "organisation": {"name": self.organisation},
            "person": {"name": name, "address": reminder.address, "columns": columns},
            "column": columns,
            "certificate": {
                "not_after": reminder.not_after,
                "serial": reminder.serial,
                "sha256": reminder.certificate,
                "expired": reminder.not_after <= job.now,
            },
            "since": reminder.since,
            "fetch_by": None if ends is None else max(job.now, ends - A_DAY),  # the last whole day, as the first message has it
            "sender": {"address": str(job.sender.address), "name": job.sender.name},
            "contact": str(job.sender.address),
            "helpdesk": self.helpdesk,
            "portal": self.portal,
        }


# --- sending them ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReminderResult:
    """What happened to a reminder: `sent`, `not-sent` (due again), `ambiguous` (not sent again), or `skipped` (needed no more)."""

    reminder: Reminder
    step: str
    outcome: str
    said: str
    hint: str = ""


ReminderReport = DirectReport[ReminderResult]


@dataclass(frozen=True, slots=True)
class RemindContext:
    """What the run depends on."""

    ledger: Ledger
    pool: WorkerPool[ReminderJob, OutboundMessage | InvalidInput]
    sending: DirectSendingContext
    tell: Callable[[ReminderResult], None] = lambda _: None


async def send_reminders(context: RemindContext, due: Sequence[tuple[Reminder, str]]) -> ReminderReport:
    """Send these reminders, one after the other. What the ledger raises is raised; a service's refusal is the report's `error`."""
    sender, report = DirectSender(context.sending), ReminderReport()
    details = context.ledger.reminder_details([one.delivery for one, _ in due])
    jobs = (
        ReminderJob(one, step, sender.mailbox(details[one.delivery].sender), details[one.delivery].columns, context.ledger.now())
        for one, step in due
    )
    try:
        for job, made in context.pool.map(jobs):
            result = await _send(context, sender, job, made)
            if result is None:
                break
            report.results.append(result)
            context.tell(result)
            if sender.error is not None:
                break
    finally:
        report.diagnostics += await sender.finish()
    report.error = sender.error
    return report


async def _send(
    context: RemindContext, sender: DirectSender, job: ReminderJob, made: OutboundMessage | InvalidInput | WorkerFailure
) -> ReminderResult | None:
    """The result; None where the mailbox may send no more."""
    match made:
        case WorkerFailure(reason):
            return ReminderResult(job.reminder, job.step, "not-sent", f"making the message failed ({reason})", "run `distributor doctor`")
        case InvalidInput() as error:
            return ReminderResult(job.reminder, job.step, "not-sent", str(error), error.hint or "")
        case outbound:
            if not await sender.may_send(job.sender):
                return None
            attempt = _ReminderAttempt(context.ledger, job, outbound)
            return await asyncio.to_thread(attempt.settle, await sender.deliver(outbound, attempt.record_intent))


@dataclass(slots=True)
class _ReminderAttempt:
    """The record of one reminder, at the moment that the transport asks for it. From then on it is not sent again, unless refused."""

    ledger: Ledger
    job: ReminderJob
    outbound: OutboundMessage
    recorded: bool = False
    denied: Error | None = None

    async def record_intent(self, _draft: DraftRef | None = None, /) -> bool:
        """Record the reminder; False where it was sent, or is not needed any more."""
        job, outbound = self.job, self.outbound
        try:
            await asyncio.to_thread(self.ledger.record_reminder, job.reminder, job.step, outbound.message_id, outbound.sender)
        except (RequestDenied, InvalidInput) as error:  # of this reminder alone
            self.denied = error
            return False
        self.recorded = True
        return True

    def settle(self, outcome: Outcome) -> ReminderResult:
        """Record a refusal; the result."""
        reminder, step, said = self.job.reminder, self.job.step, outcome.response
        if self.denied is not None:
            return ReminderResult(reminder, step, "skipped", self.denied.message, self.denied.hint or "")
        match outcome:
            case Accepted():
                return ReminderResult(reminder, step, "sent", said)
            case Ambiguous():
                return ReminderResult(reminder, step, "ambiguous", said, "it may have been sent, and is not sent again")
        if self.recorded:
            self.ledger.refuse_reminder(reminder, step, self.outbound.message_id, self.outbound.sender, said)
        return ReminderResult(reminder, step, "not-sent", said, "run `distributor remind --send` again")
