"""A whole ledger is copied into a database of the other kind and back: every row, or nothing at all; and only one of the two is used."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from distributor.errors import Error, InvalidInput, ServiceUnavailable, UsageError
from distributor.ledger import open_guarded, opening
from distributor.ledger.sqlite import sqlite3
from distributor.ledger.tables import metadata
from distributor.model.high_water_mark import LedgerCopy, Machine
from distributor.model.ports import Ledger
from distributor.model.states import State
from tests.ledger import every_row
from tests.ledger.postgresql import Server
from tests.ledger.world import Clock, World

HERE, THERE = Machine("11", "this-host/boot-1/ns"), Machine("22", "there/boot-2/ns")
ROOT = Path(__file__).parents[2]
Tables = dict[str, list[tuple[Any, ...]]]


class Progress:
    """Counts rows."""

    def __init__(self) -> None:
        self.rows = self.done = 0

    def begin(self, rows: int) -> None:
        self.rows = rows

    def step(self, rows: int) -> None:
        self.done += rows


@contextmanager
def opened(url: str, place: Path, *, here: Machine = HERE, sends: bool = False) -> Iterator[Ledger]:
    """The ledger as a command opens it."""
    clock = Clock() if url.startswith("sqlite") else None
    with closing(open_guarded(url, by="root@here", now=clock, marks=place, here=here, sends=sends)) as ledger:
        yield ledger


def copied(url: str, to: str, place: Path, *, analysis: bool = False, alive: bool | None = False) -> LedgerCopy:
    progress = Progress()
    with opened(url, place) as ledger:
        ledger.check_copy(to)
        found = ledger.copy_to(to, lambda _: alive, progress, analysis=analysis)
    assert progress.done == progress.rows == 2 * sum(found.rows.values())
    return found


def tables(url: str) -> Tables:
    """Every row of every table, in the order of the keys."""
    with closing(opening.open_database(url, create=False)) as database, database.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


def findings(url: str) -> list[object]:
    with closing(World.existing(url)) as world:
        return [*world.ledger.verify()]


def refusal(url: str, place: Path, *, here: Machine = HERE) -> str:
    """Why nothing may be sent from a ledger; empty where it may."""
    try:
        with opened(url, place, here=here, sends=True):
            return ""
    except InvalidInput as error:
        return str(error)


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a row of every kind."""
    path = tmp_path_factory.mktemp("every-row") / "ledger.db"
    every_row.write(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return path


@pytest.fixture
def source(every_kind: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(every_kind, tmp_path / 'ledger.db')}"


@pytest.fixture
def fresh(postgresql: Server) -> str:
    return postgresql.url(postgresql.fresh())


@pytest.fixture
def on_server(every_kind: Path, tmp_path: Path, fresh: str) -> str:
    """The ledger with every kind of row, on the server."""
    first = shutil.copy(every_kind, tmp_path / "first.db")
    copied(f"sqlite:///{first}", fresh, tmp_path / "first marks")
    return fresh


def test_there_and_back_every_table_is_the_same_row_by_row(source: str, fresh: str, tmp_path: Path) -> None:
    back = f"sqlite:///{tmp_path / 'back.db'}"
    found = copied(source, fresh, tmp_path)
    there = tables(fresh)
    assert there == tables(source)
    assert found.rows == {name: len(rows) for name, rows in there.items()}
    assert all(there.values())
    assert findings(source) == findings(fresh) == []
    assert copied(fresh, back, tmp_path).end.seq == found.end.seq + 1
    again = tables(back)
    assert again == tables(fresh)
    changed = {name for name, rows in again.items() if rows != there[name]}
    assert changed == {"event", "head"}
    assert findings(back) == findings(fresh) == []
    assert stat.S_IMODE((tmp_path / "back.db").stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".*"))
    assert [refusal(url, tmp_path) != "" for url in (source, fresh, back)] == [True, True, False]


