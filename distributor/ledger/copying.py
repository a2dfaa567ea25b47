"""Copies a whole ledger into an empty database of the other kind: every row of every table, read back and compared.

Both ledgers end with the same event, `copied`, which says which of the two is used from then on; the other one takes no writes until it is
adopted (`find_copied` in `ledger/high_water_marks.py`). The order of the ends is that of sending a message: the target is complete and not
visible yet, then the source says that it was copied, then the target appears. A process that is killed between the last two leaves a source
that refuses to send; the same copy may be made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, LargeBinary, Table, bindparam, delete, func, insert, select, text

from distributor.errors import Error, InvalidInput, ServiceUnavailable, UsageError
from distributor.ledger import engine, leases, opening, sqlite
from distributor.ledger.engine import Database, translated
from distributor.ledger.high_water_marks import CopyGuard, find_restored
from distributor.ledger.schema_verification import OURS
from distributor.ledger.tables import event, head, metadata
from distributor.ledger.transaction import NewEvent, WriteTransaction
from distributor.model.audit_log import COPIED, ORIGIN, Link, digest
from distributor.model.delivery import DeliveryFilter
from distributor.model.high_water_mark import ChainEnd, CopyProgress, LedgerCopy, Machine

__all__ = ["LedgerCopy", "check_target", "fill", "may_repeat", "record", "target"]

ROWS, ROWS_WITH_BYTES = 1000, 50  # held in memory at once; a message of the outbox may have megabytes
OPTION = "`--to`"
_HEAD = select(head.c.seq, head.c.hash, head.c.at, head.c.ledger).where(head.c.id == 1)
_LAST = select(event.c.evidence).where(event.c.seq == bindparam("seq"), event.c.event == COPIED)
_FUNCTIONS = text(
    "SELECT count(*) FROM pg_proc p WHERE p.pronamespace = CAST(current_schema() AS regnamespace) AND NOT EXISTS "
    "(SELECT FROM pg_depend d WHERE d.classid = CAST('pg_proc' AS regclass) AND d.objid = p.oid AND d.deptype = 'e')"
)


@dataclass
class Target:
    """An empty ledger that nobody sees yet. `finish` puts it on disk, or leaves it ready to be committed."""

    connection: Connection
    where: str
    finish: Callable[[], None]

    @property
    def kind(self) -> str:
        """The name of its database's kind, as `in_use` in the evidence has it."""
        return self.connection.dialect.name


# --- the target ----------------------------------------------------------------------------------------------------


@contextmanager
def target(source: Database, url: str) -> Iterator[Target]:
    """The empty ledger to be filled. It appears when the block ends, and not at all where that raises."""
    with _about_the_option("ledger.url"):
        parsed = _other_kind(source, url)
    opened = _file(_path(parsed)) if parsed.get_backend_name() == "sqlite" else _server(source, parsed)
    with _about_the_option(_where(url)), opened as found:
        yield found


class _NotKept(Exception):
    """Ends a trial."""


def check_target(source: Database, url: str) -> None:
    """Raise what is wrong with a target: an empty ledger is made there and taken back."""
    with suppress(_NotKept), target(source, url):
        raise _NotKept


def _other_kind(source: Database, url: str) -> URL:
    parsed = opening.parse_url(url)
    kind = parsed.get_backend_name()
    if kind not in {"sqlite", "postgresql"}:
        raise InvalidInput(f'"{kind}" is not a supported database', where="ledger.url", hint="use sqlite or postgresql")
    if kind == source.engine.dialect.name:
        how = '`sqlite3 distributor.db ".backup backup.db"`' if source.sqlite else "`pg_dump`"
        raise UsageError("--to names a database of the same kind as the ledger's", hint=f"copy it with {how}")
    return parsed


