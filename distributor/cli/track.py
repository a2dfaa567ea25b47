"""`distributor track`: asks Sent Items and the message trace about messages, and records what they report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.errors import Error, RequestDenied, UsageError
from distributor.model.issues import Diagnostic

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.issues import Issue
    from distributor.model.ports import Ledger
    from distributor.workflows.tracking import TrackingReport

EXAMPLE = "\b\nexample:\n  distributor track --json | jq '.moved[] | select(.to == \"bounced\")'"
EVERY = 300.0  # seconds between two rounds; a message trace is no faster


def track(
    follow: Annotated[bool, typer.Option("--follow", help="Go on looking, until Ctrl-C.")] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Ask the services about messages that were sent, and record what they report.

    Sent Items settle ambiguous messages; a message trace ([[trackers]]) reports delivery and failure too.
    """
    from distributor import bootstrap

    if follow and as_json:
        raise UsageError("--follow and --json contradict each other", hint="run `distributor track --json` again and again instead")
    settings = bootstrap.settings(chosen)
    with bootstrap.open_for_writing(settings) as ledger:
        code = _once(settings, ledger, as_json=as_json)
        while follow:
            time.sleep(EVERY)
            code = _once(settings, ledger, as_json=False)
    return code


def _once(settings: Settings, ledger: Ledger, *, as_json: bool) -> int:
    from distributor.bootstrap import delivery
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.states import State
    from distributor.workers import process

    ledger.recover(process.is_alive)
    trackers = delivery.trackers(settings)
    if not trackers and settings.trust is None:
        hint = 'add [[trackers]] to distributor.toml, such as kind = "trace" for Exchange Online'
        raise RequestDenied("no tracker is configured", hint=hint)
    found = delivery.track(settings, ledger, trackers, frozenset({State.AMBIGUOUS, State.ACCEPTED}))
    clean_mailboxes(settings, ledger)
    revocations = _watched(settings, ledger)
    _show(found, revocations, as_json=as_json)
    if found.errors:
        raise found.errors[0]
    unclear = ledger.counts(DeliveryFilter()).get(State.AMBIGUOUS, 0)
    wrong = revocations.revoked or any(issue.severity == "error" for issue in revocations.issues)
    return 1 if unclear or wrong or any(moved.after is State.BOUNCED for moved in found.moved) else 0


def clean_mailboxes(settings: Settings, ledger: Ledger) -> None:
    """Remove copies and drafts from the mailboxes, also of messages settled just now. A service that cannot be asked is a warning."""
    from distributor.bootstrap import delivery
    from distributor.cli.render import escape, stderr_line

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
    from distributor.cli.trust_watch import rows, watched

    done = watched(settings, ledger)
    return _Revocations(rows(done.revoked), rows(done.reinstated), done.issues)


def _show(found: TrackingReport, revocations: _Revocations, *, as_json: bool) -> None:
    from distributor.cli.plan import issue_row, tell_issue
    from distributor.cli.render import counted, escape, print_json, stderr_line, table

    if as_json:
        issues = [issue_row(issue) for issue in revocations.issues]
        checked = {"revoked": revocations.revoked, "reinstated": revocations.reinstated, "issues": issues}
        rows = [{"id": m.delivery, "address": m.address, "from": m.before, "to": m.after, "said": m.said} for m in found.moved]
        print_json("track", {"read": found.read, "moved": rows, "unmatched": 0, **checked})
        return
    table(("address", "was", "is", "said"), ((m.address, m.before, m.after, m.said) for m in found.moved))
    stderr_line(f"{counted(found.read, 'message')} sighted, {len(found.moved)} moved")
    for row in revocations.revoked:
        stderr_line(f"{escape(row['address'])}: the certificate was revoked; distributor history {escape(row['address'])}")
    for row in revocations.reinstated:
        stderr_line(f"{escape(row['address'])}: {escape(row['said'])}")
    for issue in revocations.issues:
        tell_issue(issue)
