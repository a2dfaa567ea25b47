"""`distributor requests`: people who asked for another copy; one person of the helpdesk records or receives it, a second one decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import CertificateName, Config, DeliveryName, Json, Reason
from distributor.cli.render import escape, print_json, stderr_line, stdout_line, table, time

if TYPE_CHECKING:
    from collections.abc import Collection

    from distributor.config import Settings
    from distributor.model.ports import Ledger
    from distributor.model.requests import CopyRequest
    from distributor.workflows.requests import Fulfilled, Unfulfilled

EXAMPLE = "\b\nexample:\n  distributor requests && distributor requests approve r-01JX && distributor send"
app = typer.Typer(help="List and decide requests for another copy.", epilog=EXAMPLE)
RequestId = Annotated[str, typer.Argument(metavar="ID", help="The id of a request; the beginning is enough.")]


@app.callback(invoke_without_command=True)
def list_all(context: typer.Context, chosen: Config = None, as_json: Json = False) -> None:
    """List and decide requests for another copy.

    An approved request is sent with the next `distributor send`: a new package with a new password, always to the address in the ledger.
    """
    from distributor import bootstrap

    if context.invoked_subcommand is not None:
        context.find_root().params["chosen"] = chosen  # for the command that follows
        return
    with bootstrap.open_for_reading(bootstrap.settings(chosen)) as ledger:
        found = ledger.requests()
    if as_json:
        print_json("requests", {"requests": map(_row, found)})
    elif found:
        _show(found)
    else:
        stderr_line("no requests")


def _row(request: CopyRequest) -> dict[str, object]:
    decided = {"decided_at": request.decided_at, "decided_by": request.decided_by or None, "answer": request.answer or None}
    about = {"id": request.id, "address": request.address, "name": request.name, "state": request.state, "at": request.at}
    return {**about, "reason": request.reason, "by": request.by, "delivery": request.delivery, **decided, "planned": request.planned}


def _show(found: Sequence[CopyRequest]) -> None:
    table(("address", "state", "since", "request", "reason"), _cells(found))
    waiting = sum(request.decided_at is None for request in found)
    if waiting:
        stderr_line("next: distributor requests approve ID, or distributor requests deny ID --reason TEXT")
    elif any(request.state == "approved" and request.planned is None for request in found):
        stderr_line("next: distributor send")


def _cells(found: Sequence[CopyRequest]) -> Iterator[tuple[object, ...]]:
    for request in found:
        reason = f"{request.reason} (denied: {request.answer})" if request.answer else request.reason
        yield request.address, request.state, time(request.decided_at or request.at), request.id, reason


@app.command(epilog='\b\nexample:\n  distributor requests add alice@example.org --reason "new phone, called from her office, ticket 4711"')
def add(name: DeliveryName, reason: Reason, certificate: CertificateName = None, chosen: Config = None) -> None:
    """Record a request for a person who asked by phone or in person; somebody else approves it."""
    from distributor import bootstrap
    from distributor.bootstrap import requests
    from distributor.workflows.resend import choose

    settings, why = bootstrap.settings(chosen), bootstrap.reason(reason)
    with bootstrap.open_for_writing(settings) as ledger:
        delivery = choose(ledger, name, certificate, bootstrap.now())
        request = ledger.ask(delivery.id, why, limits=requests.limits(settings))
    _print(request)
    if request.decided_at is None:
        stderr_line(f"next: somebody other than {escape(request.by)} runs `distributor requests approve {request.id}`")
    else:
        stderr_line("next: distributor send")


@app.command(epilog="\b\nexample:\n  distributor requests approve r-01JX")
def approve(name: RequestId, chosen: Config = None) -> int:
    """Approve a request: plan a new package with a new password, and destroy the old password.

    Whoever asked cannot approve. The request of a person who is gone from the directory is denied. The next `distributor send` sends it.
    """
    from distributor import bootstrap
    from distributor.model.people import key_of
    from distributor.workflows import requests

    settings = bootstrap.settings(chosen)
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        request = ledger.decide(requests.find(ledger, name).id, "", approve=True)
        _print(request)
        plan_approved(settings, ledger, {key_of(request.address)})
        waits = any(each.id == request.id for each in ledger.unplanned())
        planned = requests.find(ledger, request.id).planned is not None
    if waits or planned:
        stderr_line("next: correct this, then distributor send" if waits else "next: distributor send")
    return 0 if planned else 1


@app.command(epilog='\b\nexample:\n  distributor requests deny r-01JX --reason "left the company"')
def deny(name: RequestId, reason: Reason, chosen: Config = None) -> None:
    """Deny a request that is open, or approved and not planned yet."""
    from distributor import bootstrap
    from distributor.workflows import requests

    settings, why = bootstrap.settings(chosen), bootstrap.reason(reason)
    with bootstrap.open_for_writing(settings) as ledger:
        _print(ledger.decide(requests.find(ledger, name).id, why, approve=False))


def _print(request: CopyRequest) -> None:
    stdout_line(f"{request.id}  {escape(request.address)}  {request.state}")


def plan_approved(settings: Settings, ledger: Ledger, addresses: Collection[str] = ()) -> int:
    """Plan a new generation for each approved request, and tell of each; how many could not be planned."""
    if not ledger.unplanned():
        return 0
    from distributor.bootstrap import requests

    found = requests.fulfil(settings, ledger, addresses)
    return sum(_tell(each) for each in found)


def _tell(each: Fulfilled | Unfulfilled) -> bool:
    """Print the result of a request; whether it could not be planned."""
    from distributor.workflows.requests import SIGNS_ONLY, Unfulfilled

    address = escape(each.request.address)
    if isinstance(each, Unfulfilled):
        if each.denied:
            stderr_line(f"note: request {each.request.id} of {address} is denied: {escape(each.reason)}")
            return False
        stderr_line(f"warning: request {each.request.id} is approved but not planned: {escape(each.reason)}")
        stderr_line(f"hint: {escape(each.hint)}" if each.hint else f"hint: see `distributor history {address}`")
        return True
    stderr_line(f"{address}: generation {each.delivery.generation} planned as requested; the password before it is destroyed")
    if each.signs_only:
        stderr_line(f"note: {address}: {SIGNS_ONLY}")
    return False
