"""Exports the ledger's events for an auditor (JSON Lines or CSV), and verifies such a file. Streams both ways.

A file is verified by itself: every hash, every commitment, every state transition. Whether its end was cut off shows only beside the
ledger: so a verification says how far the chain goes.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain as joined
from typing import Any, NamedTuple

from distributor.model.audit_log import (
    MOST_FINDINGS,
    ORIGIN,
    AuditRecord,
    ChainObserver,
    ChainVerifier,
    Link,
    VerificationReport,
    canonical,
    format_timestamp,
)
from distributor.model.people import escape_unsafe, neutralise_formula

FIELDS = ("seq", "at", "delivery", "event", "from", "to", "by", "evidence", "personal", "salt", "commitment", "prev", "hash")
LONGEST_LINE = 2**22  # characters; an event has a few thousand
_TOO_LONG = "longer than any event"
LONGEST = 300  # characters of one; a forged file chooses what it is called
_DOCUMENTS = ("evidence", "personal")
_encode = json.JSONEncoder(ensure_ascii=False).encode
_needs_quotes = re.compile(r'[,"\r\n]').search


def export(records: Iterable[AuditRecord], form: str, write: Callable[[str], object]) -> int:
    """Write every record as a line of `form` ("jsonl" or "csv"); how many events."""
    number = 0
    if form == "csv":
        write(_csv_line(FIELDS))
    for record in records:
        write(_csv_line(_cells(_values(record))) if form == "csv" else _encode(_values(record)) + "\n")
        number += 1
    return number


def export_links(links: Iterable[Link], form: str, write: Callable[[str], object]) -> int:
    """Write every event of a chain, from its first one, as `export` does: what is stored as canonical JSON is not read and written anew."""
    number, prev = 0, ORIGIN
    if form == "csv":
        write(_csv_line(FIELDS))
    for link in links:
        names = list(json.loads(link.personal)) if link.personal else None if link.commitment else []
        evidence = _merged(link)
        values = (link.seq, link.at, link.delivery, link.event, link.before, link.after, link.by)
        proof = (link.salt, link.commitment, prev, link.hash)
        if form == "csv":
            write(_csv_line(map(_cell, (*values, evidence, canonical(names), *proof))))
        else:
            opening = _encode(dict(zip(FIELDS, values, strict=False)))
            closing = _encode(dict(zip(FIELDS[-len(proof) :], proof, strict=True)))
            write(f'{opening[:-1]}, "evidence": {evidence}, "personal": {_encode(names)}, {closing[1:]}\n')
        number += 1
        prev = link.hash
    return number


def _merged(link: Link) -> str:
    """The evidence with the personal fields in it."""
    if not link.personal:
        return link.evidence
    personal = json.loads(link.personal)
    if link.evidence == "{}" or any(f"{_encode(name)}:" in link.evidence for name in personal):
        return canonical(json.loads(link.evidence) | personal)
    return f"{link.evidence[:-1]},{link.personal[1:]}"


def _values(record: AuditRecord) -> dict[str, Any]:
    event = record.event
    return {  # in the order of FIELDS
        "seq": event.seq,
        "at": format_timestamp(event.at),
        "delivery": event.delivery,
        "event": event.event,
        "from": event.before,
        "to": event.after,
        "by": event.by,
        "evidence": dict(event.evidence),
        "personal": record.personal,
        "salt": record.salt,
        "commitment": record.commitment,
        "prev": record.prev,
        "hash": record.hash,
    }


def _cells(values: Mapping[str, Any]) -> list[str]:
    return [_cell(canonical(value) if name in _DOCUMENTS else value) for name, value in values.items()]


def _cell(value: object) -> str:
    return "" if value is None else neutralise_formula(str(value))


def _csv_line(cells: Iterable[str]) -> str:
    return ",".join(['"' + cell.replace('"', '""') + '"' if _needs_quotes(cell) else cell for cell in cells]) + "\r\n"


class _Line(NamedTuple):
    number: int
    values: Mapping[str, Any]


class _Unreadable(NamedTuple):
    number: int
    reason: str


def prove_export(lines: Iterable[str], observers: Sequence[ChainObserver] = ()) -> VerificationReport:
    """Verify an exported file, JSON Lines or CSV, with observers of its events: an earlier export, checkpoints."""
    verifier, erased = ChainVerifier(), 0
    findings: list[str] = []
    for found in _followed(verifier, lines):
        if isinstance(found, str):
            findings.append(found)
        else:
            erased += found.salt is None and bool(found.commitment)
            for observer in observers:
                findings += observer.step(found)
        if len(findings) >= MOST_FINDINGS:
            break
    else:
        for observer in observers:
            findings += observer.end(verifier.seq)
    return VerificationReport(tuple(findings[:MOST_FINDINGS]), verifier.seq, verifier.at, verifier.hash, erased, verifier.back)


def earlier(lines: Iterable[str]) -> Iterator[Link | str]:
    """The events of an exported file; the findings about it are texts between them."""
    return _followed(ChainVerifier(), lines)


def _followed(verifier: ChainVerifier, lines: Iterable[str]) -> Iterator[Link | str]:
    line = None
    for line in _read(lines):
        link = line.reason if isinstance(line, _Unreadable) else _link(line.values)
        if isinstance(link, str):
            yield _cut(f"line {line.number}: {link}")
            continue
        if isinstance(line, _Line) and line.values["prev"] != verifier.hash:
            yield f"event {link.seq}: does not contain the hash of the previous event"
        yield from map(_cut, verifier.verify_link(link))
        yield link
    yield from verifier.end()
    if line is None:
        yield "the file has no events"


def _cut(finding: str) -> str:
    return escape_unsafe(finding[:LONGEST])


def _read(lines: Iterable[str]) -> Iterator[_Line | _Unreadable]:
    rest = iter(lines)
    first = next(rest, "").removeprefix("\ufeff")
    whole = joined([first], rest)
    return _read_json(whole) if first.lstrip().startswith("{") else _read_csv(whole)


def _read_json(lines: Iterable[str]) -> Iterator[_Line | _Unreadable]:
    for number, line in enumerate(lines, 1):
        if len(line) >= LONGEST_LINE:
            yield _Unreadable(number, _TOO_LONG)
            return
        try:
            values = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            yield _Unreadable(number, _json_fault(error))
            continue
        yield _Line(number, values) if isinstance(values, dict) else _Unreadable(number, "is not a JSON object")


def _json_fault(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON (column {error.colno})" if error.doc.strip() else "is empty"
    return (
        f"is not JSON ({error})"
        if isinstance(error, _TwiceError)
        else "is not JSON that an export has (a number is too large, or it is nested too deeply)"
    )


class _TwiceError(ValueError):
    """A name that stands twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose names stands twice: readers disagree about which of the two counts."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise _TwiceError("duplicate name")
    return dict(pairs)


