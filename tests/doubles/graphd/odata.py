"""OData's query options -> clauses, orders and pages. Of its grammar what Graph takes: clauses joined by `and`, perhaps in parentheses."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.doubles.graphd.clock import read_stamp

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))|(?P<number>-?\d+)"
    r"|(?P<word>[A-Za-z_][\w/.]*)|(?P<mark>[(),:]))"
)
COMPARISONS = frozenset({"eq", "ne", "ge", "gt", "le", "lt"})
FUNCTIONS = frozenset({"startswith", "endswith", "contains"})
Value = str | bool | int | float | None


class Unreadable(Exception):
    """The text is no filter that this grammar has; `what` names the place."""


class Unsupported(Exception):
    """A filter that is read but not served: `or`, `not`, an operator or a property."""


@dataclass(frozen=True)
class Clause:
    """`field` compared with `value`; `each` is for `field/any(x:…)`. A time stands as seconds, with kind "time"."""

    field: str
    operator: str
    value: Value
    kind: str
    each: bool = False

    def holds(self, record: Mapping[str, Any]) -> bool:
        found = _reach(record, self.field)
        if self.each:
            return any(self._compare(one) for one in found or ())
        return self._compare(found)

    def _compare(self, found: object) -> bool:
        wanted = self.value
        if self.kind == "time" and isinstance(found, str):
            found = read_stamp(found)
        if isinstance(wanted, str) and isinstance(found, str):
            found, wanted = found.casefold(), wanted.casefold()
        if self.operator in {"eq", "ne"}:
            return (found == wanted) == (self.operator == "eq")
        return found is not None and HOW[self.operator](found, wanted)


HOW: dict[str, Callable[[Any, Any], bool]] = {
    "ge": lambda found, wanted: found >= wanted,
    "gt": lambda found, wanted: found > wanted,
    "le": lambda found, wanted: found <= wanted,
    "lt": lambda found, wanted: found < wanted,
    "startswith": lambda found, wanted: found.startswith(wanted),
    "endswith": lambda found, wanted: found.endswith(wanted),
    "contains": lambda found, wanted: wanted in found,
}


def _reach(record: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  a property is anything
    value: Any = record
    for name in path.split("/"):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def parse(text: str, *, deaf_to_or: bool = False) -> list[Clause]:
    """The clauses of a $filter. `deaf_to_or` is for a service that ignores whatever follows an `or`."""
    reader = _Reader(text)
    clauses = [reader.opened()]
    known = True
    while (word := reader.next()) is not None:
        if word == ("mark", ")"):
            reader.close()
            continue
        if word[1] == "or" and deaf_to_or:
            known = False
        elif word[1] != "and":
            raise Unsupported(word[1])
        clause = reader.opened()
        if known:
            clauses.append(clause)
    reader.end()
    return clauses


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(text.rstrip()):
            found = TOKEN.match(text, place)
            if found is None or found.lastgroup is None:
                raise Unreadable(f"Syntax error at position {place} in '{text}'.")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            place = found.end()
        self.place = 0
        self.depth = 0  # parentheses around clauses, which change nothing among those joined by `and`

    def next(self) -> tuple[str, str] | None:
        self.place += 1
        return self.tokens[self.place - 1] if self.place <= len(self.tokens) else None

    def need(self, kind: str, text: str | None = None) -> str:
        token = self.next()
        if token is None or token[0] != kind or text not in {None, token[1]}:
            raise Unreadable(f"Syntax error: {text or kind} expected at token {self.place}.")
        return token[1]

    def opened(self) -> Clause:
        """A clause, perhaps the first in parentheses."""
        while self.tokens[self.place : self.place + 1] == [("mark", "(")]:
            self.place += 1
            self.depth += 1
        return self.clause()

    def close(self) -> None:
        self.depth -= 1
        if self.depth < 0:
            raise Unreadable(f"Syntax error: ')' at token {self.place}.")

    def end(self) -> None:
        if self.depth:
            raise Unreadable("Syntax error: ')' expected.")

    def clause(self) -> Clause:
        word = self.need("word")
        if word == "not":
            raise Unsupported("not")
        if word.lower() in FUNCTIONS:
            return self._function(word.lower())
        if word.endswith("/any"):
            return self._any(word.removesuffix("/any"))
        return self._comparison(word)

    def _comparison(self, name: str) -> Clause:
        operator = self.need("word")
        if operator not in COMPARISONS:
            raise Unreadable(f"Syntax error: '{operator}' is no operator.")
        kind, value = self._value()
        return Clause(name, operator, value, kind)

    def _function(self, name: str) -> Clause:
        self.need("mark", "(")
        field = self.need("word")
        self.need("mark", ",")
        kind, value = self._value()
        self.need("mark", ")")
        return Clause(field, name, value, kind)

    def _any(self, field: str) -> Clause:
        """field/any(x:x eq 'v') or field/any(x:startswith(x,'v'))."""
        self.need("mark", "(")
        self.need("word")
        self.need("mark", ":")
        inner = self.clause()
        self.need("mark", ")")
        return Clause(field, inner.operator, inner.value, inner.kind, each=True)

    def _value(self) -> tuple[str, Value]:
        token = self.next()
        match token:
            case ("text", text):
                return "text", text[1:-1].replace("''", "'")
            case ("time", text):
                return "time", read_stamp(text)
            case ("number", text):
                return "number", int(text)
            case ("word", "true" | "false" as text):
                return "boolean", text == "true"
            case ("word", "null"):
                return "null", None
        raise Unreadable(f"Syntax error: a value is expected at token {self.place}.")


def orders(text: str) -> list[tuple[str, bool]]:
    """$orderby as (property, descending)."""
    found = []
    for part in text.split(","):
        name, _, direction = part.strip().partition(" ")
        if direction.strip() not in {"", "asc", "desc"}:
            raise Unreadable(f"Syntax error in $orderby: '{part}'.")
        found.append((name, direction.strip() == "desc"))
    return found


def ordered(records: Iterable[Any], wanted: Sequence[tuple[str, bool]], get: Callable[[Any], Mapping[str, Any]]) -> list[Any]:
    found = list(records)
    for name, descending in reversed(wanted):
        found.sort(key=lambda record, name=name: str(_reach(get(record), name) or "").casefold(), reverse=descending)
    return found


def token(value: object) -> str:
    """A $skiptoken: nothing that a client should look into."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def read_token(text: str) -> Any:  # noqa: ANN401  what `token` was given
    """ValueError for what is none of ours."""
    try:
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, UnicodeDecodeError) as wrong:
        raise ValueError("no token of ours") from wrong
