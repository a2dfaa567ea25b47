"""Runs checks of a whole ledger side by side in child processes: a large one in a file, on a machine with several processors.

A child reads the file through a connection of its own. A check that fails there in any way is done again here, so that its error is ours.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from distributor.ledger import sqlite
from distributor.ledger.engine import Database

MANY = 100_000  # events; below, starting the children takes longer than they save
PARTS = 4  # of a check for each child, so that none waits long for another
Result = TypeVar("Result")
_databases: list[Database] = []  # of a child: its own


class Checks:
    """Starts checks; without `pool`, each is run when its result is asked for. `parts`: into how many to divide one."""

    def __init__(self, database: Database, pool: ProcessPoolExecutor | None = None, parts: int = 1) -> None:
        self.parts = parts
        self._database = database
        self._pool = pool

    def start(self, check: Callable[..., Result], *arguments: object) -> Callable[[], Result]:
        """Start `check(database, *arguments)`; what is returned waits for its result."""
        here = cache(partial(check, self._database, *arguments))
        if self._pool is None:
            return here
        try:
            started: Future[Result] = self._pool.submit(_in_child, check, arguments)
        except BrokenExecutor:  # a child died
            return here
        return partial(_result, started, here)


def _result(started: Future[Result], here: Callable[[], Result]) -> Result:
    try:
        return started.result()
    except Exception:  # noqa: BLE001  whatever it was: here it is raised as what it is, or does not happen
        return here()


@contextmanager
def checks(database: Database, events: int) -> Iterator[Checks]:
    """Where to run the checks of a ledger with so many events."""
    processes = os.cpu_count() or 1
    if not database.sqlite or events < MANY or processes == 1:
        yield Checks(database)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _open, (database.where,))
    try:
        yield Checks(database, pool, PARTS * processes)
    finally:
        pool.shutdown(cancel_futures=True)


def _open(path: str) -> None:
    """Prepare a child: it ends with its parent, who is told of an interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # millions of rows, and nothing that refers to itself
    _databases.append(Database(sqlite.engine(Path(path)), path))


def _in_child(check: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
    return check(_databases[0], *arguments)
