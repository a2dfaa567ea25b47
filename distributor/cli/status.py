"""`distributor status`, `history` and `metrics`: deliveries with their states and the next step, events, and figures for Prometheus."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distributor.cli.options import Config, DeliveryName, Json, complete_name
from distributor.cli.render import (
    BOLD,
    coloured,
    columns,
    delivery_json,
    escape,
    print_json,
    stderr_line,
    stdout_line,
    table,
    time,
    wrapped,
)
from distributor.errors import UsageError
from distributor.model.states import RECEIVED, State, Way

if TYPE_CHECKING:
    from distributor.model.attention import Attention
    from distributor.model.audit_log import Event
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.ports import Ledger


UNDER_WAY = (State.PLANNED, State.QUEUED, State.DEFERRED, State.CLAIMED, State.TRANSMITTING)  # the last two after a crash
NOT_RECEIVED = tuple(state for state in State if state not in {*RECEIVED, State.WITHDRAWN})
EXAMPLE = "\b\nexample:\n  distributor status --state rejected --state ambiguous"


def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="ADDRESS", autocompletion=complete_name, help="Only this person; or a delivery's id, or a certificate."),
    ] = None,
    state: Annotated[list[State] | None, typer.Option("--state", metavar="S", help="Only this state; may be repeated.")] = None,
    plan: Annotated[str | None, typer.Option("--plan", metavar="PLAN", help="Only this plan.")] = None,
    renewals: Annotated[bool, typer.Option("--renewals", help="Only people who have not received their renewed certificate.")] = False,
    keep_on: Annotated[
        bool, typer.Option("--watch", help="Count every two seconds until nothing is under way, for example during `send`; Ctrl-C ends it.")
    ] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> None:
    """Say what needs a person first, count deliveries by state, and list them."""
    from distributor import bootstrap
    from distributor.cli import overview
    from distributor.cli.ledger import warn_clock_ahead, warn_restored
    from distributor.model.delivery import DeliveryFilter
    from distributor.workflows import lookup

    if keep_on and as_json:
        raise UsageError("--watch with --json", hint="run `distributor status --json` as often as you need it")
    with bootstrap.open_for_reading(bootstrap.settings(chosen)) as ledger:
        scope = DeliveryFilter() if name is None else lookup.scope(ledger, name)
        states = frozenset(state or (NOT_RECEIVED if renewals else ()))
        scope = replace(scope, plan=plan, states=states, renewals=renewals)
        warn_clock_ahead(ledger)
        counts = {str(state): number for state, number in ledger.counts(scope).items()}
        warn_restored(ledger)
        if keep_on:
            overview.watch(ledger, scope)
            return
        found = ledger.attention(scope)
        renewed = {str(state): number for state, number in ledger.counts(replace(scope, renewals=True)).items()}
        if as_json:
            _print_json(counts, renewed, found, ledger.rows(scope))
        elif counts:
            overview.show(counts, found, renewed)
            too_many = None if name or state or plan or renewals else overview.unlisted(counts)
            imports = ledger.counts(replace(scope, way=Way.INTUNE))
            _show_deliveries(ledger, scope, too_many, ways=bool(imports))
            if step := _next(counts, imports, found, ledger, scope):
                stderr_line(f"next: {step}")
        else:
            stderr_line("no deliveries" if name or state or plan or renewals else "no deliveries yet; next: distributor plan")


def _print_json(counts: dict[str, int], renewed: dict[str, int], found: list[Attention], rows: Iterator[tuple[Any, ...]]) -> None:
    from distributor.cli.overview import next_command

    needs = [{"need": one.need, "number": one.number, "address": one.address, "next": next_command(one)} for one in found]
    print_json("status", {"counts": counts, "renewals": renewed, "deliveries": map(delivery_json, rows), "attention": needs})


def _seconds(stamp: str) -> str:
    """The ledger's time without its microseconds."""
    return stamp[:19] + "Z"


def _show_deliveries(ledger: Ledger, scope: DeliveryFilter, too_many: str | None, *, ways: bool) -> None:
    """`ways`: there are several."""
    from distributor.cli.ledger import print_under_way

    if too_many is None:
        heads = ("address", "state", "gen", *(("way",) if ways else ()), "password", "since", "delivery", "said")
        table(heads, map(partial(_cells, ways=ways), ledger.rows(scope)))
    print_under_way(ledger.under_way(scope), stdout_line)
    if too_many is not None:
        stderr_line(too_many)


def _cells(row: tuple[Any, ...], *, ways: bool) -> tuple[str, ...]:
    generation = f"{row[4]} (old {row[21]})" if row[21] else str(row[4])  # an old key: which one of how many
    way = (row[20],) if ways else ()
    return row[1], row[5], generation, *way, row[19] or "-", _seconds(row[12]), row[0], _said(row[10], row[11])


def _said(said: str | None, not_before: str | None) -> str:
    """The server's last reply, and when a deferred message is due."""
    return (said or "") + (f" (due {_seconds(not_before)})" if not_before else "")


_COLLECTING = {
    "reveal": "distributor password reveal ADDRESS --reason TEXT",
    "letter": "distributor password letters --output FILE.pdf",
    "mail": "distributor password mail",
}


