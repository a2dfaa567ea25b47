"""A database URL -> a Database whose schema is the program's; and what `doctor` says of a server's durability."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError

from distributor.errors import InvalidInput, NoLedger
from distributor.ledger import sqlite
from distributor.ledger.engine import Database, translated
from distributor.model import redaction
from distributor.model.issues import Diagnostic

# --- schema --------------------------------------------------------------------------------
# Which schema a database has, and the way from there to the program's own.


NEWEST = 13  # the number of the last step in migrations/versions; SQLite keeps it in user_version too
_UPGRADING = 0x64737472  # the advisory lock that orders upgrades on PostgreSQL


def bring_up_to_date(database: Database, *, create: bool) -> None:
    """Check that the database is ours and not newer; upgrade an older one, make an empty one if `create`."""
    with database.reading() as connection:
        found = _found(connection, database)
        if database.sqlite and found:
            _quick_check(connection, database)
    if found == NEWEST:
        return
    if not found and not create:
        how = (
            "or move this file away and run `distributor init` to create an empty ledger"
            if database.sqlite
            else "or run `distributor init` to create one here"
        )
        hint = f"check `ledger.url`, restore a backup (see docs/restore.md#an-empty-or-missing-ledger), {how}"
        raise NoLedger("no ledger in it yet", where=database.where, hint=hint)
    with database.writing() as connection:
        if not database.sqlite:
            wait_for_upgrades(connection)
        if _found(connection, database) != NEWEST:
            upgrade(connection)


def wait_for_upgrades(connection: Connection) -> None:
    """On a server: until this transaction ends, nobody else makes or upgrades a ledger in this database."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADING})


def _found(connection: Connection, database: Database) -> int:
    """The schema's number, 0 when there is nothing at all; raises when it is foreign or newer."""
    found = _in_file(connection, database) if database.sqlite else recorded_schema(connection, database)
    if found > NEWEST:
        raise InvalidInput(
            f"the ledger was written by a newer distributor (schema {found}, this one supports {NEWEST})",
            where=database.where,
            hint="upgrade distributor on this machine",
        )
    return found


def _in_file(connection: Connection, database: Database) -> int:
    application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    if application == sqlite.APPLICATION:
        return max(int(connection.exec_driver_sql("PRAGMA user_version").scalar_one()), recorded_schema(connection, database))
    if application or connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
        raise InvalidInput("the database belongs to another program", where=database.where, hint="check `ledger.url`")
    return 0


def recorded_schema(connection: Connection, database: Database) -> int:
    """The schema's number by the table that the migrations keep, 0 where there is none. Raises InvalidInput for one that is not ours."""
    if not inspect(connection).has_table("alembic_version"):
        return 0
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if found and not found.isdecimal():  # our steps are numbers
        hint = "upgrade distributor on this machine, or check `ledger.url`"
        raise InvalidInput(f'its schema "{found}" belongs to a newer distributor or another program', where=database.where, hint=hint)
    return int(found) if found else 0


def _quick_check(connection: Connection, database: Database) -> None:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one() * connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    if pages <= sqlite.SMALL and connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one() != "ok":
        hint = "stop using it, keep a copy, and restore the latest backup (see docs/restore.md#restore-step-by-step)"
        raise InvalidInput("the ledger is damaged", where=database.where, hint=hint)


def upgrade(connection: Connection) -> None:
    """Run the steps that a database lacks, inside the transaction that is open."""
    from alembic import command  # noqa: PLC0415  needed once in the life of a schema
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id={sqlite.APPLICATION}")
        connection.exec_driver_sql(f"PRAGMA user_version={NEWEST}")


def open_database(url: str, *, create: bool) -> Database:
    """Open the file or server, refuse what is not ours, bring an older schema up to date."""
    parsed = parse_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            database = _file(parsed, create=create)
        case "postgresql":
            database = server(parsed)
        case other:
            raise InvalidInput(f'"{other}" is not a supported database', where="ledger.url", hint="use sqlite or postgresql")
    try:
        with translated(database.where):
            bring_up_to_date(database, create=create)
    except BaseException:
        database.close()
        raise
    return database


