"""Names -> bytes, read once: no link is followed, nothing but a regular file opened, and nothing larger than the limits."""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from distributor.core.credentials import Limits, Part
from distributor.core.findings import Check
from distributor.core.people import printable

MOST_MEMBERS = 200_000  # of one archive
_KEPT_OPEN = 4  # archives
_MIB = 2**20
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a member of a zip."""

    path: str  # absolute
    member: str | None = None

    @property
    def base(self) -> str:
        """Its name without folders."""
        return os.path.basename(self.path) if self.member is None else PurePosixPath(self.member).name

    @property
    def stem(self) -> str:
        """Its base name without the last extension."""
        return os.path.splitext(self.base)[0]

    @property
    def extension(self) -> str:
        """In lower case, with the dot."""
        return os.path.splitext(self.base)[1].lower()

    @property
    def place(self) -> tuple[str, bool]:
        """What it shares with the files beside it."""
        return (os.path.dirname(self.path), False) if self.member is None else (self.path, True)

    @property
    def source(self) -> str:
        """The name that issues show."""
        return printable(self.base if self.member is None else f"{os.path.basename(self.path)}/{self.base}")


class Fault(Exception):
    """Why a file is not read: what an issue says of it."""

    def __init__(self, check: Check, message: str, hint: str) -> None:
        self.check, self.message, self.hint = check, message, hint
        super().__init__(message)


class Reader:
    """Reads files and members; keeps a few archives open."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._archives: OrderedDict[str, zipfile.ZipFile] = OrderedDict()
        self._spent: dict[str, int] = {}  # octets unpacked of each archive

    def part(self, entry: Entry) -> Part:
        """An entry's bytes. Raises Fault."""
        data = self.read(entry)
        return Part(entry.source, entry.path, entry.member, hashlib.sha256(data).hexdigest(), data)

    def read(self, entry: Entry) -> bytes:
        """An entry's bytes. Raises Fault."""
        if entry.member is not None:
            return self._member(entry.path, entry.member)
        with _opened(entry.path, self._limits.file) as file:
            return _bounded(file, min(os.fstat(file.fileno()).st_size, self._limits.file))

    def is_there(self, entry: Entry) -> bool:
        """Whether something of that name is there, whatever it is."""
        if entry.member is None:
            return os.path.lexists(entry.path)
        try:
            return entry.member in self._archive(entry.path).NameToInfo
        except Fault:
            return False

    def members(self, path: str) -> Iterator[zipfile.ZipInfo]:
        """What is in an archive. Raises Fault."""
        yield from self._archive(path).infolist()

    def _archive(self, path: str) -> zipfile.ZipFile:
        if path in self._archives:
            self._archives.move_to_end(path)
            return self._archives[path]
        file = _opened(path, self._limits.archive)
        try:
            archive = zipfile.ZipFile(file)
        except _BROKEN:
            file.close()
            raise Fault(Check.UNREADABLE, "the archive is damaged or not a zip file", "pack it again") from None
        if len(archive.infolist()) > MOST_MEMBERS:
            self._shut(archive)
            raise Fault(Check.TOO_COSTLY, f"the archive has more than {MOST_MEMBERS} members", "split it")
        self._archives[path] = archive
        if len(self._archives) > _KEPT_OPEN:
            self._shut(self._archives.popitem(last=False)[1])
        return archive

    def _member(self, path: str, member: str) -> bytes:
        archive = self._archive(path)
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise Fault(Check.UNREADABLE, "the archive no longer holds it", "look whether the archive was changed") from None
        if info.flag_bits & 1:
            raise Fault(Check.UNREADABLE, "the archive is encrypted", "unpack it and name the folder instead")
        try:
            with archive.open(info) as file:
                data = _bounded(file, self._limits.file)
        except _BROKEN:
            raise Fault(Check.UNREADABLE, "the archive is damaged at this member", "pack it again") from None
        self._spent[path] = self._spent.get(path, 0) + len(data)
        if self._spent[path] > 4 * self._limits.archive:  # a member may be read again at another time
            raise Fault(
                Check.TOO_COSTLY, f"the archive unpacks to more than {_size(self._limits.archive)}", "split it, or raise `limits.archive`"
            )
        return data

    def close(self) -> None:
        """Close the archives."""
        while self._archives:
            self._shut(self._archives.popitem()[1])

    @staticmethod
    def _shut(archive: zipfile.ZipFile) -> None:
        file = archive.fp
        archive.close()
        if file is not None:
            file.close()  # it was given, so the archive leaves it open

    def __del__(self) -> None:
        self.close()


def _opened(path: str, limit: int) -> IO[bytes]:
    """A regular file, opened without following a link in its last part or waiting for a pipe's other end."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if os.path.islink(path):
            raise Fault(Check.UNSAFE_PATH, "it is a link", "put the file itself there") from None
        raise Fault(
            Check.UNREADABLE, (error.strerror or "it cannot be opened").lower(), "see whether it is there and may be read"
        ) from None
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        raise Fault(Check.UNSAFE_PATH, "it is not a regular file", "put a file there")
    if found.st_size > limit:
        os.close(number)
        raise _too_large(found.st_size, limit)
    return os.fdopen(number, "rb")


def _bounded(file: IO[bytes], limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(None, limit)
    return data


def _too_large(size: int | None, limit: int) -> Fault:
    which = "limits.file" if limit < 64 * _MIB else "limits.archive"
    has = f"it has {_size(size)}" if size else "it is larger than allowed"
    return Fault(Check.TOO_COSTLY, f"{has}; {_size(limit)} are allowed", f"see what it is; a real file has some kilobytes (`{which}`)")


def _size(octets: int) -> str:
    return f"{octets / _MIB:.0f} MiB" if octets >= _MIB else f"{octets} bytes"
