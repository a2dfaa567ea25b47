"""One connection to the ledger's database, used by one thread at a time: short transactions, and statements compiled once.

A lock of our own orders the threads of a process: SQLite's busy handler sleeps, so it is left to other processes.
A process that was forked opens a connection of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Connection, Dialect, Engine, bindparam
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.elements import ClauseElement

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.ledger import sqlite
from distributor.ledger.sqlite import sqlite3

# --- errors --------------------------------------------------------------------------------
# What a database driver raises -> what the program says: locked and unreachable may be tried again, the rest cannot be used.


_DAMAGED = ("the ledger is damaged", "stop using it, keep a copy, and restore the latest backup (see docs/restore.md#restore-step-by-step)")
_SQLITE: dict[int, tuple[type[Error], str, str]] = {  # primary result codes, sqlite.org/rescode.html
    sqlite3.SQLITE_BUSY: (
        ServiceUnavailable,
        "the ledger is locked by another program",
        "wait for the other program to finish, then run the command again",
    ),
    sqlite3.SQLITE_LOCKED: (
        ServiceUnavailable,
        "the ledger is locked by another program",
        "wait for the other program to finish, then run the command again",
    ),
    sqlite3.SQLITE_PROTOCOL: (
        ServiceUnavailable,
        "the ledger is locked by another program",
        "wait for the other program to finish, then run the command again",
    ),
    sqlite3.SQLITE_FULL: (InvalidInput, "the disk is full", "free some space, then run the command again; nothing is lost"),
    sqlite3.SQLITE_READONLY: (InvalidInput, "the ledger is read-only", "make the ledger and its folder writable for this user"),
    sqlite3.SQLITE_CANTOPEN: (
        InvalidInput,
        "cannot open the ledger",
        "check that the folder exists and is writable for this user",
    ),
    sqlite3.SQLITE_PERM: (InvalidInput, "access to the ledger is denied", "check the permissions of the ledger and its folder"),
    sqlite3.SQLITE_AUTH: (InvalidInput, "access to the ledger is denied", "check the permissions of the ledger and its folder"),
    sqlite3.SQLITE_CORRUPT: (InvalidInput, *_DAMAGED),
    sqlite3.SQLITE_NOTADB: (
        InvalidInput,
        "not a ledger",
        "check `ledger.url`, or restore the latest backup (see docs/restore.md#restore-step-by-step)",
    ),
    sqlite3.SQLITE_IOERR: (
        InvalidInput,
        "cannot read or write the disk",
        "check the disk and its free space, then run `distributor doctor`",
    ),
}


_SILENT = (
    ServiceUnavailable,
    "the database does not respond",
    "check that the server is running and reachable, then run the command again",
)
_MISSING = (InvalidInput, "the database, a table or a privilege is missing", "check `ledger.url` and the privileges of its user")
_POSTGRESQL: dict[str, tuple[type[Error], str, str]] = {  # values of SQLSTATE, and classes
    "": (  # the driver itself: a refused connection, an unknown database, a sign-in that failed
        ServiceUnavailable,
        "cannot connect to the database",
        "check that the server is running, and the host, user, password and database in `ledger.url`",
    ),
    "08": _SILENT,  # connection
    "40": _SILENT,  # serialisation, deadlock
    "55": _SILENT,  # lock
    "57": _SILENT,  # shut down
    "53": (
        InvalidInput,
        "the database is out of disk space or connections",
        "free disk space or close connections, then run the command again",
    ),
    "28": (ServiceUnavailable, "the database refused the login", "check the user and password in `ledger.url`"),
    "3D": _MISSING,
    "42": _MISSING,
    "25P03": _SILENT,  # idle in a transaction for too long
    "25": (InvalidInput, "the database is read-only", "connect to the primary server"),
}


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Say every failure of the database in the program's own words; `where` is the file or server."""
    try:
        yield
    except PoolTimeout as error:
        raise ServiceUnavailable("the ledger does not respond", where=where, hint="run the command again") from error
    except DBAPIError as error:
        raise _said(error.orig, where) from error
    except SQLAlchemyError as error:
        raise InvalidInput(f"cannot use the ledger ({type(error).__name__})", where=where, hint="run `distributor doctor`") from error
    except sqlite3.Error as error:
        raise _said(error, where) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "psycopg":  # an extra, so it may not be there to be named
            raise
        raise _said(error, where) from error


def _said(error: BaseException | None, where: str) -> Error:
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error, where)
    return _of_postgresql(error, where)


def _of_sqlite(error: sqlite3.Error, where: str) -> Error:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes carry the primary one in their low byte
    if isinstance(error, sqlite3.OperationalError) and code == sqlite3.SQLITE_ERROR:
        return InvalidInput(*_DAMAGED[:1], where=where, hint=_DAMAGED[1])  # a table or column is missing
    kind, message, hint = _SQLITE.get(
        code,
        (InvalidInput, f"the database refused the operation ({getattr(error, 'sqlite_errorname', 'no code')})", "run `distributor doctor`"),
    )
    return kind(message, where=where, hint=hint)


