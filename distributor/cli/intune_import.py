"""`distributor intune import`: plans deliveries by Intune, then imports what is due for the certificate connector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Both, Config, History, Json, Offline, Passwords, Roster, Sources, Yes, complete_name, confirm
from distributor.cli.render import counted, stderr_line, stdout_line
from distributor.model.states import REMAINING, State, Way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributor.cli.send_run import ProgressReporter
    from distributor.config import Settings
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.ports import Ledger
    from distributor.workflows.plan import PlanResult
    from distributor.workflows.sending.report import DeliveryResult, SendReport

EXAMPLE = "\b\nexample:\n  distributor intune import certificates/ --roster people.csv --passwords passwords.csv"


def import_(
    sources: Sources = None,
    roster: Roster = None,
    passwords: Passwords = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="ADDRESS", autocompletion=complete_name, help="Only for this person; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most N certificates.")] = None,
    offline: Offline = False,
    history: History = False,
    both: Both = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every finding, file and delivery.")] = False,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Import certificates into Intune, which installs them on enrolled devices.

    Checks them as `plan` does, asks, then imports; without SOURCE and [[sources]], what is planned already. Nothing is deleted in Intune,
    and importing twice changes one record.
    """
    from distributor import bootstrap
    from distributor.bootstrap import intune
    from distributor.cli import plan, send_run
    from distributor.model.delivery import DeliveryFilter

    settings = bootstrap.settings(chosen)
    intune.check_password(settings)
    planned = _planned(settings, sources or (), roster, passwords, as_json=as_json, offline=offline, both=both, history=history)
    if planned is not None and not as_json:
        plan.show(planned, verbose=verbose, passwords=passwords is not None)
        stdout_line()
    scope = DeliveryFilter(addresses=frozenset(map(bootstrap.address_key, to or ())), way=Way.INTUNE)
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        found, reporter = _run(settings, ledger, scope, limit=limit, yes=yes, as_json=as_json)
        more = {} if planned is None else {"planned": plan.result(planned)}
        held, until = ledger.under_way(scope), ledger.next_due(scope)
        code = send_run.report(found, reporter, as_json=as_json, held=held, until=until, words=send_run.IMPORTING, more=more)
        _say_others(ledger)
    return code or int(planned is not None and plan.has_errors(planned))


def _planned(
    settings: Settings,
    sources: Sequence[Path],
    roster: Path | None,
    passwords: Path | None,
    *,
    as_json: bool,
    offline: bool,
    both: bool,
    history: bool,
) -> PlanResult | None:
    """None where nothing names a source."""
    from distributor.cli import plan

    if not (sources or roster or settings.sources):
        return None
    return plan.make(settings, sources, roster, passwords, as_json=as_json, offline=offline, way=Way.INTUNE, both=both, history=history)


def _run(
    settings: Settings, ledger: Ledger, scope: DeliveryFilter, *, limit: int | None, yes: bool, as_json: bool
) -> tuple[SendReport, ProgressReporter]:
    """Ask, then pack and import."""
    from distributor.bootstrap import delivery, intune
    from distributor.cli import send, send_run
    from distributor.cli.ledger import warn_clock_ahead

    warn_clock_ahead(ledger)
    unclear: Sequence[DeliveryResult] = send.recovered(ledger, Way.INTUNE)
    counts = ledger.counts(scope)
    if not unclear and not send.UNFINISHED & counts.keys():
        return send_run.idle(keep=as_json)
    due = send.expected(counts, early=True).total()
    total = min(due, limit or due)
    if total and not yes:
        where = intune.tenant(settings)
        question = (
            f"Import {counted(total, 'certificate')} for {counted(len(_people(ledger, scope)), 'person', 'people')} into Intune{where}?"
        )
        confirm(question, "--yes", "nothing imported")
    with delivery.packing_pool(settings, early=State.PLANNED in counts, connector=intune.connector(settings)) as pool:
        return send_run.run(
            settings, ledger, pool, scope, total=total, limit=limit, early=True, keep=as_json, unclear=unclear, words=send_run.IMPORTING
        )


def _people(ledger: Ledger, scope: DeliveryFilter) -> set[str]:
    return {each.address for each in ledger.deliveries(replace(scope, states=REMAINING))}


def _say_others(ledger: Ledger) -> None:
    """Mention messages that wait for `send`."""
    from distributor.model.delivery import DeliveryFilter

    waiting = sum(number for state, number in ledger.counts(DeliveryFilter(way=Way.MAIL)).items() if state in REMAINING)
    if waiting:
        stderr_line(f"{counted(waiting, 'delivery', 'deliveries')} by mail {'waits' if waiting == 1 else 'wait'} for `distributor send`")
