"""Writes the output file of a command atomically, and makes the folders that commands write into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from distributor.cli.options import is_folder
from distributor.errors import InvalidInput


@contextmanager
def replacing(path: Path, mode: int, *, such_as: str) -> Iterator[BinaryIO]:
    """A file to write to, with this mode whatever the umask. `such_as`: a file name for hints. Raises InvalidInput."""
    from distributor.files import atomic

    if is_folder(path):
        raise InvalidInput("it is a folder", where=str(path), hint=f"name a file in it: --output {path / such_as}")
    try:
        with atomic.partial_file(path, mode) as (file, part):
            yield file
        atomic.publish(part, path)
    except OSError as error:
        raise InvalidInput(
            (error.strerror or "cannot be written").lower(), where=str(path), hint="make room, or name another file"
        ) from None
    with suppress(OSError):  # not every file system can
        atomic.sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a private folder, unless it is there. Raises InvalidInput."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput((error.strerror or "cannot be made").lower(), where=str(folder), hint="name a folder you may write in") from None
