"""Somebody edits a ledger by hand, any column of any row or whole rows; `verify` finds it, alone or beside an earlier export."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import LargeBinary

from distributor.errors import InvalidInput
from distributor.ledger import open_ledger, verification
from distributor.ledger.sqlite import sqlite3
from distributor.ledger.tables import metadata
from distributor.model.audit_log import ORIGIN, ExportComparison, Link, digest
from distributor.workflows import audit
from tests.ledger import every_row
from tests.ledger.world import Clock

UNCOVERED = {  # columns that may be changed unnoticed, and why
    ("plan", "at"): "nothing reads when a plan began; its deliveries have times of their own",
    ("delivery", "lease_until"): "how long a claim lasts; a wrong one is an early or late recovery, which is an event",
    ("mailbox", "name"): "how far a mailbox was read: what was read has events of its own",
    ("mailbox", "position"): "as its name",
    ("session", "token"): "who is signed in to the portal now; what they do has events of its own",
    ("session", "created"): "as its token",
    ("session", "seen"): "as its token",
    ("session", "data"): "as its token",
}
TABLES = {table.name: table for table in metadata.sorted_tables}
COLUMNS = [(table.name, column.name) for table in metadata.sorted_tables for column in table.columns]


class Ledger:
    """A ledger in a file, what it was exported to, and a copy of it to be edited."""

    def __init__(self, folder: Path) -> None:
        self.whole, self.edited = folder / "whole.db", folder / "edited.db"
        world = every_row.write(f"sqlite:///{self.whole}")
        self.export: list[str] = []
        audit.export(world.ledger.records(), "jsonl", self.export.append)
        world.close()
        with closing(sqlite3.connect(self.whole)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")

    def fresh(self) -> sqlite3.Connection:
        """The copy as it was, without triggers and constraints that would keep somebody from editing it."""
        shutil.copy(self.whole, self.edited)
        connection = sqlite3.connect(self.edited, isolation_level=None)
        connection.execute("PRAGMA ignore_check_constraints=ON")
        self.triggers = [tuple(row) for row in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")]
        for name, _ in self.triggers:
            connection.execute(f"DROP TRIGGER {name}")
        return connection

    def findings(self, *, beside: bool = False) -> list[str]:
        """What `verify` says of the copy."""
        with closing(sqlite3.connect(self.edited)) as connection, connection:
            for _, sql in self.triggers:
                connection.execute(sql)
        try:
            ledger = open_ledger(f"sqlite:///{self.edited}", by="auditor", now=Clock())
        except InvalidInput as error:  # a word that the column cannot have
            return [str(error)]
        with closing(ledger):
            return list(ledger.prove([ExportComparison("export", audit.earlier(self.export))] if beside else []).findings)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return Ledger(tmp_path_factory.mktemp("every-row"))


@pytest.fixture(autouse=True)
def _schema_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here changes the schema, and comparing it takes longer than all the rest."""
    monkeypatch.setattr(verification, "verify_schema", lambda *_: iter(()))


def other(table: str, column: str, value: str | float | bytes | None) -> object:
    """Another value that the column could have."""
    kind = TABLES[table].c[column].type
    if value is None:
        return b"x" if isinstance(kind, LargeBinary) else "0" if str(kind) != "INTEGER" else 1
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1]) if value else b"x"
    return value + 1000 if isinstance(value, int) else f"{value}0"


def rows(connection: sqlite3.Connection, table: str, column: str) -> list[tuple[int, Any]]:
    """Row ids, each with the column's value."""
    readable = "WHERE key_sha256 IS NOT NULL" if table == "certificate" else ""  # the other certificates here are none
    return connection.execute(f'SELECT rowid, "{column}" FROM {table} {readable}').fetchall()  # noqa: S608  names of ours


def test_the_ledger_has_rows_of_every_kind(ledger: Ledger) -> None:
    with closing(ledger.fresh()) as connection:
        empty = [table for table in TABLES if connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)]  # noqa: S608
        never = [
            f"{table}.{column}"
            for table, column in COLUMNS
            if connection.execute(f'SELECT count("{column}") FROM {table}').fetchone() == (0,)  # noqa: S608
        ]
    assert (empty, never) == (
        [],
        ["checkpoint.token"],
    )  # a time stamp needs an authority: see tests/ledger/test_checkpoints.py


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[".".join(one) for one in COLUMNS])
def test_every_column_is_covered_or_has_a_reason(ledger: Ledger, table: str, column: str) -> None:
    with closing(ledger.fresh()) as connection:
        places = list({value is None: (place, value) for place, value in rows(connection, table, column)}.values())
    unnoticed = []
    for place, value in places:
        with closing(ledger.fresh()) as connection:
            connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (other(table, column, value), place))  # noqa: S608
        if not ledger.findings():
            unnoticed.append(value)
    assert (unnoticed == []) is ((table, column) not in UNCOVERED)


