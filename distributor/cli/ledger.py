"""`distributor ledger adopt` and `copy`; and what commands print about the ledger: its clock, whether it was restored, who sends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason
from distributor.cli.render import YELLOW, coloured, counted, escape, print_json, stderr_line, stdout_line, time
from distributor.errors import InvalidInput, RequestDenied
from distributor.model.states import RECEIVED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from distributor.cli.progress import Bar
    from distributor.config import Settings
    from distributor.model.delivery import UnderWay
    from distributor.model.high_water_mark import AdoptionResult, LedgerCopy
    from distributor.model.ports import Ledger


EXAMPLE = '\b\nexample:\n  distributor ledger adopt --reason "restored the backup of Monday after the disk failed"'
COPY_EXAMPLE = "\b\nexample:\n  distributor ledger copy --to postgresql+psycopg://distributor@db.example.org/distributor"
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
    with bootstrap.open_for_reading(bootstrap.settings(chosen)) as ledger:
        seen = ledger.restored()
        if seen is None and not anyway:
            message = "this ledger was not restored: it is the one last used on this machine"
            raise RequestDenied(message, hint="if the whole machine was restored, add --anyway")
        if seen is not None:
            stderr_line(f"adopted; it was refused because {escape(seen.message)}")
        found = ledger.adopt(why, nothing_sent=nothing_sent)
        ledger.expire()  # a ledger that was copied takes no writes before
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


# --- copies --------------------------------------------------------------------------------------------------------


class _Progress:
    """A bar on a terminal, from when the number of rows is known."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._bar: Bar | None = None

    def begin(self, rows: int) -> None:
        """Show it."""
        from distributor.cli.progress import Bar

        self._bar = self._stack.enter_context(Bar("rows written and compared", rows))

    def step(self, rows: int) -> None:
        """So many more."""
        if self._bar is not None:
            self._bar.step(rows)


@app.command(epilog=COPY_EXAMPLE)
def copy(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="An empty PostgreSQL database, or a new SQLite file.")],
    analysis: Annotated[
        bool, typer.Option("--analysis", help="This ledger stays in use, and nothing can be sent from the copy until it is adopted.")
    ] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Copy the whole ledger from SQLite to PostgreSQL, or back, and use the copy from then on.

    Messages would be sent twice if both were used: this ledger takes no more changes, on any machine. Every row is read back and compared,
    and the audit chain is verified on both sides. Stop `distributor send`, `serve` and `track` first.
    """
    from distributor import bootstrap
    from distributor.workers import process

    settings = bootstrap.settings(chosen)
    url = bootstrap.ledger_url(settings, to)
    with bootstrap.open_for_copying(settings) as ledger:
        ledger.check_copy(url)
        _refuse_findings(settings, ledger)
        with ExitStack() as stack:
            found = ledger.copy_to(url, process.is_alive, _Progress(stack), analysis=analysis)
    if as_json:
        last = {"seq": found.end.seq, "at": found.end.at, "hash": found.end.hash}
        places = {"from": found.source, "to": found.target, "in_use": found.source if analysis else found.target}
        print_json("ledger-copy", {**places, "rows": found.rows, "last": last})
    else:
        _show_copy(found, to, analysis=analysis)
    return 0


def _refuse_findings(settings: Settings, ledger: Ledger) -> None:
    """Raise InvalidInput for a ledger that verification does not find intact: a copy would look as good as it."""
    from distributor.cli import checkpoints

    found = ledger.prove((), checkpoints.keys_of(settings, ledger) or ()).findings
    if found:
        hint = "run `distributor audit verify`; repair the ledger or restore a backup (see docs/restore.md#restore-step-by-step)"
        raise InvalidInput(f"nothing was copied: the audit of this ledger has {counted(len(found), 'finding')}", hint=hint)


def _show_copy(found: LedgerCopy, to: str, *, analysis: bool) -> None:
    from distributor.model.redaction import HIDDEN, without_password

    shown = without_password(to)
    stdout_line(escape(f"{counted(sum(found.rows.values()), 'row')} in {len(found.rows)} tables copied to {found.target} and compared"))
    stdout_line(f"audit chain intact on both sides: {counted(found.end.seq, 'event')}, hash {found.end.hash}")
    if analysis:
        stdout_line(escape(f"{found.source} stays in use; nothing can be sent from the copy"))
        stderr_line("next: to read the copy, use a configuration with:")
    else:
        stdout_line(escape(f"{found.source} takes no more changes: use the copy"))
        stderr_line("next: set this in distributor.toml on every machine that uses this ledger, then run `distributor audit verify`:")
    stdout_line("")
    stdout_line("[ledger]")
    stdout_line(escape(f'url = "{shown}"'))
    if HIDDEN in shown:
        stderr_line(f"{HIDDEN} stands for the secrets of the URL after --to")


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
