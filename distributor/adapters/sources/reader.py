"""Reads files and zip members within limits: follows no link, opens only regular files, unpacks no more than allowed."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from distributor.files.reader import FileRefused, Reason, format_size, open_file, read_bounded, read_file, too_large
from distributor.model.certificates import FilePart
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.model.people import escape_unsafe

# --- zip directory --------------------------------------------------------------------------------
# Measures the central directory of a zip, its size and number of members, before `zipfile` loads it into memory.
#
# Follows the records as `zipfile` does, so that both read the same directory. The number of members in the records is not trusted: the
# directory's headers are counted.


_END = struct.Struct("<4s4H2LH")  # APPNOTE 4.3.16: signature, disk numbers and entries, size and offset of the directory, length of comment
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_HEADER = struct.Struct("<4s24x3H12x")  # 4.3.12: signature, lengths of name, extra field and comment
_LONGEST_COMMENT = 2**16
_CHUNK = 2**16


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """A zip's central directory. `size` in bytes; `entries` as counted, no further than asked for."""

    size: int
    entries: int


def zip_directory(file: IO[bytes], largest: int, most: int) -> ZipDirectory:
    """The directory of an open zip; one larger than `largest` is not read, and counting ends after one member more than `most`."""
    size, place = _directory(file)
    if place < 0:
        raise zipfile.BadZipFile("the list of members is missing")
    entries = _count(file, place, size, most) if size <= largest else 0
    file.seek(0)
    return ZipDirectory(size, entries)


def _directory(file: IO[bytes]) -> tuple[int, int]:
    """The directory's size and where it begins."""
    length = os.fstat(file.fileno()).st_size
    file.seek(max(0, length - _END.size - _LONGEST_COMMENT))
    base, tail = file.tell(), file.read()
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise zipfile.BadZipFile("the end of the list of members is missing")
    size = _END.unpack_from(tail, at)[5]
    place = base + at - size
    return _directory64(file, base + at) or (size, place)


def _directory64(file: IO[bytes], end: int) -> tuple[int, int] | None:
    """The same from the zip64 record before the end record; None where there is none."""
    start = end - _LOCATOR.size - _END64.size
    if start < 0:
        return None
    file.seek(start)
    record = file.read(_END64.size + _LOCATOR.size)
    if record[_END64.size : _END64.size + 4] != b"PK\6\7" or record[:4] != b"PK\6\6":
        return None
    size = _END64.unpack_from(record)[8]
    return size, start - size


def _count(file: IO[bytes], place: int, size: int, most: int) -> int:
    """The number of headers in the directory."""
    file.seek(place)
    window, at, entries = b"", 0, 0
    while size > 0 and entries <= most:
        if len(window) - at < _HEADER.size:
            window, at = window[at:] + file.read(_CHUNK), 0
        if len(window) < _HEADER.size:
            raise zipfile.BadZipFile("the list of members is cut off")
        signature, *lengths = _HEADER.unpack_from(window, at)
        if signature != b"PK\1\2":
            raise zipfile.BadZipFile("the list of members is damaged")
        length = _HEADER.size + sum(lengths)
        entries, size, at = entries + 1, size - length, at + length
        if at > len(window):
            file.seek(at - len(window), os.SEEK_CUR)
            window, at = b"", 0
    if size < 0:
        raise zipfile.BadZipFile("the last entry of the list of members is too long")
    return entries


MOST_MEMBERS = 200_000  # of one archive
_KEPT_OPEN = 4  # archives
LARGEST_DIRECTORY = 64 * 2**20  # bytes: 200 000 names of 250 characters
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError, ValueError, struct.error)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a member of a zip."""

    path: str  # absolute
    member: str | None = None

    @property
    def base(self) -> str:
        """Its name without folders."""
        return os.path.basename(self.path if self.member is None else self.within)

    @property
    def within(self) -> str:
        """A member's name with "/" between folders; old Windows programs write a backslash. Empty for a file."""
        return (self.member or "").replace("\\", "/")

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
        """Its folder, or its archive (True)."""
        return (os.path.dirname(self.path), False) if self.member is None else (self.path, True)

    @property
    def source(self) -> str:
        """The name that issues show."""
        return escape_unsafe(self.base if self.member is None else f"{os.path.basename(self.path)}/{self.within}")


