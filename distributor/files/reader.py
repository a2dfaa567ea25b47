"""Opens and reads input files: regular files only, up to a size, each opened once. A pipe or a device is refused and never waited for.

Lists of text are read line by line, so that a large one needs no more memory than a small one.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import IO, TextIO

LARGEST_LIST = 256 * 2**20  # bytes of a list of people or passwords; two million people
MOST_ROWS = 2_000_000
LONGEST_LINE = 2**20  # characters
_CHUNK = 2**20
_MIB = 2**20


class Reason(StrEnum):
    """Why a file is not read."""

    MISSING = "missing"
    LINK = "link"
    SPECIAL = "special"  # a folder, a pipe, a device
    UNREADABLE = "unreadable"
    LARGE = "large"


class FileRefused(Exception):
    """A file that is not read: the reason, and words for a person that do not name the file."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason, self.message = reason, message
        super().__init__(message)


def open_file(path: str | os.PathLike[str], limit: int, *, follow: bool = False) -> IO[bytes]:
    """A regular file of at most `limit` bytes, for reading. `follow`: a link in the path's last part is followed. Raises FileRefused."""
    links = 0 if follow else os.O_NOFOLLOW
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | links)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise FileRefused(Reason.LINK, "this is a link") from None
        raise _unreadable(error) from None
    found = os.fstat(number)
    if stat.S_ISREG(found.st_mode) and found.st_size <= limit:
        return os.fdopen(number, "rb")
    os.close(number)
    if not stat.S_ISREG(found.st_mode):
        raise FileRefused(Reason.SPECIAL, "not a regular file")
    raise too_large(found.st_size, limit)


def read_file(path: str | os.PathLike[str], limit: int, *, follow: bool = False) -> bytes:
    """The bytes of a regular file, at most `limit` of them. Raises FileRefused."""
    with open_file(path, limit, follow=follow) as file:
        try:
            return read_bounded(file, limit)
        except OSError as error:
            raise _unreadable(error) from None


@contextmanager
def text_lines(path: str | os.PathLike[str], limit: int = LARGEST_LIST, most: int = MOST_ROWS) -> Iterator[tuple[Iterator[str], str]]:
    """The lines of a text file with their ends, and its encoding; a link is followed. Raises FileRefused, also between lines."""
    from distributor.model.text_encoding import errors, guess  # noqa: PLC0415  the configuration is read without it

    with open_file(path, limit, follow=True) as file:
        try:
            encoding = guess(iter(lambda: file.read(_CHUNK), b""))
            file.seek(0)
            with io.TextIOWrapper(file, encoding, errors(encoding), newline="") as text:
                yield bounded_lines(text, most), encoding
        except OSError as error:
            raise _unreadable(error) from None


def bounded_lines(text: TextIO, most: int = sys.maxsize, longest: int = LONGEST_LINE) -> Iterator[str]:
    """At most so many lines of an open file; one with `longest` characters or more is cut off and marked as too long.

    Raises FileRefused.
    """
    from distributor.model.csv_table import LONGEST_CELL  # noqa: PLC0415  as above

    too_long = "x" * (LONGEST_CELL + 1) + "\n"  # ends a line that was cut off: its last cell is too long then, and the row is refused
    for _ in range(most):
        line = text.readline(longest)
        if not line:
            return
        yield line if len(line) < longest else line + too_long
        while len(line) == longest:  # its rest is skipped, and only if somebody asks for the next one
            line = text.readline(longest)
    raise FileRefused(Reason.LARGE, f"more than {most} lines")


def read_bounded(file: IO[bytes], limit: int) -> bytes:
    """What is left of an open file, at most `limit` bytes: it may be longer than its directory entry says. Raises FileRefused."""
    data = bytearray()
    while chunk := file.read(min(_CHUNK, limit + 1 - len(data))):
        data += chunk
        if len(data) > limit:
            raise FileRefused(Reason.LARGE, f"larger than the limit of {format_size(limit)}")
    return bytes(data)


def too_large(octets: int, limit: int) -> FileRefused:
    """What is said of so many bytes where fewer are allowed."""
    return FileRefused(Reason.LARGE, f"{format_size(octets)} is more than the limit of {format_size(limit)}")


def format_size(octets: int) -> str:
    """A number of bytes for people."""
    return f"{octets / _MIB:.0f} MiB" if octets >= _MIB else f"{octets} bytes"


def _unreadable(error: OSError) -> FileRefused:
    reason = Reason.MISSING if isinstance(error, FileNotFoundError) else Reason.UNREADABLE
    return FileRefused(reason, (error.strerror or "cannot be read").lower())


# --- paths --------------------------------------------------------------------------------
#
# Resolves names in a roster to paths, never outside the roster's folder and never through a link.


class Unsafe(Exception):
    """A name that leaves the roster's folder; the text says why."""


def inside(base: str | None, name: str, known: bool = False) -> str | None:  # noqa: FBT001, FBT002  a name among the sources needs no path
    """The absolute path of a name below `base`. Raises Unsafe when it leaves it, unless it is absolute and `known` as a name."""
    name = name.strip().replace("\\", "/")
    plain = posixpath.normpath(name)
    if "\0" in name:
        raise Unsafe("the name contains a NUL byte")
    if plain == ".." or plain.startswith("../"):
        raise Unsafe(f"{_described(name)} is outside the folder of the roster")
    if base is None:
        return None if not plain.startswith("/") else plain
    path = os.path.normpath(os.path.join(base, plain))
    if path != base and not path.startswith(base.rstrip("/") + "/"):
        if known:
            return None
        raise Unsafe(f"{_described(name)} is outside the folder of the roster")
    return path


def steps(base: str | None, path: str) -> Iterator[str]:
    """The path of each folder below the roster's, and of the file itself. Raises Unsafe at the first link, wherever that leads."""
    walked = base = base or "/"
    for step in os.path.relpath(path, base).split("/"):
        walked = os.path.join(walked, step)
        if os.path.islink(walked):
            raise Unsafe(f"{_described(os.path.relpath(walked, base))} is a link")
        yield walked


def _described(name: str) -> str:
    from distributor.model.csv_table import name_cell  # noqa: PLC0415  as above
    from distributor.model.people import escape_unsafe  # noqa: PLC0415  as above

    return escape_unsafe(name_cell(name))
