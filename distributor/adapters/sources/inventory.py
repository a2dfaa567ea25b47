"""Lists every file and zip member in the given paths, by name. Links and odd files are Issues; system files like .DS_Store are skipped."""

from __future__ import annotations

import os
import stat
import zipfile
from array import array
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from distributor.adapters.sources import reader
from distributor.adapters.sources.reader import Entry, Reader, ReadFault
from distributor.model.compact import HashIndex
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe

_JUNK = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx"})


class Inventory:
    """The files of the sources, in the order they were found; compact, since a folder may have many thousand files."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.named: set[Entry] = set()  # files, not archives, that the operator named one by one
        self._places: list[tuple[str, bool]] = []  # folders and archives: `Entry.place`
        self._numbers: dict[tuple[str, bool], int] = {}  # of places
        self._names: list[str] = []  # of files; of members the archive's own names
        self._within = array("L")  # each one's place
        self._used = bytearray()
        self._by_base = HashIndex(self._base)  # the first of each base name in lower case, mostly the only one
        self._further: dict[str, dict[Entry, int]] = {}  # all files of a base name that several have
        self._elsewhere: set[str] = set()  # stems of certificates that rows name and that are not in the sources

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, path: Path) -> Iterator[Issue]:
        """Add a file, a folder or a zip that the operator named."""
        absolute = os.path.abspath(path)
        if os.path.islink(absolute):
            absolute = os.path.realpath(absolute)  # named by hand, so the link is intended
        if os.path.isdir(absolute):
            yield from self._folder(absolute)
        else:
            self.named.add(Entry(absolute))
            yield from self._file(absolute)

    def find(self, name: str) -> list[Entry]:
        """The entries of that base name, in any case; those in the folders or archive that the name begins with, if there are any."""
        archive, slash, member = name.rpartition("/")
        found = [self._entry(number) for number in self._numbers_of(member.casefold())]
        wanted = f"/{name.casefold().removeprefix('./')}"
        if exact := [entry for entry in found if slash and _full(entry).casefold().endswith(wanted)]:
            return exact
        zip_name = os.path.basename(archive).casefold()
        if slash and zip_name.endswith(".zip"):
            return [entry for entry in found if entry.member is not None and os.path.basename(entry.path).casefold() == zip_name]
        return found

    def use(self, entry: Entry) -> None:
        """Mark an entry as used, so that it is not in `unused` any more."""
        if (number := self._number(entry)) is not None:
            self._used[number] = True
        elif self._names and reader.is_candidate(entry.extension):
            self._elsewhere.add(entry.stem.casefold())

    def unused(self) -> Iterator[Entry]:
        """Entries that are not used; those that become so meanwhile are left out."""
        for number in range(len(self._names)):
            if not self._used[number]:
                yield self._entry(number)

    def of_one_stem(self, entry: Entry, *, unused: bool = False) -> list[Entry]:
        """The PEM and DER files with an entry's stem in the same place, itself among them. `unused`: only unused ones."""
        stem = entry.stem.casefold()
        numbers = sorted(number for extension in reader.PEM for number in self._numbers_of(stem + extension))
        found = [(number, self._entry(number)) for number in numbers if not (unused and self._used[number])]
        return [other for _, other in found if other.place == entry.place]

    def has_stem(self, stem: str) -> bool:
        """Whether there is a certificate or key with this stem (lower case)."""
        return stem in self._elsewhere or any(self._by_base.find(stem + extension) is not None for extension in reader.CANDIDATES)

    def _numbers_of(self, base: str) -> tuple[int, ...]:
        """Entries by their base name in lower case."""
        if base in self._further:
            return tuple(self._further[base].values())
        found = self._by_base.find(base)
        return () if found is None else (found,)

    def _base(self, number: int) -> str:
        return self._entry(number).base.casefold()

    def _entry(self, number: int) -> Entry:
        path, zipped = self._places[self._within[number]]
        name = self._names[number]
        return Entry(path, name) if zipped else Entry(os.path.join(path, name))

    def _number(self, entry: Entry) -> int | None:
        base = entry.base.casefold()
        if base in self._further:
            return self._further[base].get(entry)
        found = self._by_base.find(base)
        return found if found is not None and self._entry(found) == entry else None

    def _folder(self, folder: str) -> Iterator[Issue]:
        try:
            with os.scandir(folder) as listing:
                names = sorted(entry.name for entry in listing)
        except OSError as error:
            yield issue(
                ReadFault(CheckId.UNREADABLE, (error.strerror or "cannot be read").lower(), "check the folder's permissions"),
                escape_unsafe(folder),
            )
            return
        for name in names:
            if not _is_junk(name):
                yield from self._file(os.path.join(folder, name))

    def _file(self, path: str) -> Iterator[Issue]:
        name = escape_unsafe(os.path.basename(path))
        if not _is_text(path):
            yield issue(ReadFault(CheckId.UNSAFE_PATH, "the file's name is not UTF-8", "rename the file"), name)
            return
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            yield issue(
                ReadFault(CheckId.UNREADABLE, (error.strerror or "cannot be read").lower(), "check that the file exists and can be read"),
                name,
            )
            return
        if stat.S_ISDIR(mode):
            fault = ReadFault(CheckId.UNREADABLE, "subfolder skipped", "name it as a SOURCE to include it")
            if reader.is_candidate(os.path.splitext(name)[1].lower()):
                fault = _folder_like_a_file("the files in it were not read")
            yield issue(fault, name, Severity.NOTE)
        elif not stat.S_ISREG(mode):
            what = "a link" if stat.S_ISLNK(mode) else "not a regular file"
            yield issue(ReadFault(CheckId.UNSAFE_PATH, f"it is {what}", "put the file itself in its place"), name)
        elif path.lower().endswith(".zip"):
            yield from self.archive(path)
        else:
            self._add(Entry(path))

    def archive(self, path: str) -> Iterator[Issue]:
        """Add the members of a zip."""
        try:
            for info in self._reader.members(path):
                yield from self._member(path, info)
        except ReadFault as fault:
            yield issue(fault, escape_unsafe(os.path.basename(path)))

    def _member(self, path: str, info: zipfile.ZipInfo) -> Iterator[Issue]:
        entry = Entry(path, info.filename)
        parts = PurePosixPath(entry.within).parts
        if not parts or any(_is_junk(part) for part in parts):
            return
        if entry.within.endswith("/"):
            if reader.is_candidate(PurePosixPath(entry.within).suffix.lower()):
                yield issue(_folder_like_a_file("the files in it were read"), entry.source.rstrip("/"), Severity.NOTE)
        elif ".." in parts or parts[0] == "/" or stat.S_ISLNK(info.external_attr >> 16):
            yield issue(
                ReadFault(
                    CheckId.UNSAFE_PATH, "the archive member is a link, or its path points outside the archive", "create the archive again"
                ),
                entry.source,
            )
        elif entry.extension == ".zip":
            yield issue(ReadFault(CheckId.UNREADABLE, "archive inside an archive", "unpack the inner archive"), entry.source)
        else:
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        if self._number(entry) is not None:
            return
        number = len(self._names)
        name = os.path.basename(entry.path) if entry.member is None else entry.member
        if entry.place not in self._numbers:
            self._numbers[entry.place] = len(self._places)
            self._places.append(entry.place)
        self._within.append(self._numbers[entry.place])
        self._names.append(name)
        self._used.append(False)
        base = entry.base.casefold()
        first = self._by_base.add(base, number)
        if first != number:
            self._further.setdefault(base, {self._entry(first): first})[entry] = number


def issue(fault: ReadFault, source: str, severity: Severity = Severity.ERROR) -> Issue:
    """A fault as an issue."""
    return Issue(severity, fault.check, fault.message, fault.hint, source)


def _folder_like_a_file(what: str) -> ReadFault:
    return ReadFault(
        CheckId.UNREADABLE, f"it is a folder, although its name is that of a certificate's file; {what}", "name it as a SOURCE too"
    )


def _full(entry: Entry) -> str:
    return f"/{os.path.basename(entry.path)}/{entry.within}" if entry.member is not None else entry.path


def _is_text(path: str) -> bool:
    """Whether a path is valid UTF-8, so that the ledger and JSON can store it; other bytes are lone surrogates."""
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)


def _is_junk(name: str) -> bool:
    return name.casefold() in _JUNK or name.startswith("._")
