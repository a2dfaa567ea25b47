"""`distributor status`: counts by state, and a row a delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from distributor.cli.options import Config, Json
from distributor.core.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributor.core.deliveries import Scope
    from distributor.core.ports import Ledger

EXAMPLE = "\b\nexample:\n  distributor status --state rejected --state ambiguous"


def status(
    address: Annotated[str | None, typer.Argument(metavar="ADDRESS", help="Only this person's deliveries.")] = None,
    state: Annotated[list[State] | None, typer.Option("--state", metavar="S", help="Only this state; may be repeated.")] = None,
    plan: Annotated[str | None, typer.Option("--plan", metavar="PLAN", help="Only this plan.")] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> None:
    """Count deliveries by state and list them."""
    from distributor import wiring
    from distributor.cli.listing import line
    from distributor.cli.show import answer, say
    from distributor.core.deliveries import Scope

    scope = Scope(plan=plan, address=wiring.address_key(address) if address else None, states=frozenset(state or ()))
    with wiring.reading(wiring.settings(chosen)) as ledger:
        counts = {str(state): number for state, number in ledger.counts(scope).items()}
        if as_json:
            answer("status", {"counts": counts, "deliveries": map(line, ledger.rows(scope))})
        elif counts:
            _show(counts, ledger, scope)
        else:
            say("no deliveries" if address or state or plan else "no deliveries yet; next: distributor plan")


def _seconds(stamp: str) -> str:
    """The ledger's time without its microseconds."""
    return stamp[:19] + "Z"


def _show(counts: dict[str, int], ledger: Ledger, scope: Scope) -> None:
    from distributor.cli.show import say, table, tell

    tell("   ".join(f"{number} {state}" for state, number in counts.items()))
    tell()
    table(("address", "state", "gen", "password", "since", "delivery", "said"), _rows(ledger.rows(scope)))
    say(_next(counts))


def _rows(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        yield row[1], row[5], str(row[4]), row[19] or "-", _seconds(row[12]), row[0], _said(row[10], row[11])


def _said(said: str | None, not_before: str | None) -> str:
    """The server's last word, and until when a deferred letter waits."""
    return (said or "") + (f" (waits until {_seconds(not_before)})" if not_before else "")


def _next(counts: dict[str, int]) -> str:
    if counts.get(State.AMBIGUOUS):
        return "next: distributor resolve"
    if any(counts.get(state) for state in (State.PLANNED, State.QUEUED, State.DEFERRED)):
        return "next: distributor send"
    if counts.get(State.REJECTED) or counts.get(State.BOUNCED):
        return "next: distributor history ADDRESS, then distributor resend ADDRESS --reason TEXT"
    return "next: distributor password reveal ADDRESS --reason TEXT"
