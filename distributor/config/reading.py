"""distributor.toml -> Settings, or everything that is wrong with it at once, each fault with its line and dotted key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from distributor.config.lines import line_of, lines_of
from distributor.config.origins import origins
from distributor.config.settings import LedgerPlace, Organisation, Package, Password, Sender, Settings, Table, VaultKeys
from distributor.config.structure import Fault, Faulty, structure
from distributor.core import passwords
from distributor.core.credentials import Limits
from distributor.errors import Error, Several, Unusable

NAME = "distributor.toml"
LARGEST = 2**20  # bytes; a configuration has two thousand
LATER = ("senders", "trackers", "portal", "trust", "directories")  # rooms of other versions
EXCHANGE_ONLINE = frozenset(
    {"smtp.office365.com", "smtp-legacy.office365.com", "outlook.office365.com", "smtp.office365.us", "smtp.partner.outlook.cn"}
)
HOST_DEFAULTS: Mapping[str, object] = {
    "connections": 3,
    "rate": "30/min",
}  # what Exchange Online takes from one mailbox (facts: sending.md 4)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58,}")


class Rooms(Protocol):
    """What adapters there are; the configuration asks without knowing them."""

    def kinds(self, room: str) -> tuple[str, ...]:
        """The kinds in a room such as "transports"."""
        ...

    def settings(self, room: str, kind: str) -> type[Any]:
        """The adapter's frozen dataclass of settings."""
        ...

    def fault(self, room: str, kind: str, settings: object) -> Error | None:
        """What the adapter itself has against settings of the right shape; nothing is connected for it."""
        ...


@dataclass(frozen=True, slots=True)
class _Document:
    organisation: Organisation
    sender: Sender
    transport: Mapping[str, object]
    vault: VaultKeys
    package: Package = field(default_factory=Package)
    password: Password = field(default_factory=Password)
    ledger: LedgerPlace = field(default_factory=LedgerPlace)
    limits: Limits = field(default_factory=Limits)
    sources: tuple[Mapping[str, object], ...] = field(default=())


def find(chosen: Path | None) -> Path:
    """Where the configuration is: `--config`, $DISTRIBUTOR_CONFIG, ./distributor.toml, $XDG_CONFIG_HOME/distributor/config.toml."""
    named = chosen or _from_environment()
    if named is not None:
        if not named.is_file():
            raise Unusable("there is no such file", where=str(named), hint="`distributor init` makes one")
        return named.absolute()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "distributor" / "config.toml"
    for place in (Path(NAME), home):
        if place.is_file():
            return place.absolute()
    raise Unusable(f"there is no {NAME} here", hint="`distributor init` makes one, or name yours with --config FILE")


def _from_environment() -> Path | None:
    named = os.environ.get("DISTRIBUTOR_CONFIG")
    return Path(named).expanduser() if named else None


def read(file: Path, rooms: Rooms) -> Settings:
    """The settings of a file; raises Several with every fault, or Unusable when it cannot be read at all."""
    text = _text(file)
    document = _parsed(text, file)
    faults: list[Fault] = [Fault(name, f"this version has no {name}", "remove it") for name in LATER if name in document]
    known = {key: value for key, value in document.items() if key not in LATER}
    settings = _structured(known, file, faults)
    tables = [_adapter(known.get("transport"), "transport", "transports", file.parent, rooms, faults)]
    entries = known.get("sources", [])
    if isinstance(entries, list):
        tables += [_adapter(entry, f"sources[{n}]", "sources", file.parent, rooms, faults) for n, entry in enumerate(entries)]
    if settings is not None:
        faults += _meaning(settings, rooms)
    if faults or settings is None or tables[0] is None:
        raise _several(file, lines_of(text), faults)
    whole = _whole(settings, file, tables)
    shapes = {
        table.key: rooms.settings("transports" if table.key == "transport" else "sources", table.kind)
        for table in (whole.transport, *whole.sources)
    }
    hosts = host_defaults(whole.transport.kind, whole.transport.values)
    return replace(whole, origins=origins(whole, document, lines_of(text), shapes, hosts))


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise Unusable((error.strerror or "cannot be read").lower(), where=str(file), hint="check the file's owner and mode") from None
    if len(data) > LARGEST:
        raise Unusable("larger than 1 MiB", where=str(file), hint=f"name a {NAME} with --config FILE")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Unusable("not UTF-8", where=f"{file.name} line {line}", hint="save the file as UTF-8") from None