class _Counted:
    """Lines that csv.reader takes; a row may go over several, but not without end."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.taken = 0  # characters of the row that is being read
        self._lines = iter(lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += len(line)
        if self.taken >= LONGEST_LINE:
            raise csv.Error(_TOO_LONG)
        return line


def _read_csv(lines: Iterable[str]) -> Iterator[_Line | _Unreadable]:
    counted = _Counted(lines)
    rows = csv.reader(counted, strict=True)
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            counted.taken = 0
            if number == 1:
                if tuple(row) != FIELDS:
                    yield _Unreadable(number, "is not the header of an audit log export")
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
        return _Unreadable(number, "has a cell that cannot be read")
    return _Line(number, {**values, "commitment": values["commitment"] or "", "by": values["by"] or ""})


def _are_names(names: list[object], evidence: Mapping[str, object]) -> bool:
    return all(isinstance(name, str) and name in evidence for name in names) and len(set(names)) == len(names)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 < value < 2**63


def _link(values: Mapping[str, Any]) -> Link | str:
    """The event as it was hashed, or why the line is no event."""
    if set(values) != set(FIELDS):
        return f"has different fields than an export: {', '.join(sorted(set(values) ^ set(FIELDS)))[:200]}"
    evidence, names = values["evidence"], values["personal"]
    if not isinstance(evidence, dict) or not (names is None or (isinstance(names, list) and _are_names(names, evidence))):
        return "lists personal fields that its evidence lacks"
    words = all(isinstance(values[name], str) for name in ("at", "event", "by", "commitment", "hash"))
    if not words or not _is_number(values["seq"]) or not all(isinstance(values[n], str | None) for n in ("delivery", "from", "to", "salt")):
        return "has a field of the wrong type"
    personal = {name: evidence[name] for name in names or ()}
    public = {name: value for name, value in evidence.items() if name not in personal}
    columns = (values["delivery"], values["event"], values["from"], values["to"], values["by"])
    try:
        hashed, opened = canonical(public), canonical(personal) if personal else None
    except (ValueError, RecursionError):
        return "has evidence that distributor does not write"
    return Link(values["seq"], values["at"], *columns, hashed, opened, values["salt"], values["commitment"], values["hash"])
