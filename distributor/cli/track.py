"""`distributor track`: records what Sent Items, message traces and mailboxes tell of messages, once or every five minutes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.log import Log, LogFormat, Notifier
from distributor.cli.options import Config, Json, LogOption
from distributor.cli.render import counted, escape, issue_row, print_issue, print_json, stderr_line, table
from distributor.errors import Error, RequestDenied, ServiceUnavailable, UsageError
from distributor.model.issues import Diagnostic
from distributor.model.states import State

if TYPE_CHECKING:
    from distributor.cli.follow import StopFlag
    from distributor.config import Settings
    from distributor.model.issues import Issue
    from distributor.model.mailboxes import MailboxReader
    from distributor.model.ports import Ledger
    from distributor.workflows.notices import MailboxReport, Remark
    from distributor.workflows.tracking import StateChange, TrackingReport

EXAMPLE = "\b\nexample:\n  distributor track --json | jq '.moved[] | select(.to == \"bounced\")'"
EVERY = 300.0  # seconds between two rounds; a message trace is no faster
EARLIEST = timedelta(days=366)  # before today, of --since: a mailbox holds few reports that are older, and each mail is fetched again
MOST_LINES = 20  # of one kind about mails: a stranger can send thousands that lead to nothing
MOST_NEXT = 5  # bounced deliveries whose next step is printed; one cause often has many
DOCUMENT = "see docs/tracking.md#after-a-bounce"


def track(
    follow: Annotated[bool, typer.Option("--follow", help="Check every 5 minutes until Ctrl-C or SIGTERM.")] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DATE", help="Read mailboxes again from this date; what is known already changes nothing."),
    ] = None,
    log: LogOption = LogFormat.TEXT,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Check what happened to sent messages, and record it.

    Mailboxes of [[trackers]] are read for bounces, delivery reports, read receipts and requests for another copy. Sent Items settle
    ambiguous messages; a message trace also shows whether messages were delivered or bounced.
    """
    from distributor import bootstrap

    if follow and (as_json or since is not None):
        hint = "run `distributor track --json` on a schedule instead" if as_json else "run `distributor track --since DATE` once"
        raise UsageError(f"--follow and {'--json' if as_json else '--since'} exclude each other", hint=hint)
    settings = bootstrap.settings(chosen)
    if follow:
        return _follow(settings, Log(log, bootstrap.now))
    with bootstrap.open_for_writing(settings) as ledger:
        done = _round(settings, ledger, _diagnostic_line, None if since is None else parse_date(since, ledger.now()))
        show(done, as_json=as_json)
        for error in done.errors:
            raise error
        return done.code


