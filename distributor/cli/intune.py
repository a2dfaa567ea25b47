"""`distributor intune`: imports certificates into Intune, and writes Outlook's app settings for device management."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli import intune_import
from distributor.cli.options import Config, Json, Yes, confirm
from distributor.cli.render import counted, escape, print_json, stderr_line, stdout_line, table
from distributor.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.microsoft.intune_changes import Change
    from distributor.microsoft.intune_policies import Wanted
    from distributor.microsoft.outlook import Setting
    from distributor.model.issues import Diagnostic
    from distributor.workflows.intune_policies import Applied, PolicyPlan

app = typer.Typer(
    help="Certificates and Outlook settings for Intune and other device management.",
    no_args_is_help=True,
    epilog="\b\nexample:\n  distributor intune settings --sign-all --output outlook/",
)
TABLE, PLIST, IOS, ANDROID, APPS = "outlook.txt", "outlook-ios.plist", "outlook-ios.json", "outlook-android.json", "outlook-apps.json"


@app.callback()
def _group() -> None:
    """Certificates and Outlook settings for Intune and other device management."""


app.command("import", epilog=intune_import.EXAMPLE)(intune_import.import_)


# --- policies -----------------------------------------------------------------------------------------------------


@app.command(epilog="\b\nexample:\n  distributor intune plan")
def plan(chosen: Config = None, as_json: Json = False) -> int:
    """Show what would change in the tenant, and what remains to be done in the portal.

    Compares the policies of [intune] with those of the tenant. Changes nothing.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    wanted, found = _compared(settings)
    if as_json:
        print_json("intune-plan", {**_json(found), "portal": list(_portal(settings, wanted))})
        return 1 if found.missing else 0
    _show(found)
    _show_portal(settings, wanted)
    if found.due:
        stderr_line("next: distributor intune apply")
    return 1 if found.missing or any(change.refused for change in found.changes) else 0


@app.command(epilog="\b\nexample:\n  distributor intune plan && distributor intune apply")
def apply(yes: Yes = False, chosen: Config = None, as_json: Json = False) -> int:
    """Make the tenant's policies as [intune] describes them, after confirmation.

    Nothing is deleted: keys and assignments of others stay. Every policy is read again after it was written.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    wanted, found = _compared(settings)
    if not as_json:
        _show(found)
    done: list[Applied] = []
    if found.due:
        if not yes:
            from distributor.bootstrap import intune

            confirm(
                f"Write {counted(len(found.due), 'policy', 'policies')} in Intune{intune.tenant(settings)}?", "--yes", "nothing changed"
            )
        done = _applied(settings, found, as_json=as_json)
    wrong = [one for one in done if one.other]
    if as_json:
        rows = [{"name": one.change.policy.name, "id": one.id, "differs": list(one.other)} for one in done]
        print_json("intune-apply", {**_json(found), "applied": rows})
    else:
        _tell(found, done, wrong)
        _show_portal(settings, wanted)
    return 1 if wrong or found.missing or any(change.refused for change in found.changes) else 0


def _compared(settings: Settings) -> tuple[Wanted, PolicyPlan]:
    import asyncio

    from distributor.bootstrap import intune
    from distributor.microsoft.intune_policies import policies
    from distributor.workflows import intune_policies

    wanted = intune.wanted(settings)
    store = intune.transport(settings).policies()

    async def work() -> PolicyPlan:
        try:
            return await intune_policies.plan(store, policies(wanted), intune.groups(settings))
        finally:
            await store.close()

    return wanted, asyncio.run(work())


def _applied(settings: Settings, found: PolicyPlan, *, as_json: bool) -> list[Applied]:
    import asyncio

    from distributor.bootstrap import intune
    from distributor.workflows import intune_policies

    store = intune.transport(settings).policies()

    def tell(one: Applied) -> None:
        if not as_json:
            how = f"differs when it is read again: {', '.join(one.other)}" if one.other else "written and read again"
            stdout_line(f"{escape(one.change.policy.name)}: {how} ({one.id})")

    async def work() -> list[Applied]:
        try:
            return await intune_policies.apply(store, found, asyncio.sleep, tell)
        finally:
            await store.close()

    return asyncio.run(work())


# --- the words of a plan ----------------------------------------------------------------------------------------------------------


def _show(found: PolicyPlan) -> None:
    for change in found.changes:
        for line in _lines(change):
            stdout_line(line)
    for error in found.missing:
        stderr_line(f"error: {escape(str(error))}")
        stderr_line(f"hint: {escape(error.hint or '')}")
    same = sum(not change.is_due and not change.refused for change in found.changes)
    if same:
        stdout_line(f"{counted(same, 'policy', 'policies')} unchanged")


def _lines(change: Change) -> Iterator[str]:
    """A policy with a mark, and a line for each difference."""
    from distributor.microsoft.intune_changes import shown

    name = escape(change.policy.name)
    if change.refused:
        yield f"! {name}: {escape(change.refused)}"
        return
    if not change.is_due:
        return
    yield f"+ {name}" if change.id is None else f"~ {name}"
    for line in change.lines if change.body is not None else ():
        if line.key != "displayName":
            before = "" if line.before is None else f"{escape(shown(line.before))} -> "
            yield f"    {escape(line.key)}: {before}{escape(shown(line.after))}"
    for group in change.groups:
        yield f"    assigned to: {escape(group)}"


def _tell(found: PolicyPlan, done: Sequence[Applied], wrong: Sequence[Applied]) -> None:
    if not found.due:
        stderr_line("nothing to change")
    elif wrong:
        stderr_line(f"{counted(len(wrong), 'policy', 'policies')} could not be verified; next: distributor intune plan")
    else:
        stderr_line(f"{counted(len(done), 'policy', 'policies')} written and verified")


def _json(found: PolicyPlan) -> dict[str, object]:
    return {
        "changes": [
            {
                "name": change.policy.name,
                "type": change.policy.type,
                "id": change.id,
                "action": "refused" if change.refused else "none" if not change.is_due else "create" if change.id is None else "update",
                "differences": [{"key": line.key, "before": line.before, "after": line.after} for line in change.lines],
                "groups": list(change.groups),
                "reason": change.refused or None,
            }
            for change in found.changes
        ],
        "errors": [{"message": str(error), "hint": error.hint} for error in found.missing],
    }


def _show_portal(settings: Settings, wanted: Wanted) -> None:
    for line in _portal(settings, wanted):
        stdout_line(line)


def _portal(settings: Settings, wanted: Wanted) -> Iterator[str]:
    """What no documented field carries, click by click in the organisation's language."""
    from distributor.bootstrap import intune

    for text in intune.portal_steps(settings, wanted):
        yield ""
        yield from text.strip().splitlines()


