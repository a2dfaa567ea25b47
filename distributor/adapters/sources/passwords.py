"""Collects the passwords to try on a file, the likeliest first: from rows, lists, and files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from distributor.adapters.sources.reader import Entry, Reader, ReadFault
from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, Reason, Unsafe, inside, steps, text_lines
from distributor.model.csv_table import Columns, HeaderError, Rows
from distributor.model.people import Address, Person, RosterRow, parse_address
from distributor.model.secret import Secret
from distributor.model.text_encoding import decode

EXTENSIONS = (".txt", ".pass", ".pwd")
_FEW = 500  # passwords by address that may all be tried on a file of unknown owner: 0.4 s for a PFX of today
LARGEST_LIST = 64 * 2**20  # bytes; all of its passwords are kept in memory
_READABLE = "name a readable file with --passwords"
_HINTS = {
    Reason.LARGE: "split the list, or use a folder with one .txt per file",
    Reason.SPECIAL: "name a CSV file or a folder with --passwords",
}
_HINT = "a list needs the columns file,password or email,password; a folder needs one .txt per file, with the same name"


class Passwords:
    """The passwords that came with the files."""

    def __init__(self, place: Path | None, reader: Reader) -> None:
        self._reader = reader
        self._by_name: dict[str, Secret] = {}
        self._by_address: dict[str, Secret] = {}
        self._folder: str | None = None
        self.unread: dict[str, ReadFault] = {}  # password files that could not be read, by name, since the caller last cleared this
        if place is None:
            return
        if place.is_dir():
            self._folder = os.path.abspath(place)
        else:
            self._list(place)

    def likely(self, entry: Entry, person: Person | None, hints: Iterable[RosterRow], base: str | None) -> tuple[Secret, ...]:
        """The passwords to try: the row's, the list's, those beside the file, the person's; last everybody's if they are few."""
        found = list(self._candidates(entry, person, hints, base))
        stripped = [Secret(secret.reveal().strip()) for secret in found if secret.reveal() != secret.reveal().strip()]
        return tuple(dict.fromkeys(found + stripped))  # blanks around a password are rarely intended

    def _candidates(self, entry: Entry, person: Person | None, hints: Iterable[RosterRow], base: str | None) -> Iterator[Secret]:
        for hint in hints:
            if hint.password is not None:
                yield hint.password
            for place in self._places(hint.password_file, entry, base):
                yield from self._read(place)
        in_archive = (f"{os.path.basename(entry.path)}/{entry.base}", entry.within) if entry.member is not None else ()
        for name in (entry.source, *in_archive, entry.base, entry.stem):
            if (secret := self._by_name.get(name.casefold())) is not None:
                yield secret
        yield from self._beside(entry)
        if person is not None and person.address.key in self._by_address:
            yield self._by_address[person.address.key]
        yield from self._by_hint(entry.stem.casefold())
        if len(self._by_address) <= _FEW:
            yield from self._by_address.values()

    def learn(self, person: Person, hint: RosterRow, base: str | None) -> None:
        """Add the password of a row that names no file."""
        if hint.file:
            return
        files = (secret for place in self._places(hint.password_file, None, base) for secret in self._read(place))
        if (secret := hint.password or next(files, None)) is not None:
            self._by_address.setdefault(person.address.key, secret)

    def has(self, name: str, entry: Entry | None, base: str | None) -> bool:
        """Whether the password file that a row names exists; `entry`: the file it is for. Raises Unsafe."""
        _below(base, name)
        return any(map(self._reader.is_there, self._places(name, entry, base)))

    def _places(self, name: str, entry: Entry | None, base: str | None) -> Iterator[Entry]:
        """Where a row's password file may be: below the roster, in the folder of passwords, or beside the file."""
        if not name:
            return
        try:
            path = _below(base, name)
        except Unsafe:
            return
        if path is not None:
            yield Entry(path)
        yield from self._around(os.path.basename(name.strip().replace("\\", "/")), entry)

    def _beside(self, entry: Entry) -> Iterator[Secret]:
        for extension in EXTENSIONS:
            for place in self._around(entry.stem + extension, entry):
                yield from self._read(place)

    def _around(self, name: str, entry: Entry | None) -> Iterator[Entry]:
        """A name in the folder of passwords, and beside a file."""
        if self._folder is not None:
            yield Entry(os.path.join(self._folder, name))
        if entry is not None and entry.member is not None:
            yield Entry(entry.path, entry.member.removesuffix(entry.base) + name)
        elif entry is not None:
            yield Entry(os.path.join(os.path.dirname(entry.path), name))

    def _by_hint(self, stem: str) -> Iterator[Secret]:
        """Passwords of the address in a file's name: NoSpamProxy writes `mail-THUMBPRINT.p12`, others the address or its local part."""
        key = stem if stem in self._by_address else stem.rpartition("-")[0]
        if key in self._by_address:
            yield self._by_address[key]
        elif stem and "@" not in stem and len(self._by_address) > _FEW:
            yield from (secret for address, secret in self._by_address.items() if address.partition("@")[0] == stem)

    def _read(self, entry: Entry) -> Iterator[Secret]:
        if not self._reader.is_there(entry):
            return
        try:
            text = decode(self._reader.read(entry))
        except ReadFault as fault:
            self.unread[entry.source] = fault
            return
        first = next(iter(text.splitlines()), "")
        if first:
            yield Secret(first)

    def _list(self, place: Path) -> None:
        try:
            with text_lines(place, LARGEST_LIST) as (lines, _):
                self._rows(Rows(lines), place.name)
        except FileRefused as refused:
            raise InvalidInput(refused.message, where=str(place), hint=_HINTS.get(refused.reason, _READABLE)) from None

    def _rows(self, rows: Rows, name: str) -> None:
        columns = rows.columns()
        if (
            isinstance(columns, HeaderError)
            or "password" not in columns.fields
            or not {"file", "certificate", "email"} & set(columns.fields)
        ):
            raise InvalidInput("the password list lacks the columns it needs", where=f"{name} line {max(1, rows.line)}", hint=_HINT)
        for line, cells in rows:
            if isinstance(cells, str):
                raise InvalidInput(
                    f"the row is not valid CSV: {cells}", where=f"{name} line {line}", hint="inside quotes, write a quote twice"
                )
            self._keep(columns, cells)

    def _keep(self, columns: Columns, cells: list[str]) -> None:
        row = columns.read(cells)
        if not (password := row.get("password", "").rstrip("\r\n")):
            return
        if file := row.get("file") or row.get("certificate"):
            for name in (file.replace("\\", "/"), os.path.basename(file.replace("\\", "/"))):
                self._by_name.setdefault(name.casefold(), Secret(password))
        match parse_address(row.get("email", "")):
            case Address() as address:
                self._by_address.setdefault(address.key, Secret(password))


def _below(base: str | None, name: str) -> str | None:
    """The path of a password file in the roster's folder. Raises Unsafe where it is outside, or it or a folder on the way is a link."""
    path = inside(base, name)
    if path is not None and os.path.lexists(path):
        for _ in steps(base, path):
            pass
    return path
