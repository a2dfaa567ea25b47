"""`distributor status`: counts by state, and a row a delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.core.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributor.core.ports import Delivery, Ledger, Scope

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
    from distributor.cli.show import answer, say
    from distributor.core.ports import Scope

    scope = Scope(plan=plan, address=wiring.address_key(address) if address else None, states=frozenset(state or ()))
    with wiring.reading(wiring.settings(chosen)) as ledger:
        counts = {str(state): number for state, number in ledger.counts(scope).items()}
        if as_json:
            answer("status", {"counts": counts, "deliveries": map(as_row, ledger.deliveries(scope))})
        elif counts:
            _show(counts, ledger, scope)
        else:
            say("no deliveries" if address or state or plan else "no deliveries yet; next: distributor plan")


def as_row(delivery: Delivery) -> dict[str, object]:
    """A delivery as `status --json` has it."""
    from distributor.cli.show import time

    channel = delivery.password_channel
    return {
        "id": delivery.id,
        "address": delivery.address,
        "name": delivery.name,
        "language": delivery.language,
        "state": delivery.state,
        "generation": delivery.generation,
        "attempts": delivery.attempts,
        "message_id": delivery.message_id,
        "package_sha256": delivery.package_sha256,
        "profile": delivery.profile,
        "said": delivery.said,
        "not_before": time(delivery.not_before),
        "updated_at": time(delivery.updated_at),
        "plan": delivery.plan,
        "certificate": {
            "sha256": delivery.certificate_sha256,
            "serial": delivery.certificate_serial,
            "subject": delivery.certificate_subject,
            "not_after": time(delivery.certificate_not_after),
        },
        "password": {"channel": channel, "state": delivery.password_state} if channel else None,
    }


def _show(counts: dict[str, int], ledger: Ledger, scope: Scope) -> None:
    from distributor.cli.show import say, table, tell

    tell("   ".join(f"{number} {state}" for state, number in counts.items()))
    tell()
    table(("address", "state", "gen", "password", "since", "delivery", "said"), _rows(ledger.deliveries(scope)))
    say(_next(counts))


def _rows(deliveries: Iterator[Delivery]) -> Iterator[tuple[object, ...]]:
    from distributor.cli.show import time

    for delivery in deliveries:
        yield (
            delivery.address,
            delivery.state,
            delivery.generation,
            delivery.password_state or "-",
            time(delivery.updated_at),
            delivery.id,
            delivery.said or "",
        )


def _next(counts: dict[str, int]) -> str:
    if counts.get(State.AMBIGUOUS):
        return "next: distributor resolve"
    if any(counts.get(state) for state in (State.PLANNED, State.QUEUED, State.DEFERRED)):
        return "next: distributor send"
    if counts.get(State.REJECTED) or counts.get(State.BOUNCED):
        return "next: distributor history ADDRESS, then distributor resend ADDRESS --reason TEXT"
    return "next: distributor password reveal ADDRESS --reason TEXT"
