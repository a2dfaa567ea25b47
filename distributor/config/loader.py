"""Finds, parses and validates distributor.toml; all faults are reported together, each with its line and dotted key."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from distributor.config import converter
from distributor.config.converter import ConfigErrors, ConfigFault, structure, toml_name, unknown
from distributor.config.schema import (
    LISTS,
    AdapterKinds,
    LedgerPlace,
    Organisation,
    Package,
    Password,
    Provenance,
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
from distributor.errors import Error, ErrorGroup, InvalidInput
from distributor.files.reader import FileRefused, Reason, read_file
from distributor.model import passwords, redaction
from distributor.model.certificates import Limits
from distributor.model.people import Helpdesk, has_unsafe_chars

# --- lines --------------------------------------------------------------------------------
# Finds the line of each dotted key in the text of a TOML file, for error messages; a key that it does not find has no line.


_TABLE = re.compile(r"\s*\[(?P<name>[A-Za-z0-9_.-]+)\]\s*(#.*)?$")
_ENTRY = re.compile(r"\s*\[\[(?P<name>[A-Za-z0-9_.-]+)\]\]\s*(#.*)?$")
_KEY = re.compile(r'\s*(?P<name>[A-Za-z0-9_.-]+|"[^"]*")\s*=')


def lines_of(text: str) -> dict[str, int]:
    """Line numbers from 1, by dotted key; the entries of an array of tables are `name[0]`, `name[1]`."""
    found: dict[str, int] = {}
    entries: Counter[str] = Counter()
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _ENTRY.match(line):
            prefix = f"{match['name']}[{entries[match['name']]}]"
            entries[match["name"]] += 1
            found.setdefault(prefix, number)
        elif match := _TABLE.match(line):
            prefix = match["name"]
            found.setdefault(prefix, number)
        elif match := _KEY.match(line):
            key = match["name"].strip('"')
            found.setdefault(f"{prefix}.{key}" if prefix else key, number)
    return found


def line_of(key: str, lines: dict[str, int]) -> int | None:
    """The line of a key, or of the nearest table around it."""
    while key:
        if key in lines:
            return lines[key]
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return None


# --- provenance --------------------------------------------------------------------------------
# Lists each effective value of the settings as it would be written, with its origin (CLI: `config show`).


SIZES = frozenset({"limits.file", "limits.archive"})


def origins(
    settings: Settings, document: Mapping[str, Any], lines: dict[str, int], shapes: Mapping[str, type], hosts: Mapping[str, object]
) -> dict[str, Provenance]:
    """The provenance of each value by dotted key. `shapes`: dataclasses of the adapters' tables; `hosts`: defaults of a known host."""
    found = dict(_provenance_own(settings, document, lines))
    for number, sender in enumerate(settings.senders):
        found.update(_fields(settings, f"senders[{number}]", sender, lines))
    for table in (settings.transport, *settings.sources, *settings.trackers, *settings.rosters, *settings.directories):
        found.update(_table(settings, table, shapes[table.key], lines, hosts if table.key == "transport" else {}))
    return {key: replace(origin, value=_without_passwords(key, origin.value)) for key, origin in found.items()}


def _without_passwords(key: str, value: object) -> object:
    """Hides passwords in URLs, which may have one even where none is expected."""
    match value:
        case str() if "://" in value or key == "ledger.url":
            return redaction.without_password(value)
        case list() | tuple():
            return [_without_passwords(key, item) for item in value]
        case dict():
            return {name: _without_passwords(key, item) for name, item in value.items()}
    return value


