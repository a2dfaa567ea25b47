"""`distributor track` and `resolve`: record what Sent Items, message traces and mailboxes tell, and settle ambiguous deliveries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, complete_name
from distributor.cli.render import counted, escape, issue_row, print_issue, print_json, stderr_line, table
from distributor.errors import Error, RequestDenied, UsageError
from distributor.model.issues import Diagnostic
from distributor.model.states import State

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.delivery import Delivery
    from distributor.model.issues import Issue
    from distributor.model.mailboxes import MailboxReader
    from distributor.model.ports import Ledger
    from distributor.workflows.mailboxes import MailboxReport
    from distributor.workflows.tracking import AmbiguousDelivery, StateChange, TrackingReport


EXAMPLE = "\b\nexample:\n  distributor track --json | jq '.moved[] | select(.to == \"bounced\")'"
EVERY = 300.0  # seconds between two rounds; a message trace is no faster


def track(
    follow: Annotated[bool, typer.Option("--follow", help="Check every 5 minutes until Ctrl-C.")] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Check what happened to sent messages, and record it.

    Sent Items settle ambiguous messages; a message trace ([[trackers]]) also shows whether they were delivered or bounced. A mailbox that
    is read by IMAP may have requests for another copy.
    """
    from distributor import bootstrap
    from distributor.bootstrap.checkpoints import publish_meanwhile

    if follow and as_json:
        raise UsageError("--follow and --json exclude each other", hint="run `distributor track --json` on a schedule instead")
    settings = bootstrap.settings(chosen)
    with bootstrap.open_for_writing(settings) as ledger:
        code = _once(settings, ledger, as_json=as_json)
        while follow:
            publish_meanwhile(settings, ledger, stderr_line)
            time.sleep(EVERY)
            code = _once(settings, ledger, as_json=False)
    return code


def _once(settings: Settings, ledger: Ledger, *, as_json: bool) -> int:
    from distributor.bootstrap import delivery
    from distributor.model.delivery import DeliveryFilter
    from distributor.workers import process

    ledger.recover(process.is_alive)
    trackers, readers = delivery.trackers(settings)
    if not trackers and not readers and settings.trust is None:
        hint = 'add [[trackers]] to distributor.toml, such as kind = "trace" or "imap" (see docs/exchange-online.md#delivery-reports)'
        raise RequestDenied("no tracker is configured", hint=hint)
    found = delivery.track(settings, ledger, trackers, frozenset({State.AMBIGUOUS, State.ACCEPTED}))
    mails = _read_mailboxes(settings, ledger, readers)
    clean_mailboxes(settings, ledger)
    revocations = _watched(settings, ledger)
    _show_report(found, mails, revocations, as_json=as_json)
    for error in (*found.errors, *mails.errors):
        raise error
    unclear = ledger.counts(DeliveryFilter()).get(State.AMBIGUOUS, 0)
    wrong = revocations.revoked or any(issue.severity == "error" for issue in revocations.issues)
    return 1 if unclear or wrong or any(moved.after is State.BOUNCED for moved in found.moved) else 0


def _read_mailboxes(settings: Settings, ledger: Ledger, readers: Sequence[MailboxReader]) -> MailboxReport:
    if not readers:
        from distributor.workflows.mailboxes import MailboxReport

        return MailboxReport()
    from distributor.bootstrap import mailboxes

    return mailboxes.read_mailboxes(settings, ledger, readers)


def clean_mailboxes(settings: Settings, ledger: Ledger) -> None:
    """Remove copies and drafts from the mailboxes, also of messages settled just now. A service that cannot be asked is a warning."""
    from distributor.bootstrap import delivery

    try:
        diagnostics = delivery.clean_mailboxes(settings, ledger)
    except Error as error:
        diagnostics = [Diagnostic("transport", "warning", str(error), error.hint)]
    for diagnostic in diagnostics:
        level = "" if diagnostic.level == "ok" else f"{diagnostic.level}: "
        stderr_line(f"{level}{escape(diagnostic.message)}" + (f"\nhint: {escape(diagnostic.hint)}" if diagnostic.hint else ""))


