"""Finds the line of each dotted key in the text of a TOML file, for error messages; a key that it does not find has no line."""

from __future__ import annotations

import re
from collections import Counter

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
