"""`distributor intune`: writes Outlook's app settings for organisations with Intune or another device management."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.cli.render import escape, print_json, stderr_line, table
from distributor.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from distributor.microsoft.outlook import Setting
    from distributor.model.issues import Diagnostic

app = typer.Typer(
    help="Outlook settings for Intune and other device management.",
    no_args_is_help=True,
    epilog="\b\nexample:\n  distributor intune settings --sign-all --output outlook/",
)
TABLE, PLIST, IOS, ANDROID, APPS = "outlook.txt", "outlook-ios.plist", "outlook-ios.json", "outlook-android.json", "outlook-apps.json"


@app.callback()
def _group() -> None:
    """Outlook settings for Intune and other device management."""


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
        _show(found, diagnostics, written)


def _row(setting: Setting) -> dict[str, object]:
    return {"key": setting.key, "type": setting.kind, "value": setting.value, "default": setting.default, "means": setting.means}


def _remark_row(diagnostic: Diagnostic) -> dict[str, object]:
    return {"area": diagnostic.area, "level": diagnostic.level, "message": diagnostic.message, "hint": diagnostic.hint}


def _show(found: Sequence[Setting], diagnostics: Sequence[Diagnostic], written: Sequence[Path]) -> None:
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
