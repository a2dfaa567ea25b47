"""Locks on mailboxes, so that one process sends through each. The operating system, or the server, releases them when the process ends.

For a file: a lock on one byte of a small file beside the ledger. Never on the ledger itself: closing any descriptor of a file drops all
locks that its process has on it, SQLite's too (fcntl(2), sqlite.org/howtocorrupt.html 2.2). For a server: an advisory lock of the session.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection, text

from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.ledger.engine import Database

BESIDE = "-roads"  # appended to the ledger's name; older programs lock the same file
_TAKE = text("SELECT pg_try_advisory_lock(:key)")


class MailboxLocks(Protocol):
    """The mailboxes that one open ledger has locked."""

    def take(self, mailbox: str) -> bool:
        """Lock a mailbox; False while another process has it."""
        ...

    def verify_held(self, connection: Connection) -> None:
        """Raise ServiceUnavailable if a lock was lost with its connection, and another process has it now."""
        ...

    def close(self) -> None:
        """Release all."""
        ...


def mailbox_locks(database: Database) -> MailboxLocks:
    """The locks of a ledger; none is taken yet."""
    return FileLocks(database.where) if database.sqlite else AdvisoryLocks(database)


def _number(mailbox: str) -> int:
    """A mailbox's byte in a file, and its key in PostgreSQL: both have 63 bits, and a byte must end within them."""
    return int.from_bytes(hashlib.sha256(mailbox.encode()).digest()[:8]) >> 2


# --- in a file -----------------------------------------------------------------------------------------------------


@dataclass
class _LockFile:
    """The only descriptor that this process has of a lock file, and which ledger holds which byte of it."""

    descriptor: int
    pid: int
    holders: dict[int, FileLocks] = field(default_factory=dict)


_open: dict[str, _LockFile] = {}  # by real path
_guards: dict[int, threading.Lock] = {}  # by process id: one that was forked meanwhile has its own


def _guard() -> threading.Lock:
    return _guards.setdefault(os.getpid(), threading.Lock())


class FileLocks:
    """Locks of a ledger in a file."""

    def __init__(self, ledger: str) -> None:
        self._path = f"{os.path.realpath(ledger)}{BESIDE}"

    def take(self, mailbox: str) -> bool:
        """Lock a mailbox's byte."""
        byte = _number(mailbox)
        with _guard():
            lock_file = self._lock_file()
            if byte in lock_file.holders:
                return lock_file.holders[byte] is self
            if not _locked(self._path, lock_file.descriptor, byte):
                return False
            lock_file.holders[byte] = self
            return True

    def verify_held(self, connection: Connection) -> None:
        """A lock of the operating system is not lost."""

    def close(self) -> None:
        """Unlock them; the last ledger of a process closes the file."""
        with _guard():
            lock_file = _open.get(self._path)
            if lock_file is None or lock_file.pid != os.getpid():
                return
            for byte in [byte for byte, holder in lock_file.holders.items() if holder is self]:
                _unlock(lock_file.descriptor, byte)
                del lock_file.holders[byte]
            if not lock_file.holders:
                os.close(_open.pop(self._path).descriptor)

    def _lock_file(self) -> _LockFile:
        lock_file = _open.get(self._path)
        if lock_file is None:
            lock_file = _open[self._path] = _LockFile(_made(self._path), os.getpid())
        elif lock_file.pid != os.getpid():  # forked: the descriptor came along, the locks did not
            lock_file.pid, lock_file.holders = os.getpid(), {}
        return lock_file


def _made(path: str) -> int:
    try:
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = "check the permissions of the ledger's folder, and that this is a regular file"
        raise InvalidInput(f"cannot be opened ({error.strerror})", where=path, hint=hint) from error


def _locked(path: str, descriptor: int, byte: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415  Windows has none; there, nothing keeps processes apart
    except ImportError:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX leaves it open
        return False
    except OSError as error:
        hint = "keep the ledger on a local disk, or use PostgreSQL"
        raise InvalidInput(f"cannot be locked ({error.strerror})", where=path, hint=hint) from error
    return True


def _unlock(descriptor: int, byte: int) -> None:
    try:
        import fcntl  # noqa: PLC0415  see above
    except ImportError:
        return
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


# --- on a server ---------------------------------------------------------------------------------------------------


class AdvisoryLocks:
    """Locks of a ledger on a server. Its session ends with the connection; a new one takes them again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: set[int] = set()
        self._pid = os.getpid()

    def take(self, mailbox: str) -> bool:
        """Take a mailbox's advisory lock."""
        key = _number(mailbox)
        if self._pid != os.getpid():  # forked: the session stays with the parent
            self._held, self._pid = set(), os.getpid()
        if key not in self._held:
            with self._database.reading() as connection:
                if not _taken(connection, key):
                    return False
            self._held.add(key)
        return True

    def verify_held(self, connection: Connection) -> None:
        """Take again what was held by a session that is gone."""
        if self._pid != os.getpid():
            return
        for key in self._held - _of(connection):
            if not _taken(connection, key):
                message = "another `distributor send` took over the mailbox while the database was unreachable"
                raise ServiceUnavailable(message, where=self._database.where, hint="run `distributor send` again later")

    def close(self) -> None:
        """They go with the connection."""
        self._held.clear()


def _taken(connection: Connection, key: int) -> bool:
    taken = bool(connection.execute(_TAKE, {"key": key}).scalar_one())
    if taken:
        _of(connection).add(key)
    return taken


def _of(connection: Connection) -> set[int]:
    """The keys that the session holds; kept with the driver's connection, and gone with it."""
    locked: set[int] = connection.info.setdefault("mailbox-locks", set())
    return locked
