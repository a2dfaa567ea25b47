"""`distributor ledger adopt`: takes a restored, copied or moved ledger into use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason
from distributor.errors import RequestDenied

if TYPE_CHECKING:
    from distributor.model.high_water_mark import AdoptionResult
    from distributor.model.ports import Ledger

EXAMPLE = '\b\nexample:\n  distributor ledger adopt --reason "restored the backup of Monday after the disk failed"'
app = typer.Typer(help="The ledger itself.", no_args_is_help=True, epilog=EXAMPLE)


@app.callback()
def _group() -> None:
    """The ledger itself."""


@app.command(epilog=EXAMPLE)
def adopt(
    reason: Reason,
    nothing_sent: Annotated[
        bool, typer.Option("--nothing-sent", help="You know that nothing was sent after its last event: nothing becomes ambiguous.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where nothing speaks against it: the whole machine was restored, say.")
    ] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Take a restored, copied or moved ledger into use.

    What may have been sent after its last event becomes ambiguous: evidence (Sent Items, message trace) or you settle it with
    `distributor resolve`. Until then nothing is sent from it.
    """
    from distributor import bootstrap
    from distributor.cli.render import escape, print_json, stderr_line

    why = bootstrap.reason(reason)
    with bootstrap.open_for_writing(bootstrap.settings(chosen)) as ledger:
        seen = ledger.restored()
        if seen is None and not anyway:
            message = "nothing speaks against this ledger: it is the one that was last used here"
            raise RequestDenied(message, hint="where the whole machine was restored, so that it remembers nothing, add --anyway")
        if seen is not None:
            stderr_line(f"adopted although {escape(seen.message)}")
        found = ledger.adopt(why, nothing_sent=nothing_sent)
        if as_json:
            unclear = {str(state): number for state, number in found.unclear.items()}
            print_json("ledger-adopt", {"ambiguous": sum(found.unclear.values()), "were": unclear, "kind": seen and seen.kind})
        else:
            _show(ledger, found)
    return 1 if found.unclear else 0


def _show(ledger: Ledger, found: AdoptionResult) -> None:
    from distributor.cli.render import counted, stderr_line, stdout_line
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.states import RECEIVED

    number = sum(found.unclear.values())
    were = ", ".join(f"{n} {state}" for state, n in found.unclear.items())
    stdout_line(f"the ledger is in use; {counted(number, 'delivery', 'deliveries')} ambiguous" + (f" (before: {were})" if number else ""))
    if found.gap is not None:
        stderr_line(f"warning: {found.gap.message}")
    if any(ledger.counts(DeliveryFilter()).get(state) for state in RECEIVED):
        stderr_line(
            "whoever was sent another package since then has one that this ledger does not know: the older password may not open it"
        )
        stderr_line("hint: distributor resend ADDRESS --reason TEXT makes a new one; tell the person to delete the older messages")
    stderr_line("next: distributor resolve" if number else "next: distributor status")
