"""What the migrations make is what the program uses; an older ledger is brought up to date, a newer one is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from distributor.errors import InvalidInput
from distributor.ledger import migrations, open_ledger, opening, sqlite, tables
from distributor.ledger.sqlite import sqlite3
from distributor.model.states import PasswordState, State
from tests.ledger.world import EVERYTHING, Clock, World, draft

SNAPSHOTS = Path(__file__).parent / "schemas"


def differences(url: str) -> list[object]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": False})
            return [found for found in compare_metadata(context, tables.metadata) if "alembic_version" not in repr(found)]
    finally:
        engine.dispose()


@pytest.mark.filterwarnings("ignore:.*expression-based index")  # SQLite's, which `verify_schema` compares
def test_the_migrations_make_the_tables_the_program_uses(url: str) -> None:
    assert differences(url) == []


def test_the_number_of_the_schema_is_that_of_the_last_migration() -> None:
    (folder,) = migrations.__path__
    assert ScriptDirectory(folder).get_current_head() == f"{opening.NEWEST:04}"


def test_the_database_refuses_states_that_are_not_ours(world: World) -> None:
    world.accepted()
    for table, words in (("delivery", State), ("handover", PasswordState)):
        for word in words:
            world.sql(f"UPDATE {table} SET state = '{word}'" + (", sealed = NULL" if table == "handover" else ""))  # noqa: S608  names of ours
        with pytest.raises(Exception, match=f"{table}_state"):
            world.sql(f"UPDATE {table} SET state = 'lost'")  # noqa: S608  names of ours
    world.spoiled = True


@pytest.mark.parametrize("snapshot", sorted(SNAPSHOTS.glob("*.sql")), ids=lambda path: path.stem)
def test_every_older_schema_is_brought_up_to_date_with_its_rows(tmp_path: Path, snapshot: Path, empty_file: Path) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript(snapshot.read_text(encoding="utf-8"))
    connection.close()
    ledger = open_ledger(f"sqlite:///{path}", by="root@host", now=Clock())
    assert ledger.verify() == []
    assert {delivery.address: delivery.state for delivery in ledger.deliveries(EVERYTHING)} == {
        "anna@example.org": State.ACCEPTED,
        "bert@example.org": State.AMBIGUOUS,
        "cleo@example.org": State.PLANNED,
    }
    assert ledger.plan("plan-1", [draft("dora")])
    ledger.close()
    assert shape(path) == shape(empty_file)


def shape(path: Path) -> set[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    found = {("user_version", str(connection.execute("PRAGMA user_version").fetchone()[0]))}
    for kind, name, table in connection.execute("SELECT type, name, tbl_name FROM sqlite_master"):
        found.add((kind, name, table))
    for table in tables.metadata.tables:
        found |= {(table, *map(str, column[1:])) for column in connection.execute(f"PRAGMA table_info({table})")}
    connection.close()
    return found


def test_a_newer_ledger_file_is_refused_and_not_touched(file_world: World) -> None:
    file_world.close()
    path = Path(file_world.url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={opening.NEWEST + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="written by a newer distributor") as refused:
        open_ledger(file_world.url, by="root@host", now=Clock())
    assert refused.value.hint == "upgrade distributor on this machine"
    assert path.read_bytes() == before
    file_world.spoiled = True


def test_a_newer_step_in_a_ledger_file_is_refused_too(file_world: World) -> None:
    file_world.close()
    with sqlite3.connect(file_world.url.removeprefix("sqlite:///")) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{opening.NEWEST + 1:04}'")  # noqa: S608  a number of ours
    connection.close()
    with pytest.raises(InvalidInput, match="written by a newer distributor"):
        open_ledger(file_world.url, by="root@host", now=Clock())
    file_world.spoiled = True


def test_a_newer_ledger_on_a_server_is_refused(world: World) -> None:
    if world.url.startswith("sqlite"):
        return
    world.close()
    try:
        world.sql(f"UPDATE alembic_version SET version_num = '{opening.NEWEST + 1:04}'")  # noqa: S608  a number of ours
        with pytest.raises(InvalidInput, match="written by a newer distributor"):
            open_ledger(world.url, by="root@host", now=Clock())
    finally:
        world.sql(f"UPDATE alembic_version SET version_num = '{opening.NEWEST:04}'")  # noqa: S608  a number of ours


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.db"
    monkeypatch.setattr(sqlite, "APPLICATION", "not a number")
    with pytest.raises(InvalidInput):
        open_ledger(f"sqlite:///{path}", by="root@host", now=Clock(), create=True)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    open_ledger(f"sqlite:///{path}", by="root@host", now=Clock(), create=True).close()


def test_a_schema_that_is_no_number_of_ours_is_left_alone(world: World, url: str) -> None:
    world.sql("UPDATE alembic_version SET version_num = 'f00d'")
    with pytest.raises(InvalidInput, match='schema "f00d"'):
        open_ledger(url, by="root@host", now=Clock())
    world.sql(f"UPDATE alembic_version SET version_num = '{opening.NEWEST:04}'")  # noqa: S608  a number of ours


def test_two_that_make_the_same_ledger_at_once_both_succeed(tmp_path: Path) -> None:
    program = (
        "import sys; from datetime import UTC, datetime; from distributor.ledger import open_ledger\n"
        "open_ledger(sys.argv[1], by='x', now=lambda: datetime.now(UTC), create=True).close()"
    )
    url = f"sqlite:///{tmp_path / 'new.db'}"
    both = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]


def test_opening_the_ledger_package_loads_no_database_library() -> None:
    program = "import sys, distributor.ledger; sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'alembic', 'psycopg')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_existing_ledger_is_opened_without_loading_alembic(file_url: str) -> None:
    program = (
        "import sys; from datetime import UTC, datetime; from distributor.ledger import open_ledger\n"
        "open_ledger(sys.argv[1], by='x', now=lambda: datetime.now(UTC)).close(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, file_url], check=False).returncode == 0