# --- at random -------------------------------------------------------------------------------------------------------

EDITED = [one for one in COLUMNS if one not in UNCOVERED]
PICK = st.integers(0, 2**16)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.sampled_from(EDITED), pick=PICK, from_another=st.booleans())
def test_any_edit_is_found(ledger: Ledger, which: tuple[str, str], pick: int, *, from_another: bool) -> None:
    """A value is changed, or taken from another row of the table."""
    table, column = which
    with closing(ledger.fresh()) as connection:
        found = rows(connection, table, column)
        place, value = found[pick % len(found)]
        others = [theirs for _, theirs in found if theirs != value]
        new = others[pick % len(others)] if from_another and others else other(table, column, value)
        try:
            connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (new, place))  # noqa: S608
        except sqlite3.IntegrityError:  # the database itself refuses it
            return
    assert ledger.findings(), (table, column, value, new)


# nothing in the ledger tells that a checkpoint was there: what was published elsewhere does
KEPT = sorted(set(TABLES) - {"mailbox", "session", "owner", "authority", "plan", "checkpoint"})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.sampled_from(KEPT), pick=PICK)
def test_a_row_that_was_removed_is_found(ledger: Ledger, table: str, pick: int) -> None:
    with closing(ledger.fresh()) as connection:
        gone = [row[0] for row in connection.execute(f"SELECT rowid FROM {table}")]  # noqa: S608  names of ours
        if table == "outbox":  # messages that were accepted leave it with age
            states = "('claimed', 'queued', 'deferred', 'ambiguous')"
            asked = f"SELECT o.rowid FROM outbox o JOIN delivery d ON d.id = o.delivery WHERE d.state IN {states}"  # noqa: S608
            gone = [row[0] for row in connection.execute(asked)]
        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (gone[pick % len(gone)],))  # noqa: S608
    assert ledger.findings()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.sampled_from(sorted({*KEPT, "checkpoint"} - {"head", "certificate"})), pick=PICK)
def test_a_row_that_was_copied_is_found(ledger: Ledger, table: str, pick: int) -> None:
    """Under another name, as the keys ask for."""
    columns = list(TABLES[table].columns)
    with closing(ledger.fresh()) as connection:
        names = ", ".join(f'"{column.name}"' for column in columns)
        found = connection.execute(f"SELECT {names} FROM {table}").fetchall()  # noqa: S608  names of ours
        values = list(found[pick % len(found)])
        for place, column in enumerate(columns):
            if column.name in {"id", "key", "seq", "size", "message_id", "place", "subject", "issuer", "generation"} or (
                column.primary_key and table in {"outbox", "handover"}
            ):
                values[place] = 10**6 if isinstance(values[place], int) else f"{values[place]}-copy"
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
    assert ledger.findings()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pick=PICK, two=PICK)
def test_events_that_changed_places_are_found(ledger: Ledger, pick: int, two: int) -> None:
    with closing(ledger.fresh()) as connection:
        (number,) = connection.execute("SELECT count(*) FROM event").fetchone()
        one, other_ = pick % number + 1, two % number + 1
        for old, new in ((one, -1), (other_, one), (-1, other_)):
            connection.execute("UPDATE event SET seq = ? WHERE seq = ?", (new, old))
    assert bool(ledger.findings()) is (one != other_)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pick=PICK, cut=st.booleans(), edit=st.booleans())
def test_a_whole_rewrite_is_found_beside_an_export(ledger: Ledger, pick: int, *, cut: bool, edit: bool) -> None:
    """Every hash and the end are computed anew: without the export only the rows tell, if the edit shows in any."""
    with closing(ledger.fresh()) as connection:
        (number,) = connection.execute("SELECT count(*) FROM event").fetchone()
        at = pick % number + 1
        if cut:
            connection.execute("DELETE FROM event WHERE seq > ?", (at,))
        if edit:
            connection.execute('UPDATE event SET "by" = ? WHERE seq = ?', ("eve@host", at))
        recompute(connection)
    changed = edit or (cut and at < number)
    assert bool(ledger.findings(beside=True)) is changed


def recompute(connection: sqlite3.Connection) -> None:
    """Give every event the hash that it must have, and the head the last one's."""
    names = ", ".join(f'"{name}"' for name in Link._fields)
    link, prev = None, ORIGIN
    for row in connection.execute(f"SELECT {names} FROM event ORDER BY seq").fetchall():  # noqa: S608  names of ours
        link = Link._make(row)
        prev = digest(link, prev)
        connection.execute("UPDATE event SET hash = ? WHERE seq = ?", (prev, link.seq))
    assert link is not None
    connection.execute("UPDATE head SET seq = ?, at = ?, hash = ?", (link.seq, link.at, prev))
