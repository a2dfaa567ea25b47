"""One connection to the ledger's database, used by one thread at a time: short reading and writing transactions.

A lock of our own orders the threads of a process: SQLite's busy handler sleeps, so it is left to other processes.
A process that was forked opens a connection of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine

from distributor.ledger import sqlite
from distributor.ledger.errors import translated

ERASED = "erased"  # a note at the connection: this transaction took a secret away
PATIENCE = 1000  # ms that other readers may hold up the emptying of the write-ahead log after that


@dataclass
class Database:
    """An engine with a pool of one. `where` names the file or server for people."""

    engine: Engine
    where: str
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _pid: int = field(default_factory=os.getpid)
    _connection: Connection | None = None
    _abandoned: list[Connection] = field(default_factory=list)

    @property
    def sqlite(self) -> bool:
        """Whether it is a file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads; keep it short, since in a rollback journal a reader holds up every writer."""
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; all writers of a ledger come one after another."""
        with self._transaction(writes=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        self._after_fork()
        with self._lock, translated(self.where):
            connection = self._connected()
            connection.info["writes"], connection.info[ERASED] = writes, False
            try:
                with connection.begin():
                    yield connection
            except BaseException:
                self._drop_if_broken(connection)
                raise
            if self.sqlite and connection.info[ERASED]:
                sqlite.empty_log(connection, PATIENCE)

    def tidy(self) -> None:
        """Empty a write-ahead log that was left behind, unless somebody is at work: what was erased may still be in it."""
        if self.sqlite and sqlite.has_log(self.where):
            self._after_fork()
            with self._lock, translated(self.where):
                sqlite.empty_log(self._connected(), 0)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self.engine.connect()
        return self._connection

    def _drop_if_broken(self, connection: Connection) -> None:
        driver = None if connection.invalidated else connection.connection.dbapi_connection
        if driver is None or getattr(driver, "closed", False):
            self._connection = None
            connection.invalidate()

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            if self._connection is not None:
                self._abandoned.append(self._connection)  # the parent's connection must not be touched, not even closed
            self.engine.dispose(close=False)
            self._connection, self._lock, self._pid = None, threading.RLock(), os.getpid()

    def refuse_moved(self, connection: Connection) -> None:
        """Raise Unusable where the ledger's path leads to another file than the open one."""
        if self.sqlite:
            sqlite.refuse_moved(connection, self.where)

    def close(self) -> None:
        """Close the connection."""
        self._after_fork()
        with self._lock, translated(self.where):
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self.engine.dispose()
