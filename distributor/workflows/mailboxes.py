"""Reads mailboxes, and records what the mails in them tell of deliveries (`notices.py`) and ask for: another copy.

A request only ever leads to a new package for the address on file; no mail is answered, so a stranger learns nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from distributor.errors import Error, RequestDenied
from distributor.model.delivery import Delivery
from distributor.model.issues import WorkerFailure
from distributor.model.mailboxes import MailboxReader, ReceivedMail
from distributor.model.notices import CopyRequestNotice, DeliveryReport, Notice, ReadReceipt, SignedAnswer
from distributor.model.ports import Ledger, WorkerPool
from distributor.model.requests import RequestLimits
from distributor.model.states import State
from distributor.workflows import notices, requests
from distributor.workflows.notices import LeftAlone, MailboxReport, Verdict
from distributor.workflows.tracking import Call

BY_MAIL = "mail"  # who asked, in the ledger; the address itself would be a personal field
FIRST_READ = timedelta(days=30)  # how far back an unknown mailbox is read
LATEST = timedelta(days=7)  # an older request is not answered: whoever sent it has found another way, or it is sent again by somebody else


@dataclass(frozen=True, slots=True)
class MailPolicy:
    """What a request by mail may do. `automatic`: approved at once; not `by_mail`: nothing."""

    by_mail: bool
    automatic: bool
    limits: RequestLimits


@dataclass(frozen=True, slots=True)
class MailboxContext:
    """What reading mailboxes needs. `pool` parses mails in child processes; `since`: read again from there, not from the position."""

    ledger: Ledger
    pool: WorkerPool[bytes, Notice]
    policy: MailPolicy
    call: Call
    since: datetime | None = None


async def read_mailboxes(context: MailboxContext, readers: Sequence[MailboxReader]) -> MailboxReport:
    """Read each mailbox from where it was read to; one that fails does not stop the others.

    A batch of mails is dealt with, marked, and only then recorded as read; a second reading of the same mail changes nothing. Where
    marking fails, the mails behind are dealt with all the same, and all of them are read and marked again the next time.
    """
    report = MailboxReport()
    for reader in readers:
        try:
            await _read(context, reader, report)
        except Error as error:
            report.errors.append(error)
        finally:
            await reader.close()
    return report


async def _read(context: MailboxContext, reader: MailboxReader, report: MailboxReport) -> None:
    ledger, since = context.ledger, context.since
    after = await context.call(lambda: ledger.mailbox_position(reader.name)) if since is None else None
    unmarked: Error | None = None
    async for batch in reader.read(after, since or ledger.now() - FIRST_READ):
        handled, complete = await context.call(lambda mails=batch.mails: _handle(context, mails, report))  # type: ignore[misc]  # mypy infers no default
        if handled and unmarked is None:
            try:
                await reader.mark(handled)
            except Error as error:
                unmarked = error
        if not complete:
            break
        if unmarked is None:
            await context.call(lambda position=batch.position: ledger.write_mailbox_position(reader.name, position))  # type: ignore[misc]  # likewise
    if unmarked is not None:
        raise unmarked


def _handle(context: MailboxContext, mails: Sequence[ReceivedMail], report: MailboxReport) -> tuple[list[ReceivedMail], bool]:
    """Deal with a batch: the mails to be marked, and whether it is done, so that it need not be read again."""
    handled, complete = [], True
    parsed = context.pool.map(mail.raw for mail in mails)
    for mail, (_, notice) in zip(mails, parsed, strict=True):
        report.read += 1
        verdict = _take(context, mail, notice, report)
        if verdict is Verdict.HANDLED:
            handled.append(mail)
        complete = complete and verdict is not Verdict.LATER
    return handled, complete


def _take(context: MailboxContext, mail: ReceivedMail, notice: Notice | WorkerFailure, report: MailboxReport) -> Verdict:
    if mail.refused:
        report.left.append(LeftAlone("", "", f"the server cannot read it ({mail.refused})"))
        return Verdict.LEFT
    match notice:
        case CopyRequestNotice():
            return Verdict.HANDLED if _ask(context, mail, notice, report) else Verdict.LEFT
        case DeliveryReport() | ReadReceipt() | SignedAnswer():
            return notices.take(context.ledger, mail, notice, report)
        case WorkerFailure():
            at = f", received {mail.received_at:%Y-%m-%d %H:%M:%S} UTC" if mail.received_at else ""
            report.left.append(LeftAlone("", "", f"parsing it failed ({notice.reason}){at}"))
    return Verdict.LEFT


def _ask(context: MailboxContext, mail: ReceivedMail, notice: CopyRequestNotice, report: MailboxReport) -> bool:
    """Record a request; False where it is left alone."""
    ledger, policy = context.ledger, context.policy

    def left(reason: str) -> None:
        report.left.append(LeftAlone(notice.message_id, str(notice.sender), reason))

    if why := _disbelieved(policy, notice, mail, ledger.now()):
        report.unmatched += 1
        left(why)
        return False
    delivery = _delivery(ledger.find(notice.sender.key, None), notice)
    if delivery is None:
        report.unmatched += 1
        left("nobody with this address was sent this message")
        return False
    reason = f"by mail {notice.message_id}"
    if any(known.reason == reason for known in ledger.requests(address=notice.sender.key)):
        return True  # this mail was read before
    try:
        request = requests.ask(ledger.acting_as(BY_MAIL), delivery.id, reason, policy.limits, automatic=policy.automatic)
    except RequestDenied as denied:
        left(denied.message)
        return True
    if request.reason == reason:
        report.asked.append(request)
    else:
        left(f"request {request.id} for the same certificate is not fulfilled yet")
    return True


def _disbelieved(policy: MailPolicy, notice: CopyRequestNotice, mail: ReceivedMail, now: datetime) -> str:
    """Why a request is not even looked up; empty where it is."""
    if not policy.by_mail:
        return "requests by mail are switched off ([requests] by_mail)"
    if notice.unauthenticated:
        return f"not authenticated: {notice.unauthenticated}"
    moments = [moment for moment in (notice.sent_at, mail.received_at) if moment is not None]
    if not moments or min(moments) < now - LATEST:
        return f"older than {LATEST.days} days"
    return ""


def _delivery(theirs: Sequence[Delivery], notice: CopyRequestNotice) -> Delivery | None:
    """The delivery that a person's mail is about: the message it answers; for a mail to the request address, their newest."""
    answered = [delivery for delivery in theirs if delivery.message_id in notice.answers]
    sent = [delivery for delivery in theirs if delivery.state is not State.WITHDRAWN]
    return max(answered or (sent if notice.direct else []), key=lambda delivery: delivery.id, default=None)
