"""`distributor ledger adopt`, and what several commands print about the ledger: its clock, whether it was restored, who sends from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason
from distributor.cli.render import YELLOW, coloured, counted, escape, print_json, stderr_line, stdout_line, time
from distributor.errors import RequestDenied
from distributor.model.states import RECEIVED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from distributor.model.delivery import UnderWay
    from distributor.model.high_water_mark import AdoptionResult
    from distributor.model.ports import Ledger


EXAMPLE = '\b\nexample:\n  distributor ledger adopt --reason "restored the backup of Monday after the disk failed"'
app = typer.Typer(help="Manage the ledger.", no_args_is_help=True, epilog=EXAMPLE)


@app.callback()
def _group() -> None:
    """Manage the ledger."""


@app.command(epilog=EXAMPLE)
def adopt(
    reason: Reason,
    nothing_sent: Annotated[
        bool, typer.Option("--nothing-sent", help="Nothing was sent after the backup: no delivery becomes ambiguous.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Even if the ledger looks current, for example after the whole machine was restored.")
    ] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Take a restored, copied or moved ledger into use.

    Deliveries that may have been sent after the backup become ambiguous; settle them with `distributor resolve`. Nothing is sent from a
    restored ledger before it is adopted.
    """
    from distributor import bootstrap

    why = bootstrap.reason(reason)
    with bootstrap.open_for_writing(bootstrap.settings(chosen)) as ledger:
        seen = ledger.restored()
        if seen is None and not anyway:
            message = "this ledger was not restored: it is the one last used on this machine"
            raise RequestDenied(message, hint="if the whole machine was restored, add --anyway")
        if seen is not None:
            stderr_line(f"adopted; it was refused because {escape(seen.message)}")
        found = ledger.adopt(why, nothing_sent=nothing_sent)
        if as_json:
            unclear = {str(state): number for state, number in found.unclear.items()}
            print_json("ledger-adopt", {"ambiguous": sum(found.unclear.values()), "were": unclear, "kind": seen and seen.kind})
        else:
            _show_adoption(ledger, found)
    return 1 if found.unclear else 0


def _show_adoption(ledger: Ledger, found: AdoptionResult) -> None:
    from distributor.model.delivery import DeliveryFilter

    number = sum(found.unclear.values())
    were = ", ".join(f"{n} {state}" for state, n in found.unclear.items())
    stdout_line(f"ledger adopted; {counted(number, 'delivery', 'deliveries')} ambiguous" + (f" (before: {were})" if number else ""))
    if found.gap is not None:
        stderr_line(f"warning: {found.gap.message}")
    if any(ledger.counts(DeliveryFilter()).get(state) for state in RECEIVED):
        stderr_line("people who were sent a newer package have one that this ledger does not know, and its password may not open it")
        stderr_line("hint: `distributor resend ADDRESS --reason TEXT` sends a new one; tell the person to delete the older messages")
    stderr_line("next: distributor resolve" if number else "next: distributor status")


def warn_clock_ahead(ledger: Ledger) -> None:
    """Warn where the ledger's last event is in the future."""
    at = ledger.ahead()
    if at is not None:
        stderr_line(f"{coloured('warning', YELLOW)}: {clock_ahead_message(at, ledger.now())}")
        stderr_line("hint: set the clock with `timedatectl set-ntp true`; if it is right, go on: the clock counts, not that event")


def clock_ahead_message(at: datetime, now: datetime) -> str:
    """The message about an event in the future."""
    return f"the ledger's last event is dated {time(at)}, {_span(at - now)} ahead of the clock ({time(now)}): one of them is wrong"


def print_under_way(held: Sequence[UnderWay], show: Callable[[str], None] = stderr_line) -> None:
    """List the deliveries that senders have claimed: by whom, since when and until when."""
    for each in held:
        doing = "claimed by" if each.state == "claimed" else "being sent by"
        until = "" if each.until is None else f"; `distributor send` takes over after {time(each.until)} at the latest"
        who = f"process {each.owner.pid} of {escape(each.by or each.owner.host)}"
        show(f"{counted(each.number, 'message')} {doing} {who} since {time(each.since)}{until}")


def _span(ahead: timedelta) -> str:
    minutes = round(ahead.total_seconds() / 60)
    if minutes < 120:  # noqa: PLR2004  two hours
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"  # noqa: PLR2004  two days


def warn_gap(ledger: Ledger) -> None:
    """Warn of people who may be missing in an adopted ledger."""
    from distributor.model.high_water_mark import LOOK

    if (found := ledger.gap()) is not None:
        stderr_line(f"warning: {found.message}")
        stderr_line(f"hint: {LOOK}")


def warn_restored(ledger: Ledger) -> None:
    """Warn where nothing can be sent from this ledger until it is adopted."""
    if (found := ledger.restored()) is not None:
        stderr_line(f"warning: {escape(found.message)}; nothing can be sent from it")
        stderr_line(f"hint: {found.hint}")