def parse_date(text: str, now: datetime) -> datetime:
    """The moment of --since. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text).replace(tzinfo=now.tzinfo)
    except ValueError:
        raise UsageError(f'--since: "{text}" is not a date', hint="write it as 2026-11-30") from None
    if not now - EARLIEST <= found <= now:
        raise UsageError(f'--since: "{text}" is not within the last {EARLIEST.days} days', hint="write a later date, as 2026-11-30")
    return found


# --- one round -------------------------------------------------------------------------------------------------------


@dataclass
class Revocations:
    """Rows of deliveries whose certificate was revoked since or is good again, and issues where that could not be checked."""

    revoked: list[dict[str, object]] = field(default_factory=list)
    reinstated: list[dict[str, object]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TrackingRound:
    """What one round found. `unclear`: how many deliveries are still ambiguous."""

    found: TrackingReport
    mails: MailboxReport
    revocations: Revocations
    unclear: int

    @property
    def moved(self) -> list[StateChange]:
        """All changes of states, in the order of the ledger."""
        return [*self.found.moved, *self.mails.moved]

    @property
    def errors(self) -> list[Error]:
        """The errors of trackers and mailboxes."""
        return [*self.found.errors, *self.mails.errors]

    @property
    def code(self) -> int:
        """The exit code where there is no error."""
        wrong = self.revocations.revoked or any(issue.severity == "error" for issue in self.revocations.issues)
        return 1 if self.unclear or wrong or any(moved.after is State.BOUNCED for moved in self.moved) else 0


def _round(settings: Settings, ledger: Ledger, tell: Callable[[Diagnostic], None], since: datetime | None = None) -> TrackingRound:
    from distributor.bootstrap import delivery
    from distributor.model.delivery import DeliveryFilter
    from distributor.workers import process

    ledger.recover(process.is_alive)
    trackers, readers = delivery.trackers(settings)
    if not trackers and not readers and settings.trust is None:
        raise RequestDenied(
            "no tracker is configured",
            hint='add [[trackers]] to distributor.toml, such as kind = "trace" or "imap" (see docs/tracking.md#trackers)',
        )
    if since is not None and not readers:
        raise RequestDenied(
            "no mailbox is read, so --since changes nothing", hint="add [[trackers]] of kind imap or graph (see docs/tracking.md#trackers)"
        )
    found = delivery.track(settings, ledger, trackers, frozenset({State.AMBIGUOUS, State.ACCEPTED}))
    mails = _read_mailboxes(settings, ledger, readers, since)
    clean_mailboxes(settings, ledger, tell)
    return TrackingRound(found, mails, _watched(settings, ledger), ledger.counts(DeliveryFilter()).get(State.AMBIGUOUS, 0))


def _read_mailboxes(settings: Settings, ledger: Ledger, readers: Sequence[MailboxReader], since: datetime | None) -> MailboxReport:
    if not readers:
        from distributor.workflows.notices import MailboxReport

        return MailboxReport()
    from distributor.bootstrap import mailboxes

    return mailboxes.read_mailboxes(settings, ledger, readers, since)


def _diagnostic_line(diagnostic: Diagnostic) -> None:
    level = "" if diagnostic.level == "ok" else f"{diagnostic.level}: "
    stderr_line(f"{level}{escape(diagnostic.message)}" + (f"\nhint: {escape(diagnostic.hint)}" if diagnostic.hint else ""))


def clean_mailboxes(settings: Settings, ledger: Ledger, tell: Callable[[Diagnostic], None] = _diagnostic_line) -> None:
    """Remove copies and drafts from the mailboxes, also of messages settled just now. A service that cannot be asked is a warning."""
    from distributor.bootstrap import delivery

    try:
        diagnostics = delivery.clean_mailboxes(settings, ledger)
    except Error as error:
        diagnostics = [Diagnostic("transport", "warning", str(error), error.hint)]
    for diagnostic in diagnostics:
        tell(diagnostic)


def _watched(settings: Settings, ledger: Ledger) -> Revocations:
    """Check certificates of deliveries for revocation, where `[trust]` is configured."""
    if settings.trust is None:
        return Revocations()
    from distributor.cli.trust import rows, watched

    done = watched(settings, ledger)
    return Revocations(rows(done.revoked), rows(done.reinstated), done.issues)


# --- what is shown ---------------------------------------------------------------------------------------------------


def show(done: TrackingRound, *, as_json: bool) -> None:
    """Print what a round found."""
    if as_json:
        print_json("track", _row(done))
        return
    found, mails, revocations = done.found, done.mails, done.revocations
    moved = sorted(done.moved, key=lambda one: (one.after is not State.BOUNCED, one.after, one.address))
    table(("address", "before", "now", "said"), ((m.address, m.before, m.after, m.reason) for m in moved))
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
    _show_next([one for one in moved if one.after is State.BOUNCED])


def _row(done: TrackingRound) -> dict[str, object]:
    mails = done.mails
    moved = [{"id": m.delivery, "address": m.address, "from": m.before, "to": m.after, "said": m.reason} for m in done.moved]
    requests = [{"id": request.id, "address": request.address, "state": request.state} for request in mails.asked]
    left = [{"message_id": one.message_id, "address": one.address, "reason": one.reason} for one in mails.left]
    return {
        "read": done.found.read + mails.read,
        "moved": moved,
        "noted": list(map(_remark, mails.noted)),
        "unmatched": mails.unmatched,
        "hints": list(map(_remark, mails.hints)),
        "requests": requests,
        "left": left,
        "revoked": done.revocations.revoked,
        "reinstated": done.revocations.reinstated,
        "issues": [issue_row(issue) for issue in done.revocations.issues],
    }


def _remark(one: Remark) -> dict[str, object]:
    return {"id": one.delivery, "address": one.address, "said": one.said}


def _show_mails(mails: MailboxReport) -> None:
    """How many mails were read; then each note, each unmatched report with what it may be about, and each request."""
    if mails.read:
        numbers = {
            counted(len(mails.moved), "status", "statuses") + " changed": mails.moved,
            f"{len(mails.noted)} noted": mails.noted,
            f"{counted(len(mails.asked), 'request')} recorded": mails.asked,
            f"{mails.unmatched} unmatched": mails.unmatched,
        }
        stderr_line(", ".join([f"{counted(mails.read, 'mail')} read", *(text for text, number in numbers.items() if number)]))
    _show_first("noted", [f"{escape(one.address)}: {escape(one.said)}" for one in mails.noted])
    perhaps = [f"perhaps about {escape(one.address)} ({one.delivery}): {escape(one.said)}" for one in mails.hints]
    _show_first("unmatched report", perhaps, ", ")
    for request in mails.asked:
        stderr_line(f"{escape(request.address)} asks for another copy: request {request.id} is {request.state}")
    names = [" ".join(filter(None, (left.address, left.message_id))) or "a mail" for left in mails.left]
    _show_first("left alone", [f"{escape(name)}: {escape(left.reason)}" for name, left in zip(names, mails.left, strict=True)])
    if any(request.state == "open" for request in mails.asked):
        stderr_line("next: distributor requests")
    elif any(request.state == "approved" for request in mails.asked):
        stderr_line("next: distributor send")


def _show_first(kind: str, texts: Sequence[str], separator: str = ": ") -> None:
    for text in texts[:MOST_LINES]:
        stderr_line(f"{kind}{separator}{text}")
    if len(texts) > MOST_LINES:
        stderr_line(f"{kind}: {len(texts) - MOST_LINES} more")


def _show_next(bounced: Sequence[StateChange]) -> None:
    """The next step for each of the first bounced deliveries."""
    for one in bounced[:MOST_NEXT]:
        remedy = one.remedy or f"distributor history {one.address}"
        stderr_line(f"next: {escape(one.address)}: {escape(remedy)}")
    if len(bounced) > MOST_NEXT:
        stderr_line(f"next: {len(bounced) - MOST_NEXT} more bounced; {DOCUMENT}")


# --- until it is stopped -----------------------------------------------------------------------------------------------


def _follow(settings: Settings, log: Log) -> int:
    """A round every five minutes until SIGTERM or Ctrl-C; the exit code. Raises what no waiting mends."""
    from distributor import bootstrap
    from distributor.bootstrap.checkpoints import publish_meanwhile
    from distributor.cli.follow import StopFlag

    notify, stop = Notifier.of(os.environ), StopFlag()
    with stop.installed():
        with bootstrap.open_for_writing(settings) as ledger:
            log("ready", position=ledger.position())
        notify("READY=1\nSTATUS=reads what happened to messages")
        while not stop:
            try:
                with notify.meanwhile(), bootstrap.open_for_writing(settings) as ledger:
                    _log_round(_round(settings, ledger, lambda one: log(str(one.level), one.message, hint=one.hint)), log)
                    publish_meanwhile(settings, ledger, lambda line: log("checkpoint", line))
            except ServiceUnavailable as error:
                _log_refusal(error, log)
            _wait(stop, notify)
        notify("STOPPING=1")
        log("stopped")
    return 0


def _wait(stop: StopFlag, notify: Notifier) -> None:
    """Wait for the next round, with signs of life."""
    from time import monotonic

    from distributor.cli.follow import LOOK_AGAIN

    end = monotonic() + EVERY
    while (left := end - monotonic()) > 0:
        notify("WATCHDOG=1")
        if stop.wait(min(left, LOOK_AGAIN / 4)):
            return


def _log_round(done: TrackingRound, log: Log) -> None:
    """A line for each thing that a round found. Raises an error that no waiting mends."""
    for moved in done.moved:
        remedy = moved.remedy if moved.after is State.BOUNCED else ""
        log(str(moved.after), moved.reason, delivery=moved.delivery, address=moved.address, before=str(moved.before), hint=remedy)
    _log_mails(done.mails, log)
    for name, rows in (("revoked", done.revocations.revoked), ("reinstated", done.revocations.reinstated)):
        for row in rows:
            log(name, str(row["said"]), address=row["address"])
    for issue in done.revocations.issues:
        log(str(issue.severity), issue.message, address=issue.address, source=issue.source, hint=issue.hint)
    for error in done.errors:
        if not isinstance(error, ServiceUnavailable):
            raise error
        _log_refusal(error, log)
    log("round", read=done.found.read + done.mails.read, moved=len(done.moved), unmatched=done.mails.unmatched, ambiguous=done.unclear)


def _log_mails(mails: MailboxReport, log: Log) -> None:
    for one in mails.noted:
        log("noted", one.said, delivery=one.delivery, address=one.address)
    for one in mails.hints:
        log("unmatched", one.said, perhaps=one.delivery, address=one.address)
    for request in mails.asked:
        log("requested", request=request.id, address=request.address, state=str(request.state))
    for left in mails.left:
        log("left-alone", left.reason, address=left.address, message_id=left.message_id)


def _log_refusal(error: Error, log: Log) -> None:
    log("refused", error.message, where=error.where, hint=error.hint, again_in=round(EVERY))
