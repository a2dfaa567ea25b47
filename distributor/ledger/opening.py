"""A database URL -> a Database whose schema is the program's."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from distributor.errors import InvalidInput
from distributor.ledger import durability, schema, sqlite
from distributor.ledger.engine import Database
from distributor.ledger.errors import translated
from distributor.model import urls


def open_database(url: str, *, create: bool) -> Database:
    """Open the file or server, refuse what is not ours, bring an older schema up to date."""
    parsed = _parsed(url)
    match parsed.get_backend_name():
        case "sqlite":
            database = _file(parsed, create=create)
        case "postgresql":
            database = _server(parsed)
        case other:
            raise InvalidInput(f'"{other}" is not a database the ledger knows', where="ledger.url", hint="use sqlite or postgresql")
    try:
        with translated(database.where):
            schema.bring_up_to_date(database, create=create)
    except BaseException:
        database.close()
        raise
    return database


def _parsed(url: str) -> URL:
    """The parts of a URL. One whose password is not escaped would be read otherwise than it is meant: refused, and never shown."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        hint = "write sqlite:///distributor.db or postgresql+psycopg://..."
        raise InvalidInput("this is not a database URL", where="ledger.url", hint=hint) from None
    if parsed.get_backend_name() != "sqlite" and not urls.is_unambiguous(url):
        hint = "in a user or password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
        raise InvalidInput("its user, password or query holds characters that are not escaped", where="ledger.url", hint=hint)
    return parsed


def _file(url: URL, *, create: bool) -> Database:
    if not url.database or url.database == ":memory:":
        raise InvalidInput("the ledger needs a file", where="ledger.url", hint="write sqlite:///distributor.db")
    path = Path(url.database).absolute()
    sqlite.check_place(path)
    if create and not os.path.lexists(path):
        _make(path)
    sqlite.check_file(path)
    with translated(str(path)):
        return Database(sqlite.engine(path), str(path))


def _make(path: Path) -> None:
    """A new ledger, beside its place until it is complete: an empty file in its place is one that was lost."""
    with sqlite.making(path) as partial, translated(str(path)):
        database = Database(sqlite.engine(partial), str(path))
        try:
            schema.bring_up_to_date(database, create=True)
        finally:
            database.close()


def _server(url: URL) -> Database:
    port = f":{url.port}" if url.port else ""
    where = f"postgresql://{url.host or 'localhost'}{port}/{url.database or ''}"
    url = url.set(drivername="postgresql+psycopg")
    try:
        made = create_engine(url, pool_size=1, max_overflow=0, isolation_level="READ COMMITTED", connect_args={"connect_timeout": 10})
        _say_once()
    except ModuleNotFoundError as error:
        raise InvalidInput("psycopg is not installed", where=where, hint="install distributor[postgresql]") from error
    event.listen(made, "connect", _keep_what_is_committed)
    return Database(made, where)


def _keep_what_is_committed(connection: Any, _record: object) -> None:  # noqa: ANN401  a driver's connection
    """Each session waits until its commits are on disk, whatever a role or a database sets."""
    connection.execute(durability.SESSION)
    connection.commit()  # a setting that is rolled back was never made


def _say_once() -> None:
    """Errors of the driver are reported by us; its own messages about them (a pipeline that ended with the server) only go to the log.

    Without a handler Python would print them on standard error.
    """
    for name in ("psycopg", "sqlalchemy.pool"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
