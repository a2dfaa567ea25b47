"""`distributor history`: prints every event of a person's deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json

if TYPE_CHECKING:
    from distributor.model.audit_log import Event

INDENT = 44  # columns; evidence that does not fit goes on below itself
LONG = 32  # characters of a hash or serial
EXAMPLE = "\b\nexample:\n  distributor history alice@example.org"


def history(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose.")],
    chosen: Config = None,
    as_json: Json = False,
) -> None:
    """Tell everything that happened to a person's deliveries."""
    from distributor import bootstrap
    from distributor.cli.render import print_json
    from distributor.errors import RequestDenied

    with bootstrap.open_for_reading(bootstrap.settings(chosen)) as ledger:
        events = ledger.history(bootstrap.address_key(address))
        first = next(events, None)
        if first is None:
            raise RequestDenied(f'the ledger knows no "{address}"', hint="`distributor status` lists everyone")
        events = chain([first], events)
        if as_json:
            print_json("history", {"address": address, "events": map(as_row, events)})
        else:
            _show(events)


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
        "evidence": {key: _in_seconds(value) if key in TIMES else value for key, value in event.evidence.items()},
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


def _in_seconds(stamp: object) -> str:
    """A time of the ledger without its microseconds, as in every answer."""
    return f"{str(stamp)[:19]}Z"


def _show(events: Iterator[Event]) -> None:
    """One line for each event, under the delivery that it belongs to."""
    from distributor.cli.render import BOLD, coloured, escape, stdout_line, time, wrapped

    delivery: str | None = ""
    for event in events:
        if event.delivery != delivery:
            delivery = event.delivery
            stdout_line(coloured(delivery or "-", BOLD))
        stdout_line(wrapped(f"  {time(event.at)}  {event.event:<18}  {event.by}  {escape(_evidence(event))}".rstrip(), INDENT))


def _evidence(event: Event) -> str:
    shown = {key: value for key, value in event.evidence.items() if key not in OF_THE_MACHINE and value is not None and value != ""}
    said = shown.pop("said", None) or shown.pop("reason", None)
    if said is not None and str(shown.get("reason", "")) in str(said):
        shown.pop("reason", None)  # it is in `said` already
    parts = [str(said)] if said else []
    return "  ".join([*parts, *(f"{key}={_short(value)}" for key, value in shown.items())])


def _short(value: object) -> str:
    """A long hash or serial cut to 12 characters; `--json` has all of it."""
    text = str(value)
    return f"{text[:12]}..." if len(text) >= LONG and all(c in "0123456789abcdef" for c in text) else text
