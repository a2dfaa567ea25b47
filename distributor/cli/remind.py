"""`distributor remind`: who should be reminded of an expiring certificate, a password or a confirmation; `--send` writes to them."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Yes, complete_name, confirm
from distributor.cli.progress import Bar
from distributor.cli.render import counted, day, escape, print_json, stderr_line, stdout_line, table, time
from distributor.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from distributor.config import Settings
    from distributor.model.ports import Ledger
    from distributor.model.reminders import Reminder
    from distributor.workflows.remind import Overview, ReminderReport, ReminderResult

EXAMPLE = "\b\nexample:\n  distributor remind && distributor remind --send"
DEFAULT_DAYS = 30


def remind(
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=3650, help="Certificates that expire within N days.")
    ] = DEFAULT_DAYS,
    send: Annotated[bool, typer.Option("--send", help="Send the reminders that are due, after confirmation.")] = False,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="ADDRESS", autocompletion=complete_name, help="Only this person; may be repeated."),
    ] = None,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """List certificates that expire, passwords nobody collected, and people who never confirmed.

    With --send they are written to: 30, 14, 7, 3 and 1 days before and once after a certificate expires, 3 days after a password was ready
    and a day before it is destroyed, and 7 days after a certificate was sent. Nobody gets the same reminder twice.
    """
    from distributor import bootstrap
    from distributor.bootstrap import delivery, reminders
    from distributor.workflows import lookup, remind

    if yes and not send:
        raise UsageError("--yes without --send", hint="add --send to send the reminders that are due")
    settings, addresses = bootstrap.settings(chosen), frozenset(map(bootstrap.address_key, to or ()))
    if send:
        delivery.refuse_outdated_templates(settings)
    opened = bootstrap.open_for_writing(settings, sends=True) if send else bootstrap.open_for_reading(settings)
    report = None
    with opened as ledger:
        for name in to or ():
            lookup.find(ledger, name)  # raises for somebody who is not in the ledger
        now, found = ledger.now(), remind.overview(ledger, timedelta(days=days), reminders.usages, addresses)
        due = found.due(now)
        if send:
            report = _send(settings, ledger, due, yes=yes)
    if as_json:
        _print_json(found, report, now)
    elif report is None:
        _list(found, due, days)
    else:
        _tell(report)
    if report is None:
        return 0
    if report.error is not None:
        raise report.error
    return 1 if report.count("not-sent") or report.count("ambiguous") else 0


# --- the listing -----------------------------------------------------------------------------------------------------


def _list(found: Overview, due: Sequence[tuple[Reminder, str]], days: int) -> None:
    groups = (
        (found.expiring, f"{counted(len(found.expiring), 'certificate')} expired, or expiring within {counted(days, 'day')}", "expires"),
        (found.uncollected, f"{counted(len(found.uncollected), 'password')} not collected", "works until"),
        (found.unconfirmed, f"{counted(len(found.unconfirmed), 'certificate')} not confirmed for a week", "since"),
    )
    for group, title, column in groups:
        if group:
            stdout_line(title)
            table(["address", "name", column, "last reminder"], (_row(one, column) for one in group))
            stdout_line()
    if not any(group for group, _, _ in groups):
        stderr_line("nobody needs a reminder")
    elif due:
        stderr_line(f"{counted(len(due), 'reminder is', 'reminders are')} due; next: distributor remind --send")
    else:
        stderr_line("no reminder is due now")


def _row(one: Reminder, column: str) -> tuple[str, ...]:
    moment = {"expires": one.not_after, "works until": one.expires_at, "since": one.since}[column]
    return one.address, one.name, "" if moment is None else day(moment), "" if one.last is None else day(one.last)


def _print_json(found: Overview, report: ReminderReport | None, now: datetime) -> None:
    results = report.results if report is not None else ()
    print_json(
        "remind",
        {
            "expiring": ({**_named(one, now), "not_after": time(one.not_after)} for one in found.expiring),
            "uncollected": (
                {**_named(one, now), "since": time(one.since), "expires_at": time(one.expires_at)} for one in found.uncollected
            ),
            "unconfirmed": ({**_named(one, now), "since": time(one.since)} for one in found.unconfirmed),
            "sent": _sent(results),
        },
    )


def _named(one: Reminder, now: datetime) -> dict[str, object]:
    named = {"id": one.delivery, "address": one.address, "name": one.name, "serial": one.serial}
    return {**named, "due": one.due_step(now), "last_reminder": time(one.last)}


def _sent(results: Sequence[ReminderResult]) -> Iterator[dict[str, object]]:
    for result in results:
        one = result.reminder
        about = {"id": one.delivery, "address": one.address, "kind": str(one.kind), "step": result.step}
        yield {**about, "outcome": result.outcome, "said": result.said}


# --- sending ---------------------------------------------------------------------------------------------------------


def _send(settings: Settings, ledger: Ledger, due: Sequence[tuple[Reminder, str]], *, yes: bool) -> ReminderReport:
    import asyncio

    from distributor.bootstrap import reminders
    from distributor.cli.send import named_domains
    from distributor.workflows.remind import ReminderReport, send_reminders

    if not due:
        return ReminderReport()
    if not yes:
        domains = named_domains(Counter(one.address.rpartition("@")[2] for one, _ in due))
        confirm(f"Send {counted(len(due), 'reminder')} from {settings.sender.address} to {domains}?", "--yes")
    with reminders.message_pool(settings) as pool, Bar("sending reminders", len(due)) as bar:

        def tell(result: ReminderResult) -> None:
            bar.step()
            if result.outcome != "sent":
                what = result.outcome.replace("-", " ")
                hint = f" ({escape(result.hint)})" if result.hint else ""
                bar.line(f"{escape(result.reminder.address)}: {what}: {escape(result.said)}{hint}")

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        found = asyncio.run(send_reminders(reminders.remind_context(settings, ledger, pool, tell, bar.line), due))
    for diagnostic in found.diagnostics:
        if diagnostic.level != "ok":
            stderr_line(f"{diagnostic.level}: {escape(diagnostic.message)}" + (f" ({escape(diagnostic.hint)})" if diagnostic.hint else ""))
    return found


def _tell(report: ReminderReport) -> None:
    if not report.results and report.error is None:
        stderr_line("no reminder is due now; `distributor remind` lists who may need one later")
        return
    parts = [f"{counted(report.count('sent'), 'reminder')} sent"]
    parts += [f"{number} {name.replace('-', ' ')}" for name in ("not-sent", "ambiguous", "skipped") if (number := report.count(name))]
    stdout_line(", ".join(parts))
    if report.count("not-sent") and report.error is None:
        stderr_line("next: fix the errors above, then distributor remind --send")
    elif report.error is None:
        stderr_line("next: distributor remind, tomorrow")