def _next_delivery(counts: dict[str, int], imports: dict[State, int], ledger: Ledger, scope: DeliveryFilter) -> str | None:
    """The command that goes on with what is under way, or unclear."""
    mails = {state: number - imports.get(State(state), 0) for state, number in counts.items()}
    if mails.get(State.AMBIGUOUS):
        return "distributor resolve"
    if any(imports.get(state) for state in (*UNDER_WAY, State.AMBIGUOUS)) and not any(mails.get(state) for state in UNDER_WAY):
        return "distributor intune import"
    if any(mails.get(state) for state in UNDER_WAY):
        due = ledger.next_due(scope) if {state for state in UNDER_WAY if mails.get(state)} == {State.DEFERRED} else None
        if due is None or due <= ledger.now():
            return "distributor send"
        return f"distributor send after {time(due)}, when the first deferred message is due; --now sends it at once"
    return None


def _next(counts: dict[str, int], imports: dict[State, int], found: list[Attention], ledger: Ledger, scope: DeliveryFilter) -> str | None:
    """The most useful next command; None where there is nothing to do."""
    from distributor.cli.overview import next_command
    from distributor.model.attention import Need

    if (step := _next_delivery(counts, imports, ledger, scope)) is not None:
        return step
    needs = {one.need: one for one in found}
    if failed := needs.get(Need.BOUNCED) or needs.get(Need.REJECTED):
        return next_command(failed)
    ready = ledger.ready_channels(scope)
    for channel, command in _COLLECTING.items():
        if channel in ready:
            return command
    expired = needs.get(Need.PASSWORD_EXPIRED)
    return None if expired is None else next_command(expired) + ("" if expired.address else ", where the password expired")


INDENT, NARROW_INDENT = 44, 6  # columns; evidence that does not fit goes on below itself
WIDE = 100  # columns of a terminal; in a narrower one the deep indent would leave no room
LONG = 32  # characters of a hash or serial
HISTORY_EXAMPLE = "\b\nexample:\n  distributor history alice@example.org"
METRICS_EXAMPLE = "\b\nexample:\n  distributor metrics"


def history(
    name: DeliveryName,
    chosen: Config = None,
    as_json: Json = False,
) -> None:
    """Show everything that happened to a person's deliveries, or to one of them."""
    from distributor import bootstrap
    from distributor.model.people import key_of
    from distributor.workflows import lookup

    with bootstrap.open_for_reading(bootstrap.settings(chosen)) as ledger:
        found = lookup.find(ledger, name)
        ids = {delivery.id for delivery in found}
        events = (event for event in ledger.history(key_of(found[0].address)) if event.delivery in ids)
        if as_json:
            print_json("history", {"address": name if lookup.names_address(name) else found[0].address, "events": map(as_row, events)})
        else:
            _show_events(events)


def as_row(event: Event) -> dict[str, object]:
    """An event as in `history --json`."""
    return {
        "seq": event.seq,
        "at": event.at,
        "delivery": event.delivery,
        "event": event.event,
        "from": event.before,
        "to": event.after,
        "by": event.by,
        "evidence": {key: _seconds(str(value)) if key in TIMES else value for key, value in event.evidence.items()},
    }


TIMES = frozenset({"certificate_not_after"})  # in evidence, where the ledger writes microseconds
OF_THE_MACHINE = frozenset(
    {
        "owner",
        "host",
        "machine",
        "ledger",
        "pid",
        "attempt",
        "letter_sha256",
        "certificate_sha256",
        "locator_sha256",
        "inputs_sha256",
        "chain_sha256",
        "sealed_sha256",
        "cms",
        "mail_sha256",
        "signature_sha256",
        "password_seconds",
        "started",
        "certificate_issuer",
        "certificate_not_after",
        "sender",
        "address",
        "name",
        "person",
    }
)


def _show_events(events: Iterator[Event]) -> None:
    """One line for each event, under the delivery that it belongs to."""
    delivery: str | None = ""
    for event in events:
        if event.delivery != delivery:
            delivery = event.delivery
            stdout_line(coloured(delivery or "-", BOLD))
        line = f"  {time(event.at)}  {event.event:<18}  {event.by}  {escape(_evidence(event))}".rstrip()
        stdout_line(wrapped(line, INDENT if columns() >= WIDE else NARROW_INDENT) if sys.stdout.isatty() else line)


def _evidence(event: Event) -> str:
    shown = {key: value for key, value in event.evidence.items() if key not in OF_THE_MACHINE and value is not None and value != ""}
    if shown.get("handle") == shown.get("message_id"):  # of a record in Intune
        shown.pop("handle", None)
    said = shown.pop("said", None) or shown.pop("reason", None)
    if said is not None and str(shown.get("reason", "")) in str(said):
        shown.pop("reason", None)  # it is in `said` already
    parts = [str(said)] if said else []
    return "  ".join([*parts, *(f"{key}={_short(value)}" for key, value in shown.items())])


def _short(value: object) -> str:
    """A long hash or serial cut to 12 characters; `--json` has all of it."""
    text = str(value)
    return f"{text[:12]}..." if len(text) >= LONG and all(c in "0123456789abcdef" for c in text) else text


def metrics(chosen: Config = None) -> None:
    """Print figures for Prometheus: messages by state, quotas, what expires, what needs a person.

    `send --follow` writes them to `metrics.file` every minute, and the portal answers /metrics to who has `metrics.token`.
    """
    from distributor import bootstrap
    from distributor.bootstrap import metrics as figures

    settings = bootstrap.settings(chosen)
    with bootstrap.open_for_reading(settings) as ledger:
        sys.stdout.write(figures.text(settings, ledger))
    if settings.metrics.file is None and settings.metrics.token is None and sys.stdout.isatty():
        stderr_line("next: set file or token in [metrics] of distributor.toml (see docs/deploy.md#metrics)")
