"""`distributor track`: what became of letters, by those who know: Sent Items, the message trace."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.errors import Misuse, Refused

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.core.ports import Ledger
    from distributor.flow.evidence import Found

EXAMPLE = "\b\nexample:\n  distributor track --json | jq '.moved[] | select(.to == \"bounced\")'"
EVERY = 300.0  # seconds between two looks; a message trace is no faster


def track(
    follow: Annotated[bool, typer.Option("--follow", help="Go on looking, until Ctrl-C.")] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Ask the services what became of the letters, and move the ledger.

    Sent Items settle letters whose fate is unclear; a message trace ([[trackers]]) tells of delivery and failure too.
    """
    from distributor import wiring

    if follow and as_json:
        raise Misuse("--follow and --json contradict each other", hint="run `distributor track --json` again and again instead")
    settings = wiring.settings(chosen)
    with wiring.writing(settings) as ledger:
        code = _once(settings, ledger, as_json=as_json)
        while follow:
            time.sleep(EVERY)
            code = _once(settings, ledger, as_json=False)
    return code


def _once(settings: Settings, ledger: Ledger, *, as_json: bool) -> int:
    from distributor import outgoing, processes
    from distributor.core.deliveries import Scope
    from distributor.core.states import State

    ledger.recover(processes.alive)
    trackers = outgoing.trackers(settings)
    if not trackers and settings.trust is None:
        hint = 'add [[trackers]] to distributor.toml, such as kind = "trace" for Exchange Online'
        raise Refused("nobody is configured who knows what became of letters", hint=hint)
    found = outgoing.look(settings, ledger, trackers, frozenset({State.AMBIGUOUS, State.ACCEPTED}))
    revoked = _revoked(settings, ledger)
    _show(found, revoked, as_json=as_json)
    if found.errors:
        raise found.errors[0]
    unclear = ledger.counts(Scope()).get(State.AMBIGUOUS, 0)
    return 1 if unclear or revoked or any(moved.after is State.BOUNCED for moved in found.moved) else 0


def _revoked(settings: Settings, ledger: Ledger) -> list[dict[str, object]]:
    """Certificates of letters that were revoked since, where `[trust]` says how to tell."""
    if settings.trust is None:
        return []
    from distributor.cli.trust_watch import rows, watched

    return rows(watched(settings, ledger))


def _show(found: Found, revoked: list[dict[str, object]], *, as_json: bool) -> None:
    from distributor.cli.show import answer, counted, foreign, say, table

    if as_json:
        rows = [{"id": m.delivery, "address": m.address, "from": m.before, "to": m.after, "said": m.said} for m in found.moved]
        answer("track", {"read": found.read, "moved": rows, "unmatched": 0, "revoked": revoked})
        return
    table(("address", "was", "is", "said"), ((m.address, m.before, m.after, m.said) for m in found.moved))
    say(f"{counted(found.read, 'letter')} sighted, {len(found.moved)} moved")
    for row in revoked:
        say(f"{foreign(row['address'])}: the certificate was revoked; distributor history {foreign(row['address'])}")