def test_the_copy_is_used_and_the_source_takes_nothing_more_on_any_machine(source: str, fresh: str, tmp_path: Path) -> None:
    copied(source, fresh, tmp_path)
    for here, place in ((HERE, tmp_path), (HERE, tmp_path / "no marks")):
        assert "nothing was sent: this ledger was copied to postgresql://" in refusal(source, place, here=here)
        assert refusal(fresh, place, here=here) == ""
    assert refusal(fresh, tmp_path / "another", here=THERE) == ""
    with opened(source, tmp_path) as ledger, pytest.raises(InvalidInput, match="nothing was written: this ledger was copied"):
        ledger.withdraw("d-1", "why")


def test_a_server_whose_ledger_was_copied_refuses_other_machines_too(on_server: str, tmp_path: Path) -> None:
    back = f"sqlite:///{tmp_path / 'back.db'}"
    assert refusal(on_server, tmp_path / "another", here=THERE) == ""
    copied(on_server, back, tmp_path)
    assert "is used instead" in refusal(on_server, tmp_path / "another", here=THERE)
    assert refusal(back, tmp_path) == ""
    assert "another machine" in refusal(back, tmp_path / "another", here=THERE)


def test_a_sender_that_runs_stops_at_its_next_write(on_server: str, tmp_path: Path) -> None:
    with opened(on_server, tmp_path / "another", here=THERE, sends=True) as sender:
        copied(on_server, f"sqlite:///{tmp_path / 'back.db'}", tmp_path)
        with pytest.raises(InvalidInput, match="sending stopped: this ledger was copied"):
            sender.recover(lambda _: False) or sender.withdraw("d-1", "why")


def test_a_copied_ledger_is_adopted_where_the_copy_is_given_up(source: str, fresh: str, tmp_path: Path) -> None:
    copied(source, fresh, tmp_path)
    with opened(source, tmp_path) as ledger:
        ledger.adopt("the server is gone", nothing_sent=True)
        assert ledger.restored() is None
    assert refusal(source, tmp_path) == ""
    assert "this ledger is" in refusal(fresh, tmp_path)
    assert findings(source) == []


def test_a_copy_for_analysis_leaves_the_source_in_use(source: str, fresh: str, tmp_path: Path) -> None:
    copied(source, fresh, tmp_path, analysis=True)
    assert tables(source) == tables(fresh)
    assert refusal(source, tmp_path) == ""
    for here, place in ((HERE, tmp_path), (THERE, tmp_path / "another")):
        assert "nothing was sent: this is a copy for analysis of" in refusal(fresh, place, here=here)
    with opened(source, tmp_path) as ledger:
        ledger.write_mailbox_position("somebody@example.org", "{}")
    with opened(fresh, tmp_path) as ledger:
        assert ledger.adopt("the disk failed").unclear[State.QUEUED] > 0
    assert findings(fresh) == []


# --- refused -------------------------------------------------------------------------------------------------------


def test_nothing_is_copied_while_somebody_sends(source: str, fresh: str, tmp_path: Path) -> None:
    before = tables(source)
    with pytest.raises(ServiceUnavailable, match=r"nothing was copied: process 4711 of .* is sending") as caught:
        copied(source, fresh, tmp_path, alive=True)
    assert "distributor send" in str(caught.value.hint)
    assert tables(source) == before
    copied(source, fresh, tmp_path, alive=False)


def filled(target: Server, how: str) -> str:
    name = target.fresh()
    if how == "a ledger":
        World(target.url(name)).close()
    elif how == "a table":
        target.run(name, "CREATE TABLE mine (id int)")
    elif how == "a function":
        target.run(name, "CREATE FUNCTION event_is_never_changed() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    elif how == "a newer ledger":
        target.run(name, "CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('0099')")
    elif how == "another encoding":
        target.run("postgres", f"CREATE DATABASE {name}_latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
        return f"{name}_latin"
    elif how == "no schema":
        target.run(name, "DROP SCHEMA public")
    return name


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("a ledger", r"the database has a ledger already \(schema 13\)"),
        ("a newer ledger", r"the database has a ledger already \(schema 99\)"),
        ("a table", "the database is not empty"),
        ("a function", "the database is not empty"),
        ("another encoding", "the encoding of the database is LATIN1, not UTF8"),
        ("no schema", "the database has no schema"),
    ],
)
def test_a_database_that_is_not_empty_is_refused(source: str, postgresql: Server, tmp_path: Path, how: str, message: str) -> None:
    before, name = tables(source), filled(postgresql, how)
    with pytest.raises(InvalidInput, match=message) as caught:
        copied(source, postgresql.url(name), tmp_path)
    assert "ledger.url" not in str(caught.value.hint)
    assert tables(source) == before