def _parsed(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", place)
        where = f"{file.name} line {line[1]}" if line else f"{file.name} line {len(text.splitlines())}"
        raise Unusable(f"not TOML: {message[:1].lower()}{message[1:]}", where=where, hint="texts stand in quotes, one key a line") from None


def _structured(known: dict[str, Any], file: Path, faults: list[Fault]) -> _Document | None:
    try:
        return structure(_Document, known, "", file.parent)
    except Faulty as faulty:
        faults += faulty.faults
        return None


def _adapter(entry: object, key: str, room: str, folder: Path, rooms: Rooms, faults: list[Fault]) -> Table | None:  # noqa: PLR0913, PLR0917  one fact each
    if not isinstance(entry, dict):
        return None  # told already
    kind, values = entry.get("kind"), {name: value for name, value in entry.items() if name != "kind"}
    kinds = rooms.kinds(room)
    if not isinstance(kind, str) or kind not in kinds:
        told = "missing" if kind is None else f'this version has no {key.partition("[")[0].rstrip("s")} "{kind}"'
        faults.append(Fault(f"{key}.kind", told, f"there is: {', '.join(kinds)}"))
        return None
    try:
        shaped = structure(rooms.settings(room, kind), {**host_defaults(kind, values), **values}, key, folder)
    except Faulty as faulty:
        faults += faulty.faults
        return None
    if against := rooms.fault(room, kind, shaped):
        faults.append(Fault(against.where or key, against.message, against.hint))
    return Table(kind, values, key)


def host_defaults(kind: str, values: Mapping[str, object]) -> Mapping[str, object]:
    """What a host's known limits put in place of the plain defaults."""
    return HOST_DEFAULTS if kind == "smtp" and str(values.get("host", "")).lower().rstrip(".") in EXCHANGE_ONLINE else {}


def _meaning(document: _Document, rooms: Rooms) -> list[Fault]:
    faults = [
        Fault(f"organisation.languages[{n}]", f'"{language}" is not a language tag', 'write "en", "de" or "de-AT"')
        for n, language in enumerate(document.organisation.languages)
        if not _LANGUAGE.fullmatch(language)
    ]
    faults += [
        Fault(f"vault.recipients[{n}]", "not an age recipient", "it begins with age1; `distributor init` makes a pair")
        for n, recipient in enumerate(document.vault.recipients)
        if not _RECIPIENT.fullmatch(recipient)
    ]
    if not document.organisation.languages:
        faults.append(Fault("organisation.languages", "empty", 'write at least one, such as ["en"]'))
    if not document.vault.recipients:
        faults.append(Fault("vault.recipients", "empty", "without a recipient no password can be kept; `distributor init` makes a pair"))
    if document.password.channel not in rooms.kinds("channels"):
        there = ", ".join(rooms.kinds("channels"))
        faults.append(Fault("password.channel", f'this version has no channel "{document.password.channel}"', f"there is: {there}"))
    if fault := passwords.check(document.password.recipe):
        faults.append(Fault(f"password.{fault.key}", fault.reason, fault.hint))
    return faults


def _several(file: Path, lines: dict[str, int], faults: list[Fault]) -> Several:
    told: list[Error] = []
    for fault in sorted(faults, key=lambda fault: line_of(fault.key, lines) or 0):
        line = line_of(fault.key, lines)
        where = f"{file.name} line {line}" if line else file.name
        told.append(Unusable(f"{fault.key}: {fault.message}", where=where))
    hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
    return Several(told, hint="; ".join(hints) or f"correct {file}, then run the command again")


def _whole(document: _Document, file: Path, tables: list[Table | None]) -> Settings:
    transport, *sources = [table for table in tables if table is not None]
    return Settings(
        file=file,
        organisation=document.organisation,
        sender=document.sender,
        transport=transport,
        vault=document.vault,
        package=document.package,
        password=document.password,
        ledger=document.ledger,
        limits=document.limits,
        sources=tuple(sources),
    )
