"""distributor.toml -> Settings, or everything that is wrong with it at once, each fault with its line and dotted key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

from distributor.config.lines import line_of, lines_of
from distributor.config.origins import origins
from distributor.config.settings import LedgerPlace, Organisation, Package, Password, Sender, Settings, Table, VaultKeys
from distributor.config.structure import Fault, Faulty, structure, unknown
from distributor.core import passwords
from distributor.core.credentials import Limits
from distributor.errors import Error, Several, Unusable

NAME = "distributor.toml"
MOST_HINTS = 3  # of one run; who has more faults corrects these first
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


TABLES: Mapping[str, type[Any]] = {
    "organisation": Organisation,
    "sender": Sender,
    "package": Package,
    "password": Password,
    "vault": VaultKeys,
    "ledger": LedgerPlace,
    "limits": Limits,
}
REQUIRED = ("organisation", "sender", "transport", "vault")


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
    faults = _names(document)
    own = _own(document, file.parent, faults)
    tables = _adapters(document, file.parent, rooms, faults)
    faults += _meaning(own, rooms)
    if faults:
        raise _several(file, lines_of(text), faults)
    settings = Settings(file=file, transport=tables[0], sources=tuple(tables[1:]), **own)
    shapes = {table.key: rooms.settings("sources" if table in settings.sources else "transports", table.kind) for table in tables}
    hosts = host_defaults(settings.transport.kind, settings.transport.values)
    return replace(settings, origins=origins(settings, document, lines_of(text), shapes, hosts))


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
        message = re.sub(r"\(('[^()]*'),?\)", lambda keys: ".".join(re.findall(r"'([^']*)'", keys[1])), message)  # a Python tuple
        line = re.search(r"line (\d+)", place)
        where = f"{file.name} line {line[1]}" if line else f"{file.name} line {len(text.splitlines())}"
        raise Unusable(f"not TOML: {message[:1].lower()}{message[1:]}", where=where, hint="texts stand in quotes, one key a line") from None


def _names(document: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with the tables' names."""
    known = [*TABLES, "transport", "sources"]
    faults = [Fault(name, f"this version has no {name}", "remove it") for name in LATER if name in document]
    faults += [unknown("", name, known) for name in document if name not in known and name not in LATER]
    return faults + [Fault(name, "missing", f"add the table [{name}]") for name in REQUIRED if name not in document]


def _own(document: Mapping[str, Any], folder: Path, faults: list[Fault]) -> dict[str, Any]:
    """The tables that belong to no adapter, as far as they are good."""
    good: dict[str, Any] = {}
    for name, kind in TABLES.items():
        if name in document:
            try:
                good[name] = structure(kind, document[name], name, folder)
            except Faulty as faulty:
                faults += faulty.faults
    return good


def _adapters(document: Mapping[str, Any], folder: Path, rooms: Rooms, faults: list[Fault]) -> list[Table]:
    """The transport, then the sources, as far as they are good."""
    entries = document.get("sources", [])
    if not isinstance(entries, list):
        faults.append(Fault("sources", "not an array of tables", "write [[sources]], with two brackets"))
        entries = []
    wanted = [("transport", "transports", document["transport"])] if "transport" in document else []
    wanted += [(f"sources[{n}]", "sources", entry) for n, entry in enumerate(entries)]
    found = [_adapter(entry, key, room, folder, rooms, faults) for key, room, entry in wanted]
    return [table for table in found if table is not None]


def _adapter(entry: object, key: str, room: str, folder: Path, rooms: Rooms, faults: list[Fault]) -> Table | None:  # noqa: PLR0913, PLR0917  one fact each
    if not isinstance(entry, dict):
        faults.append(Fault(key, "not a table", f"write [{key.partition('[')[0]}]"))
        return None
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


def _meaning(own: Mapping[str, Any], rooms: Rooms) -> list[Fault]:
    """What is wrong with values of the right shape."""
    faults: list[Fault] = []
    match own.get("organisation"):
        case Organisation(languages=languages):
            faults += _languages(languages)
    match own.get("vault"):
        case VaultKeys(recipients=recipients):
            faults += _recipients(recipients)
    match own.get("limits"):
        case Limits() as limits:
            faults += _limits(limits)
    match own.get("password", Password()):
        case Password() as password:
            faults += _password(password, rooms.kinds("channels"))
    return faults


def _languages(languages: tuple[str, ...]) -> list[Fault]:
    if not languages:
        return [Fault("organisation.languages", "empty", 'write at least one, such as ["en"]')]
    return [
        Fault(f"organisation.languages[{n}]", f'"{language}" is not a language tag', 'write "en", "de" or "de-AT"')
        for n, language in enumerate(languages)
        if not _LANGUAGE.fullmatch(language)
    ]


def _recipients(recipients: tuple[str, ...]) -> list[Fault]:
    if not recipients:
        return [Fault("vault.recipients", "empty", "without a recipient no password can be kept; `distributor init` makes a pair")]
    return [
        Fault(f"vault.recipients[{n}]", "not an age recipient", "it begins with age1; `distributor init` makes a pair")
        for n, recipient in enumerate(recipients)
        if not _RECIPIENT.fullmatch(recipient)
    ]


def _limits(limits: Limits) -> list[Fault]:
    return [
        Fault(f"limits.{field.name}", f"{getattr(limits, field.name)} lets nothing in", "write more than 0, or remove the key")
        for field in fields(limits)
        if getattr(limits, field.name) <= 0
    ]


def _password(password: Password, channels: tuple[str, ...]) -> list[Fault]:
    faults = []
    if password.channel not in channels:
        faults.append(Fault("password.channel", f'this version has no channel "{password.channel}"', f"there is: {', '.join(channels)}"))
    if fault := passwords.check(password.recipe):
        faults.append(Fault(f"password.{fault.key}", fault.reason, fault.hint))
    return faults


def _several(file: Path, lines: dict[str, int], faults: list[Fault]) -> Error:
    told: list[Error] = []
    for fault in sorted(faults, key=lambda fault: line_of(fault.key, lines) or 0):
        line = line_of(fault.key, lines)
        where = f"{file.name} line {line}" if line else file.name
        told.append(Unusable(f"{fault.key}: {fault.message}", where=where, hint=fault.hint or "correct it, then run the command again"))
    hints = list(dict.fromkeys(fault.hint for fault in faults if fault.hint))
    return Several(told, hint="; ".join(hints[:MOST_HINTS]) or f"correct {file}, then run the command again")
