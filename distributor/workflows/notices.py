"""What received mails tell of deliveries: reports of servers, read receipts and signed answers, matched and recorded with their evidence.

A report counts for the delivery whose Message-ID it returns, else for the one whose ENVID it names, else for the one it answers. One that
returns another Message-ID is about another message and changes nothing; the recipient alone is only a hint for a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from distributor.errors import Error
from distributor.model.audit_log import REMINDED
from distributor.model.bounces import REMEDIES, bounce, with_reply
from distributor.model.delivery import Delivery
from distributor.model.mailboxes import DeliveryNotice, NoticeOutcome, ReceivedMail
from distributor.model.notices import Action, DeliveryReport, ReadReceipt, RecipientReport, Reference, SignedAnswer
from distributor.model.people import key_of
from distributor.model.ports import Ledger
from distributor.model.requests import CopyRequest
from distributor.model.states import State
from distributor.workflows import signed_answers
from distributor.workflows.tracking import StateChange

WINDOW = timedelta(days=14)  # between a message and a report that names only its recipient; servers give up after five days
_LEFT = frozenset({State.AMBIGUOUS, State.ACCEPTED, State.DELIVERED, State.BOUNCED, State.INSTALLED})
_REACHED = frozenset({"displayed", "deleted"})  # by the mail program that has the message (RFC 8098 3.2.6.2); others are programs' own
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_MESSAGES = {REMINDED: "reminder", "revealed": "password message"}  # by the event that has their Message-ID
_OWN = frozenset({"queued", "transmitting"})  # events with earlier Message-IDs of the delivery's own message


class Verdict(StrEnum):
    """What becomes of a mail: marked as handled, left as it is, or read again later."""

    HANDLED = "handled"
    LEFT = "left"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A mail that led to nothing, and why."""

    message_id: str
    address: str  # as From claims
    reason: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a delivery that changed no state."""

    delivery: str
    address: str
    said: str


@dataclass(slots=True)
class MailboxReport:
    """The result of reading. `unmatched`: requests and reports that belong to no message, or were not believed."""

    read: int = 0
    asked: list[CopyRequest] = field(default_factory=list)
    left: list[LeftAlone] = field(default_factory=list)
    moved: list[StateChange] = field(default_factory=list)
    noted: list[Remark] = field(default_factory=list)
    hints: list[Remark] = field(default_factory=list)  # of unmatched reports: which delivery they may be about
    unmatched: int = 0
    errors: list[Error] = field(default_factory=list)


def take(ledger: Ledger, mail: ReceivedMail, notice: DeliveryReport | ReadReceipt | SignedAnswer, report: MailboxReport) -> Verdict:
    """Record what a mail tells, and add it to the report."""
    match notice:
        case DeliveryReport():
            return _server_report(ledger, mail, notice, report)
        case ReadReceipt():
            return _receipt(ledger, mail, notice, report)
        case SignedAnswer():
            return _signed(ledger, mail, notice, report)


# --- matching --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Match:
    """`how`: "message-id", "envid" or "in-reply-to". `message`: which message it is about; empty: the delivery's own."""

    delivery: Delivery
    how: str
    message: str = ""


def _match(ledger: Ledger, about: Reference, addresses: Sequence[str]) -> _Match | None:
    """The one delivery that a mail is about; None also where it could be several. `addresses`: Address.key of the recipients named."""
    if about.returned:
        own = ledger.with_message_ids(about.returned)
        return _only(own, "message-id") or (None if own else _further(ledger, about.returned, addresses))
    named, _, attempt = about.envelope_id.rpartition(".")  # as adapters/transports/smtp gives it; reminders have another form
    if attempt.isdecimal() and (known := ledger.delivery(named)):
        return _Match(known, "envid")
    return _only(ledger.with_message_ids(about.answers), "in-reply-to")


def _only(found: Sequence[Delivery], how: str) -> _Match | None:
    return _Match(found[0], how) if len(found) == 1 else None


def _further(ledger: Ledger, message_ids: Sequence[str], addresses: Sequence[str]) -> _Match | None:
    """A reminder or a password's message, or the delivery's own under the Message-ID that it had before a service changed it."""
    for address in addresses:
        for found in ledger.further_messages(address, message_ids):
            if known := ledger.delivery(found.delivery):
                return _Match(known, "message-id", "" if found.event in _OWN else _MESSAGES[found.event])
    return None


# --- reports of servers ------------------------------------------------------------------------------------------------


def _server_report(ledger: Ledger, mail: ReceivedMail, notice: DeliveryReport, report: MailboxReport) -> Verdict:
    addresses = [one.address for one in notice.recipients if one.address]
    match = _match(ledger, notice.about, addresses)
    about = _weigh(notice, match) if match else None
    if match is None or about is None:
        return _unmatched(ledger, mail, notice, match, report)
    one, state, rewritten = about
    words = bounce(one.status, one.diagnostic)
    failed = one.action is Action.FAILED
    said = words.said if failed else with_reply(_ACTIONS[one.action], one.status, one.diagnostic)
    evidence = {
        "kind": "report",
        "action": str(one.action),
        **({"status": one.status} if _STATUS.fullmatch(one.status) else {}),
        **({"class": str(words.kind)} if failed else {}),
        **({"reporter": notice.reporter.lower()} if _HOST.fullmatch(notice.reporter) else {}),
        **({} if notice.machine_readable else {"guessed": True}),
        **({"rewritten": True} if rewritten else {}),  # the report names another recipient: the message was forwarded
    }
    personal = {"recipient": one.address} if rewritten else {}
    remedy = REMEDIES[words.kind].format(address=match.delivery.address) if failed else ""
    return _record(ledger, mail, match, _Told(state, said, evidence, personal, remedy), report)


