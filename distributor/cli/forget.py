"""`distributor audit forget`: erases a person from the ledger, so that the audit chain still verifies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason, Yes, complete_name, confirm
from distributor.cli.render import counted, escape, print_json, stderr_line, stdout_line

if TYPE_CHECKING:
    from distributor.model.requests import ErasedPerson

EXAMPLE = '\b\nexample:\n  distributor audit forget alice@example.org --reason "erasure request, ticket 4711"'


def forget(
    name: Annotated[str, typer.Argument(metavar="ADDRESS", autocompletion=complete_name, help="The person's mail address.")],
    reason: Reason,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> None:
    """Erase a person: name, addresses, certificates, passwords, portal account. This cannot be undone.

    States, times and hashes stay, so the audit chain still verifies. Backups and exports are not changed. Asks first.
    """
    from distributor import bootstrap

    settings, why, address = bootstrap.settings(chosen), bootstrap.reason(reason), bootstrap.address_key(name)
    with bootstrap.open_for_writing(settings) as ledger:
        expected = ledger.erasable(address)
        if not yes:
            confirm(f"Erase {escape(address)}? This cannot be undone. Erased: {_listed(expected)}.", "--yes", "nothing erased")
        found = ledger.forget(address, why)
    if as_json:
        counts = {each: getattr(found, each) for each in ("deliveries", "events", "certificates", "passwords", "accounts")}
        print_json("forget", {"address": address, "erased": counts, "compacted": found.compacted})
    else:
        stdout_line(f"{escape(address)}: erased ({_listed(found)})")
    if not found.compacted:
        stderr_line("warning: the database could not be compacted: traces may remain in its unused space")
        stderr_line("hint: stop all other commands, then run VACUUM on the database (PostgreSQL: VACUUM FULL, as its owner)")
    stderr_line(
        "not erased: backups, exports, mailboxes, log files, names of files that were planned or printed, and account names in the portal"
    )
    stderr_line("next: delete backups and exports that contain this person, then distributor audit verify")


def _listed(found: ErasedPerson) -> str:
    events = f"the personal data of {counted(found.events, 'event')} and {counted(found.deliveries, 'delivery', 'deliveries')}"
    others = [counted(found.certificates, "certificate")]
    others += [counted(found.passwords, "unopened password")] if found.passwords else []
    others += [counted(found.accounts, "portal account")] if found.accounts else []
    return ", ".join([events, *others])
