"""`distributor resolve`: ambiguous deliveries, with their evidence, and a person's word about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.errors import Misuse, Refused

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.delivery import Delivery
    from distributor.model.ports import Ledger
    from distributor.workflows.resolution import Doubt
    from distributor.workflows.tracking import Moved

EXAMPLE = '\b\nexample:\n  distributor resolve d-01JX... --accepted --reason "the mail log of mx1 has it"'


def resolve(
    delivery: Annotated[str | None, typer.Argument(metavar="DELIVERY", help="Which; default: list all that are ambiguous.")] = None,
    accepted: Annotated[bool, typer.Option("--accepted", help="The server has the letter.")] = False,
    again: Annotated[bool, typer.Option("--again", help="The server does not have it: send the same letter again.")] = False,
    restored: Annotated[
        bool, typer.Option("--restored", help="All that became ambiguous because the ledger was restored, instead of one.")
    ] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="How you know; it is kept in the ledger.")] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """List ambiguous deliveries, or settle one.

    A letter is ambiguous when the connection was cut after its end and before the answer. Sent Items and the message trace are asked
    first, where there are any; else look into the server's log.
    """
    from distributor import bootstrap
    from distributor.cli.track import tidy
    from distributor.workers import process

    settings = bootstrap.settings(chosen)
    _sensible(delivery, accepted=accepted, again=again, reason=reason, restored=restored)
    with bootstrap.writing(settings) as ledger:
        ledger.recover(process.alive)
        if restored:
            _settle_restored(settings, ledger, bootstrap.reason(reason or ""), accepted=accepted)
            return _list(settings, ledger, None, (), as_json=as_json)
        if delivery is not None and (accepted or again):
            _settle(settings, ledger, delivery, bootstrap.reason(reason or ""), accepted=accepted)
            tidy(settings, ledger)
            return _list(settings, ledger, None, (), as_json=as_json)
        settled = _look(settings, ledger)
        tidy(settings, ledger)
        return _list(settings, ledger, delivery, settled, as_json=as_json)


def _look(settings: Settings, ledger: Ledger) -> tuple[Moved, ...]:
    """What evidence settles by itself. A service that cannot be asked is no reason to show nothing."""
    from distributor.bootstrap import delivery as outgoing
    from distributor.cli.render import foreign, say
    from distributor.model.delivery import Scope
    from distributor.model.states import State

    if not ledger.counts(Scope()).get(State.AMBIGUOUS):
        return ()
    found = outgoing.look(settings, ledger, outgoing.trackers(settings), frozenset({State.AMBIGUOUS}))
    for error in found.errors:
        say(f"warning: {foreign(error)}" + (f"\nhint: {foreign(error.hint)}" if error.hint else ""))
    for moved in found.moved:
        say(f"{moved.delivery}: {foreign(moved.address)} is {moved.after}: {foreign(moved.said)}")
    return found.moved


def _sensible(delivery: str | None, *, accepted: bool, again: bool, reason: str | None, restored: bool) -> None:
    if accepted and again:
        raise Misuse("--accepted and --again contradict each other", hint="choose one")
    if restored and (delivery is not None or not (accepted or again)):
        raise Misuse("--restored means all deliveries and wants --accepted or --again", hint="add one of them, and name no delivery")
    if (accepted or again) and delivery is None and not restored:
        raise Misuse(
            "which delivery is missing", hint="`distributor resolve` lists them; name one: distributor resolve DELIVERY --accepted"
        )
    if (accepted or again) and not (reason or "").strip():
        raise Misuse("--reason is missing", hint="say how you know; it is kept in the ledger")


def _settle(settings: Settings, ledger: Ledger, delivery: str, reason: str, *, accepted: bool) -> None:
    from distributor.bootstrap import delivery as outgoing
    from distributor.cli.render import say
    from distributor.workers import process
    from distributor.workflows import resolution as flow

    if accepted:
        flow.accept(ledger, delivery, reason)
        found = ledger.delivery(delivery)
        say(f"{delivery}: accepted; {_password(found)}")
    else:
        wait = outgoing.transport(settings, signed_in=False).longest_wait
        flow.send_again(ledger, delivery, reason, alive=process.alive, now=ledger.now(), longest_wait=wait)
        found = ledger.delivery(delivery)
        say(f"{delivery}: {found and found.state}; next: distributor send")


def _password(delivery: Delivery | None) -> str:
    """The password of a message that arrived; one that was sent after the backup has its own, which is not here."""
    if delivery is None or delivery.password_state is None:
        return "its password is not in this ledger: `distributor resend` makes a new package with a new password"
    return f"its password is {delivery.password_state}"


def _settle_restored(settings: Settings, ledger: Ledger, reason: str, *, accepted: bool) -> None:
    from distributor.bootstrap import delivery as outgoing
    from distributor.cli.render import counted, foreign, say
    from distributor.workers import process
    from distributor.workflows import resolution as flow

    wait = outgoing.transport(settings, signed_in=False).longest_wait
    found = flow.settle_restored(ledger, reason, accepted=accepted, alive=process.alive, now=ledger.now(), longest_wait=wait)
    say(f"{counted(found.settled, 'delivery', 'deliveries')} {'accepted' if accepted else 'to be sent; next: distributor send'}")
    for delivery, error in found.left:
        say(f"left as it is: {delivery.id}: {foreign(delivery.address)}: {foreign(error.message)}")
        say(f"hint: {foreign(error.hint)}")
    if found.waiting:
        say(f"{counted(found.waiting, 'delivery', 'deliveries')} not yet: a sender may still wait for an answer; run it again later")


def _list(settings: Settings, ledger: Ledger, delivery: str | None, settled: Sequence[Moved], *, as_json: bool) -> int:
    from distributor.bootstrap import delivery as outgoing
    from distributor.cli.render import answer, counted, say, table
    from distributor.model.delivery import Scope
    from distributor.workers import process
    from distributor.workflows import resolution as flow

    now, wait = ledger.now(), outgoing.transport(settings, signed_in=False).longest_wait
    doubts = list(flow.doubts(ledger, Scope(), alive=process.alive, now=now, longest_wait=wait))
    if delivery is not None and delivery not in {moved.delivery for moved in settled}:
        _ambiguous(ledger, delivery, doubts)
    if delivery is not None:
        doubts = [doubt for doubt in doubts if doubt.delivery.id == delivery]
    if as_json:
        answer("resolve", {"ambiguous": [_row(doubt) for doubt in doubts], "settled": [_moved(moved) for moved in settled]})
    elif doubts:
        table(("delivery", "address", "message id", "evidence", "again"), (_line(doubt, now) for doubt in doubts))
    if doubts:
        say(f"{counted(len(doubts), 'delivery', 'deliveries')} ambiguous: look for the message id in the server's log")
        say("next: distributor resolve DELIVERY --accepted --reason TEXT, or --again where the server does not have it")
    elif not as_json:
        say("nothing is ambiguous")
    return 1 if doubts else 0


def _ambiguous(ledger: Ledger, delivery: str, doubts: list[Doubt]) -> None:
    if any(doubt.delivery.id == delivery for doubt in doubts):
        return
    found = ledger.delivery(delivery)
    if found is None:
        raise Refused("there is no such delivery", where=delivery, hint="`distributor resolve` lists what is ambiguous")
    raise Refused(f"it is not ambiguous but {found.state}", where=delivery, hint="`distributor resolve` lists what is ambiguous")


def _moved(moved: Moved) -> dict[str, object]:
    return {"id": moved.delivery, "address": moved.address, "to": moved.after, "said": moved.said}


def _row(doubt: Doubt) -> dict[str, object]:
    return {
        "id": doubt.delivery.id,
        "address": doubt.delivery.address,
        "message_id": doubt.delivery.message_id,
        "said": doubt.delivery.said,
        "evidence": doubt.evidence,
        "armed_at": doubt.armed_at,
        "again_at": doubt.free_at,
    }


def _line(doubt: Doubt, now: datetime) -> tuple[object, ...]:
    from distributor.cli.render import time

    again = "while its sender runs: no" if doubt.free_at is None else "now" if doubt.free_at <= now else f"from {time(doubt.free_at)}"
    return doubt.delivery.id, doubt.delivery.address, doubt.delivery.message_id or "-", doubt.evidence, again
