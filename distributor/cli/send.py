"""`distributor send`: packs and sends the messages that are due, writes them as files (`--dry-run`) and estimates how long it takes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.log import Log, LogFormat
from distributor.cli.options import Config, Json, LogOption, Yes, complete_name, confirm, make_folder
from distributor.cli.progress import Bar
from distributor.cli.render import Written, counted, encoded, escape, print_json, stderr_line, stdout_line, time
from distributor.errors import InvalidInput, RequestDenied, UsageError
from distributor.files import atomic
from distributor.model.states import REMAINING, State, Way

if TYPE_CHECKING:
    from distributor.cli.send_run import ProgressReporter
    from distributor.config import Settings
    from distributor.model.attempts import OutboundMessage, PackedMessage, PackingJob
    from distributor.model.certificates import ParseProblem
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.ports import Ledger, WorkerPool
    from distributor.workflows.sending.limits import Forecast
    from distributor.workflows.sending.report import DeliveryResult, SendReport


EXAMPLE = "\b\nexample:\n  distributor send --dry-run look/ && distributor send --to alice@example.org && distributor send"
MOST_DOMAINS = 5  # named in the question


def send(
    plan: Annotated[str | None, typer.Argument(metavar="PLAN", help="Only this plan; default: everything due.")] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="ADDRESS", autocompletion=complete_name, help="Only to this person; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most N messages.")] = None,
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="DIR", readable=False, help="Write the messages to DIR as .eml files; send nothing.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Send deferred messages now, before they are due.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for deferred messages and send them too.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Keep running: send what becomes due, until stopped.")] = False,
    log: LogOption = LogFormat.TEXT,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Package and send what is planned or due, after confirmation.

    An ambiguous message is never sent again automatically: see `distributor resolve`.
    """
    from distributor import bootstrap
    from distributor.bootstrap import delivery
    from distributor.cli import password_mail, send_run
    from distributor.cli.ledger import warn_clock_ahead
    from distributor.cli.requests import plan_approved
    from distributor.model.delivery import DeliveryFilter

    if wait and dry_run is not None:
        raise UsageError("--wait and --dry-run exclude each other", hint="use one of them")
    settings = bootstrap.settings(chosen)
    scope = DeliveryFilter(plan=plan, addresses=frozenset(map(bootstrap.address_key, to or ())), way=Way.MAIL)
    delivery.refuse_outdated_templates(settings)
    if follow:
        return _follow(settings, scope, Log(log, bootstrap.now), yes=yes, others=(plan, limit, dry_run, now, wait, as_json))
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        _refuse_unknown(ledger, plan)
        warn_clock_ahead(ledger)
        unclear = recovered(ledger, Way.MAIL)
        unplanned = plan_approved(settings, ledger, scope.addresses) if plan is None and dry_run is None else 0
        _tell_not_due(ledger, to or (), early=now)
        if dry_run is not None:
            with delivery.packing_pool(settings, early=State.PLANNED in ledger.counts(scope)) as pool:
                return write_messages(settings, ledger, pool, scope, dry_run, limit=limit, as_json=as_json, unclear=unclear)
        found, reporter = _run(settings, ledger, scope, unclear, limit=limit, early=now, yes=yes, as_json=as_json)
        code = 0 if wait else _report(ledger, scope, found, reporter, as_json=as_json)
    if wait:
        found = send_run.wait(settings, scope, found, reporter, limit=limit)
        with bootstrap.open_for_reading(settings) as ledger:
            code = _report(ledger, scope, found, reporter, as_json=as_json)
    return password_mail.after_send(settings, code or int(unplanned > 0))


def _run(
    settings: Settings,
    ledger: Ledger,
    scope: DeliveryFilter,
    unclear: Sequence[DeliveryResult],
    *,
    limit: int | None,
    early: bool,
    yes: bool,
    as_json: bool,
) -> tuple[SendReport, ProgressReporter]:
    """Ask, then pack and send; starts no process and opens no connection where there is nothing to do."""
    from distributor.bootstrap import delivery
    from distributor.cli import send_run

    counts = ledger.counts(scope)
    if not unclear and not _has_work(settings, ledger, counts):
        return send_run.idle(keep=as_json)
    with delivery.packing_pool(settings, early=State.PLANNED in counts) as pool:
        due = expected(counts, early=early) if yes else _due(ledger, scope, early=early)
        total = min(due.total(), limit or due.total())
        if total and not yes:
            _ask(settings, due, total, duration(settings, ledger, scope, early=early, limit=limit))
        return send_run.run(settings, ledger, pool, scope, total=total, limit=limit, early=early, keep=as_json, unclear=unclear)


def _refuse_unknown(ledger: Ledger, plan: str | None) -> None:
    if plan is not None and ledger.plan_inputs(plan) is None:
        raise RequestDenied(f'there is no plan "{plan}"', hint="`distributor status --json` shows the plans of all deliveries")