def _provenance_own(settings: Settings, document: Mapping[str, Any], lines: dict[str, int]) -> Iterator[tuple[str, Provenance]]:
    for name in ("organisation", "sender", "package", "password", "vault", "ledger", "limits", "trust"):
        table, given = getattr(settings, name), document.get(name, {})
        if table is None:
            continue
        for field in fields(table):
            key, value = f"{name}.{field.name}", getattr(table, field.name)
            if isinstance(value, Helpdesk):
                for part, text in asdict(value).items():
                    written = part in given.get(field.name, {})
                    yield f"{key}.{part}", Provenance(text, _place(settings, f"{key}.{part}", lines) if written else "default")
            else:
                yield key, Provenance(_as_written(key, value), _place(settings, key, lines) if field.name in given else "default")


def _fields(settings: Settings, key: str, table: Any, lines: dict[str, int]) -> Iterator[tuple[str, Provenance]]:  # noqa: ANN401  any dataclass
    for field in fields(table):
        name = f"{key}.{field.name}"
        yield name, Provenance(_as_written(name, getattr(table, field.name)), _place(settings, name, lines) if name in lines else "default")


def _table(
    settings: Settings, table: Table, shape: type[Any], lines: dict[str, int], hosts: Mapping[str, object]
) -> Iterator[tuple[str, Provenance]]:
    yield f"{table.key}.kind", Provenance(table.kind, _place(settings, f"{table.key}.kind", lines))
    for field in fields(shape):
        name = toml_name(field.name)
        key = f"{table.key}.{name}"
        if name in table.values:
            yield key, Provenance(table.values[name], _place(settings, key, lines))
        elif name in hosts:
            yield key, Provenance(hosts[name], f"default for {table.values['host']}")
        elif key in _of_the_sender(table):
            yield key, Provenance(str(settings.sender.address), "sender.address")
        else:
            yield key, Provenance(_as_written(key, _default(field)), "default")


def _of_the_sender(table: Table) -> set[str]:
    """Keys of the transport that default to the sender's address."""
    signs_in = {"password", "oauth"} & set(table.values)
    return {"transport.mailbox", *(["transport.username"] if signs_in else [])}


def _default(field: Field[Any]) -> object:
    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


def _place(settings: Settings, key: str, lines: dict[str, int]) -> str:
    line = line_of(key, lines)
    return f"{settings.file.name} line {line}" if line else settings.file.name


def _as_written(key: str, value: object) -> object:
    match value:
        case timedelta():
            return converter.duration_text(value)
        case float() if key.endswith(".rate"):
            return converter.rate_text(value)
        case int() if key in SIZES:
            return converter.size_text(value)
        case tuple():
            return [_as_written(key, item) for item in value]
        case None | bool() | int() | float():
            return value
    return str(value)  # a word of a StrEnum too


# --- validation --------------------------------------------------------------------------------
# Checks the values of tables whose types are right.


_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58,}")


def validate(own: Mapping[str, Any], kinds: AdapterKinds) -> list[ConfigFault]:
    """The faults of values whose types are right. `own`: the tables that belong to no adapter."""
    faults: list[ConfigFault] = []
    match own.get("organisation"):
        case Organisation() as organisation:
            faults += _languages(organisation.languages) + _helpdesk(organisation.helpdesk)
    match own.get("vault"):
        case VaultKeys(recipients=recipients):
            faults += _recipients(recipients)
    match own.get("limits"):
        case Limits() as limits:
            faults += _limits(limits)
    match own.get("password", Password()):
        case Password() as password:
            faults += _password(password, kinds.kinds("channels"))
    return faults + _validation_senders(own.get("sender"), own.get("senders", ()))


def _validation_senders(first: Sender | None, others: tuple[SenderMailbox, ...]) -> list[ConfigFault]:
    """Each mailbox has one rate limit and one quota, so it may be listed only once."""
    keys = Counter([first.address.key] if first else [])
    faults = []
    for number, other in enumerate(others):
        if keys[other.address.key]:
            message = f'"{other.address}" is listed twice'
            faults.append(ConfigFault(f"senders[{number}].address", message, "list each mailbox once; [sender] counts too"))
        keys[other.address.key] += 1
    return faults


