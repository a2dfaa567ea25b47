"""`distributor incident`: a key may be in the wrong hands; destroys, stops, and prints what the CA and the person must know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason, Yes, can_ask, complete_name, confirm, replacing
from distributor.cli.render import counted, escape, print_json, stderr_line, stdout_line
from distributor.model.states import State

if TYPE_CHECKING:
    from distributor.model.ports import Ledger
    from distributor.model.requests import ExposedDelivery
    from distributor.workflows.incident import ExposedCertificate

EXAMPLE = '\b\nexample:\n  distributor incident alice@example.org --reason "phone stolen, ticket 4711" --output revoke.txt'


def incident(
    name: Annotated[str, typer.Argument(metavar="ADDRESS", autocompletion=complete_name, help="The person's mail address.")],
    reason: Reason,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", readable=False, help="Write the texts for the CA and the person to a file."),
    ] = None,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """A private key may be in the wrong hands: destroy the person's passwords, stop their messages, print what to revoke.

    Nothing of these certificates is sent any more; a new certificate is planned as usual. Asks first on a terminal.
    """
    from distributor import bootstrap
    from distributor.bootstrap import requests
    from distributor.workflows import incident as texts

    settings, why, address = bootstrap.settings(chosen), bootstrap.reason(reason), bootstrap.address_key(name)
    with bootstrap.open_for_writing(settings) as ledger:
        if not yes and can_ask():
            _ask(ledger, address)
        deliveries = ledger.incident(address, why)
        found = texts.certificates(deliveries)
        text, fault = requests.incident_text(settings, ledger, address, found)
    lines = [*texts.for_ca(found), "", f"To {escape(address)}:", *text.strip().splitlines()]
    if output is not None:
        with replacing(output, 0o600, such_as="revoke.txt") as file:
            file.write(("\n".join(lines) + "\n").encode())
    if as_json:
        _print_json(address, deliveries, found, "\n".join(lines))
    elif output is None:
        for line in lines:
            stdout_line(escape(line))
    if fault is not None:
        stderr_line(f"warning: {escape(str(fault))}; the packaged text for the person is used")
        stderr_line(f"hint: {escape(fault.hint or 'run `distributor doctor`')}")
    _summarise(address, deliveries, found, output)
    return 1 if any(one.left for one in found) else 0


def _ask(ledger: Ledger, address: str) -> None:
    """Say what will happen, and ask."""
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.states import REMAINING, PasswordState

    theirs = list(ledger.deliveries(DeliveryFilter(addresses=frozenset({address}))))
    passwords = sum(each.password_state in {PasswordState.HELD, PasswordState.READY} for each in theirs)
    waiting = sum(each.state in REMAINING | {State.CLAIMED} for each in theirs)
    what = f"destroys {counted(passwords, 'password')} and withdraws {counted(waiting, 'unsent message')}"
    stopped = counted(len({each.certificate_sha256 for each in theirs}), "certificate")
    confirm(f"Record an incident for {escape(address)}? This {what}; nothing is sent any more for {stopped}.", "--yes")


def _print_json(address: str, deliveries: Sequence[ExposedDelivery], found: Sequence[ExposedCertificate], text: str) -> None:
    certificates = [
        {
            **{name: getattr(one, name) for name in ("sha256", "serial", "issuer", "subject", "not_after", "accepted_at", "revealed_at")},
            "left": one.left,
        }
        for one in found
    ]
    rows = [
        {
            "id": each.delivery,
            "state": each.state,
            "generation": each.generation,
            "certificate": each.sha256,
            "withdrawn": each.withdrawn,
            "password_destroyed": each.password_destroyed,
            "intune_record": each.record,
        }
        for each in deliveries
    ]
    print_json("incident", {"address": address, "certificates": certificates, "deliveries": rows, "text": text})


def _summarise(address: str, deliveries: Sequence[ExposedDelivery], found: Sequence[ExposedCertificate], output: Path | None) -> None:
    passwords, withdrawn = (sum(values) for values in zip(*((each.password_destroyed, each.withdrawn) for each in deliveries), strict=True))
    done = f"{counted(passwords, 'password')} destroyed, {counted(withdrawn, 'unsent message')} withdrawn"
    stderr_line(f"{escape(address)}: incident recorded; {done}")
    if any(each.state is State.TRANSMITTING for each in deliveries):
        stderr_line("warning: a message is being sent right now; its password is destroyed, so it cannot be opened")
    left = sum(one.left for one in found)
    if left:
        sure = all(one.accepted_at is not None for one in found if one.left)
        stderr_line(
            f"warning: the key of {counted(left, 'certificate')} {'is' if sure else 'may be'} with a recipient: {_have(left)} revoked"
        )
    if records := sorted({each.record for each in deliveries if each.record is not None}):
        from distributor.microsoft.powershell import WINDOW, delete_imported

        those, given = "its record" if len(records) == 1 else "their records", counted(len(records), "certificate")
        stderr_line(f"warning: Intune still gives {given} of this person to devices; delete {those} {WINDOW}:")
        stderr_line(f"  {delete_imported(records)}")
    if output is not None:
        stderr_line(f"texts for the CA and the person: {output}")
    stderr_line("next: have a new certificate with a new key issued, then distributor plan")


def _have(number: int) -> str:
    return "have it" if number == 1 else "have them"