def recovered(ledger: Ledger, way: Way) -> Sequence[DeliveryResult]:
    """The ambiguous messages of a run that ended early; its other claims are queued again."""
    from distributor.workers import process
    from distributor.workflows.sending.run import recover

    return recover(ledger, process.is_alive, way)[1]


def _follow(settings: Settings, scope: DeliveryFilter, log: Log, *, yes: bool, others: Sequence[object]) -> int:
    from distributor.cli import follow

    if any(others):
        raise UsageError("--follow sends everything that becomes due", hint="leave out PLAN, --limit, --dry-run, --now, --wait and --json")
    if not yes:
        confirm(f"Send from {settings.sender.address} whatever becomes due, without asking again?", "--yes")
    return follow.follow(settings, scope, log)


def _report(ledger: Ledger, scope: DeliveryFilter, found: SendReport, reporter: ProgressReporter, *, as_json: bool) -> int:
    from distributor.cli import send_run

    code = send_run.report(found, reporter, as_json=as_json, held=ledger.under_way(scope), until=ledger.next_due(scope))
    _remind(ledger, found.ambiguous)
    return code


def _tell_not_due(ledger: Ledger, names: Sequence[str], *, early: bool) -> None:
    """Name the people of `--to` to whom nothing will be sent. Raises RequestDenied for somebody who is not in the ledger."""
    from distributor.model.clocks import is_due
    from distributor.workflows import lookup

    moment = ledger.now()
    for name in names:
        found = lookup.find(ledger, name)
        if any(each.state in REMAINING and (early or is_due(each.not_before, moment)) for each in found):
            continue
        last = max(found, key=lambda each: each.updated_at)
        until = f", due at {time(last.not_before)}" if last.not_before else ""
        stderr_line(f"{escape(name)}: nothing due ({last.state}{until})")


def _remind(ledger: Ledger, reported: int) -> None:
    """Mention ambiguous messages of earlier runs."""
    from distributor.model.delivery import DeliveryFilter

    older = ledger.counts(DeliveryFilter(way=Way.MAIL)).get(State.AMBIGUOUS, 0) - reported
    if older > 0:
        stderr_line(f"{counted(older, 'message')} from earlier runs still ambiguous; next: distributor resolve")
    imports = sum(number for state, number in ledger.counts(DeliveryFilter(way=Way.INTUNE)).items() if state in REMAINING)
    if imports:
        stderr_line(f"{counted(imports, 'certificate')} for Intune: next: distributor intune import")


UNFINISHED = frozenset({*REMAINING, State.CLAIMED, State.TRANSMITTING, State.AMBIGUOUS})  # a run packs, sends, waits for or looks up


def _has_work(settings: Settings, ledger: Ledger, counts: Mapping[State, int]) -> bool:
    """Whether a run would do anything, be it only to clean the mailbox. `counts`: of its scope."""
    from distributor.bootstrap import delivery

    return bool(UNFINISHED & counts.keys()) or delivery.mailbox_needs_cleaning(settings, ledger)


def expected(counts: Mapping[State, int], *, early: bool) -> Counter[str]:
    """About how many messages are due, for the progress bar, without reading each row."""
    return Counter({str(state): number for state, number in counts.items() if state in REMAINING and (early or state != State.DEFERRED)})


def _due(ledger: Ledger, scope: DeliveryFilter, *, early: bool) -> Counter[str]:
    """How many messages are due, by domain."""
    from distributor.model.clocks import is_due

    moment = ledger.now()
    rows = ledger.deliveries(replace(scope, states=REMAINING))
    return Counter(row.address.rpartition("@")[2] for row in rows if early or is_due(row.not_before, moment))


def _ask(settings: Settings, due: Counter[str], total: int, lasts: str) -> None:
    others = f" and {counted(len(settings.senders), 'more mailbox', 'more mailboxes')}" if settings.senders else ""
    confirm(f"Send {counted(total, 'message')} from {settings.sender.address}{others} to {named_domains(due)}{lasts}?", "--yes")


def named_domains(due: Counter[str]) -> str:
    """`2 domains (example.org, example.com)`, the most frequent ones first."""
    named = ", ".join(domain for domain, _ in due.most_common(MOST_DOMAINS))
    more = f" and {len(due) - MOST_DOMAINS} more" if len(due) > MOST_DOMAINS else ""
    return f"{counted(len(due), 'domain')} ({named}{more})"


