"""Which schema a database has, and the way from there to the program's own."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from distributor.errors import InvalidInput, NoLedger
from distributor.ledger import sqlite
from distributor.ledger.engine import Database

NEWEST = 6  # the number of the last step in migrations/versions; SQLite keeps it in user_version too
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
        how = "once it is moved away, `distributor init` makes an empty ledger" if database.sqlite else "`distributor init` makes one here"
        hint = f"check `ledger.url`, or restore a backup (docs/restore.md); {how}"
        raise NoLedger("this holds no ledger yet", where=database.where, hint=hint)
    with database.writing() as connection:
        if not database.sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADING})
        if _found(connection, database) != NEWEST:
            upgrade(connection)


def _found(connection: Connection, database: Database) -> int:
    """The schema's number, 0 when there is nothing at all; raises when it is foreign or newer."""
    found = _in_file(connection, database) if database.sqlite else _by_alembic(connection, database)
    if found > NEWEST:
        raise InvalidInput(
            f"the ledger was written by a newer distributor (schema {found}, this one knows {NEWEST})",
            where=database.where,
            hint="upgrade distributor on this machine",
        )
    return found


def _in_file(connection: Connection, database: Database) -> int:
    application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    if application == sqlite.APPLICATION:
        return max(int(connection.exec_driver_sql("PRAGMA user_version").scalar_one()), _by_alembic(connection, database))
    if application or connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
        raise InvalidInput("this is a database of another program", where=database.where, hint="check `ledger.url`")
    return 0


def _by_alembic(connection: Connection, database: Database) -> int:
    if not inspect(connection).has_table("alembic_version"):
        return 0
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if found and not found.isdecimal():  # our steps are numbers
        hint = "upgrade distributor on this machine, or check `ledger.url`"
        raise InvalidInput(f'its schema "{found}" is of a newer distributor, or of another program', where=database.where, hint=hint)
    return int(found) if found else 0


def _quick_check(connection: Connection, database: Database) -> None:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one() * connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    if pages <= sqlite.SMALL and connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one() != "ok":
        hint = "stop using it, keep a copy, and restore the latest backup (docs/restore.md)"
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
