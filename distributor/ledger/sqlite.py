"""The rules for a ledger in an SQLite file: which SQLite, where the file may lie, who may read it, and how each connection is set.

The SQLite is the one that comes along, since a system's own may be years old and unsafe with a write-ahead log. A process must keep to one:
two copies of SQLite drop each other's locks (sqlite.org/howtocorrupt.html 2.2.1).
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from distributor.errors import InvalidInput, NoLedger

if TYPE_CHECKING:
    import sqlite3 as sqlite3  # noqa: PLC0414  so that others may import it from here
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:  # no such package for this machine: the system's serves, without a write-ahead log where that is unsafe
        import sqlite3

PATIENCE = 10.0  # seconds that another program may hold the ledger
APPLICATION = 0x64737472  # "dstr"
SMALL = 4 * 2**20  # bytes; up to here a quick check at opening costs a few milliseconds
_SHARED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "davfs", "vboxsf", "ncpfs", "beegfs"}


def check_place(path: Path) -> None:
    """Refuse a file system of another machine: its locks do not hold (sqlite.org/howtocorrupt.html)."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # not Linux
    kind = file_system(path.parent, mounts)
    if kind in _SHARED or kind.startswith("fuse."):
        raise InvalidInput(
            f"the ledger is on a network file system ({kind})", where=str(path), hint="move the ledger to a local disk, or use PostgreSQL"
        )


def file_system(folder: Path, mounts: str) -> str:
    """The kind of file system a folder lies on; `mounts` as in proc(5)."""
    real = Path(os.path.realpath(folder))
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, point, this, *_ = line.split(" ")
        mount = Path(point.replace("\\040", " "))
        if real.is_relative_to(mount) and len(mount.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(mount.parts), this
    return kind


def check_file(path: Path) -> None:
    """Refuse what is no file, or an empty one: it may have been a ledger, and SQLite would take it for a new one.

    It is not opened here: closing it would drop the locks that SQLite holds on it in this process.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        hint = (
            "check `ledger.url`, or restore a backup (see docs/restore.md#an-empty-or-missing-ledger);"
            " `distributor init` creates an empty one"
        )
        raise NoLedger("no ledger found", where=str(path), hint=hint) from None
    except OSError as error:
        raise InvalidInput(f"cannot open the ledger ({error.strerror})", where=str(path), hint="check the folder's permissions") from error
    mode = found.st_mode
    if stat.S_ISLNK(mode):
        raise InvalidInput("the ledger is a symbolic link", where=str(path), hint="name the file itself in `ledger.url`")
    if not stat.S_ISREG(mode):
        raise InvalidInput("the ledger is not a regular file", where=str(path), hint="check `ledger.url`")
    if not found.st_size:
        hint = (
            "restore a backup (see docs/restore.md#an-empty-or-missing-ledger);"
            " if it never was a ledger, move it away and run `distributor init`"
        )
        raise InvalidInput("the ledger is an empty file (0 bytes)", where=str(path), hint=hint)


@contextmanager
def making(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """A new file for its owner only, which appears in the ledger's place when it is complete, and over nothing.

    What a killed process left of an earlier one is removed. Raises InvalidInput where somebody else was faster and must not be (`alone`).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _remove_leftovers(path)
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _flock(descriptor)  # tells others that it is no leftover; SQLite's own locks are of another kind
            yield partial
            os.fsync(descriptor)
            _put_in_place(partial, path, alone=alone)
        finally:
            os.close(descriptor)
            _unlink(partial)
    except OSError as error:
        raise InvalidInput(
            f"cannot create the ledger ({error.strerror})", where=str(path), hint="check that the folder exists and is writable"
        ) from error


def _put_in_place(partial: Path, path: Path, *, alone: bool) -> None:
    try:
        os.link(partial, path)
    except FileExistsError:  # somebody was faster
        if alone:
            raise
    except OSError:  # a file system without hard links
        if not os.path.lexists(path):
            partial.rename(path)
        elif alone:
            raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove_leftovers(path: Path) -> None:
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):  # not ours, or gone meanwhile
            descriptor = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                _flock(descriptor)
                _unlink(leftover)
            finally:
                os.close(descriptor)


def _flock(descriptor: int) -> None:
    """Lock a file for this process. Raises BlockingIOError where another one has it."""
    try:
        import fcntl  # noqa: PLC0415  Windows has none; there, nothing keeps processes apart
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlink(partial: Path) -> None:
    for each in (partial, *(Path(f"{partial}{end}") for end in ("-journal", "-wal", "-shm"))):
        each.unlink(missing_ok=True)


