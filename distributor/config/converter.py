"""Converts a TOML table to a frozen dataclass with cattrs: nothing is coerced or ignored, and all faults are reported together."""

from __future__ import annotations

import difflib
import enum
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from distributor.config.secrets import REFERENCES, SCHEMES, SecretRef, parse_reference
from distributor.errors import Error
from distributor.model.limits import Limits
from distributor.model.people import Address, BadAddress, parse_address
from distributor.model.secret import Secret

# --- values --------------------------------------------------------------------------------
# Parses and formats rates, durations and sizes of distributor.toml: "30/min", "14d", "1MiB". Pure.


_PER_MINUTE = {"s": 60.0, "min": 1.0, "h": 1 / 60}
_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1000, "MB": 10**6, "GB": 10**9}
_LONGEST = timedelta(days=3653)  # ten years
_NUMBER = r"(\d+(?:\.\d+)?)"


def rate(text: str) -> float:
    """Messages a minute, from "N/s", "N/min" or "N/h"; ValueError says what is wrong."""
    match = re.fullmatch(_NUMBER + r"\s*/\s*(s|min|h)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f'"{text}" is not a rate such as "30/min" (or "2/s", "500/h")')
    return float(match[1]) * _PER_MINUTE[match[2]]


def duration(text: str) -> timedelta:
    """A length of time, from "14d", "12h", "30min", "60s"; ValueError says what is wrong."""
    match = re.fullmatch(_NUMBER + r"\s*(ms|s|min|m|h|d|w)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f'"{text}" is not a duration such as "14d" (or "12h", "30min", "60s")')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f'"{text}" is longer than ten years')
    return timedelta(seconds=seconds)


def size(text: str) -> int:
    """Bytes, from "1MiB", "512KiB", "2GB"; ValueError says what is wrong."""
    match = re.fullmatch(_NUMBER + r"\s*(B|KiB|MiB|GiB|kB|MB|GB)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f'"{text}" is not a size such as "1MiB" (or "512KiB", "2GiB")')
    return int(float(match[1]) * _BYTES[match[2]])


def rate_text(per_minute: float) -> str:
    """The notation of `rate`, in messages a minute."""
    return f"{per_minute:g}/min"


def duration_text(length: timedelta) -> str:
    """The notation of `duration`, in the largest unit that divides it into more than one."""
    seconds = length.total_seconds()
    for unit in ("d", "h", "min", "s"):
        if seconds % _SECONDS[unit] == 0 and (seconds > _SECONDS[unit] or unit == "s"):
            return f"{round(seconds / _SECONDS[unit])}{unit}"
    return f"{seconds * 1000:g}ms"


def size_text(number: int) -> str:
    """The notation of `size`, in the largest binary unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if number % _BYTES[unit] == 0:
            return f"{number // _BYTES[unit]}{unit}"
    return f"{number}B"


T = TypeVar("T")
Opener = Callable[[SecretRef], Secret]
WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """What is wrong with one dotted key."""

    key: str
    message: str
    hint: str | None = None


class ConfigErrors(Exception):
    """Everything that is wrong with a table."""

    def __init__(self, faults: list[ConfigFault]) -> None:
        self.faults = faults
        super().__init__(faults)


class _InvalidValue(ValueError):
    def __init__(self, message: str, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


def structure(kind: type[T], table: object, key: str, folder: Path, opener: Opener | None = None) -> T:
    """The dataclass `kind` from a table; raises ConfigErrors. Without an `opener`, secrets are checked as references and left empty."""
    from cattrs.errors import CattrsError  # noqa: PLC0415  slow to load, and --help needs no configuration

    try:
        made: T = _converter(folder, opener or _closed).structure(table, kind)
    except (CattrsError, ValueError) as error:
        raise ConfigErrors(list(_faults(error, key))) from None
    return made


def _closed(_: SecretRef) -> Secret:
    return Secret("")


@lru_cache(maxsize=1)
def _converter(folder: Path, opener: Opener) -> Any:  # noqa: ANN401  cattrs' own type, loaded late
    from cattrs import Converter  # noqa: PLC0415
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415

    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in WORDS:
        converter.register_structure_hook(kind, _plain(kind))
    converter.register_structure_hook(timedelta, lambda value, _: duration(_text(value)))
    converter.register_structure_hook(Path, lambda value, _: folder / Path(_text(value)).expanduser())
    converter.register_structure_hook(Address, lambda value, _: _address(_text(value)))
    converter.register_structure_hook(SecretRef, lambda value, _: _reference(value, folder))
    converter.register_structure_hook(Secret, lambda value, _: opener(_reference(value, folder)))
    converter.register_structure_hook_func(_is(typing.Literal), _choice)
    converter.register_structure_hook(enum.StrEnum, _member)  # nearer to a member than the hook of `str`
    converter.register_structure_hook_func(_is(Mapping), lambda value, _: _table(value))
    converter.register_structure_hook_factory(_is(tuple), lambda kind: _list(kind, converter))
    converter.register_structure_hook_factory(
        lambda kind: isinstance(kind, type) and is_dataclass(kind) and kind not in {Address, SecretRef, Limits},
        lambda kind: _only_tables(make_dict_structure_fn(kind, converter, **_spelled(kind, override, folder))),
    )
    sizes = override(struct_hook=lambda value, _: size(value) if isinstance(value, str) else _plain(int)(value, int))
    converter.register_structure_hook(Limits, _only_tables(make_dict_structure_fn(Limits, converter, file=sizes, archive=sizes)))
    return converter


def _spelled(kind: type[Any], override: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401  cattrs' own type, loaded late
    """Fields that the file spells differently: `per_minute` is `rate = "30/min"`, and `assertion` may be written as `file:PATH`."""
    hooks = {
        "per_minute": override(rename="rate", struct_hook=lambda value, _: rate(_text(value))),
        "assertion": override(struct_hook=lambda value, _: _token_file(_text(value), folder)),
    }
    return {field.name: hooks[field.name] for field in fields(kind) if field.name in hooks}


def _token_file(text: str, folder: Path) -> Path:
    """`file:PATH`, or the path alone. Only a file can be read again whenever the platform has renewed the token in it."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in SCHEMES and (scheme != "file" or not rest):
        raise _InvalidValue(f'"{scheme}:" cannot be read again at each use', "write file:PATH with the file that the platform renews")
    return folder / Path(rest if colon and scheme == "file" else text).expanduser()


def _plain(kind: type) -> Callable[[object, object], object]:
    def check(value: object, _: object) -> object:
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise _InvalidValue(f"{_shown(value)} is not {WORDS[kind]}")
        return float(typing.cast("float", value)) if kind is float else value

    return check


def _shown(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case int() | float():
            return str(value)
        case dict():
            return "a table"
        case list():
            return "a list"
    return "a date"


def _text(value: object) -> str:
    return str(_plain(str)(value, str))


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _InvalidValue(f"{_shown(value)} is not a table")
    return value


def _address(text: str) -> Address:
    match parse_address(text):
        case BadAddress(reason=reason, hint=hint):
            raise _InvalidValue(reason, hint)
        case address:
            return address


def _reference(value: object, folder: Path) -> SecretRef:
    if not isinstance(value, str):
        raise _InvalidValue("a secret must be a reference, not the secret itself", REFERENCES)
    try:
        return parse_reference(value, folder)
    except ValueError as error:
        raise _InvalidValue(str(error), REFERENCES) from None


def _choice(value: object, kind: object) -> object:
    return _one_of(value, typing.get_args(kind))


def _member(value: object, kind: type[enum.StrEnum]) -> enum.StrEnum:
    return kind(str(_one_of(value, [str(member) for member in kind])))


def _one_of(value: object, allowed: typing.Iterable[object]) -> object:
    names = list(allowed)
    if value not in names:
        raise _InvalidValue(f"{_shown(value)} is not one of {', '.join(map(str, names))}")
    return value


def _is(origin: object) -> Callable[[Any], bool]:
    return lambda kind: typing.get_origin(kind) is origin


def _list(kind: Any, converter: Any) -> Callable[[object, object], object]:  # noqa: ANN401  a generic alias and cattrs' own type
    from cattrs import IterableValidationError, IterableValidationNote  # noqa: PLC0415

    inner = typing.get_args(kind)[0]

    def check(value: object, _: object) -> object:
        if not isinstance(value, list):
            raise _InvalidValue(f"{_shown(value)} is not a list")
        good, bad = [], []
        for index, item in enumerate(value):
            try:
                good.append(converter.structure(item, inner))
            except Exception as error:  # noqa: BLE001  gathered, as cattrs does it
                error.add_note(IterableValidationNote("", index, inner))
                bad.append(error)
        if bad:
            raise IterableValidationError("", bad, kind)
        return tuple(good)

    return check


def _only_tables(make: Callable[[Any, Any], object]) -> Callable[[object, object], object]:
    return lambda value, kind: make(_table(value), kind)


def _faults(error: BaseException, key: str) -> Iterator[ConfigFault]:
    from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError  # noqa: PLC0415

    match error:
        case BaseValidationError():
            for inner in error.exceptions:
                yield from _faults(inner, _below(key, inner) if not isinstance(inner, ForbiddenExtraKeysError) else key)
        case ForbiddenExtraKeysError():
            known = [toml_name(field.name) for field in fields(error.cl)]
            yield from (unknown(key, str(extra), known) for extra in sorted(error.extra_fields))
        case KeyError():
            yield ConfigFault(key, "missing", None)
        case _InvalidValue():
            yield ConfigFault(key, str(error), error.hint)
        case Error():
            yield ConfigFault(error.where or key, error.message, error.hint)
        case _:
            yield ConfigFault(key, str(error))


def _below(key: str, error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if hasattr(note, "name"):
            return f"{key}.{toml_name(note.name)}" if key else toml_name(note.name)
        if hasattr(note, "index"):
            return f"{key}[{note.index}]"
    return key


def toml_name(name: str) -> str:
    """A field's name as the file spells it."""
    return "rate" if name == "per_minute" else name


def unknown(key: str, extra: str, known: list[str]) -> ConfigFault:
    """The fault of an unknown key, with the known key that was probably meant."""
    place = f"{key}.{extra}" if key else extra
    near = difflib.get_close_matches(extra, known, 1)
    meant = f'; did you mean "{near[0]}"?' if near else ""
    return ConfigFault(place, f"unknown key{meant}", None if near else f"known keys: {', '.join(known)}")
