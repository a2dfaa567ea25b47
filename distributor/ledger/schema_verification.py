"""The database's whole schema -> what of it is not as the migrations make it: tables, columns, constraints, indexes, triggers and so on.

A trigger of somebody else can keep what this program destroys, and an index or a view can hide rows. The migrations themselves are run
into a second, empty place, and both are described alike: in memory for SQLite, on a server in a schema that is rolled back.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from distributor.ledger import opening
from distributor.ledger.engine import Database
from distributor.ledger.sqlite import sqlite3

SO = ", so events could be modified or deleted"
UNCOMPARED = "only the triggers of `event` were checked: this role may not create a schema to compare all of it with ({})"
_OF_EVENTS = frozenset({"event_is_kept", "event_is_never_removed", "event_is_never_emptied"})
_MASTER = text("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite~_stat%' ESCAPE '~'")  # what ANALYZE makes
_QUOTED = re.compile(r'"([a-z_][a-z0-9_]*)"')


class _Name(NamedTuple):
    kind: str
    table: str  # whose part it is; of a table or view its own name
    name: str

    def __str__(self) -> str:
        whole = self.name == self.table or not self.table or self.name in _OF_EVENTS or self.kind == "index"
        return f'{self.kind} "{self.name if whole else f"{self.table}.{self.name}"}"'


Objects = Mapping[_Name, str]  # how each is defined


def verify_schema(database: Database, note: Callable[[str], None]) -> Iterator[str]:
    """Everything that is wrong with the schema; `note` is told what could not be looked at."""
    if database.sqlite:
        with database.reading() as connection:
            found = _in_file(connection)
        yield from _differences(found, _fresh_file())
        return
    with database.reading() as connection:
        yield from list(_on_server(connection, note))


def _differences(found: Objects, wanted: Objects) -> Iterator[str]:
    tables = {name.table for name in found if name.name == name.table} ^ {name.table for name in wanted if name.name == name.table}
    for name in sorted(found.keys() | wanted.keys()):
        if name.table in tables and name.name != name.table:
            continue  # a part of what is gone or strange as a whole
        if name not in found:
            yield f"{name}: is missing{_so(name)}"
        elif name not in wanted:
            yield f"{name}: was not created by distributor"
        elif found[name] != wanted[name]:
            how = "is disabled or modified" if "trigger" in name.kind else "is modified"
            yield f"{name}: {how}{_so(name)}"


def _so(name: _Name) -> str:
    return SO if name.name in _OF_EVENTS else ""


# --- in a file -------------------------------------------------------------------------------------------------------


def _in_file(connection: Connection) -> Objects:
    return {_Name(kind, table, name): _plain(sql) for kind, name, table, sql in connection.execute(_MASTER)}


def _plain(sql: str | None) -> str:
    """A definition without what versions of SQLite and of SQLAlchemy write differently: white space, and quotes around plain names."""
    return _QUOTED.sub(r"\1", " ".join(str(sql).split()))


def _fresh_file() -> Objects:
    engine = create_engine("sqlite://", module=sqlite3)
    try:
        with engine.begin() as connection:
            opening.upgrade(connection)
            return _in_file(connection)
    finally:
        engine.dispose()


# --- on a server -----------------------------------------------------------------------------------------------------


def _on_server(connection: Connection, note: Callable[[str], None]) -> Iterator[str]:
    """Both schemas are described from inside, so that their names do not stand in the definitions."""
    found = _described(connection)
    trial = connection.begin_nested()
    try:
        name = f"distributor_{secrets.token_hex(8)}"
        connection.execute(text(f'CREATE SCHEMA "{name}"'))
        connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": name})
        opening.upgrade(connection)
        wanted = _described(connection)
    except DBAPIError as error:
        trial.rollback()
        note(UNCOMPARED.format(str(error.orig).splitlines()[0]))
        return trigger_faults(connection)
    trial.rollback()
    return _differences(found, wanted)


def _described(connection: Connection) -> Objects:
    ours = [row[0] for row in connection.execute(OURS)]
    found: dict[_Name, str] = {}
    for kind, query in _CATALOGUE.items():
        for table, name, *definition in connection.execute(text(query), {"ours": ours} if ":ours" in query else {}):
            found[_Name(kind, table, name)] = " | ".join(map(_shown, definition))
    return found


def _shown(value: Any) -> str:  # noqa: ANN401  whatever a catalogue holds
    return value.decode() if isinstance(value, bytes) else str(value)  # the driver gives a "char" as bytes


OURS = text(  # what belongs to an extension is not of interest
    "SELECT CAST(c.oid AS bigint) FROM pg_class c WHERE c.relnamespace = CAST(current_schema() AS regnamespace) "
    "AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') "
    "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = CAST('pg_class' AS regclass) AND d.objid = c.oid AND d.deptype = 'e')"
)
_CATALOGUE = {
    "table": """
        SELECT c.relname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, pg_get_viewdef(c.oid)
        FROM pg_class c WHERE c.oid = ANY(CAST(:ours AS oid[]))""",
    "column": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, l.collname,
            pg_get_expr(e.adbin, e.adrelid, true)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_attrdef e ON e.adrelid = c.oid AND e.adnum = a.attnum
        WHERE c.oid = ANY(CAST(:ours AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraint": """
        SELECT c.relname, k.conname, pg_get_constraintdef(k.oid, true), k.convalidated
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE c.oid = ANY(CAST(:ours AS oid[]))""",
    "index": """
        SELECT c.relname, i.relname, pg_get_indexdef(i.oid, 0, true), x.indisvalid, x.indisready, x.indislive
        FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
        WHERE c.oid = ANY(CAST(:ours AS oid[]))""",
    "trigger": """
        SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid, true), t.tgenabled IN ('O', 'A'), p.prosrc, p.prosecdef, p.proconfig
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE c.oid = ANY(CAST(:ours AS oid[])) AND NOT t.tgisinternal""",
    "foreign key's trigger": """
        SELECT c.relname, coalesce(k.conname, t.tgname) || ' ' || t.tgtype, t.tgenabled, CAST(t.tgfoid AS regproc)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
        WHERE c.oid = ANY(CAST(:ours AS oid[])) AND t.tgisinternal""",
    "rule": """
        SELECT c.relname, r.rulename, pg_get_ruledef(r.oid, true), r.ev_enabled
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.oid = ANY(CAST(:ours AS oid[]))""",
    "policy": """
        SELECT c.relname, p.polname, p.polcmd, p.polpermissive, pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid)
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.oid = ANY(CAST(:ours AS oid[]))""",
    "inheriting table": """
        SELECT c.relname, CAST(CAST(h.inhrelid AS regclass) AS text)
        FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhparent WHERE c.oid = ANY(CAST(:ours AS oid[]))""",
    "function": """
        SELECT '', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', p.prosrc, l.lanname, p.prosecdef, p.proconfig
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = CAST(current_schema() AS regnamespace) AND NOT EXISTS
            (SELECT FROM pg_depend d WHERE d.classid = CAST('pg_proc' AS regclass) AND d.objid = p.oid AND d.deptype = 'e')""",
}


# --- on a server where this role may make no schema ----------------------------------------------------------------------
# Only the triggers that keep events from being changed are compared, with the texts of `migrations/` as the server tells them; a test holds
# the two together.


_KEPT = ("seq", "at", "delivery", "event", "before", "after", "by", "evidence", "commitment", "hash")
_BODY = "BEGIN RAISE EXCEPTION USING MESSAGE = 'an event is never changed or removed'; END"
_UNTOUCHED = " AND ".join(f"NOT new.{c} IS DISTINCT FROM old.{c}" for c in _KEPT)
_POSTGRESQL = {
    "event_is_kept": "BEFORE UPDATE ON event FOR EACH ROW "
    f"WHEN NOT {_UNTOUCHED} AND new.personal IS NULL AND new.salt IS NULL EXECUTE FUNCTION event_is_never_changed",
    "event_is_never_removed": "BEFORE DELETE ON event FOR EACH ROW EXECUTE FUNCTION event_is_never_changed",
    "event_is_never_emptied": "BEFORE TRUNCATE ON event FOR EACH STATEMENT EXECUTE FUNCTION event_is_never_changed",
}
_ASK_POSTGRESQL = text(
    "SELECT t.tgname, t.tgenabled IN ('O', 'A'), pg_get_triggerdef(t.oid, true), p.prosrc "
    "FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = 'event'::regclass AND NOT t.tgisinternal"
)


def trigger_faults(connection: Connection) -> Iterator[str]:
    """Everything that is wrong with them."""
    found = _triggers(connection)
    for name, definition in _POSTGRESQL.items():
        if name not in found:
            yield f'trigger "{name}": is missing{SO}'
        elif found[name] != definition:
            yield f'trigger "{name}": is disabled or modified{SO}'


def _triggers(connection: Connection) -> dict[str, str]:
    """What is switched off, or calls another function, has no definition."""
    rows = connection.execute(_ASK_POSTGRESQL)
    return {name: _without_names(definition) if enabled and body == _BODY else "" for name, enabled, definition, body in rows}


def _without_names(definition: str) -> str:
    """The server's own writing of a trigger without parentheses, quotes, schema and name."""
    words = re.sub(r'[()"]', " ", definition).split()
    place = words.index("ON") + 1
    words[place] = words[place].rpartition(".")[2]
    return " ".join(words[3:])