Identity = tuple[int, int] | None  # device and inode; None: nothing there


def _identity(path: str) -> Identity:
    try:
        found = os.stat(path, follow_symlinks=False)  # noqa: PTH116  twice as fast, before each message
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_moved(connection: Connection, path: str) -> None:
    """Raise InvalidInput where another file lies at the path than the open one, or at that of its write-ahead log.

    Messages would leave, and the ledger that the next command opens would not know of them.
    """
    info: dict[str, Identity] = connection.info
    for end in ("", "-wal"):
        found, opened = _identity(f"{path}{end}"), info.get(f"file{end}")
        if opened is None and end:
            info[f"file{end}"] = found  # SQLite makes it when it is needed first
        elif found != opened:
            message = "was moved, deleted or replaced while in use; sending stopped"
            hint = "put the same file back (see docs/restore.md#the-ledger-was-moved-while-in-use)"
            raise InvalidInput(message, where=f"{path}{end}", hint=hint)


def keeps_wal(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite has the fix of the WAL-reset bug of 2026; older ones can damage a file that two connections write."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def engine(path: Path) -> Engine:
    """An engine with one connection that never makes the file itself."""
    writable = all(os.access(place, os.W_OK) for place in (path, path.parent)) and not os.statvfs(path).f_flag & os.ST_RDONLY
    uri = f"file:{quote(str(path))}?{'mode=rw' if writable else _reading(path)}"

    before: Identity = None

    def connect() -> sqlite3.Connection:
        nonlocal before
        before = _identity(str(path))
        old = os.umask(0o077)  # the journal and the WAL are made when they are needed first; SQLite gives them the file's mode
        try:
            connection = sqlite3.connect(
                uri, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            _set(connection, writable=writable)
        finally:
            os.umask(old)
        return connection

    def remember(_driver: object, record: ConnectionPoolEntry) -> None:
        """Which file SQLite opened: the one that lay there before and after."""
        if _identity(str(path)) != before:
            raise InvalidInput("the ledger was replaced while it was being opened", where=str(path), hint="run the command again")
        record.info["file"] = before

    made = create_engine(
        "sqlite://", module=sqlite3, creator=connect, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_reset_on_return=None
    )
    event.listen(made, "begin", _begin)
    event.listen(made, "connect", remember)
    return made


def _reading(path: Path) -> str:
    """How to open a file that may not be written. One with a write-ahead log asks for a file beside it, unless nobody has it open."""
    return "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"


def _begin(connection: Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.execute("BEGIN IMMEDIATE" if connection.info.get("writes") else "BEGIN")  # a reader that becomes a writer would fail at once


def _set(connection: sqlite3.Connection, *, writable: bool) -> None:
    for pragma in (
        "foreign_keys=ON",
        "trusted_schema=OFF",
        "cell_size_check=ON",
        "secure_delete=ON",
        "temp_store=MEMORY",
        "mmap_size=0",
        "cache_size=-16000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    if not writable or not _is_ours(connection):
        return
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    wanted = "wal" if keeps_wal() else "truncate"
    if journal != wanted:
        journal = _change_journal(connection, wanted)
    connection.execute(f"PRAGMA synchronous={'FULL' if journal == 'wal' else 'EXTRA'}")


def has_log(path: str) -> bool:
    """Whether there is anything in the write-ahead log of a file."""
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except OSError:
        return False


def empty_log(connection: Connection, patience: int) -> None:
    """Write the write-ahead log into the file and cut it to nothing, if nobody holds it for so many ms.

    `secure_delete` clears what is deleted in the file; in the log the pages of before would stay until it is written over.
    """
    driver: Any = connection.connection.dbapi_connection
    driver.execute(f"PRAGMA busy_timeout={patience}")
    try:
        with suppress(sqlite3.OperationalError):  # locked by another one's checkpoint, or read-only
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        driver.execute(f"PRAGMA busy_timeout={int(PATIENCE * 1000)}")


def _change_journal(connection: sqlite3.Connection, wanted: str) -> str:
    """Change the journal mode: SQLite's own patience does not cover it while another connection is about to write."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return str(connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the file is a ledger or still empty: the journal mode of others' databases is not ours to change."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return bool(application == APPLICATION or not pages)