def test_a_database_that_does_not_exist_is_refused_with_the_command_that_creates_it(
    source: str, postgresql: Server, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match='the database "nowhere" does not exist') as caught:
        copied(source, postgresql.url("nowhere"), tmp_path)
    assert caught.value.hint == "create it with `createdb nowhere`"


def test_a_target_of_the_same_kind_or_none_is_refused(source: str, on_server: str, tmp_path: Path) -> None:
    for url, to in ((source, f"sqlite:///{tmp_path / 'new.db'}"), (on_server, on_server)):
        with pytest.raises(UsageError, match="of the same kind"):
            copied(url, to, tmp_path)
    for to in ("mysql://x/y", "nonsense", "postgresql://me:ses@ame@host/x"):
        with pytest.raises(Error) as caught:
            copied(source, to, tmp_path)
        assert "ledger.url" not in f"{caught.value} {caught.value.hint}"
        assert "ame@" not in f"{caught.value} {caught.value.hint}"


def test_a_file_that_exists_is_never_written_to(on_server: str, tmp_path: Path) -> None:
    for name, make in (("a", lambda path: path.write_bytes(b"")), ("b", lambda path: path.symlink_to("a")), ("c", Path.mkdir)):
        make(tmp_path / name)
        with pytest.raises(InvalidInput, match="a file exists there already"):
            copied(on_server, f"sqlite:///{tmp_path / name}", tmp_path)
    with pytest.raises(InvalidInput, match="cannot create the ledger"):
        copied(on_server, f"sqlite:///{tmp_path / 'missing' / 'x.db'}", tmp_path)
    assert (tmp_path / "a").read_bytes() == b""


def test_a_restored_ledger_is_adopted_before_it_is_copied(source: str, fresh: str, tmp_path: Path) -> None:
    path = Path(source.partition(":///")[2])
    older = shutil.copy(path, tmp_path / "older.db")
    with opened(source, tmp_path) as ledger:
        ledger.recover(lambda _: False)
    with pytest.raises(InvalidInput, match="nothing was copied: this ledger is older"):
        copied(f"sqlite:///{older}", fresh, tmp_path)


def test_the_second_of_two_copies_is_told_of_the_first(source: str, fresh: str, postgresql: Server, tmp_path: Path) -> None:
    copied(source, fresh, tmp_path)
    with pytest.raises(InvalidInput, match="has a copy of this ledger already, up to its last event"):
        copied(source, fresh, tmp_path)
    with pytest.raises(InvalidInput, match="nothing was copied: this ledger was copied to"):
        copied(source, postgresql.url(postgresql.fresh()), tmp_path)


# --- whatever the rows hold ----------------------------------------------------------------------------------------

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
_PLACES = [
    ("mailbox", "position"),
    ("session", "data"),
    ("plan", "inputs"),
    ("person", "name"),
    ("delivery", "said"),
    ("outbox", "message"),
]