def _languages(languages: tuple[str, ...]) -> list[ConfigFault]:
    if not languages:
        return [ConfigFault("organisation.languages", "empty", 'write at least one, such as ["en"]')]
    return [
        ConfigFault(f"organisation.languages[{n}]", f'"{language}" is not a language tag', 'write "en", "de" or "de-AT"')
        for n, language in enumerate(languages)
        if not _LANGUAGE.fullmatch(language)
    ]


def _helpdesk(helpdesk: Helpdesk) -> list[ConfigFault]:
    return [
        ConfigFault(f"organisation.helpdesk.{name}", "not a single line of plain text", "remove line breaks and control characters")
        for name, value in asdict(helpdesk).items()
        if has_unsafe_chars(value)
    ]


def _recipients(recipients: tuple[str, ...]) -> list[ConfigFault]:
    if not recipients:
        return [ConfigFault("vault.recipients", "empty", "add a public key; `distributor init` creates a key pair")]
    return [
        ConfigFault(
            f"vault.recipients[{n}]", "not an age recipient", "write a key that starts with age1; `distributor init` creates a key pair"
        )
        for n, recipient in enumerate(recipients)
        if not _RECIPIENT.fullmatch(recipient)
    ]


def _limits(limits: Limits) -> list[ConfigFault]:
    return [
        ConfigFault(f"limits.{field.name}", f"{getattr(limits, field.name)} is not positive", "write more than 0, or remove the key")
        for field in fields(limits)
        if getattr(limits, field.name) <= 0
    ]


def _password(password: Password, channels: tuple[str, ...]) -> list[ConfigFault]:
    faults = []
    if password.channel not in channels:
        faults.append(ConfigFault("password.channel", f'unknown channel "{password.channel}"', f"use one of: {', '.join(channels)}"))
    if fault := passwords.check(password.recipe):
        faults.append(ConfigFault(f"password.{fault.key}", fault.reason, fault.hint))
    return faults


NAME = "distributor.toml"
MOST_HINTS = 3  # shown at once; with more faults, these are corrected first
LARGEST = 2**20  # bytes; a configuration has two thousand
LATER = ("portal",)  # tables of other versions
TABLES: Mapping[str, type[Any]] = {
    "organisation": Organisation,
    "sender": Sender,
    "package": Package,
    "password": Password,
    "vault": VaultKeys,
    "ledger": LedgerPlace,
    "limits": Limits,
    "trust": TrustSettings,
}
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


def read(file: Path, kinds: AdapterKinds) -> Settings:
    """The settings of a file. Raises ErrorGroup with every fault, or InvalidInput when the file cannot be read at all."""
    text = _text(file)
    document = _parsed(text, file)
    faults = _names(document)
    own = _own(document, file.parent, faults)
    own["senders"] = _senders(document, file.parent, faults)
    tables = adapters(document, file.parent, kinds, faults)
    faults += validate(own, kinds)
    if faults:
        raise _several(file, lines_of(text), faults)
    listed = [tuple(table for table in tables if family_of(table) == name) for name in LISTS]
    sources, trackers, rosters, directories = listed
    settings = Settings(file=file, transport=tables[0], sources=sources, trackers=trackers, rosters=rosters, directories=directories, **own)
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
    again = _TABLE.match(lines[number - 1]) or _ENTRY.match(lines[number - 1]) if number <= len(lines) else None
    if not again or not (first := line_of(again["name"], lines_of("\n".join(lines[: number - 1])))):
        return None
    hint = f"replace this table: keep one of the two, in line {first} or {number}"
    return f"[{again['name']}] is there twice, first in line {first}", hint


def _names(document: Mapping[str, Any]) -> list[ConfigFault]:
    """Unknown and missing tables."""
    known = [*TABLES, "transport", "senders", *LISTS]
    faults = [
        ConfigFault(name, f"{name} is not supported in this version", "remove it from the file") for name in LATER if name in document
    ]
    faults += [unknown("", name, known) for name in document if name not in known and name not in LATER]
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
