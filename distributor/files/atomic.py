"""A file that appears in its folder when it is complete, or not at all. What somebody else put there is never opened or followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600


@contextmanager
def partial_file(path: Path, mode: int = PRIVATE) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside `path` to write into, and its own name; at the end it is on the disk. Removed when anything fails. Raises OSError.

    It has these permissions, whatever the umask. No name can be known beforehand, so nobody can have laid something there.
    """
    part = path.with_name(f".{path.name[:200]}.{os.urandom(8).hex()}.part")
    with _new_file(part, mode) as file:
        yield file, part


@contextmanager
def _new_file(path: Path, mode: int) -> Iterator[BinaryIO]:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, mode)
            yield file
            file.flush()
            os.fsync(number)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes, mode: int = PRIVATE) -> Path:
    """Data in a new file beside `path`; its name. Raises OSError."""
    with partial_file(path, mode) as (file, part):
        file.write(data)
    return part


def write_new(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """A file that was not there before. Raises OSError, also where anything bears its name."""
    with _new_file(path, mode) as file:
        file.write(data)


def replace_file(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """A file with this content, in place of whatever bears its name. Raises OSError, and then nothing has changed."""
    publish(write_atomically(path, data, mode), path)


def rewrite_file(path: Path, data: bytes, mode: int | None = None) -> None:
    """New content for a file that is there, durable; a symbolic link stays, and so do its owner and its mode, where none is given.

    Raises OSError, and then nothing has changed.
    """
    path = path.resolve(strict=True)
    found = path.stat()
    with partial_file(path, found.st_mode & 0o777 if mode is None else mode) as (file, part):
        file.write(data)
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(file.fileno(), found.st_uid, found.st_gid)
    publish(part, path)
    sync_folder(path.parent)


def publish(part: Path, path: Path) -> None:
    """Give a finished file its name, in place of whatever has it. Raises OSError, and then nothing has changed."""
    try:
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk. Raises OSError."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
