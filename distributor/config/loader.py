"""Finds, parses and validates distributor.toml; all faults are reported together, each with its line and dotted key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributor.config.audit import AuditLog
from distributor.config.converter import ConfigErrors, ConfigFault, structure, unknown
from distributor.config.provenance import ENTRY, TABLE, line_of, lines_of, origins
from distributor.config.schema import (
    INTUNE,
    LISTS,
    AdapterKinds,
    LedgerPlace,
    MailRequests,
    Metrics,
    Organisation,
    Package,
    Password,
    Portal,
    Sender,
    SenderMailbox,
    Settings,
    Table,
    TrustSettings,
    VaultKeys,
    adapters,
    family_of,
    host_defaults,
)
from distributor.config.validation import validate
from distributor.errors import Error, ErrorGroup, InvalidInput
from distributor.files.reader import FileRefused, Reason, read_file
from distributor.model.limits import Limits

NAME = "distributor.toml"
MOST_HINTS = 3  # shown at once; with more faults, these are corrected first
LARGEST = 2**20  # bytes; a configuration has two thousand
TABLES: Mapping[str, type[Any]] = {
    "organisation": Organisation,
    "sender": Sender,
    "package": Package,
    "password": Password,
    "vault": VaultKeys,
    "ledger": LedgerPlace,
    "limits": Limits,
    "trust": TrustSettings,
    "portal": Portal,
    "requests": MailRequests,
    "audit": AuditLog,
    "metrics": Metrics,
}
NO_TRANSPORT = Table("folder", {}, "transport")  # in place of a table that may be missing
REQUIRED = ("organisation", "sender", "transport", "vault")


def find(chosen: Path | None) -> Path:
    """The configuration's path: `--config`, $DISTRIBUTOR_CONFIG, ./distributor.toml, $XDG_CONFIG_HOME/distributor/config.toml."""
    named = chosen or _from_environment()
    if named is not None:
        if named.is_dir():
            raise InvalidInput("this is a folder", where=str(named), hint=f"name the file in the folder: {named / NAME}")
        if not named.exists():
            raise InvalidInput("no such file", where=str(named), hint="run `distributor init` to create one")
        return named.absolute()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "distributor" / "config.toml"
    for place in (Path(NAME), home):
        if place.is_file():
            return place.absolute()
    raise InvalidInput(f"no {NAME} in this folder", hint="run `distributor init` to create one, or name yours with --config FILE")


def _from_environment() -> Path | None:
    named = os.environ.get("DISTRIBUTOR_CONFIG")
    return Path(named).expanduser() if named else None


def read(file: Path, kinds: AdapterKinds, optional: Collection[str] = ()) -> Settings:
    """The settings of a file. Raises ErrorGroup with every fault, or InvalidInput when the file cannot be read at all.

    `optional`: required tables that may be missing all the same (`vault`, `transport`), since the command does not use them.
    """
    text = _text(file)
    document = _parsed(text, file)
    faults = [fault for fault in _names(document) if fault.key in document or fault.key not in optional]
    own = _own(document, file.parent, faults)
    own["senders"] = _senders(document, file.parent, faults)
    tables = adapters(document, file.parent, kinds, faults)
    faults += validate(own, kinds, file.parent)
    if faults:
        raise _several(file, lines_of(text), faults)
    listed = [tuple(table for table in tables if family_of(table) == name) for name in LISTS]
    sources, trackers, rosters, directories = listed
    own.setdefault("vault", VaultKeys(()))
    transport = next((table for table in tables if table.key == "transport"), NO_TRANSPORT)
    own["intune"] = next((table for table in tables if table.key == INTUNE), None)
    settings = Settings(file=file, transport=transport, sources=sources, trackers=trackers, rosters=rosters, directories=directories, **own)
    shapes = {table.key: kinds.settings(family_of(table), table.kind) for table in tables}
    hosts = host_defaults(settings.transport.kind, settings.transport.values)
    return replace(settings, origins=origins(settings, document, lines_of(text), shapes, hosts))


def _text(file: Path) -> str:
    try:
        data = read_file(file, LARGEST, follow=True)
    except FileRefused as refused:
        hint = "check the file's owner and mode" if refused.reason is Reason.UNREADABLE else f"name a {NAME} with --config FILE"
        raise InvalidInput(refused.message, where=str(file), hint=hint) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput("not UTF-8", where=f"{file.name} line {line}", hint="save the file as UTF-8") from None


def _parsed(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).partition(" (at ")
        message = re.sub(r"\(('[^()]*'),?\)", lambda keys: ".".join(re.findall(r"'([^']*)'", keys[1])), message)  # a Python tuple
        line = re.search(r"line (\d+)", place)
        number = int(line[1]) if line else len(text.splitlines())
        faulty = f"not valid TOML: {message[:1].lower()}{message[1:]}", "write text in quotes, and one key on each line"
        message, hint = _repeated(text.splitlines(), number) or faulty
        raise InvalidInput(message, where=f"{file.name} line {number}", hint=hint) from None


def _repeated(lines: list[str], number: int) -> tuple[str, str] | None:
    """Message and hint where this line is the header of a table for the second time."""
    again = TABLE.match(lines[number - 1]) or ENTRY.match(lines[number - 1]) if number <= len(lines) else None
    if not again or not (first := line_of(again["name"], lines_of("\n".join(lines[: number - 1])))):
        return None
    hint = f"replace this table: keep one of the two, in line {first} or {number}"
    return f"[{again['name']}] is there twice, first in line {first}", hint


def _names(document: Mapping[str, Any]) -> list[ConfigFault]:
    """Unknown and missing tables."""
    known = [*TABLES, "transport", INTUNE, "senders", *LISTS]
    faults = [unknown("", name, known) for name in document if name not in known]
    return faults + [ConfigFault(name, "missing", f"add the table [{name}]") for name in REQUIRED if name not in document]


def _own(document: Mapping[str, Any], folder: Path, faults: list[ConfigFault]) -> dict[str, Any]:
    """The tables that belong to no adapter, without those that have faults."""
    good: dict[str, Any] = {}
    for name, kind in TABLES.items():
        if name in document:
            try:
                good[name] = structure(kind, document[name], name, folder)
            except ConfigErrors as faulty:
                faults += faulty.faults
    return good


def _senders(document: Mapping[str, Any], folder: Path, faults: list[ConfigFault]) -> tuple[SenderMailbox, ...]:
    """The mailboxes of `[[senders]]`; none where one has faults."""
    entries = document.get("senders", [])
    if not isinstance(entries, list):
        faults.append(ConfigFault("senders", "not an array of tables", "write [[senders]], with two brackets"))
        return ()
    good = []
    for number, entry in enumerate(entries):
        try:
            good.append(structure(SenderMailbox, entry, f"senders[{number}]", folder))
        except ConfigErrors as faulty:
            faults += faulty.faults
    return tuple(good) if len(good) == len(entries) else ()


def _several(file: Path, lines: dict[str, int], faults: list[ConfigFault]) -> Error:
    errors: list[Error] = []
    for line, fault in sorted(((line_of(fault.key, lines), fault) for fault in faults), key=lambda pair: pair[0] or 0):
        where = f"{file.name} line {line}" if line else file.name
        hint = fault.hint or "correct the file, then run the command again"
        errors.append(InvalidInput(f"{fault.key}: {fault.message}", where=where, hint=hint))
    hints = list(dict.fromkeys(fault.hint for fault in faults if fault.hint))
    return ErrorGroup(errors, hint="; ".join(hints[:MOST_HINTS]) or f"correct {file}, then run the command again")