@dataclass
class _Revocations:
    """Rows of deliveries whose certificate was revoked since or is good again, and issues where that could not be checked."""

    revoked: list[dict[str, object]] = field(default_factory=list)
    reinstated: list[dict[str, object]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


def _watched(settings: Settings, ledger: Ledger) -> _Revocations:
    """Check certificates of deliveries for revocation, where `[trust]` is configured."""
    if settings.trust is None:
        return _Revocations()
    from distributor.cli.trust import rows, watched

    done = watched(settings, ledger)
    return _Revocations(rows(done.revoked), rows(done.reinstated), done.issues)


def _show_report(found: TrackingReport, mails: MailboxReport, revocations: _Revocations, *, as_json: bool) -> None:
    if as_json:
        issues = [issue_row(issue) for issue in revocations.issues]
        checked = {"revoked": revocations.revoked, "reinstated": revocations.reinstated, "issues": issues}
        rows = [{"id": m.delivery, "address": m.address, "from": m.before, "to": m.after, "said": m.reason} for m in found.moved]
        print_json("track", {"read": found.read + mails.read, "moved": rows, "unmatched": mails.unmatched, **_requests(mails), **checked})
        return
    table(("address", "before", "now", "said"), ((m.address, m.before, m.after, m.reason) for m in found.moved))
    if found.read or found.moved:
        stderr_line(f"{counted(found.read, 'message')} found, {counted(len(found.moved), 'status', 'statuses')} changed")
    elif not mails.read:
        stderr_line("nothing found, no status changed")
    _show_mails(mails)
    for row in revocations.revoked:
        stderr_line(f"{escape(row['address'])}: the certificate was revoked; see: distributor history {escape(row['address'])}")
    for row in revocations.reinstated:
        stderr_line(f"{escape(row['address'])}: {escape(row['said'])}")
    for issue in revocations.issues:
        print_issue(issue)


def _requests(mails: MailboxReport) -> dict[str, object]:
    requests = [{"id": request.id, "address": request.address, "state": request.state} for request in mails.asked]
    left = [{"message_id": one.message_id, "address": one.address, "reason": one.reason} for one in mails.left]
    return {"requests": requests, "left": left}


def _show_mails(mails: MailboxReport) -> None:
    """How many mails were read, and each request: recorded, or left alone with the reason."""
    if mails.read:
        stderr_line(f"{counted(mails.read, 'mail')} read, {counted(len(mails.asked), 'request')} recorded")
    for request in mails.asked:
        stderr_line(f"{escape(request.address)} asks for another copy: request {request.id} is {request.state}")
    for one in mails.left:
        stderr_line(f"left alone: {escape(' '.join(filter(None, (one.address, one.message_id))) or 'a mail')}: {escape(one.reason)}")
    if any(request.state == "open" for request in mails.asked):
        stderr_line("next: distributor requests")
    elif any(request.state == "approved" for request in mails.asked):
        stderr_line("next: distributor send")


RESOLVE_EXAMPLE = '\b\nexample:\n  distributor resolve d-01JX... --accepted --reason "the mail log of mx1 has it"'


def resolve(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="DELIVERY",
            autocompletion=complete_name,
            help="An address, a delivery's id or a certificate; default: list all that are ambiguous.",
        ),
    ] = None,
    accepted: Annotated[bool, typer.Option("--accepted", help="The server has the message.")] = False,
    again: Annotated[bool, typer.Option("--again", help="The server does not have it: send the same message again.")] = False,
    restored: Annotated[
        bool, typer.Option("--restored", help="All deliveries that are ambiguous because the ledger was restored.")
    ] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="How you know; recorded in the ledger.")] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """List ambiguous deliveries, or settle one.

    A delivery is ambiguous when the connection was lost before the server confirmed the message. Sent Items and the message trace are
    checked first, where configured; otherwise look in the server's log.
    """
    from distributor import bootstrap
    from distributor.workers import process
    from distributor.workflows import lookup

    settings = bootstrap.settings(chosen)
    _sensible(name, accepted=accepted, again=again, reason=reason, restored=restored)
    with bootstrap.open_for_writing(settings) as ledger:
        ledger.recover(process.is_alive)
        if restored:
            _settle_restored(settings, ledger, bootstrap.reason(reason or ""), accepted=accepted)
            return _list_ambiguous(settings, ledger, None, (), as_json=as_json)
        named = lookup.one(ledger, name, {State.AMBIGUOUS}) if name else None
        if named is not None and (accepted or again):
            _settle(settings, ledger, named.id, bootstrap.reason(reason or ""), accepted=accepted)
            clean_mailboxes(settings, ledger)
            return _list_ambiguous(settings, ledger, None, (), as_json=as_json)
        settled = _look(settings, ledger)
        clean_mailboxes(settings, ledger)
        return _list_ambiguous(settings, ledger, named.id if named else None, settled, as_json=as_json)


def _look(settings: Settings, ledger: Ledger) -> tuple[StateChange, ...]:
    """Settle what trackers have evidence of. A service that cannot be asked is only a warning."""
    from distributor.bootstrap.delivery import track, trackers
    from distributor.model.delivery import DeliveryFilter

    if not ledger.counts(DeliveryFilter()).get(State.AMBIGUOUS):
        return ()
    found = track(settings, ledger, trackers(settings)[0], frozenset({State.AMBIGUOUS}))
    for error in found.errors:
        stderr_line(f"warning: {escape(error)}" + (f"\nhint: {escape(error.hint)}" if error.hint else ""))
    for moved in found.moved:
        stderr_line(f"{moved.delivery}: {escape(moved.address)} is {moved.after}: {escape(moved.reason)}")
    return found.moved


def _sensible(name: str | None, *, accepted: bool, again: bool, reason: str | None, restored: bool) -> None:
    if accepted and again:
        raise UsageError("--accepted and --again exclude each other", hint="use one of them")
    if restored and (name is not None or not (accepted or again)):
        raise UsageError("--restored needs --accepted or --again, and no DELIVERY", hint="it settles all deliveries of a restored ledger")
    if (accepted or again) and name is None and not restored:
        raise UsageError(
            "DELIVERY is missing",
            hint="`distributor resolve` lists what is ambiguous; then: distributor resolve DELIVERY --accepted --reason TEXT",
        )
    if (accepted or again) and not (reason or "").strip():
        raise UsageError("--reason is missing", hint="say how you know; it is recorded in the ledger")


