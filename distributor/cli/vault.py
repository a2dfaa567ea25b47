"""`distributor vault`: which keys passwords are sealed to and whether this host opens them; replaces this host's key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Yes, confirm
from distributor.cli.render import counted, escape, print_json, stderr_line, stdout_line, table
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.states import PasswordState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distributor.bootstrap.rotation import Rotation
    from distributor.config import Settings
    from distributor.model.ports import Ledger
    from distributor.model.resealing import VaultIdentity
    from distributor.workflows.resealing import ResealReport, VaultContent

EXAMPLE = "\b\nexample:\n  distributor vault status --check"
ROTATE_EXAMPLE = "\b\nexample:\n  distributor vault rotate"
app = typer.Typer(help="Check or replace the key that opens the passwords.", no_args_is_help=True, epilog=EXAMPLE)
SHOWN = (PasswordState.HELD, PasswordState.READY, PasswordState.EXPIRED)  # those with sealed bytes
MOST = 5  # deliveries listed
_LOCK = "vault rotate"  # not an address, so no mailbox has this name
_ROTATE, _STATUS = "distributor vault rotate", "distributor vault status --check"
_RESEND = "a new package with a new password: distributor resend ADDRESS --reason TEXT"


@app.callback()
def _group() -> None:
    """Check or replace the key that opens the passwords."""


@app.command(epilog=EXAMPLE)
def status(
    check: Annotated[bool, typer.Option("--check", help="Open every password in memory, to see whether this host's identity can.")] = False,
    as_json: Json = False,
    chosen: Config = None,
) -> int:
    """Show which public keys passwords are sealed to, and whether this host opens them.

    A host without an identity is fine: it seals and sends; passwords are revealed where the identity is.
    """
    from distributor import bootstrap
    from distributor.bootstrap import rotation

    settings = bootstrap.settings(chosen)
    vault, fault = None, None
    try:
        vault = bootstrap.vault(settings) if settings.vault.identity is not None or check else None
    except InvalidInput as error:
        if check:
            raise
        fault = error
    with bootstrap.open_for_reading(settings) as ledger:
        found = rotation.content(ledger, vault if check else None)
    next_ = _next(settings, vault, found)
    if as_json:
        print_json("vault", _as_json(settings, vault, fault, found, check=check, next_=next_))
    else:
        _show(settings, vault, found, check=check)
        if fault is not None:
            stderr_line(f"error: {escape(fault)}")
            stderr_line(f"hint: {escape(fault.hint)}")
        if next_ is not None:
            stderr_line(f"next: {next_}")
    return 1 if fault is not None or found.unopened else 0


def _as_json(
    settings: Settings, vault: VaultIdentity | None, fault: InvalidInput | None, found: VaultContent, *, check: bool, next_: str | None
) -> Mapping[str, object]:
    identity = {
        "reference": str(settings.vault.identity),
        "recipients": [] if vault is None else vault.recipients,
        "replaces": [] if vault is None else list(vault.replaced),
        "error": None if fault is None else str(fault),
    }
    return {
        "recipients": list(settings.vault.recipients),
        "identity": None if settings.vault.identity is None else identity,
        "passwords": {str(state): found.states[state] for state in SHOWN},
        "sealed_to": {str(number): found.keys[number] for number in sorted(found.keys)},
        "unopened": list(found.unopened) if check else None,
        "next": next_,
    }


def _show(settings: Settings, vault: VaultIdentity | None, found: VaultContent, *, check: bool) -> None:
    ours = [] if vault is None else vault.recipients
    keys = dict.fromkeys((*settings.vault.recipients, *ours))
    table(("public key", "passwords are sealed to it", "opened here"), (_row(key, settings.vault.recipients, ours) for key in keys))
    stdout_line()
    stdout_line(f"identity: {escape(settings.vault.identity or 'none on this host, which only seals')}")
    counts = ", ".join(f"{found.states[state]} {state}" for state in SHOWN)
    each = ", ".join(f"{found.keys[n]} sealed to {counted(n, 'key')}" for n in sorted(found.keys))
    stdout_line(f"passwords: {counts}" + (f"; {each}" if each else ""))
    total = sum(found.states.values())
    if check:
        stdout_line(f"checked: {total - len(found.unopened)} of {total} can be opened here")
    _list(found.unopened, "cannot be opened here")


def _row(key: str, recipients: Sequence[str], ours: Sequence[str]) -> tuple[str, ...]:
    return _short(key), "yes" if key in recipients else "no", "yes" if key in ours else "no"


def _short(key: str) -> str:
    """A public key that can be told apart from others."""
    return f"{key[:12]}...{key[-6:]}"


def _list(deliveries: Sequence[str], why: str) -> None:
    for delivery in deliveries[:MOST]:
        stderr_line(f"{escape(delivery)}: {why}")
    if len(deliveries) > MOST:
        stderr_line(f"... and {len(deliveries) - MOST} more")


def _next(settings: Settings, vault: VaultIdentity | None, found: VaultContent) -> str | None:
    if vault is not None and vault.replaced:
        return f"{_ROTATE} (it was begun and is not finished)"
    if found.unopened:
        return _RESEND
    if vault is not None and any(number != len(settings.vault.recipients) for number in found.keys):
        return f"{_ROTATE} (seals every password to the current recipients)"
    return None


# --- rotate --------------------------------------------------------------------------------


@app.command(epilog=ROTATE_EXAMPLE)
def rotate(
    yes: Yes = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--identity-output",
            metavar="FILE",
            readable=False,
            help="Write the new identity to FILE instead; needed where vault.identity is env: or cred:.",
        ),
    ] = None,
    chosen: Config = None,
) -> int:
    """Replace this host's vault key, and seal every password again.

    In steps: adds a new key to the identity; seals the passwords to both keys; puts the new key into vault.recipients; seals to that
    alone; removes the old key. Interrupted, or waiting for you, it goes on when it is run again. Passwords are also sealed to recipients
    that were added, and no longer to those that were removed.
    """
    from distributor import bootstrap
    from distributor.bootstrap import rotation

    settings = bootstrap.settings(chosen)
    bootstrap.vault(settings)  # refused before anybody is asked
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        if not ledger.lock_mailbox(_LOCK):
            raise ServiceUnavailable("another `distributor vault rotate` is running", hint="wait for it to finish")
        work = rotation.begin(settings, output)
        if not yes:
            go_on = "Finish replacing" if work.written else "Replace"
            confirm(f"{go_on} the vault key of {settings.vault.identity} and seal all passwords again?", "--yes", "nothing changed")
        return _rotate(work, ledger)


def _rotate(work: Rotation, ledger: Ledger) -> int:
    again, place = work.written, escape(work.output or work.settings.vault.identity)
    work.write_identity()
    stdout_line(f"1. new key {_short(work.key)} {'is' if again else 'added'} in {place}, beside the old one")
    if not (again and work.switched):
        both = tuple(dict.fromkeys((*work.recipients, *(key for key in work.settings.vault.recipients if key in work.replaced))))
        failed = _report("2", f"to {counted(len(both), 'key')}, old and new", work.reseal(ledger, both))
        if not work.in_use:
            return _say_place(work)
        if not work.switch():
            return _say_line(work)
        stdout_line(f"3. vault.recipients changed in {escape(work.settings.file)}")
        if (who := work.awaited(ledger)) is not None:
            return _say_wait(who)
    failed = _report("4", f"to {counted(len(work.recipients), 'key')} of vault.recipients", work.reseal(ledger, work.recipients))
    if work.finish():
        stdout_line(f"5. old key removed from {place}")
        stderr_line(f"keep a copy of {place} in a safe place; copies of the old key are no longer needed")
    else:
        _say_old(work)
    return 1 if failed else 0


def _report(step: str, how: str, report: ResealReport) -> bool:
    """Say how many passwords were sealed again; whether some were not."""
    stdout_line(f"{step}. {counted(report.resealed, 'password')} sealed again {how}")
    _list(sorted(report.unopened), "cannot be opened by this host's identity; left as it is")
    _list(sorted(report.changed), "was modified outside distributor; left as it is")
    if report.unopened or report.changed:
        stderr_line(f"hint: {'run `distributor audit verify`; ' if report.changed else ''}{_RESEND}")
    return bool(report.unopened or report.changed)


def _say_place(work: Rotation) -> int:
    stderr_line(f"now put the content of {escape(work.output)} in the place of {escape(work.settings.vault.identity)}")
    if str(work.settings.vault.identity).startswith("cred:"):
        name = str(work.settings.vault.identity).removeprefix("cred:")
        stderr_line(f"hint: systemd-creds encrypt --name={name} {escape(work.output)} /etc/credstore.encrypted/{name}")
    stderr_line(f"next: {_ROTATE}, with the new identity in place")
    return 1


def _say_line(work: Rotation) -> int:
    stderr_line(f"{escape(work.settings.file)} cannot be changed by this program; change this line in [vault]:")
    stdout_line(work.line)
    stderr_line(f"next: {_ROTATE}")
    return 1


def _say_wait(who: str) -> int:
    stderr_line(f"the old key stays for now: {who}")
    stderr_line("restart running `distributor send` processes; change vault.recipients, and a copied identity, on the other hosts")
    stderr_line(f"next: {_ROTATE}, when that is done")
    return 1


def _say_old(work: Rotation) -> None:
    where = escape(work.settings.vault.identity)
    if work.output is None:
        stderr_line(f"now remove the old key from {where}: keep only the first line with AGE-SECRET-KEY")
    else:
        stderr_line(f"now put the content of {escape(work.output)}, which has only the new key, in the place of {where}")
    stderr_line(f"next: {_STATUS}")
