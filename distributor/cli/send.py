"""`distributor send`: packs planned deliveries and sends the messages that are due."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Yes

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.ports import Ledger

EXAMPLE = "\b\nexample:\n  distributor send --dry-run look/ && distributor send --limit 5 && distributor send"
MOST_DOMAINS = 5  # named in the question


def send(
    plan: Annotated[str | None, typer.Argument(metavar="PLAN", help="Only this plan; default: everything due.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many messages.")] = None,
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="DIR", readable=False, help="Write the very messages there as .eml; send nothing.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Deferred messages too, before their time.")] = False,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Package and send what is planned or due; asks first.

    A message whose fate is unclear is never sent again by itself: see `distributor resolve`.
    """
    from distributor import bootstrap
    from distributor.bootstrap import delivery
    from distributor.cli import clock, send_run
    from distributor.cli.dry_run import write_messages
    from distributor.cli.estimate import duration
    from distributor.model.delivery import DeliveryFilter
    from distributor.workers import process
    from distributor.workflows.sending.run import recover

    settings, scope = bootstrap.settings(chosen), DeliveryFilter(plan=plan)
    delivery.refuse_outdated_templates(settings)
    with delivery.packing_pool(settings) as pool, bootstrap.open_for_writing(settings, sends=True) as ledger:
        if plan is not None:
            _known(ledger, plan)
        clock.warn_clock_ahead(ledger)
        _, unclear = recover(ledger, process.is_alive)  # claims of a run that ended early
        if dry_run is not None:
            return write_messages(settings, ledger, pool, scope, dry_run, limit=limit, as_json=as_json, unclear=unclear)
        due = _expected(ledger, scope, early=now) if yes else _due(ledger, scope, early=now)
        total = min(due.total(), limit or due.total())
        if total and not yes:
            _ask(settings, due, total, duration(settings, ledger, scope, early=now, limit=limit))
        found, reporter = send_run.run(settings, ledger, pool, scope, total=total, limit=limit, early=now, keep=as_json, unclear=unclear)
        code = send_run.report(found, reporter, as_json=as_json, held=ledger.under_way(scope))
        _remind(ledger, found.ambiguous)
        return code


def _remind(ledger: Ledger, reported: int) -> None:
    """Mention ambiguous messages of earlier runs."""
    from distributor.cli.render import counted, stderr_line
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.states import State

    older = ledger.counts(DeliveryFilter()).get(State.AMBIGUOUS, 0) - reported
    if older > 0:
        stderr_line(f"{counted(older, 'message')} of earlier runs still unclear; next: distributor resolve")


def _known(ledger: Ledger, plan: str) -> None:
    from distributor.errors import RequestDenied

    if ledger.plan_inputs(plan) is None:
        raise RequestDenied(f'there is no plan "{plan}"', hint="`distributor status --json` shows the plans of all deliveries")


def _expected(ledger: Ledger, scope: DeliveryFilter, *, early: bool) -> Counter[str]:
    """About how many messages are due, for the progress bar, without reading each row."""
    from distributor.model.states import REMAINING, State

    return Counter(
        {str(state): number for state, number in ledger.counts(scope).items() if state in REMAINING and (early or state != State.DEFERRED)}
    )


def _due(ledger: Ledger, scope: DeliveryFilter, *, early: bool) -> Counter[str]:
    """How many messages are due, by domain."""
    from dataclasses import replace

    from distributor.model.clocks import is_due
    from distributor.model.states import REMAINING

    moment = ledger.now()
    rows = ledger.deliveries(replace(scope, states=REMAINING))
    return Counter(row.address.rpartition("@")[2] for row in rows if early or is_due(row.not_before, moment))


def _ask(settings: Settings, due: Counter[str], total: int, lasts: str) -> None:
    from distributor.cli.options import confirm
    from distributor.cli.render import counted

    named = ", ".join(domain for domain, _ in due.most_common(MOST_DOMAINS))
    more = f" and {len(due) - MOST_DOMAINS} more" if len(due) > MOST_DOMAINS else ""
    domains = f"{counted(len(due), 'domain')} ({named}{more})"
    others = f" and {counted(len(settings.senders), 'more mailbox', 'more mailboxes')}" if settings.senders else ""
    confirm(f"Send {counted(total, 'message')} from {settings.sender.address}{others} to {domains}{lasts}?", "--yes")
