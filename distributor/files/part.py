"""A new file that its process holds until it is published: others see that it is being written, or that it was abandoned."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from distributor.files.atomic import PRIVATE, sync_folder


@contextmanager
def held_part(path: Path) -> Iterator[BinaryIO]:
    """A new private file, locked until the body ends. Raises OSError, FileExistsError where there is one."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    with os.fdopen(number, "wb") as file:
        os.fchmod(number, PRIVATE)
        if not _locked(number):
            raise BlockingIOError(errno.EAGAIN, "another process is removing it", str(path))
        yield file


def is_held(path: Path) -> bool:
    """Whether a living process is writing the file; False where it is gone. Raises OSError."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locked(number)
    finally:
        os.close(number)


def _locked(number: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415  Windows has none; there, nothing keeps processes apart
    except ImportError:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def publish_new(part: Path, path: Path) -> None:
    """Give a finished file its name, never in place of another. Raises FileExistsError, OSError, and then nothing has changed."""
    try:
        os.link(part, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.rename(path)
    else:
        part.unlink()
    with suppress(OSError):  # not every file system can
        sync_folder(path.parent)
