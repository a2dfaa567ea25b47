"""A road's name -> whether this process may drive it. The operating system, or the server, lets go of it when the process ends.

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

BESIDE = "-roads"  # what the small file's name adds to the ledger's
_TAKE = text("SELECT pg_try_advisory_lock(:key)")


class MailboxLocks(Protocol):
    """The roads that one open ledger drives."""

    def take(self, mailbox: str) -> bool:
        """Take a road; False while somebody else has it."""
        ...

    def verify_held(self, connection: Connection) -> None:
        """Raise Unavailable if a road was lost with its connection, and somebody else has it now."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


def mailbox_locks(database: Database) -> MailboxLocks:
    """Nothing is taken yet."""
    return FileLocks(database.where) if database.sqlite else AdvisoryLocks(database)


def _number(mailbox: str) -> int:
    """A place in a file, and a key of PostgreSQL: both have 63 bits, and a byte must end within them."""
    return int.from_bytes(hashlib.sha256(mailbox.encode()).digest()[:8]) >> 2


# --- in a file -----------------------------------------------------------------------------------------------------


@dataclass
class _LockFile:
    """The only descriptor that this process has of a small file, and which ledger holds which byte of it."""

    descriptor: int
    pid: int
    holders: dict[int, FileLocks] = field(default_factory=dict)


_open: dict[str, _LockFile] = {}  # by real path
_guards: dict[int, threading.Lock] = {}  # by process id: one that was forked meanwhile has its own


def _guard() -> threading.Lock:
    return _guards.setdefault(os.getpid(), threading.Lock())


class FileLocks:
    """Roads of a ledger in a file."""

    def __init__(self, ledger: str) -> None:
        self._path = f"{os.path.realpath(ledger)}{BESIDE}"

    def take(self, mailbox: str) -> bool:
        """Lock a road's byte."""
        byte = _number(mailbox)
        with _guard():
            small = self._small()
            if byte in small.holders:
                return small.holders[byte] is self
            if not _locked(self._path, small.descriptor, byte):
                return False
            small.holders[byte] = self
            return True

    def verify_held(self, connection: Connection) -> None:
        """A lock of the operating system is not lost."""

    def close(self) -> None:
        """Unlock them; the last ledger of a process closes the file."""
        with _guard():
            small = _open.get(self._path)
            if small is None or small.pid != os.getpid():
                return
            for byte in [byte for byte, holder in small.holders.items() if holder is self]:
                _unlock(small.descriptor, byte)
                del small.holders[byte]
            if not small.holders:
                os.close(_open.pop(self._path).descriptor)

    def _small(self) -> _LockFile:
        small = _open.get(self._path)
        if small is None:
            small = _open[self._path] = _LockFile(_made(self._path), os.getpid())
        elif small.pid != os.getpid():  # forked: the descriptor came along, the locks did not
            small.pid, small.holders = os.getpid(), {}
        return small


def _made(path: str) -> int:
    try:
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = "check the permissions of the ledger's folder, and that this is a plain file"
        raise InvalidInput(f"it cannot be opened ({error.strerror})", where=path, hint=hint) from error


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
        raise InvalidInput(f"it cannot be locked ({error.strerror})", where=path, hint=hint) from error
    return True


def _unlock(descriptor: int, byte: int) -> None:
    try:
        import fcntl  # noqa: PLC0415  see above
    except ImportError:
        return
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


# --- on a server ---------------------------------------------------------------------------------------------------


class AdvisoryLocks:
    """Roads of a ledger on a server. Its session ends with the connection; a new one takes them again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: set[int] = set()
        self._pid = os.getpid()

    def take(self, mailbox: str) -> bool:
        """Take a road's advisory lock."""
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
                message = "another sender took the mailbox over while the database was away"
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
    """What the session holds; the note goes with the driver's connection."""
    held: set[int] = connection.info.setdefault("roads", set())
    return held
