"""`distributor doctor`: checks configuration, ledger, vault, templates, services, clock and versions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from distributor.cli.options import Config, Json
from distributor.cli.render import GREEN, RED, YELLOW, coloured, counted, escape, print_json, stderr_line, stdout_line, wrapped
from distributor.errors import Error, ErrorGroup, InvalidInput
from distributor.model.issues import Diagnostic, Issue

if TYPE_CHECKING:
    from distributor.config import Settings

EXAMPLE = "\b\nexample:\n  distributor doctor --json | jq '.checks[] | select(.level != \"ok\")'"
BUILT = datetime(2026, 11, 1, tzinfo=UTC)  # a clock before this is wrong
NOT_SENT = "nothing is sent: "  # begins the message of a ledger that has to be adopted
NO_DELIVERIES = "no deliveries yet"
INDENT = 24  # columns; below the message
_CLOCK = "set the clock:", ("timedatectl set-ntp true",)


def _steps(*parts: str | tuple[str, ...]) -> str:
    from distributor.microsoft.powershell import steps

    return steps(*parts)


def doctor(chosen: Config = None, as_json: Json = False) -> int:
    """Check configuration, ledger, vault, templates and services.

    Connects and signs in to the mail server, rosters, trackers and directories; sends nothing.
    """
    found: list[Diagnostic] = []
    for diagnostic in _examine(chosen):
        found.append(diagnostic)
        if not as_json:
            _show(diagnostic)
    if as_json:
        print_json("doctor", {"checks": list(map(_row, found))})
    else:
        _show_verdict(found)
    bad = [diagnostic for diagnostic in found if diagnostic.level == "error"]
    if any(diagnostic.area == "configuration" for diagnostic in bad):
        return InvalidInput.exit_code
    return 1 if bad else 0


def _row(diagnostic: Diagnostic) -> dict[str, object]:
    """A diagnostic as JSON; `commands` are the lines of the hint that can be typed as they are."""
    from distributor.microsoft.powershell import command

    commands = [line for each in (diagnostic.hint or "").splitlines() if (line := command(each)) is not None]
    return {
        "area": diagnostic.area,
        "level": diagnostic.level,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "commands": commands,
    }


def _show(diagnostic: Diagnostic) -> None:
    from distributor.microsoft.powershell import command

    text = wrapped(f"{diagnostic.level:<7}  {diagnostic.area:<13}  {escape(diagnostic.message)}", INDENT)
    stdout_line(coloured(text[:7], {"ok": GREEN, "warning": YELLOW}.get(diagnostic.level, RED)) + text[7:])
    for line in (diagnostic.hint or "").splitlines():
        typed = command(line)
        if typed is None:
            stdout_line(wrapped(f"{'':{INDENT}}{escape(line)}", INDENT))
        else:  # not wrapped, so that it can be copied
            stdout_line(f"  {escape(typed)}")


def _show_verdict(found: Sequence[Diagnostic]) -> None:
    """Say whether messages can be sent, and what comes next."""
    errors, warnings = (sum(diagnostic.level == level for diagnostic in found) for level in ("error", "warning"))
    also = f", {counted(warnings, 'warning')}" if warnings else ""
    if errors:
        verdict = f"{counted(errors, 'error')}{also}: correct {'it' if errors == 1 else 'them'}, then run `distributor doctor` again"
    elif any(diagnostic.message.startswith(NOT_SENT) for diagnostic in found):
        verdict = f"not ready to send{also}: follow the ledger's hint, then run `distributor doctor` again"
    else:
        fresh = any(diagnostic.message.endswith(NO_DELIVERIES) for diagnostic in found)
        verdict = f"ready to send{also}; next: distributor {'plan' if fresh else 'status'}"
    stdout_line("\n" + wrapped(verdict, 2))


def _examine(chosen: Path | None) -> Iterator[Diagnostic]:
    from distributor import bootstrap

    try:
        settings = bootstrap.settings(chosen)
    except Error as error:
        yield from _of_error("configuration", error)
    else:
        yield Diagnostic("configuration", "ok", str(settings.file))
        for area, look in _AREAS.items():
            yield from _guarded(area, look, settings)
    yield _clock()
    yield from _versions()


def _guarded(area: str, look: Callable[[Settings], Iterator[Diagnostic]], settings: Settings) -> Iterator[Diagnostic]:
    try:
        yield from look(settings)
    except Error as error:
        yield from _of_error(area, error)


def _of_error(area: str, error: Error) -> Iterator[Diagnostic]:
    for fault in error.faults if isinstance(error, ErrorGroup) else (error,):
        yield Diagnostic(area, "error", str(fault), fault.hint)


def _ledger(settings: Settings) -> Iterator[Diagnostic]:
    from distributor import bootstrap
    from distributor.cli.ledger import clock_ahead_message
    from distributor.model.delivery import DeliveryFilter

    with bootstrap.open_for_reading(settings) as ledger:
        faults = ledger.verify()
        for wrong in faults:
            yield Diagnostic(
                "ledger",
                "error",
                wrong.message if isinstance(wrong, Issue) else str(wrong),
                "keep the file as it is; restore the last good copy (see docs/restore.md#restore-step-by-step)",
            )
        counts = ledger.counts(DeliveryFilter())
        ahead = ledger.ahead()
        if ahead is not None:
            yield Diagnostic("clock", "warning", clock_ahead_message(ahead, ledger.now()), _steps(*_CLOCK))
        yield from ledger.check()
        restored = ledger.restored()
    states = ", ".join(f"{number} {state}" for state, number in counts.items()) or NO_DELIVERIES
    if not faults:
        yield Diagnostic("ledger", "ok", f"audit chain intact; {states}")
    if restored is not None:
        yield Diagnostic("ledger", "warning", f"{NOT_SENT}{restored.message}", restored.hint)
    file = bootstrap.ledger_file(settings)
    if file is not None and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        fix = f'sudo chown "$USER" -- {quote(str(file))} {quote(str(file.parent))}'
        yield Diagnostic(
            "ledger",
            "warning",
            f"{file} is read-only for this user",
            _steps("make this user the owner of the file and its folder:", (fix,)),
        )


def _vault(settings: Settings) -> Iterator[Diagnostic]:
    from distributor import bootstrap

    keys = len(settings.vault.recipients)
    if settings.vault.identity is None:
        yield Diagnostic("vault", "ok", f"passwords are sealed to {counted(keys, 'public key')}; none can be revealed on this machine")
        return
    if bootstrap.vault(settings).replaced:
        yield Diagnostic("vault", "warning", "the key is being replaced, and that is not finished", "run `distributor vault rotate` again")
    yield Diagnostic("vault", "ok", f"{settings.vault.identity} can open the passwords")


def _files(settings: Settings) -> Iterator[Diagnostic]:
    from distributor import bootstrap
    from distributor.config.secrets import exposed

    found = {path: fault for path in bootstrap.private_files(settings) if (fault := exposed(path))}
    for path, fault in found.items():
        fixes = tuple(f"{command} -- {quote(str(path))}" for command in ('sudo chown "$USER"', "chmod 600"))
        yield Diagnostic("files", "warning", fault, _steps("make it readable only by the user that runs distributor:", fixes))
    if not found:
        yield Diagnostic("files", "ok", f"{counted(len(bootstrap.private_files(settings)), 'private file')} readable only by their owner")


def _templates(settings: Settings) -> Iterator[Diagnostic]:
    from distributor.bootstrap import delivery

    yield from delivery.check_templates(settings)


def _password(settings: Settings) -> Iterator[Diagnostic]:
    from distributor.bootstrap import channels

    yield from channels.check(settings)


def _services(settings: Settings) -> Iterator[Diagnostic]:
    """The transport, then the other adapters that ask a service."""
    import asyncio

    from distributor.bootstrap import adapter_checks, delivery

    registrations = adapter_checks.Registrations(settings)
    try:
        yield from registrations.transport(asyncio.run(delivery.transport(settings, tell=stderr_line).check()))
    except Error as error:
        yield from adapter_checks.transport_not_opened(settings, error)
    yield from adapter_checks.check_tables(settings, registrations)


def _portal(settings: Settings) -> Iterator[Diagnostic]:
    from distributor import bootstrap
    from distributor.bootstrap import portal
    from distributor.config.schema import RequestPolicy

    if settings.portal is None:
        return
    if missing := portal.missing_extra():
        yield Diagnostic("portal", "error", f"it needs {missing}, which is not installed", "pip install 'distributor[portal]'")
    portal.provider(settings).read_metadata()
    yield Diagnostic("portal", "ok", f"{settings.portal.url}; sign-in at {settings.portal.authority}")
    if not settings.portal.administrators and settings.portal.requests is RequestPolicy.APPROVE:
        hint = "add an object id to `portal.administrators`, or approve requests with `distributor requests approve`"
        yield Diagnostic(
            "portal",
            "warning",
            f"{bootstrap.location_of(settings, 'portal.administrators')}: nobody may approve requests there",
            f"{hint} (see docs/portal.md#who-may-do-what)",
        )
    if settings.vault.identity is None:
        yield Diagnostic("portal", "ok", "it shows no passwords on this host, which has no `vault.identity`")


def _trust(settings: Settings) -> Iterator[Diagnostic]:
    from distributor.bootstrap import trust

    if settings.trust is not None:
        found = trust.collection(settings.trust.collection)
        yield Diagnostic(
            "trust", "ok", f"{settings.trust.collection}: {counted(len(found), 'certificate')}; details: `distributor trust check`"
        )


_AREAS: dict[str, Callable[[Settings], Iterator[Diagnostic]]] = {
    "ledger": _ledger,
    "vault": _vault,
    "files": _files,
    "templates": _templates,
    "password": _password,
    "trust": _trust,
    "portal": _portal,
    "transport": _services,
}


def _clock() -> Diagnostic:
    from distributor import bootstrap

    moment = bootstrap.now()
    if moment < BUILT:
        return Diagnostic(
            "clock", "error", f"the clock says {moment:%Y-%m-%d %H:%M} UTC, before this version was released", _steps(*_CLOCK)
        )
    return Diagnostic("clock", "ok", f"{moment:%Y-%m-%d %H:%M} UTC")


def _versions() -> Iterator[Diagnostic]:
    from distributor.cli.versions import main_parts

    for part in main_parts():
        yield Diagnostic("versions", "ok", part)
