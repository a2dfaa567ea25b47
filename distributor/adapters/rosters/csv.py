"""Reads people from a CSV file, row by row; detects delimiter, encoding and columns. A row that cannot be used is an Issue."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, Reason, text_lines
from distributor.model.csv_table import (
    Columns,
    HeaderError,
    Rows,
    addresses_in,
    describe_cell,
    is_broken,
    quotable_address,
    without_address,
)
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import BadAddress, Person, RosterRow, escape_unsafe, parse_address
from distributor.model.secret import Secret

_TAG = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{1,8})*")  # a language tag; anything else is dropped


@dataclass(frozen=True, slots=True)
class Settings:
    """The file, and which extra columns to keep: `keep` is called only where there are some; None: all."""

    path: Path
    keep: Callable[[], Collection[str]] | None = None


def open(settings: Settings) -> CsvRoster:  # noqa: A001  every adapter has this name
    """The roster; the file is read when its people are asked for."""
    return CsvRoster(settings.path, settings.keep)


class CsvRoster:
    """People in a CSV file."""

    def __init__(self, path: Path, keep: Callable[[], Collection[str]] | None) -> None:
        self._path, self._keep = path, keep

    def people(self) -> Iterator[Person | Issue]:
        """Every person, or the issue of the row. Raises InvalidInput when the file cannot be used at all."""
        try:
            with text_lines(self._path) as lines:
                yield from self._people(Rows(lines))
        except FileRefused as refused:
            hint = "split the list" if refused.reason is Reason.LARGE else "name a readable CSV file with --roster"
            raise InvalidInput(refused.message, where=str(self._path), hint=hint) from None

    def _people(self, rows: Rows) -> Iterator[Person | Issue]:
        columns = rows.columns()
        if isinstance(columns, Columns) and "email" not in columns.fields:
            columns = without_address(columns)
        if isinstance(columns, HeaderError):
            raise InvalidInput(columns.message, where=f"{self._path.name} line {max(1, rows.line)}", hint=columns.hint)
        if self._keep is not None and columns.others:
            columns = columns.only(self._keep())
        for line, cells in rows:
            if isinstance(cells, str):
                yield self._issue(
                    CheckId.BAD_ROW, line, f"the row is no CSV: {cells}", "correct it; a quote inside quotes is written twice"
                )
            elif any(cell.strip() for cell in cells):
                yield self._person(columns, line, cells)

    def _person(self, columns: Columns, line: int, cells: list[str]) -> Person | Issue:
        if (fault := _row_fault(columns, cells)) is not None:
            return self._issue(*fault[:1], line, *fault[1:], _address(columns, cells))
        row = columns.read(cells)
        text = row.get("email", "")
        match parse_address(text):
            case BadAddress() as bad:
                return self._issue(CheckId.BAD_ADDRESS, line, *_bad_address(columns, cells, bad))
            case address:
                pass
        return Person(
            address=address,
            name=_name(row),
            language=language if _TAG.fullmatch(language := row.get("language", "")) else "",
            phone=row.get("phone", ""),
            manager=row.get("manager", ""),
            alternate_email=row.get("alternate_email", ""),
            columns=columns.extra_columns(cells),
            hint=self._hint(row, line),
        )

    def _hint(self, row: Mapping[str, str], line: int) -> RosterRow:
        file, certificate, key = row.get("file", ""), row.get("certificate", ""), row.get("key", "")
        password = row.get("password", "")
        return RosterRow(
            source=self._path.name,
            line=line,
            file=(certificate or file) if key else (file or certificate),
            key=key,
            password=Secret(password) if password else None,
            password_file=row.get("password_file", ""),
        )

    def _issue(self, check: CheckId, line: int, message: str, hint: str, address: str | None = None) -> Issue:
        return Issue(Severity.ERROR, check, message, hint, self._path.name, line, address)


def _row_fault(columns: Columns, cells: list[str]) -> tuple[CheckId, str, str] | None:
    if any("\0" in cell for cell in cells):
        return CheckId.BAD_ROW, "the row holds a NUL byte", "type the row again, or save the list anew as CSV"
    if any(is_broken(cell) for cell in cells):
        return CheckId.BAD_ENCODING, "the row holds characters that are not in the encoding of the file", "save the list as UTF-8"
    if any(cells[len(columns.names) :]):
        return CheckId.BAD_ROW, f"the row has {len(cells)} cells, the header {len(columns.names)}", "quote cells that hold the delimiter"
    return None


def _bad_address(columns: Columns, cells: list[str], fault: BadAddress) -> tuple[str, str, str | None]:
    """Message, hint and address of the issue. A cell that may be something else than an address is not quoted: it may be a secret."""
    place = columns.fields["email"]
    cell = cells[place].strip() if place < len(cells) else ""
    others = [other for number, other in enumerate(cells) if number != place]
    if not cell:
        return fault.reason, fault.hint, None
    if quotable_address(cell, others):
        return escape_unsafe(fault.reason), fault.hint, escape_unsafe(cell)
    message = f'column "{escape_unsafe(columns.names[place].strip())}" {describe_cell(cell)} is not one mail address'
    return message, fault.hint, ", ".join(addresses_in(cell, others)) or None


def _address(columns: Columns, cells: list[str]) -> str | None:
    """The address of a row that cannot be used, if it has a good one."""
    found = parse_address(columns.read(cells).get("email", ""))
    return None if isinstance(found, BadAddress) else str(found)


def _name(row: Mapping[str, str]) -> str:
    parts = (row.get("first_name", ""), row.get("last_name", ""))
    return " ".join((row.get("name") or " ".join(part for part in parts if part)).split())