@pytest.mark.slow(reason="a database for each example")
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(_PLACES), value=_TEXTS)
def test_whatever_a_row_holds_is_copied_or_refused(
    every_kind: Path, postgresql: Server, tmp_path: Path, place: tuple[str, str], value: str
) -> None:
    path = shutil.copy(every_kind, tmp_path / "edited.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        table, column = place
        held = value.encode("utf-16") if column == "message" else value
        connection.execute(f'UPDATE {table} SET "{column}" = ?', (held,))  # noqa: S608  names of ours
    name = postgresql.fresh()
    url = postgresql.url(name)
    shutil.rmtree(tmp_path / "marks", ignore_errors=True)
    if "\0" in value and column != "message":
        with pytest.raises(InvalidInput, match=f'a row of "{table}" cannot be stored there'):
            copied(f"sqlite:///{path}", url, tmp_path / "marks")
    else:
        copied(f"sqlite:///{path}", url, tmp_path / "marks")
        assert tables(url) == tables(f"sqlite:///{path}")
    postgresql.run("postgres", f"DROP DATABASE {name}")


# --- killed --------------------------------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from sqlalchemy import event
from pathlib import Path
from distributor.ledger import copying, opening, sqlite
from tests.ledger.test_copying import Progress, opened

url, to, place, when = sys.argv[1:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(Progress):
    def step(self, rows):
        super().step(rows)
        if when.isdecimal() and self.done * 100 >= self.rows * int(when):
            die()

def server(url, made=opening.server):
    database = made(url)
    event.listen(database.engine, "commit", die)
    return database

def fill(*arguments, made=copying.fill):
    rows = made(*arguments)
    target = arguments[2]
    finish = target.finish
    target.finish = lambda: (finish(), die())
    return rows

if when == "before the source":
    copying.fill = fill
elif to.startswith("sqlite"):
    sqlite._put_in_place = die
with opened(url, Path(place)) as ledger:
    if when == "before the target" and to.startswith("postgresql"):
        opening.server = server
    ledger.copy_to(to, lambda _: False, Dying())
"""


def killed(url: str, to: str, place: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, url, to, str(place), when], cwd=ROOT, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL


SLOW = pytest.mark.slow(reason="each is a process; two moments show the rule")
MOMENTS = ["49", "before the target", *(pytest.param(when, marks=SLOW) for when in ("1", "100", "before the source"))]


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("direction", ["to the server", "to a file"])
def test_a_copy_that_was_killed_leaves_nothing_and_the_second_one_succeeds(
    request: pytest.FixtureRequest, tmp_path: Path, direction: str, when: str
) -> None:
    there, back = direction == "to the server", f"sqlite:///{tmp_path / 'back.db'}"
    url: str = request.getfixturevalue("source" if there else "on_server")
    running: Server = request.getfixturevalue("postgresql")
    to = running.url(running.fresh()) if there else back
    killed(url, to, tmp_path, when)
    assert not (tmp_path / "back.db").exists()
    with pytest.raises(InvalidInput):
        opening.open_database(to, create=False)
    moved = when == "before the target"
    assert bool(refusal(url, tmp_path)) is moved  # the source is used as before, or says what to do
    copied(url, to, tmp_path)
    assert tables(url) == tables(to)
    assert findings(to) == []
    assert (refusal(url, tmp_path) != "", refusal(to, tmp_path)) == (True, "")
    assert not list(tmp_path.glob(".*"))


class Stopping(Progress):
    """Ends every session of a database in the middle."""

    def __init__(self, running: Server, database: str) -> None:
        super().__init__()
        self._running, self._database = running, database

    def step(self, rows: int) -> None:
        super().step(rows)
        if self.done - rows < self.rows // 2 <= self.done:
            self._running.run("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._database}'")  # noqa: S608


@pytest.mark.parametrize("direction", ["to the server", "to a file"])
def test_a_server_that_ends_the_session_leaves_nothing(request: pytest.FixtureRequest, tmp_path: Path, direction: str) -> None:
    there = direction == "to the server"
    url: str = request.getfixturevalue("source" if there else "on_server")
    running: Server = request.getfixturevalue("postgresql")
    to = running.url(running.fresh()) if there else f"sqlite:///{tmp_path / 'back.db'}"
    database = (to if there else url).partition("@/")[2].partition("?")[0]
    with (
        opened(url, tmp_path) as ledger,
        pytest.raises(ServiceUnavailable, match=r"postgresql://.*: (the database does not|cannot connect)"),
    ):
        ledger.copy_to(to, lambda _: False, Stopping(running, database))
    assert refusal(url, tmp_path) == ""
    copied(url, to, tmp_path)
    assert tables(url) == tables(to)