class ReadFault(Exception):
    """Why a file is not read, with the texts of the issue."""

    def __init__(self, check: CheckId, message: str, hint: str) -> None:
        self.check, self.message, self.hint = check, message, hint
        super().__init__(message)


class Reader:
    """Reads files and members; keeps a few archives open."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._archives: OrderedDict[str, zipfile.ZipFile] = OrderedDict()
        self._spent: dict[str, int] = {}  # bytes unpacked from each archive

    def part(self, entry: Entry, data: bytes | None = None) -> FilePart:
        """An entry's bytes; `data`: these, which were read before. Raises ReadFault."""
        data = self.read(entry) if data is None else data
        return FilePart(entry.source, entry.path, entry.member, hashlib.sha256(data).hexdigest(), data)

    def read(self, entry: Entry) -> bytes:
        """An entry's bytes. Raises ReadFault."""
        if entry.member is not None:
            return self._member(entry.path, entry.member)
        try:
            return read_file(entry.path, self._limits.file)
        except FileRefused as refused:
            raise _fault(refused, "limits.file") from None

    def is_there(self, entry: Entry) -> bool:
        """Whether anything with that name exists."""
        if entry.member is None:
            return os.path.lexists(entry.path)
        try:
            return entry.member in self._archive(entry.path).NameToInfo
        except ReadFault:
            return False

    def members(self, path: str) -> Iterator[zipfile.ZipInfo]:
        """The members of an archive. Raises ReadFault."""
        yield from self._archive(path).infolist()

    def _archive(self, path: str) -> zipfile.ZipFile:
        if path in self._archives:
            self._archives.move_to_end(path)
            return self._archives[path]
        archive = _archive(path, self._limits.archive)
        self._archives[path] = archive
        if len(self._archives) > _KEPT_OPEN:
            self._shut(self._archives.popitem(last=False)[1])
        return archive

    def _member(self, path: str, member: str) -> bytes:
        archive = self._archive(path)
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise ReadFault(CheckId.UNREADABLE, "no longer in the archive", "check whether the archive was changed") from None
        if info.flag_bits & 1:
            raise ReadFault(CheckId.UNREADABLE, "the archive is encrypted", "unpack the archive and name the folder instead")
        if info.compress_type not in _METHODS:  # `zipfile` unpacks others without a bound of memory
            raise ReadFault(
                CheckId.UNREADABLE,
                "unsupported compression method; only deflate is read",
                "create the archive again, or unpack it and name the folder",
            )
        if info.file_size > self._limits.file:
            raise _fault(too_large(info.file_size, self._limits.file), "limits.file")
        try:
            with archive.open(info) as file:
                data = read_bounded(file, self._limits.file)
        except FileRefused as refused:
            raise _fault(refused, "limits.file") from None
        except _BROKEN:
            raise ReadFault(CheckId.UNREADABLE, "this archive member is damaged", "create the archive again") from None
        self._spent[path] = self._spent.get(path, 0) + len(data)
        if self._spent[path] > 4 * self._limits.archive:  # the same member may be read several times
            raise ReadFault(
                CheckId.TOO_COSTLY,
                f"the archive unpacks to more than {format_size(self._limits.archive)}",
                "split the archive, or raise `limits.archive`",
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
            file.close()  # ZipFile does not close a file object that it was given

    def __del__(self) -> None:
        self.close()


def _archive(path: str, limit: int) -> zipfile.ZipFile:
    """Open a zip; the size of its directory is checked before that is read. Raises ReadFault."""
    try:
        file = open_file(path, limit)
    except FileRefused as refused:
        raise _fault(refused, "limits.archive") from None
    try:
        directory = zip_directory(file, LARGEST_DIRECTORY, MOST_MEMBERS)
        if directory.entries > MOST_MEMBERS or directory.size > LARGEST_DIRECTORY:
            raise _too_many()
        archive = zipfile.ZipFile(file)
        if len(archive.infolist()) > MOST_MEMBERS:  # the number in the archive may be a lie
            raise _too_many()
    except ReadFault:
        file.close()
        raise
    except _BROKEN:
        file.close()
        raise ReadFault(CheckId.UNREADABLE, "the archive is damaged or not a zip file", "create the archive again") from None
    return archive


def _too_many() -> ReadFault:
    return ReadFault(CheckId.TOO_COSTLY, f"the archive has more than {MOST_MEMBERS} members", "split the archive")


_HINTS = {
    Reason.MISSING: "check that the file exists and can be read",
    Reason.UNREADABLE: "check that the file exists and can be read",
    Reason.LINK: "put the file itself in its place",
    Reason.SPECIAL: "name a regular file",
}


def _fault(refused: FileRefused, key: str) -> ReadFault:
    """The refusal with check and hint; `key` is the limit's configuration key."""
    match refused.reason:
        case Reason.LARGE:
            return ReadFault(CheckId.TOO_COSTLY, refused.message, f"check the file, which is usually a few kilobytes, or raise `{key}`")
        case Reason.LINK | Reason.SPECIAL:
            return ReadFault(CheckId.UNSAFE_PATH, refused.message, _HINTS[refused.reason])
    return ReadFault(CheckId.UNREADABLE, refused.message, _HINTS[refused.reason])


# --- file types --------------------------------------------------------------------------------
# Guesses from a file's extension and first bytes whether it is PKCS#12 or PEM.


PKCS12 = frozenset({".pfx", ".p12"})
CHAINS = frozenset({".p7b", ".p7c", ".ca-bundle"})  # PKCS#7 and PEM with CA certificates, perhaps with a person's too
KEYS = frozenset({".key", ".p8", ".pk8"})
PEM = CHAINS | KEYS | {".pem", ".crt", ".cer", ".der", ".cert"}
CANDIDATES = PKCS12 | PEM
_PFX_VERSION = b"\x02\x01\x03"
_BEGIN = b"-----BEGIN "
_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_NO_USE = {"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "PUBLIC KEY", "RSA PUBLIC KEY", "X509 CRL", "EC PARAMETERS", "DH PARAMETERS"}
_ARMOURED_PFX = b"-----BEGIN PKCS12-----"


def is_candidate(extension: str) -> bool:
    """Whether files with this extension are certificates or keys."""
    return extension in CANDIDATES


def form(extension: str, data: bytes) -> str:
    """The form of a SourceMaterial: PKCS#12 by extension or by the bytes, whatever the extension says; else PEM."""
    return "pkcs12" if extension in PKCS12 or _is_pfx(data) or _ARMOURED_PFX in data else "pem"


def looks_like(data: bytes) -> bool:
    """Whether the bytes may be a PFX or PEM, whatever the name says."""
    return _is_pfx(data) or _BEGIN in data or _BEGIN.decode().encode("utf-16-le") in data


def blocks_of_no_use(data: bytes) -> str | None:
    """The names of a PEM file's blocks, where none of them is a certificate or a private key: a request, a public key, a CRL."""
    names = dict.fromkeys(name.decode() for name in _LABEL.findall(data))
    return ", ".join(names) if names and names.keys() <= _NO_USE else None


def _is_pfx(data: bytes) -> bool:
    if data[:1] != b"\x30" or len(data) < 8:  # noqa: PLR2004  the shortest header of a PFX
        return False
    size = data[1] & 0x7F if data[1] & 0x80 else 0
    return data[2 + size : 5 + size] == _PFX_VERSION