def parse_url(url: str) -> URL:
    """The parts of a URL. One whose password is not escaped would be read otherwise than it is meant: refused, and never shown."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        hint = "write sqlite:///distributor.db or postgresql+psycopg://..."
        raise InvalidInput("not a database URL", where="ledger.url", hint=hint) from None
    if parsed.get_backend_name() != "sqlite" and not redaction.is_unambiguous(url):
        hint = "in a user or password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
        raise InvalidInput("the user, password or query has unescaped characters", where="ledger.url", hint=hint)
    return parsed


def _file(url: URL, *, create: bool) -> Database:
    if not url.database or url.database == ":memory:":
        raise InvalidInput("the file name is missing", where="ledger.url", hint="write sqlite:///distributor.db")
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
            bring_up_to_date(database, create=True)
        finally:
            database.close()


def server(url: URL) -> Database:
    """A database on a server; not connected yet. Raises InvalidInput where the driver is not installed."""
    named = url.query.get("host", ())  # several hosts, of which one is the primary; or a socket's folder
    hosts = [f"{url.host}:{url.port}" if url.port else url.host] if url.host else [named] if isinstance(named, str) else named
    where = f"postgresql://{','.join(host for host in hosts if '/' not in host) or 'localhost'}/{url.database or ''}"
    url = url.set(drivername="postgresql+psycopg")
    network = {name: str(url.query.get(name, usual)) for name, usual in _NETWORK.items()}
    try:
        made = create_engine(url, pool_size=1, max_overflow=0, isolation_level="READ COMMITTED", connect_args=network)
        _say_once()
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "PostgreSQL needs psycopg, which is not installed", where=where, hint="pip install 'distributor[postgresql]'"
        ) from error

    def begin_session(connection: Any, _record: object) -> None:  # noqa: ANN401  a driver's connection
        """Commits wait for the disk, whatever a role or a database sets; the server notices a dead client as the client would."""
        connection.execute(SESSION, [network[name] for name in _ON_THE_SERVER.values()])
        connection.commit()  # a setting that is rolled back was never made

    event.listen(made, "connect", begin_session)
    return Database(made, where)


def _say_once() -> None:
    """Errors of the driver are reported by us; its own messages about them (a pipeline that ended with the server) only go to the log.

    Without a handler Python would print them on standard error.
    """
    for name in ("psycopg", "sqlalchemy.pool"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


# --- durability on a server ---------------------------------------------------------------------------------------
# Whether what a database server has committed stays committed -> what `doctor` says of it.
#
# The event that is written before a message leaves must survive a crash of the server, or the message is sent twice after it.


_NETWORK = {  # of libpq, and so of the URL's query; with the usual hours a host that is cut off would keep its mailboxes as long
    "connect_timeout": "10",  # seconds, as the next two
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",  # milliseconds
}
_ON_THE_SERVER = {f"tcp_{name}" if name.startswith("keep") else name: name for name in list(_NETWORK)[1:]}  # setting -> libpq's name
SESSION = (  # stronger than "on" stays; otherwise nothing that a role or a database sets counts here
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
    + "".join(f", set_config('{setting}', %s, false)" for setting in _ON_THE_SERVER)
)
_DURABLE = frozenset({"on", "remote_apply"})
_ASK = text(
    "SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),"
    " (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'), current_setting('synchronous_standby_names')"
)
_STANDBYS = text("SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication")


def durability(connection: Connection) -> Iterator[Diagnostic]:
    """What is wrong with a server, or that nothing is."""
    standby, fsync, pages, ours, theirs, names = connection.execute(_ASK).one()
    if standby:
        hint = "name the primary server in `ledger.url`"
        yield Diagnostic("ledger", "error", "the database is a read-only standby server", hint)
        return
    found = [*_settings(fsync, pages, ours), *_replication(connection, names)]
    yield from found
    if theirs not in _DURABLE:
        hint = "no action needed: distributor overrides it in its own session"
        yield Diagnostic(
            "ledger", "warning", f"synchronous_commit is {theirs} for this role or database; distributor writes with {ours}", hint
        )
    if not found:
        yield Diagnostic("ledger", "ok", f"the database server commits durably (fsync on, synchronous_commit {ours})")


def _settings(fsync: str, pages: str, ours: str) -> Iterator[Diagnostic]:
    if fsync != "on":
        hint = "set fsync = on in postgresql.conf and restart the server"
        yield Diagnostic(
            "ledger", "error", "fsync is off: after a server crash, messages may be sent twice or the ledger may be damaged", hint
        )
    if pages != "on":
        hint = "set full_page_writes = on in postgresql.conf and reload the server"
        yield Diagnostic("ledger", "warning", "full_page_writes is off: a power failure may damage the ledger", hint)
    if ours not in _DURABLE:
        hint = "connect directly: a pooler or proxy in between resets the session"
        yield Diagnostic("ledger", "error", f"synchronous_commit is {ours} in distributor's own session", hint)


def _replication(connection: Connection, names: str) -> Iterator[Diagnostic]:
    every, sync = connection.execute(_STANDBYS).one()
    if names and not sync:
        hint = "start the standby, or remove it from synchronous_standby_names"
        yield Diagnostic("ledger", "error", f'no synchronous standby is connected ("{names}"): every commit waits for one', hint)
    if every and not names:
        hint = "name a standby in synchronous_standby_names; after a failover, see docs/restore.md#postgresql-a-promoted-replica"
        standbys = f"{every} standby" if every == 1 else f"{every} standbys"
        message = f"{standbys}, none synchronous: a failover loses the last events, and their messages would be sent again"
        yield Diagnostic("ledger", "warning", message, hint)