def _path(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise InvalidInput("the file name is missing", where="--to", hint="write sqlite:///distributor.db")
    return Path(url.database).absolute()


@contextmanager
def _about_the_option(place: str) -> Iterator[None]:
    """Name the option where an error about the target would name the setting; `place` is where such an error is."""
    try:
        yield
    except Error as error:
        if error.where != place:
            raise
        where = "--to" if place == "ledger.url" else place
        raise type(error)(error.message, where=where, hint=(error.hint or "").replace("`ledger.url`", OPTION) or None) from error


@contextmanager
def _file(path: Path) -> Iterator[Target]:
    """A file beside its place, without a journal: what is not finished is thrown away."""
    sqlite.check_place(path)
    if path.is_symlink() or path.exists():
        raise InvalidInput("a file exists there already", where=str(path), hint=f"move it away, or name another file in {OPTION}")
    with sqlite.making(path, alone=True) as partial, ExitStack() as stack:
        database = Database(sqlite.engine(partial), str(path))
        stack.callback(database.close)
        with translated(str(path)), database.reading() as connection:
            pass
        _pragmas(connection, "journal_mode=OFF", "synchronous=OFF")
        writing = stack.enter_context(ExitStack())
        opening.upgrade(writing.enter_context(database.writing()))

        def finish() -> None:
            writing.close()  # commits
            _pragmas(connection, f"journal_mode={'WAL' if sqlite.keeps_wal() else 'DELETE'}")
            database.close()  # `making` flushes it to disk before it puts it in its place

        yield Target(connection, str(path), finish)


def _pragmas(connection: Connection, *pragmas: str) -> None:
    driver: Any = connection.connection.dbapi_connection
    for pragma in pragmas:
        driver.execute(f"PRAGMA {pragma}").fetchall()


@contextmanager
def _server(source: Database, url: URL) -> Iterator[Target]:
    """One transaction of an empty database."""
    database = opening.server(url)
    try:
        with _connected(database, url) as connection:
            opening.wait_for_upgrades(connection)
            with source.reading() as of_source:
                wanted = of_source.execute(_HEAD).first()
            _refuse_filled(connection, database, wanted)
            opening.upgrade(connection)
            yield Target(connection, database.where, lambda: None)
    finally:
        database.close()


@contextmanager
def _connected(database: Database, url: URL) -> Iterator[Connection]:
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(database.writing())
        except ServiceUnavailable as error:
            if f'database "{url.database}" does not exist' in str(error.__cause__):  # the driver gives no SQLSTATE here
                message = f'the database "{url.database}" does not exist'
                raise InvalidInput(message, where=database.where, hint=f"create it with `createdb {url.database}`") from error
            raise
        yield connection


def _refuse_filled(connection: Connection, database: Database, wanted: Any) -> None:  # noqa: ANN401  the row of the source's end
    where = database.where
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        hint = "create one with `createdb --encoding=UTF8 --template=template0 NAME`"
        raise InvalidInput(f"the encoding of the database is {encoding}, not UTF8", where=where, hint=hint)
    if connection.execute(text("SELECT current_schema()")).scalar_one() is None:
        hint = "create the schema, or set the role's search_path to one that exists"
        raise InvalidInput("the database has no schema to create tables in", where=where, hint=hint)
    hint = f"name an empty database in {OPTION}; `createdb NAME` creates one"
    if (schema := opening.recorded_schema(connection, database)) != 0:
        if schema == opening.NEWEST and connection.execute(_HEAD).first() == wanted:
            hint = "set `[ledger] url` to it; `distributor audit verify` verifies it"
            raise InvalidInput("the database has a copy of this ledger already, up to its last event", where=where, hint=hint)
        raise InvalidInput(f"the database has a ledger already (schema {schema})", where=where, hint=hint)
    if connection.execute(OURS).first() is not None or connection.execute(_FUNCTIONS).scalar_one():
        raise InvalidInput("the database is not empty", where=where, hint=hint)


# --- which ledger is used from now on ------------------------------------------------------------------------------


def may_repeat(connection: Connection, guard: CopyGuard, source: Database, url: str) -> bool:
    """Whether this ledger was copied to this very target before, which is empty: the copy did not finish.

    Raises InvalidInput for a ledger from which nothing may be sent: who copied it would decide that it is the one.
    """
    row = connection.execute(_HEAD).one_or_none()
    end = ChainEnd(0, ORIGIN, "") if row is None else ChainEnd(row.seq, str(row.hash), str(row.at))
    file = guard.name(connection)
    found = find_restored(connection, end, file.read() if file else None, guard.here if source.sqlite else None)
    if found is None:
        return False
    told = connection.execute(_LAST, {"seq": end.seq}).scalar_one_or_none()
    evidence = json.loads(told) if told is not None else {}
    if found.kind == COPIED and evidence.get("to") == _where(url) and not evidence.get("analysis"):
        return True
    raise InvalidInput(f"nothing was copied: {found.message}", where=source.where, hint=found.hint)


def _where(url: str) -> str:
    parsed = opening.parse_url(url)
    return str(_path(parsed)) if parsed.get_backend_name() == "sqlite" else opening.server(parsed).where


def record(tx: WriteTransaction, here: Machine, source: Database, target: Target, *, analysis: bool) -> None:
    """Write the event with which both ledgers end. Raises ServiceUnavailable while somebody packs or sends."""
    if leases.holders(tx.connection):
        held = leases.under_way(tx.connection, DeliveryFilter())
        who = f"process {held[0].owner.pid} of {held[0].by or held[0].owner.host} is sending" if held else "messages are being packed"
        hint = "stop `distributor send`, or wait until it is done, then run the command again"
        raise ServiceUnavailable(f"nothing was copied: {who}", where=source.where, hint=hint)
    evidence: dict[str, object] = {"from": source.where, "to": target.where, "host": here.host, "machine": here.id}
    in_use = tx.connection.dialect.name if analysis else target.kind
    tx.append([NewEvent(None, COPIED, evidence={**evidence, "in_use": in_use, "analysis": analysis})])
    tx.move_head()


# --- the rows ------------------------------------------------------------------------------------------------------


def fill(tx: WriteTransaction, source: Database, target: Target, progress: CopyProgress) -> Mapping[str, int]:
    """Write every row of the source, then read the target back; how many rows by table. Raises InvalidInput where anything differs."""
    tables = metadata.sorted_tables
    numbers = [tx.connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]
    progress.begin(2 * sum(numbers))
    with translated(target.where):
        target.connection.execute(delete(head))  # of the empty ledger
        written = {table.name: _written(_pages(tx.connection, source.where, table), target, table, progress) for table in tables}
        for table in tables:
            chain = _Chain() if table is event else None
            if _digest(_pages(target.connection, target.where, table), progress, chain) != written[table.name]:
                raise _differs(target, f'the rows of "{table.name}" are not those of the source')
            if chain is not None and (chain.seq, chain.hash) != (tx.seq, tx.hash):
                raise _differs(target, f"the chain of events is broken after event {chain.seq}")
    return {name: rows.number for name, rows in written.items()}


def _differs(target: Target, what: str) -> InvalidInput:
    return InvalidInput(f"nothing was copied: {what}", where=target.where, hint="run `distributor audit verify`, then try again")


@dataclass(frozen=True)
class _Rows:
    """How many, and the SHA-256 of them in the order of their keys."""

    number: int
    sha256: str


class _Chain:
    """The hash of each event with the one before; stays where the first does not fit."""

    def __init__(self) -> None:
        self.seq, self.hash = 0, ORIGIN

    def step(self, row: tuple[Any, ...]) -> None:
        link = Link._make(row)
        if link.seq == self.seq + 1 and digest(link, self.hash) == link.hash:
            self.seq, self.hash = link.seq, link.hash


Page = list[tuple[Any, ...]]
Pages = Generator[Page, None, None]
_names = count(1)  # of cursors


def _pages(connection: Connection, where: str, table: Table) -> Pages:
    """All rows in the order of their keys, which is that of their bytes in both kinds of databases."""
    sql = str(select(table).order_by(*table.primary_key).compile(dialect=connection.dialect))
    size = ROWS_WITH_BYTES if any(isinstance(column.type, LargeBinary) for column in table.columns) else ROWS
    on_server = connection.dialect.name != "sqlite"
    with translated(where), closing(engine.driver_cursor(connection, f"copy_{next(_names)}" if on_server else "")) as cursor:
        cursor.execute(sql)
        while page := cursor.fetchmany(size):
            yield page


def _digest(pages: Pages, progress: CopyProgress, chain: _Chain | None = None) -> _Rows:
    number, found = 0, sha256()
    with closing(pages):
        for page in pages:
            for row in page:
                found.update(repr(row).encode())
                if chain is not None:
                    chain.step(row)
            number += len(page)
            progress.step(len(page))
    return _Rows(number, found.hexdigest())


def _written(pages: Pages, target: Target, table: Table, progress: CopyProgress) -> _Rows:
    """Write the rows of a table as they come; what they were."""
    cursor = engine.driver_cursor(target.connection)
    compiled = insert(table).compile(dialect=target.connection.dialect)
    if target.kind == "sqlite":
        return _digest(_told(pages, lambda page: cursor.executemany(str(compiled), page)), progress)
    from psycopg import DataError  # noqa: PLC0415  an extra

    names = ", ".join(compiled.preparer.quote(column.name) for column in table.columns)
    try:
        with cursor.copy(f"COPY {compiled.preparer.format_table(table)} ({names}) FROM STDIN") as copy:

            def write(page: Page) -> None:
                for row in page:
                    copy.write_row(row)

            return _digest(_told(pages, write), progress)
    except DataError as error:
        raise _differs(target, f'a row of "{table.name}" cannot be stored there (SQLSTATE {error.sqlstate or "22021"})') from error


def _told(pages: Pages, write: Callable[[Page], object]) -> Pages:
    with closing(pages):
        for page in pages:
            write(page)
            yield page
