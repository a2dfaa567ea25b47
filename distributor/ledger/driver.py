"""Which SQLite the ledger uses: the one that comes along, since a system's own may be years old and unsafe with a write-ahead log.

A process must keep to one: two copies of SQLite drop each other's locks (sqlite.org/howtocorrupt.html 2.2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:  # no such package for this machine: the system's serves, without a write-ahead log where that is unsafe
        import sqlite3

__all__ = ["sqlite3"]
