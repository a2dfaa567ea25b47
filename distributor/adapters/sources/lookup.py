"""Finds the files that a roster's row names: relative to the roster, by name among the sources, or as `archive.zip/member`."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator

from distributor.adapters.sources import reader
from distributor.adapters.sources.inventory import Inventory
from distributor.adapters.sources.passwords import Passwords
from distributor.adapters.sources.reader import Entry, Reader
from distributor.files.reader import Unsafe, inside, steps
from distributor.model.csv_table import name_cell
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Person, RosterRow, escape_unsafe

_DRIVE = re.compile(r"[A-Za-z]:/|//")


class Names:
    """Looks up the names of rows."""

    def __init__(self, base: str | None, inventory: Inventory, reader: Reader, secrets: Passwords) -> None:
        self._base = base
        self._secrets = secrets
        self._inventory = inventory
        self._reader = reader
        self._unlisted = Inventory(reader)  # archives that rows name and that are not among the sources
        self._opened: set[str] = set()
        self.refused: set[Entry] = set()  # files of rows that are refused for another reason
        self.passwords: set[str] = set()  # password files that rows name, with and without extension

    def look_up(self, hint: RosterRow, person: Person) -> list[Entry] | Issue:
        """The files of a row: none when it names none, one, or a certificate and its key."""
        names = [name for name in (hint.file, hint.key) if name]
        found: list[Entry | None] = []
        try:
            found += map(self._entry, names)
            missing_password = self._password_file_missing(hint, found[0] if found else None)
        except Unsafe as unsafe:
            self.refused.update(filter(None, found))
            hint_text = "give a path in or below the roster's folder, or the name of a file in the sources"
            return _issue(CheckId.UNSAFE_PATH, str(unsafe), hint_text, hint, person)
        entries = [entry for entry in found if entry is not None]
        if missing := [name for name, entry in zip(names, found, strict=True) if entry is None]:
            return _absent(CheckId.NO_CERTIFICATE, "file", missing[0], hint, person)
        if missing_password:
            self.refused.update(entries)
            return _absent(CheckId.WRONG_PASSWORD, "password file", hint.password_file, hint, person)
        return self._with_partner(entries) if len(entries) == 1 and hint.file else entries

    def _password_file_missing(self, hint: RosterRow, entry: Entry | None) -> bool:
        """Whether a row names a password file that is missing."""
        if not hint.password_file:
            return False
        base = posixpath.basename(hint.password_file.strip().replace("\\", "/"))
        self.passwords |= {base.casefold(), posixpath.splitext(base)[0].casefold()}
        found = self._secrets.has(hint.password_file, entry, self._base)
        return not found and not (entry is None and self._inventory.find(base))

    def _with_partner(self, entries: list[Entry]) -> list[Entry]:
        """Add the other PEM files of the same stem: a certificate's key."""
        (entry,) = entries
        if entry.extension not in reader.PEM:
            return entries
        partners = self._inventory.of_one_stem(entry) or list(_beside(entry))
        return [entry, *(other for other in partners if other != entry)]

    def _entry(self, text: str) -> Entry | None:
        name = text.strip().replace("\\", "/")
        if _DRIVE.match(name):  # another machine's path: only the name can help
            return next(iter(self._inventory.find(posixpath.basename(name))), None)
        path = inside(self._base, name, self._known(name))
        candidates = self._inventory.find(posixpath.normpath(name))
        exact = [entry for entry in candidates if entry.member is None and entry.path == path]
        if exact or candidates:
            return (exact or candidates)[0]
        return self._below(path) if path is not None else None

    def _known(self, name: str) -> bool:
        return bool(self._inventory.find(posixpath.basename(name)))

    def _below(self, path: str) -> Entry | None:
        """A file in the roster's folder, or in a zip there."""
        for walked in steps(self._base, path):
            if walked.lower().endswith(".zip") and walked != path and os.path.isfile(walked):
                return self._in_archive(walked, f"{os.path.basename(walked)}/{path[len(walked) + 1 :]}")
        return Entry(path) if os.path.lexists(path) else None

    def _in_archive(self, archive: str, member: str) -> Entry | None:
        if archive not in self._opened:
            self._opened.add(archive)
            for _ in self._unlisted.archive(archive):
                pass  # issues of other members do not matter here
        return next((entry for entry in self._unlisted.find(member) if entry.path == archive), None)


def _beside(entry: Entry) -> Iterator[Entry]:
    """Files of the same stem in a folder that was not named as a source."""
    if entry.member is not None:
        return
    folder, stem = os.path.dirname(entry.path), entry.stem
    for extension in sorted(reader.PEM):
        path = os.path.join(folder, stem + extension)
        if os.path.isfile(path) and not os.path.islink(path):
            yield Entry(path)


def _absent(check: CheckId, what: str, name: str, row: RosterRow, person: Person) -> Issue:
    return _issue(
        check,
        f"the {what} {escape_unsafe(name_cell(name))} was not found",
        "correct the file name in the row, or add the file",
        row,
        person,
    )


def _issue(check: CheckId, message: str, hint: str, row: RosterRow, person: Person) -> Issue:
    return Issue(Severity.ERROR, check, message, hint, row.source, row.line, str(person.address))
