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

from distributor.ledger.faults import translated


@dataclass
class Database:
    """An engine with a pool of one. `where` names the file or server for people."""

    engine: Engine
    where: str
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _pid: int = field(default_factory=os.getpid)

    @property
    def sqlite(self) -> bool:
        """Whether it is a file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads; keep it short, since in a rollback journal a reader holds up every writer."""
        self._after_fork()
        with self._lock, translated(self.where), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; all writers of a ledger come one after another."""
        self._after_fork()
        with self._lock, translated(self.where), self.engine.connect() as connection:
            connection.execution_options(distributor_writes=True)
            with connection.begin():
                yield connection

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            self.engine.dispose(close=False)  # the parent's connection must not be touched, not even closed
            self._lock, self._pid = threading.RLock(), os.getpid()

    def close(self) -> None:
        """Close the connection."""
        with self._lock, translated(self.where):
            self.engine.dispose()