_ACTIONS = {
    Action.DELAYED: "delayed; the server goes on trying",
    Action.DELIVERED: "delivered to the mailbox",
    Action.RELAYED: "passed to a server that sends no reports",
    Action.EXPANDED: "passed to the members of a list",
}


def _weigh(notice: DeliveryReport, match: _Match) -> tuple[RecipientReport, State | None, bool] | None:
    """What counts of a report, the state that it proves, and whether it names other recipients only; None: nothing counts."""
    key, by_id = key_of(match.delivery.address), match.how == "message-id"
    ours = [one for one in notice.recipients if one.address == key]
    ours = ours or [one for one in notice.recipients if not one.address]  # no mail address, such as one of X.400
    rewritten = not ours and not match.message
    found = ours or list(notice.recipients)
    failed = [one for one in found if one.action is Action.FAILED]
    if not found or (rewritten and not by_id):
        return None
    if not notice.machine_readable and (not failed or not ours or not by_id):
        return None
    if (failed and any(one.action is Action.DELIVERED for one in found)) or (
        rewritten and (len(failed) < len(found) or match.delivery.state is State.DELIVERED)
    ):
        failed, state = [], None  # some members of a list, one of two destinations, or a forwarded copy of what is in the mailbox
    elif failed:
        state = State.BOUNCED
    elif any(one.action is Action.DELIVERED for one in found) and not rewritten and match.how != "in-reply-to":
        return next(one for one in found if one.action is Action.DELIVERED), None if match.message else State.DELIVERED, rewritten
    else:
        state = None
    return (failed or found)[0], None if match.message else state, rewritten


# --- receipts ----------------------------------------------------------------------------------------------------------


def _receipt(ledger: Ledger, mail: ReceivedMail, notice: ReadReceipt, report: MailboxReport) -> Verdict:
    """A receipt proves that the message is in the mailbox, never that the certificate was installed."""
    match = _match(ledger, notice.about, [notice.address] if notice.address else [])
    if match is None:
        report.unmatched += 1
        return Verdict.LEFT
    theirs = notice.address in {"", key_of(match.delivery.address)}
    proves = theirs and match.how == "message-id" and not match.message and notice.disposition in _REACHED
    said = {"displayed": "displayed by the recipient's mail program", "deleted": "deleted in the recipient's mail program"}.get(
        notice.disposition, f"the recipient's mail program reports: {notice.disposition or 'nothing'}"
    )
    evidence = {
        "kind": "receipt",
        "disposition": notice.disposition if notice.disposition.isascii() and notice.disposition.isalpha() else "",
        "automatic": notice.automatic,
        **({} if theirs else {"rewritten": True}),
    }
    personal = {} if theirs else {"recipient": notice.address}
    return _record(ledger, mail, match, _Told(State.DELIVERED if proves else None, said, evidence, personal), report)


# --- signed answers ----------------------------------------------------------------------------------------------------


def _signed(ledger: Ledger, mail: ReceivedMail, notice: SignedAnswer, report: MailboxReport) -> Verdict:
    found = signed_answers.record(ledger, notice, mail)
    if found is None:
        return Verdict.LATER
    if isinstance(found, str):
        report.left.append(LeftAlone(notice.message_id, notice.sender, found))
        return Verdict.LEFT
    report.moved += found
    return Verdict.HANDLED


# --- recording ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    """What a matched mail tells. `remedy`: what a person does about it."""

    state: State | None
    said: str
    evidence: Mapping[str, object]
    personal: Mapping[str, object]
    remedy: str = ""


def _record(ledger: Ledger, mail: ReceivedMail, match: _Match, told: _Told, report: MailboxReport) -> Verdict:
    delivery = match.delivery
    said = f"the {match.message}: {told.said}" if match.message else told.said
    evidence = {**told.evidence, "match": match.how, "mail_sha256": sha256(mail.raw).hexdigest()}
    if match.message:
        evidence["message"] = match.message
    done = ledger.record_notice(DeliveryNotice(delivery.id, told.state, said, evidence, told.personal))
    match done.outcome:
        case NoticeOutcome.MOVED:
            assert told.state is not None  # noqa: S101  only a state moves it
            report.moved.append(StateChange(delivery.id, delivery.address, done.before, told.state, said, told.remedy))
        case NoticeOutcome.NOTED:
            report.noted.append(Remark(delivery.id, delivery.address, said))
        case NoticeOutcome.TOO_EARLY:
            return Verdict.LATER
    return Verdict.HANDLED


def _unmatched(ledger: Ledger, mail: ReceivedMail, notice: DeliveryReport, match: _Match | None, report: MailboxReport) -> Verdict:
    """Count it, with the delivery that it may be about: a match that does not count, else the recipient's last in time."""
    report.unmatched += 1
    said = next((_ACTIONS.get(one.action) or bounce(one.status, one.diagnostic).said for one in notice.recipients), "no recipient is named")
    found = match.delivery if match else None
    if found is None and not notice.about.returned:
        at = mail.received_at or ledger.now()
        found = next((known for one in notice.recipients if (known := _last_sent(ledger, one.address, at))), None)
    if found is not None:
        report.hints.append(Remark(found.id, found.address, said))
    return Verdict.LEFT


def _last_sent(ledger: Ledger, address: str, at: datetime) -> Delivery | None:
    """A person's last delivery before a moment."""
    theirs = ledger.find(address, None) if address else []
    return max((one for one in theirs if one.state in _LEFT and at - WINDOW <= one.updated_at <= at), key=lambda one: one.id, default=None)
