"""The ledger's events -> a file for an auditor (JSON Lines or CSV), and such a file -> what is wrong with it. Streams both ways.

A file is checked by itself: every hash, every commitment, every step of every delivery. That its end was not cut off shows only beside the
ledger: so a check says how far it got.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain as joined
from typing import Any, NamedTuple

from distributor.core.chain import Link, Walk, canonical, stamp
from distributor.core.events import Record
from distributor.core.people import printable
from distributor.core.proof import Proof

FIELDS = ("seq", "at", "delivery", "event", "from", "to", "by", "evidence", "personal", "salt", "commitment", "prev", "hash")
MOST = 1000  # findings
LONGEST = 300  # characters of one; a forged file chooses what it is called
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)  # the last four: full-width forms, which some programs read alike
_DOCUMENTS = ("evidence", "personal")


def export(records: Iterable[Record], form: str, write: Callable[[str], object]) -> int:
    """Write every record as a line of `form` ("jsonl" or "csv"); how many events."""
    number = 0
    if form == "csv":
        write(_csv_line(FIELDS))
    for record in records:
        write(_csv_line(_cells(_values(record))) if form == "csv" else json.dumps(_values(record), ensure_ascii=False) + "\n")
        number += 1
    return number


def _values(record: Record) -> dict[str, Any]:
    event = record.event
    told = (event.seq, stamp(event.at), event.delivery, event.event, event.before, event.after, event.by, dict(event.evidence))
    personal = None if record.personal is None else list(record.personal)
    return dict(zip(FIELDS, (*told, personal, record.salt, record.commitment, record.prev, record.hash), strict=True))


def _cells(values: Mapping[str, Any]) -> list[str]:
    return [_cell(canonical(value) if name in _DOCUMENTS else value) for name, value in values.items()]


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe stands before it, and before a text that has one already."""
    text = "" if value is None else str(value)
    dangerous = text.startswith(("'", *_FORMULA)) or text.lstrip().startswith(_FORMULA)
    return f"'{text}" if dangerous else text


def _csv_line(cells: Iterable[str]) -> str:
    quoted = ('"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell for cell in cells)
    return ",".join(quoted) + "\r\n"


class _Line(NamedTuple):
    number: int
    values: Mapping[str, Any]


class _Unreadable(NamedTuple):
    number: int
    reason: str


def prove_export(lines: Iterable[str]) -> Proof:
    """What is wrong with an exported file, JSON Lines or CSV, and how far its chain goes."""
    walk, erased = Walk(), 0
    findings: list[str] = []
    for line in _read(lines):
        findings += [printable(finding[:LONGEST]) for finding in _check(walk, line)]
        erased += _is_erased(line)
        if len(findings) >= MOST:
            break
    if not walk.seq and not findings:
        findings = ["the file holds no event"]
    return Proof(tuple(findings[:MOST]), walk.seq, walk.at, walk.hash, erased, walk.back)


def _is_erased(line: _Line | _Unreadable) -> bool:
    return isinstance(line, _Line) and line.values.get("salt") is None and bool(line.values.get("commitment"))


def _read(lines: Iterable[str]) -> Iterator[_Line | _Unreadable]:
    rest = iter(lines)
    first = next(rest, "").removeprefix("\ufeff")
    whole = joined([first], rest)
    return _read_json(whole) if first.lstrip().startswith("{") else _read_csv(whole)


def _read_json(lines: Iterable[str]) -> Iterator[_Line | _Unreadable]:
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            yield _Unreadable(number, f"is not JSON ({error})")
            continue
        yield _Line(number, values) if isinstance(values, dict) else _Unreadable(number, "is not a JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose names stands twice: readers disagree about which of the two counts."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _read_csv(lines: Iterable[str]) -> Iterator[_Line | _Unreadable]:
    rows = csv.reader(lines, strict=True)
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            if number == 1:
                if tuple(row) != FIELDS:
                    yield _Unreadable(number, "is not the header of an export")
                    return
                continue
            yield _from_row(number, row)
    except csv.Error as error:
        yield _Unreadable(number + 1, f"is not CSV ({error})")


def _from_row(number: int, row: list[str]) -> _Line | _Unreadable:
    if len(row) != len(FIELDS):
        return _Unreadable(number, f"has {len(row)} cells instead of {len(FIELDS)}")
    values: dict[str, Any] = {name: cell.removeprefix("'") or None for name, cell in zip(FIELDS, row, strict=True)}
    try:
        values |= {name: json.loads(values[name] or "", object_pairs_hook=_once) for name in _DOCUMENTS}
        values["seq"] = int(values["seq"] or "")
    except (ValueError, RecursionError):
        return _Unreadable(number, "holds a cell that cannot be read")
    return _Line(number, {**values, "commitment": values["commitment"] or "", "by": values["by"] or ""})


def _check(walk: Walk, line: _Line | _Unreadable) -> Iterator[str]:
    if isinstance(line, _Unreadable):
        yield f"line {line.number}: {line.reason}"
        return
    link = _link(line.values)
    if isinstance(link, str):
        yield f"line {line.number}: {link}"
        return
    if line.values["prev"] != walk.hash:
        yield f"event {link.seq}: does not name the hash of the event before it"
    yield from walk.step(link)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 < value < 2**63


def _link(values: Mapping[str, Any]) -> Link | str:
    """The event as it was hashed, or what keeps the line from being one."""
    if set(values) != set(FIELDS):
        return f"has other fields than an export: {', '.join(sorted(set(values) ^ set(FIELDS)))[:200]}"
    evidence, names = values["evidence"], values["personal"]
    if not isinstance(evidence, dict) or not (
        names is None or (isinstance(names, list) and all(isinstance(name, str) and name in evidence for name in names))
    ):
        return "names personal fields that its evidence lacks"
    words = all(isinstance(values[name], str) for name in ("at", "event", "by", "commitment", "hash"))
    if not words or not _is_number(values["seq"]) or not all(isinstance(values[n], str | None) for n in ("delivery", "from", "to", "salt")):
        return "holds a field of the wrong type"
    personal = {name: evidence[name] for name in names or ()}
    public = {name: value for name, value in evidence.items() if name not in personal}
    told = (values["delivery"], values["event"], values["from"], values["to"], values["by"])
    try:
        hashed, opened = canonical(public), canonical(personal) if personal else None
    except (ValueError, RecursionError):
        return "holds evidence that no ledger writes"
    return Link(values["seq"], values["at"], *told, hashed, opened, values["salt"], values["commitment"], values["hash"])
