"""Somebody changes the schema: `verify` says what is gone, switched off, another one or not of this program; a new ledger has all of it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.ledger import schema_verification
from tests.ledger import known_schema
from tests.ledger.postgresql import Server
from tests.ledger.world import World, found

DEMO = Path(__file__).parents[1] / "data" / "ledgers" / "0003-demo.db.gz"
SO = ", so events could be modified or deleted"
GONE = f"is missing{SO}"
OTHER = f"is disabled or modified{SO}"
STRANGE = "was not created by distributor"


@pytest.fixture(autouse=True)
def migrated_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, function in known_schema.EACH_TIME.items():
        monkeypatch.setattr(schema_verification, name, function)


def names(world: World) -> list[str]:
    """The triggers of events, as the database has them."""
    sqlite = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'event'"
    server = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'event'::regclass AND NOT tgisinternal"
    return sorted(str(name) for (name,) in world.sql(sqlite if world.url.startswith("sqlite") else server))


@pytest.fixture
def server_world(postgresql: Server, empty_database: str) -> Iterator[World]:
    """A ledger in a database of its own, which no other test needs afterwards."""
    postgresql.empty(empty_database)
    name = postgresql.fresh(like=empty_database)
    world = World(postgresql.url(name))
    yield world
    world.close()


def test_every_trigger_that_is_dropped_is_missed(file_world: World, server_world: World) -> None:
    for world, number in ((file_world, 2), (server_world, 3)):
        there = names(world)
        assert len(there) == number
        on = "" if world is file_world else " ON event"
        findings = found(world, *(f"DROP TRIGGER {name}{on}" for name in there))
        assert sorted(findings) == [f'trigger "{name}": {GONE}' for name in there]


def test_triggers_that_are_switched_off_or_do_nothing_are_found(file_world: World, server_world: World) -> None:
    nothing = "CREATE TRIGGER event_is_never_removed BEFORE DELETE ON event BEGIN SELECT 1; END"
    assert found(file_world, "DROP TRIGGER event_is_never_removed", nothing) == [f'trigger "event_is_never_removed": {OTHER}']
    server_world.sql("ALTER TABLE event DISABLE TRIGGER event_is_kept")
    assert server_world.ledger.verify() == [f'trigger "event_is_kept": {OTHER}']
    server_world.sql("ALTER TABLE event ENABLE TRIGGER event_is_kept")
    assert server_world.ledger.verify() == []


def test_a_function_that_lets_everything_pass_is_found(server_world: World) -> None:
    server_world.sql("CREATE OR REPLACE FUNCTION event_is_never_changed() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$")
    findings = [str(line) for line in server_world.ledger.verify()]
    assert findings[0] == 'function "event_is_never_changed()": is modified'
    assert [line.partition(": ")[2] for line in findings[1:]] == [OTHER] * 3


KEEPS = "INSERT INTO stash SELECT old.sealed"  # what a password's destruction was to take away
FILE = [
    ("CREATE TABLE stash (sealed BLOB)", f'table "stash": {STRANGE}'),
    (f"CREATE TRIGGER keep BEFORE UPDATE ON handover BEGIN {KEEPS}; END", f'trigger "handover.keep": {STRANGE}'),
    ("CREATE VIEW seen AS SELECT * FROM handover", f'view "seen": {STRANGE}'),
    ("CREATE INDEX quick ON event (at)", f'index "quick": {STRANGE}'),
    ("CREATE UNIQUE INDEX once ON person (name)", f'index "once": {STRANGE}'),
    ("ALTER TABLE handover ADD COLUMN old BLOB", 'table "handover": is modified'),
    ("DROP INDEX delivery_by_certificate", 'index "delivery_by_certificate": is missing'),
]


@pytest.mark.parametrize(("statement", "finding"), FILE, ids=[statement[:20] for statement, _ in FILE])
def test_what_somebody_adds_to_a_file_or_takes_away_is_found(file_world: World, statement: str, finding: str) -> None:
    assert found(file_world, statement) == [finding]


def test_an_index_that_leaves_rows_out_is_found(file_world: World) -> None:
    partial = "CREATE INDEX event_of_revocation ON event (delivery) WHERE event IN ('revoked', 'released') AND seq > 100"
    assert found(file_world, "DROP INDEX event_of_revocation", partial) == ['index "event_of_revocation": is modified']


def test_a_constraint_that_was_taken_away_by_rewriting_the_schema_is_found(file_world: World) -> None:
    findings = found(
        file_world,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'sealed IS NULL OR', '1 OR') WHERE name = 'handover'",
    )
    assert 'table "handover": is modified' in findings


def test_statistics_of_the_database_itself_are_no_finding(file_world: World) -> None:
    file_world.queue("anna")
    file_world.sql("ANALYZE")
    assert file_world.ledger.verify() == []


DO_NOTHING = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$"
SERVER = [
    (["CREATE TABLE stash (sealed bytea)"], f'table "stash": {STRANGE}'),
    (
        [DO_NOTHING, "CREATE TRIGGER keep BEFORE UPDATE ON handover FOR EACH ROW EXECUTE FUNCTION keep()"],
        f'trigger "handover.keep": {STRANGE}',
    ),
    (["CREATE VIEW seen AS SELECT * FROM handover"], f'table "seen": {STRANGE}'),
    (["CREATE RULE keep AS ON UPDATE TO handover DO INSTEAD NOTHING"], f'rule "handover.keep": {STRANGE}'),
    (["CREATE INDEX quick ON event (at)"], f'index "quick": {STRANGE}'),
    (["ALTER TABLE handover ADD COLUMN old bytea"], f'column "handover.old": {STRANGE}'),
    (["ALTER TABLE person ALTER COLUMN phone SET DEFAULT 'x'"], 'column "person.phone": is modified'),
    (["ALTER TABLE handover DROP CONSTRAINT handover_sealed"], 'constraint "handover.handover_sealed": is missing'),
    (["DROP INDEX delivery_by_certificate"], 'index "delivery_by_certificate": is missing'),
    (["ALTER TABLE delivery ENABLE ROW LEVEL SECURITY"], 'table "delivery": is modified'),
    (["CREATE SCHEMA other", "CREATE TABLE other.more () INHERITS (event)"], f'inheriting table "event.other.more": {STRANGE}'),
]


@pytest.mark.parametrize(("statements", "finding"), SERVER, ids=[statements[-1][:20] for statements, _ in SERVER])
def test_what_somebody_adds_to_a_server_or_takes_away_is_found(server_world: World, statements: list[str], finding: str) -> None:
    assert finding in found(server_world, *statements)
    assert server_world.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'distributor%'") == [(0,)]


def test_foreign_keys_that_are_not_looked_after_are_found(server_world: World) -> None:
    findings = found(server_world, "ALTER TABLE event DISABLE TRIGGER ALL")
    assert any(line.startswith("foreign key's trigger \"event.event_delivery_fkey") for line in findings)


def test_a_role_that_may_make_no_schema_looks_at_the_triggers_and_says_so(server_world: World, postgresql: Server) -> None:
    (database,) = server_world.sql("SELECT current_database()")[0]
    postgresql.run(
        str(database),
        "DROP ROLE IF EXISTS auditor",
        "CREATE ROLE auditor LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor",
    )
    less = World.existing(server_world.url.replace(f"//{postgresql.user}@", "//auditor@"))
    proof = less.ledger.prove()
    assert proof.findings == ()
    (note,) = proof.notes
    assert note.startswith("only the triggers of `event` were checked")
    server_world.sql("ALTER TABLE event DISABLE TRIGGER event_is_kept")
    assert less.ledger.verify() == [f'trigger "event_is_kept": {OTHER}']
    less.close()
    postgresql.run(str(database), "DROP OWNED BY auditor", "DROP ROLE auditor")


def test_an_upgraded_ledger_has_the_schema_of_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(DEMO.read_bytes()))
    path.chmod(0o600)
    world = World.existing(f"sqlite:///{path}")
    assert world.ledger.prove().findings == ()
    world.close()
