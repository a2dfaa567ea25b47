"""A reading transaction whose queries all see one moment, also while others write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from distributor.ledger.engine import Database


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """As in SQLite every transaction does; a server is asked for it."""
    with database.reading() as connection:
        if not database.sqlite:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield connection
