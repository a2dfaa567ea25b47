"""Lists each effective value of the settings as it would be written, with its origin (CLI: `config show`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, fields, replace
from datetime import timedelta
from typing import Any

from distributor.config import converter
from distributor.config.converter import toml_name
from distributor.config.schema import INTUNE, Provenance, Settings, Table
from distributor.model import redaction
from distributor.model.people import Helpdesk

# --- lines --------------------------------------------------------------------------------
# Finds the line of each dotted key in the text of a TOML file, for error messages; a key that it does not find has no line.


TABLE = re.compile(r"\s*\[(?P<name>[A-Za-z0-9_.-]+)\]\s*(#.*)?$")
ENTRY = re.compile(r"\s*\[\[(?P<name>[A-Za-z0-9_.-]+)\]\]\s*(#.*)?$")
_KEY = re.compile(r'\s*(?P<name>[A-Za-z0-9_.-]+|"[^"]*")\s*=')


def lines_of(text: str) -> dict[str, int]:
    """Line numbers from 1, by dotted key; the entries of an array of tables are `name[0]`, `name[1]`."""
    found: dict[str, int] = {}
    entries: Counter[str] = Counter()
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := ENTRY.match(line):
            prefix = f"{match['name']}[{entries[match['name']]}]"
            entries[match["name"]] += 1
            found.setdefault(prefix, number)
        elif match := TABLE.match(line):
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


# --- origins --------------------------------------------------------------------------------


SIZES = frozenset({"limits.file", "limits.archive"})


def origins(
    settings: Settings, document: Mapping[str, Any], lines: dict[str, int], shapes: Mapping[str, type], hosts: Mapping[str, object]
) -> dict[str, Provenance]:
    """The provenance of each value by dotted key. `shapes`: dataclasses of the adapters' tables; `hosts`: defaults of a known host."""
    found = dict(_provenance_own(settings, document, lines))
    for number, sender in enumerate(settings.senders):
        found.update(_fields(settings, f"senders[{number}]", sender, lines))
    others = () if settings.intune is None else (settings.intune,)
    for table in (settings.transport, *settings.sources, *settings.trackers, *settings.rosters, *settings.directories, *others):
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
    for name in ("organisation", "sender", "package", "password", "vault", "ledger", "limits", "trust", "portal", "audit", "metrics"):
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
    if table.key != INTUNE:
        yield f"{table.key}.kind", Provenance(table.kind, _place(settings, f"{table.key}.kind", lines))
    for field in fields(shape):
        name = toml_name(field.name)
        key = f"{table.key}.{name}"
        if name in table.values and table.key == INTUNE:
            yield from _written(settings, key, table.values[name], lines)
        elif name in table.values:
            yield key, Provenance(table.values[name], _place(settings, key, lines))
        elif name in hosts:
            yield key, Provenance(hosts[name], f"default for {table.values['host']}")
        elif key in _of_the_sender(table):
            yield key, Provenance(str(settings.sender.address), "sender.address")
        else:
            yield key, Provenance(_as_written(key, _default(field)), "default")


def _written(settings: Settings, key: str, value: object, lines: dict[str, int]) -> Iterator[tuple[str, Provenance]]:
    """The values of a table in a table, each with its key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _written(settings, f"{key}.{name}", inner, lines)
    else:
        yield key, Provenance(value, _place(settings, key, lines))


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