def _settle(settings: Settings, ledger: Ledger, delivery: str, reason: str, *, accepted: bool) -> None:
    from distributor.bootstrap.delivery import transport
    from distributor.workers import process
    from distributor.workflows import tracking

    if accepted:
        tracking.accept(ledger, delivery, reason)
        found = ledger.delivery(delivery)
        stderr_line(f"{delivery}: accepted; {_password(found)}")
    else:
        wait = transport(settings, signed_in=False).attempt_timeout
        tracking.send_again(ledger, delivery, reason, alive=process.is_alive, now=ledger.now(), attempt_timeout=wait)
        found = ledger.delivery(delivery)
        stderr_line(f"{delivery}: {found and found.state}; next: distributor send")


def _password(delivery: Delivery | None) -> str:
    """The state of a delivered message's password; the ledger has none of a message that was sent after the backup."""
    if delivery is None or delivery.password_state is None:
        return "its password is not in this ledger; `distributor resend` makes a new package with a new password"
    return f"its password is {delivery.password_state}"


def _settle_restored(settings: Settings, ledger: Ledger, reason: str, *, accepted: bool) -> None:
    from distributor.bootstrap.delivery import transport
    from distributor.workers import process
    from distributor.workflows import tracking

    wait = transport(settings, signed_in=False).attempt_timeout
    found = tracking.settle_restored(ledger, reason, accepted=accepted, alive=process.is_alive, now=ledger.now(), attempt_timeout=wait)
    stderr_line(f"{counted(found.settled, 'delivery', 'deliveries')} {'accepted' if accepted else 'queued again; next: distributor send'}")
    for delivery, error in found.left:
        stderr_line(f"unchanged: {delivery.id}: {escape(delivery.address)}: {escape(error.message)}")
        stderr_line(f"hint: {escape(error.hint)}")
    if found.waiting:
        stderr_line(
            f"{counted(found.waiting, 'delivery', 'deliveries')} skipped: a sender may still be waiting for an answer; try again later"
        )


def _list_ambiguous(settings: Settings, ledger: Ledger, delivery: str | None, settled: Sequence[StateChange], *, as_json: bool) -> int:
    from distributor.bootstrap.delivery import transport
    from distributor.model.delivery import DeliveryFilter
    from distributor.workers import process
    from distributor.workflows import tracking

    now, wait = ledger.now(), transport(settings, signed_in=False).attempt_timeout
    doubts = list(tracking.ambiguous_deliveries(ledger, DeliveryFilter(), alive=process.is_alive, now=now, attempt_timeout=wait))
    if delivery is not None and delivery not in {moved.delivery for moved in settled}:
        _refuse_settled(ledger, delivery, doubts)
    if delivery is not None:
        doubts = [doubt for doubt in doubts if doubt.delivery.id == delivery]
    if as_json:
        print_json("resolve", {"ambiguous": [_row(doubt) for doubt in doubts], "settled": [_moved(moved) for moved in settled]})
    elif doubts:
        table(("delivery", "address", "message id", "evidence", "again"), (_line(doubt, now) for doubt in doubts))
    if doubts:
        stderr_line(f"{counted(len(doubts), 'delivery', 'deliveries')} ambiguous; look for the Message-ID in the server's log")
        stderr_line("next: distributor resolve DELIVERY --accepted --reason TEXT, or --again if the server does not have it")
    elif not as_json:
        stderr_line("nothing is ambiguous")
    return 1 if doubts else 0


def _refuse_settled(ledger: Ledger, delivery: str, doubts: list[AmbiguousDelivery]) -> None:
    found = ledger.delivery(delivery)
    if found is not None and all(doubt.delivery.id != delivery for doubt in doubts):
        hint = "`distributor resolve` lists what is ambiguous"
        raise RequestDenied(f"the delivery is {found.state}, not ambiguous", where=delivery, hint=hint)


def _moved(moved: StateChange) -> dict[str, object]:
    return {"id": moved.delivery, "address": moved.address, "to": moved.after, "said": moved.reason}


def _row(doubt: AmbiguousDelivery) -> dict[str, object]:
    return {
        "id": doubt.delivery.id,
        "address": doubt.delivery.address,
        "message_id": doubt.delivery.message_id,
        "said": doubt.delivery.response,
        "evidence": doubt.evidence,
        "armed_at": doubt.armed_at,
        "again_at": doubt.retry_allowed_at,
    }


def _line(doubt: AmbiguousDelivery, now: datetime) -> tuple[object, ...]:
    from distributor.cli.render import time

    again = (
        "not while its sender runs"
        if doubt.retry_allowed_at is None
        else "now"
        if doubt.retry_allowed_at <= now
        else f"from {time(doubt.retry_allowed_at)}"
    )
    return doubt.delivery.id, doubt.delivery.address, doubt.delivery.message_id or "-", doubt.evidence, again
