"""What a database driver raises -> what the program says: locked and unreachable may be tried again, the rest cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.ledger.driver import sqlite3

_DAMAGED = ("the ledger is damaged", "stop using it, keep a copy, and restore the latest backup (docs/restore.md)")
_SQLITE: dict[int, tuple[type[Error], str, str]] = {  # primary result codes, sqlite.org/rescode.html
    sqlite3.SQLITE_BUSY: (
        ServiceUnavailable,
        "the ledger stays locked by another program",
        "wait until the other program is done, then run the command again",
    ),
    sqlite3.SQLITE_LOCKED: (
        ServiceUnavailable,
        "the ledger stays locked by another program",
        "wait until the other program is done, then run the command again",
    ),
    sqlite3.SQLITE_PROTOCOL: (
        ServiceUnavailable,
        "the ledger stays locked by another program",
        "wait until the other program is done, then run the command again",
    ),
    sqlite3.SQLITE_FULL: (InvalidInput, "the disk is full", "free some space, then run the command again; nothing is lost"),
    sqlite3.SQLITE_READONLY: (InvalidInput, "the ledger is read-only", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_CANTOPEN: (
        InvalidInput,
        "the ledger cannot be opened",
        "check that the folder exists and that this user may write into it",
    ),
    sqlite3.SQLITE_PERM: (InvalidInput, "access to the ledger is denied", "check the permissions of the file and its folder"),
    sqlite3.SQLITE_AUTH: (InvalidInput, "access to the ledger is denied", "check the permissions of the file and its folder"),
    sqlite3.SQLITE_CORRUPT: (InvalidInput, *_DAMAGED),
    sqlite3.SQLITE_NOTADB: (InvalidInput, "this is not a ledger", "check `ledger.url`, or restore the latest backup (docs/restore.md)"),
    sqlite3.SQLITE_IOERR: (
        InvalidInput,
        "the disk cannot be read or written",
        "check the disk and its free space, then run `distributor doctor`",
    ),
}


_SILENT = (ServiceUnavailable, "the database does not answer", "check that the server runs and can be reached, then run the command again")
_MISSING = (InvalidInput, "the database, a table or a right is missing", "check `ledger.url` and the rights of its user")
_POSTGRESQL: dict[str, tuple[type[Error], str, str]] = {  # classes of SQLSTATE
    "": (  # the driver itself: a refused connection, an unknown database, a sign-in that failed
        ServiceUnavailable,
        "the database cannot be reached",
        "check that the server runs, and host, user, password and database in `ledger.url`",
    ),
    "08": _SILENT,  # connection
    "40": _SILENT,  # serialisation, deadlock
    "55": _SILENT,  # lock
    "57": _SILENT,  # shut down
    "53": (InvalidInput, "the database has no space or no connections left", "free some, then run the command again"),
    "28": (ServiceUnavailable, "the database refused the sign-in", "check user and password in `ledger.url`"),
    "3D": _MISSING,
    "42": _MISSING,
    "25": (InvalidInput, "the database is read-only", "connect to the primary server"),
}


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Say every failure of the database in the program's own words; `where` is the file or server."""
    try:
        yield
    except PoolTimeout as error:
        raise ServiceUnavailable("the ledger does not answer", where=where, hint="run the command again") from error
    except DBAPIError as error:
        raise _said(error.orig, where) from error
    except SQLAlchemyError as error:
        raise InvalidInput(f"the ledger cannot be used ({type(error).__name__})", where=where, hint="run `distributor doctor`") from error
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
        code, (InvalidInput, f"the ledger refused ({getattr(error, 'sqlite_errorname', 'no code')})", "run `distributor doctor`")
    )
    return kind(message, where=where, hint=hint)


def _of_postgresql(error: BaseException | None, where: str) -> Error:
    state = getattr(error, "sqlstate", None) or ""
    kind, message, hint = _POSTGRESQL.get(state[:2], (InvalidInput, f"the database refused (SQLSTATE {state})", "run `distributor doctor`"))
    return kind(message, where=where, hint=hint)