# --- settings as files --------------------------------------------------------------------------------------------


@app.command(epilog="\b\nexample:\n  distributor intune settings --sign-all --ldap ldaps://ldap.example.org --output outlook/")
def settings(
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", readable=False, help="Write them as JSON, property list and table."),
    ] = None,
    sign: Annotated[bool, typer.Option("--sign-all", help="Sign every message.")] = False,
    encrypt: Annotated[bool, typer.Option("--encrypt-all", help="Encrypt every message.")] = False,
    ldap: Annotated[
        str | None,
        typer.Option("--ldap", metavar="HOST", help="LDAP server with anonymous access: HOST, HOST:PORT or ldaps://HOST[:PORT]."),
    ] = None,
    users_may_change: Annotated[
        bool, typer.Option("--users-may-change/--no-users-may-change", help="Whether people may change these settings on the phone.")
    ] = True,
    chosen: Config = None,  # noqa: ARG001  every command takes it
    as_json: Json = False,
) -> None:
    """Print the settings that turn S/MIME on in Outlook for iOS and Android.

    Uses only keys that Microsoft documents. They do not install certificates: people still open the file they were sent.
    """
    from distributor.microsoft import outlook

    try:
        found = outlook.settings(sign=sign, encrypt=encrypt, users_may_change=users_may_change, ldap=ldap)
    except outlook.BadHost as fault:
        raise UsageError(str(fault), where="--ldap", hint="write HOST, HOST:PORT or ldaps://HOST[:PORT]") from None
    diagnostics = list(outlook.remarks(found))
    written = _write(output, found, diagnostics) if output else []
    if as_json:
        forms = {"ios": outlook.ios(found), "android": outlook.android(found), "apps": outlook.apps(found)}
        print_json(
            "intune", {"settings": map(_row, found), "remarks": map(_remark_row, diagnostics), **forms, "files": list(map(str, written))}
        )
    else:
        _show_settings(found, diagnostics, written)


def _row(setting: Setting) -> dict[str, object]:
    return {"key": setting.key, "type": setting.kind, "value": setting.value, "default": setting.default, "means": setting.means}


def _remark_row(diagnostic: Diagnostic) -> dict[str, object]:
    return {"area": diagnostic.area, "level": diagnostic.level, "message": diagnostic.message, "hint": diagnostic.hint}


def _show_settings(found: Sequence[Setting], diagnostics: Sequence[Diagnostic], written: Sequence[Path]) -> None:
    table(("value", "default", "key", "meaning"), _cells(found))
    for diagnostic in diagnostics:
        level = "note" if diagnostic.level == "ok" else diagnostic.level
        stderr_line(f"{level}: {escape(diagnostic.message)}" + (f"; {escape(diagnostic.hint)}" if diagnostic.hint else ""))
    for path in written:
        stderr_line(f"written: {escape(path)}")


def _cells(found: Sequence[Setting]) -> Iterator[tuple[str, str, str, str]]:
    for setting in found:
        default = "none" if setting.default is None else str(setting.default).lower()
        yield setting.written, default, setting.key, setting.means


def _write(folder: Path, found: Sequence[Setting], diagnostics: Sequence[Diagnostic]) -> list[Path]:
    """Write the settings in every format."""
    from distributor.cli import certificate_files

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "choose a folder that you can write to"
        raise InvalidInput((error.strerror or "cannot be created").lower(), where=str(folder), hint=hint) from None
    files = _files(found, diagnostics)
    for name, data in files.items():
        certificate_files.write(folder / name, data)
    return [folder / name for name in files]


def _files(found: Sequence[Setting], diagnostics: Sequence[Diagnostic]) -> dict[str, bytes]:
    import json
    import plistlib

    from distributor.microsoft import outlook

    rows = list(_cells(found))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    text = ["Outlook for iOS and Android: value, default without the key, key, meaning", "", *lines, ""]
    text += [diagnostic.message + (f"; {diagnostic.hint}" if diagnostic.hint else "") for diagnostic in diagnostics]
    as_json = {IOS: outlook.ios(found), ANDROID: outlook.android(found), APPS: outlook.apps(found)}
    return {
        TABLE: ("\n".join(text) + "\n").encode(),
        PLIST: plistlib.dumps(outlook.plist(found), sort_keys=False),
        **{name: (json.dumps(form, indent=2) + "\n").encode() for name, form in as_json.items()},
    }