def write_messages(
    settings: Settings,
    ledger: Ledger,
    pool: WorkerPool[PackingJob, PackedMessage | ParseProblem],
    scope: DeliveryFilter,
    folder: Path,
    *,
    limit: int | None,
    as_json: bool,
    unclear: Sequence[DeliveryResult] = (),
) -> int:
    """Pack planned deliveries, then write queued and deferred messages; nothing is sent. `unclear`: ambiguous ones of an earlier run."""
    from distributor.bootstrap import delivery
    from distributor.cli.send_run import ProgressReporter
    from distributor.files.spool import FileSpool
    from distributor.workers import process
    from distributor.workflows.sending.report import DeliveryResult, held_back_by_clock

    packing = delivery.packing_workflow(settings, ledger, pool, process.current_process(), scope, limit)
    with Bar("packing", None) as bar:
        reporter = ProgressReporter(bar, keep=False)
        for result in itertools.chain(unclear, packing(lambda: False)):
            reporter(result)
        taken_back = ledger.taken_back()
        for each in taken_back:
            reporter(DeliveryResult(each.delivery, each.address, each.after, each.reason))
    withdrawn = sum(each.after is State.WITHDRAWN for each in taken_back)
    held = len(taken_back) - withdrawn
    make_folder(folder)
    written = _write_files(itertools.islice(ledger.messages(scope), limit), folder)
    if as_json:
        rows = FileSpool[str]()
        for row in written:
            rows.append(encoded(row))
        zeros = dict.fromkeys(("accepted", "deferred", "rejected"), 0)
        remaining = sum(number for state, number in ledger.counts(scope).items() if state in REMAINING)
        others = {"ambiguous": len(unclear), "remaining": remaining, "withdrawn": withdrawn}
        print_json("send", {**zeros, **others, "would_send": len(rows), "deliveries": map(Written, rows)})
    else:
        number = 0
        for row in written:
            stdout_line(f"would send to {row['address']}: {escape(row['file'])}")
            number += 1
        stderr_line(f"{counted(number, 'message')} in {folder}; nothing was sent")
        stderr_line("next: " + ("fix the errors above" if reporter.unpacked else "check them") + ", then distributor send")
    if held:
        raise held_back_by_clock(held)
    return 1 if reporter.unpacked or unclear or withdrawn else 0


def _write_files(messages: Iterator[OutboundMessage], folder: Path) -> Iterator[dict[str, str]]:
    for message in messages:
        path = folder / f"{message.delivery}.eml"
        try:
            atomic.replace_file(path, message.message)
        except OSError as error:
            hint = "free some space, or choose another folder"
            raise InvalidInput((error.strerror or "cannot be written").lower(), where=str(path), hint=hint) from None
        yield {"id": message.delivery, "address": message.address, "state": "queued", "said": "would send", "file": str(path)}


def duration(settings: Settings, ledger: Ledger, scope: DeliveryFilter, *, early: bool, limit: int | None) -> str:
    """The estimate in parentheses; empty where there is no limit."""
    from distributor.bootstrap import delivery

    transport = delivery.transport(settings, signed_in=False)
    if transport.per_minute is None and transport.daily is None:
        return ""
    found = _forecast(settings, ledger, scope, transport.per_minute, transport.daily, early=early, limit=limit)
    if found.later:
        return _in_days(found, transport.daily)
    if transport.per_minute is None:
        return ""
    each = " a mailbox" if settings.senders else ""
    return f" (about {span(found.lasts.total_seconds() / 60)} at {transport.per_minute:g} messages a minute{each})"


def _forecast(
    settings: Settings,
    ledger: Ledger,
    scope: DeliveryFilter,
    per_minute: float | None,
    daily: int | None,
    *,
    early: bool,
    limit: int | None,
) -> Forecast:
    from distributor.bootstrap import delivery
    from distributor.workflows.sending.limits import DAY, allocate, forecast
    from distributor.workflows.sending.run import partition_senders

    senders, now = delivery.senders(settings), ledger.now()
    waiting = allocate(ledger.due(scope, early=early), ledger.counts(scope).get(State.PLANNED, 0), senders)
    sent = [[] if daily is None else ledger.sent_times(now - DAY, each) for each in partition_senders(senders)]
    return forecast(waiting, sent, now=now, per_minute=per_minute, daily=daily, limit=limit)


def _in_days(found: Forecast, daily: int | None) -> str:
    again = f"after {found.again:%Y-%m-%d %H:%M} UTC: run `distributor send` again" if found.again else "another day"
    if not found.messages:
        return f" (none now: a mailbox may send {counted(daily or 0, 'message')} in 24 hours; {found.later} {again})"
    lasts = f"about {span(found.lasts.total_seconds() / 60)} for " if found.lasts else ""
    return f" ({lasts}{counted(found.messages, 'message')} today; {found.later} more {again})"


def span(minutes: float) -> str:
    """`40 s`, `12 min`, `5 h 40 min`."""
    if minutes < 1:
        return f"{max(1, round(minutes * 60))} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"
