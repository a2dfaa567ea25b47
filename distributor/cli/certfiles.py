"""Files and folders of certificates -> the certificates in them with their sources, and issues for what cannot be used."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.core.findings import Check, Issue, Severity
from distributor.errors import Unusable

if TYPE_CHECKING:
    from distributor.core.collection import Member
    from distributor.core.sst import Stored

LARGEST = 16 * 2**20  # bytes; Windows' own collection of all roots has 660 kB
WANTED = "name PEM, DER, PKCS#7 (.p7b) or .sst files with certificates"


def gathered(paths: Iterable[Path], *, without: Path | None = None, deep: bool = True) -> tuple[list[Member], list[Issue]]:
    """Every certificate in the files and folders. `without`: a file in a folder that is not meant. `deep`: in folders below."""
    from distributor.core import collection

    issues: list[Issue] = []
    found = [one for path in paths for one in _of(path, without, issues, deep=deep)]
    members, unreadable = collection.members(found)
    return members, issues + unreadable


def _of(path: Path, without: Path | None, issues: list[Issue], *, deep: bool) -> Iterator[tuple[str, Stored]]:
    from distributor.core import bundle

    if not path.is_dir():
        yield from _file(path, issues)
        return
    every = path.rglob("*") if deep else path.iterdir()
    files = [file for file in sorted(every) if file.suffix.lower() in bundle.EXTENSIONS and file.is_file() and file != without]
    if not files:
        issues.append(_issue(path, "there is no file of certificates in it"))
    for file in files:
        yield from _file(file, issues, in_folder=True)


def _file(path: Path, issues: list[Issue], *, in_folder: bool = False) -> Iterator[tuple[str, Stored]]:
    from distributor.core import bundle

    try:
        stored = bundle.read(read(path))
    except bundle.NoBundle as fault:
        if not (in_folder and isinstance(fault, bundle.Empty)):  # a key beside its certificate
            issues.append(_issue(path, str(fault)))
        return
    yield from ((called(path), one) for one in stored)


def _issue(path: Path, message: str) -> Issue:
    return Issue(Severity.ERROR, Check.UNREADABLE, message, WANTED, called(path))


def called(path: Path) -> str:
    """A file's name for people."""
    from distributor.core.people import printable

    return printable(path.name or str(path))


def read(path: Path) -> bytes:
    """A regular file's bytes. Raises Unusable."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(LARGEST + 1) if regular else b""
    except FileNotFoundError:
        raise Unusable("there is no such file or folder", where=str(path), hint="check the name") from None
    except OSError as error:
        raise Unusable((error.strerror or "cannot be read").lower(), where=str(path), hint="name a file that you may read") from None
    if not regular:
        raise Unusable("not a regular file", where=str(path), hint=WANTED)
    if len(data) > LARGEST:
        raise Unusable(f"larger than {LARGEST // 2**20} MiB", where=str(path), hint=WANTED)
    return data


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """A file that appears when it is complete; an old one stays until then. Raises Unusable."""
    partial = path.with_name(f".{path.name}.part")
    try:
        number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, mode)  # whatever the umask or a leftover says
            file.write(data)
            file.flush()
            os.fsync(number)
        partial.replace(path)
    except OSError as error:
        raise Unusable((error.strerror or "cannot be written").lower(), where=str(path), hint="make room, or name another file") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