def _of_postgresql(error: BaseException | None, where: str) -> Error:
    state = getattr(error, "sqlstate", None) or ""
    unknown = (InvalidInput, f"the database refused the operation (SQLSTATE {state})", "run `distributor doctor`")
    kind, message, hint = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2], unknown)
    return kind(message, where=where, hint=hint)


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

    def compact(self) -> bool:
        """Rewrite the database, so that nothing deleted is left in unused space; False where others are at work or it is not ours."""
        self._after_fork()
        with self._lock:
            driver: Any = self._connected().connection.dbapi_connection
            try:
                if not self.sqlite:
                    driver.autocommit = True
                driver.execute("VACUUM" if self.sqlite else "VACUUM (FULL)")
            except Exception as error:  # what a driver raises
                with suppress(InvalidInput, ServiceUnavailable), translated(self.where):
                    raise error  # noqa: TRY201  named, so that only errors of the database are left out
                return False
            finally:
                if not self.sqlite:
                    driver.autocommit = False
            if self.sqlite:
                sqlite.empty_log(self._connected(), PATIENCE)
            return True

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
        """Raise InvalidInput where the ledger's path leads to another file than the open one."""
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


# --- snapshot --------------------------------------------------------------------------------
# A reading transaction whose queries all see one moment, also while others write.


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """As in SQLite every transaction does; a server is asked for it."""
    with database.reading() as connection:
        if not database.sqlite:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield connection


# --- statements --------------------------------------------------------------------------------
#
# Statements composed by SQLAlchemy -> run by the driver itself: a message takes a dozen, and SQLAlchemy costs ten times the running.


CHUNK = 500  # rows asked for at once; SQLite allows 32 766 parameters
Value = TypeVar("Value")
Values = Mapping[str, Any]
Statement = ClauseElement  # a select, insert, update or delete
_compiled: dict[tuple[str, Statement, tuple[str, ...]], tuple[str, Callable[[Values], Any]]] = {}


def all_rows(connection: Connection, statement: Statement, values: Values) -> list[Any]:
    """The rows of a query, as plain tuples."""
    sql, bind = _prepare(connection.dialect, statement, ())
    cursor = driver_cursor(connection)
    try:
        cursor.execute(sql, bind(values))
        return list(cursor.fetchall())
    finally:
        cursor.close()


def many(connection: Connection, statement: Statement, rows: Sequence[Values]) -> int:
    """Run a statement for each row; how many rows of the database it touched. All rows have the columns of the first."""
    sql, bind = _prepare(connection.dialect, statement, tuple(rows[0]))
    cursor = driver_cursor(connection)
    try:
        cursor.executemany(sql, [bind(row) for row in rows])
        return int(cursor.rowcount)
    finally:
        cursor.close()


def driver_cursor(connection: Connection, name: str = "") -> Any:  # noqa: ANN401  a driver's cursor
    """A cursor of the driver; with a name one that leaves the rows on the server until they are fetched."""
    driver = connection.connection.dbapi_connection
    assert driver is not None  # noqa: S101  it is None only for a connection that was given back
    return driver.cursor(name) if name else driver.cursor()


def _prepare(dialect: Dialect, statement: Statement, columns: tuple[str, ...]) -> tuple[str, Callable[[Values], Any]]:
    key = (dialect.name, statement, columns)
    if key not in _compiled:
        _compiled[key] = _compile(dialect, statement, columns)
    return _compiled[key]


def _compile(dialect: Dialect, statement: Statement, columns: tuple[str, ...]) -> tuple[str, Callable[[Values], Any]]:
    inserts = getattr(statement, "is_insert", False)
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) if inserts else None)
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    if compiled.positional:
        names = list(compiled.positiontup)
        return str(compiled), lambda values: [values[name] if name in values else fixed.get(name) for name in names]
    return str(compiled), lambda values: {**dict.fromkeys(compiled.params), **fixed, **values}


def one_of(column: ColumnElement[str], size: int) -> ColumnElement[bool]:
    """The condition that a column is one of `size` values, whose parameters `pad_to_bucket` fills."""
    parameters: list[BindParameter[str]] = [bindparam(f"in_{i}") for i in range(size)]
    return column.in_(parameters)


def pad_to_bucket(ids: Sequence[str]) -> tuple[int, dict[str, str]]:
    """The number of parameters for a list, a power of two so that few statements are compiled, and their values; the last is repeated."""
    size = 1 << max(len(ids) - 1, 0).bit_length()
    return size, {f"in_{i}": ids[min(i, len(ids) - 1)] for i in range(size)}


def rows_of(connection: Connection, asked: Callable[[int], Statement], ids: Sequence[str]) -> list[Any]:
    """The rows of a query about any number of ids. `asked` makes it for a number of them, with `one_of`, and is cached."""
    found: list[Any] = []
    for chunk in chunks(ids):
        size, values = pad_to_bucket(chunk)
        found += all_rows(connection, asked(size), values)
    return found


def chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """Parts of a list, each short enough for one query."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def paged(database: Database, asked: Statement, size: int, values: Values) -> Iterator[Any]:
    """The rows of a query in pages, each in a transaction of its own. It is ordered by its first column, which it compares with `last`."""
    for page in pages(database, asked, size, values):
        yield from page


def pages(database: Database, asked: Statement, size: int, values: Values) -> Iterator[list[Any]]:
    """As `paged`, a page at a time; the last one may be empty."""
    while True:
        with database.reading() as connection:
            page = all_rows(connection, asked, values)
        yield page
        if len(page) < size:
            return
        values = {**values, "last": page[-1][0]}
