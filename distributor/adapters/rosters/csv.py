"""Reads people from a CSV file, row by row; detects delimiter, encoding and columns. A row that cannot be used is an Issue."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, Reason, text_lines
from distributor.model.csv_table import (
    Columns,
    HeaderError,
    Rows,
    addresses_in,
    describe_cell,
    quotable_address,
    without_address,
)
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import BadAddress, Person, RosterRow, escape_unsafe, parse_address
from distributor.model.secret import Secret
from distributor.model.text_encoding import UNUSUAL, is_broken

_TAG = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{1,8})*")  # a language tag
LONGEST_TAG = 3  # letters of a language's code alone


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
            with text_lines(self._path) as (lines, encoding):
                if encoding in UNUSUAL:
                    message = f"the list is read as {UNUSUAL[encoding]}"
                    yield self._note(CheckId.BAD_ENCODING, message, "if names look wrong, save it as UTF-8")
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
        for used, others in columns.choices():
            names = " and ".join(f'"{name}"' for name in others)
            yield self._note(CheckId.COLUMNS, f'the column "{used}" is used, not {names}', "remove a column to use another", rows.line)
        without, may_lack = 0, columns.of_a_directory
        for line, cells in rows:
            if may_lack and not isinstance(cells, str) and any(cells) and columns.is_empty("email", cells):
                without += 1
            elif isinstance(cells, str):
                yield self._issue(
                    CheckId.BAD_ROW, line, f"the row is not valid CSV: {cells}", "correct the row; inside quotes, write a quote twice"
                )
            elif any(cell.strip() for cell in cells):
                yield self._person(columns, line, cells)
        if without:
            message = f"accounts without a mail address: {without}; skipped"
            yield self._note(CheckId.NO_MAILBOX, message, "add an address for each account that belongs to a person")

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
            language=_language(row.get("language", "")),
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

    def _note(self, check: CheckId, message: str, hint: str, line: int | None = None) -> Issue:
        return Issue(Severity.NOTE, check, message, hint, self._path.name, line)

    def _issue(self, check: CheckId, line: int, message: str, hint: str, address: str | None = None) -> Issue:
        return Issue(Severity.ERROR, check, message, hint, self._path.name, line, address)


def _row_fault(columns: Columns, cells: list[str]) -> tuple[CheckId, str, str] | None:
    if any("\0" in cell for cell in cells):
        return CheckId.BAD_ROW, "the row contains a NUL byte", "retype the row, or save the list as CSV again"
    if any(is_broken(cell) for cell in cells):
        return CheckId.BAD_ENCODING, "the row has characters that are invalid in the file's encoding", "save the list as UTF-8"
    if conflict := columns.conflict(cells):
        names = " and ".join(f'"{escape_unsafe(" ".join(name.split()))}"' for name in conflict)
        return (
            CheckId.BAD_ROW,
            f"the columns {names} mean the same but have different values",
            "correct the row, or remove all but one of the columns",
        )
    if any(cell.strip() for cell in cells[len(columns.names) :]):
        return (
            CheckId.BAD_ROW,
            f"the row has {len(cells)} cells, the header {len(columns.names)}",
            "put cells that contain the delimiter in quotes",
        )
    return None


def _bad_address(columns: Columns, cells: list[str], fault: BadAddress) -> tuple[str, str, str | None]:
    """Message, hint and address of the issue. A cell that may be something else than an address is not quoted: it may be a secret."""
    place = columns.fields["email"][0]
    cell = cells[place].strip() if place < len(cells) else ""
    others = [other for number, other in enumerate(cells) if number != place]
    if not cell:
        return fault.reason, fault.hint, None
    if quotable_address(cell, others):
        return escape_unsafe(fault.reason), fault.hint, escape_unsafe(cell)
    message = f'column "{escape_unsafe(columns.names[place].strip())}" {describe_cell(cell)} is not a single mail address'
    return message, fault.hint, ", ".join(addresses_in(cell, others)) or None


def _address(columns: Columns, cells: list[str]) -> str | None:
    """The address of a row that cannot be used, if it has a good one."""
    found = parse_address(columns.read(cells).get("email", ""))
    return None if isinstance(found, BadAddress) else str(found)


def _language(text: str) -> str:
    """The tag of a language: "de" for "de", "German", "Deutsch" or "Allemand", "de-CH" for "de_CH"; empty where it is none."""
    if _TAG.fullmatch(text) and (len(text) <= LONGEST_TAG or "-" in text or "_" in text):
        return text.replace("_", "-")
    return _language_names().get(text.casefold(), "") if text else ""


@lru_cache(maxsize=1)
def _language_names() -> Mapping[str, str]:
    """What languages are called by themselves and in the languages of the packaged messages."""
    from babel import Locale, localedata  # noqa: PLC0415  few lists name languages so, and it takes a moment

    plain = [tag for tag in localedata.locale_identifiers() if len(tag) <= LONGEST_TAG]
    own = {name.casefold(): tag for tag in plain if (name := Locale(tag).get_language_name(tag))}
    foreign = {
        name.casefold(): tag for known in ("it", "es", "fr", "de", "en") for tag, name in Locale(known).languages.items() if tag in plain
    }
    return foreign | own


def _name(row: Mapping[str, str]) -> str:
    parts = (row.get("first_name", ""), row.get("last_name", ""))
    return " ".join((row.get("name") or " ".join(part for part in parts if part)).split())
