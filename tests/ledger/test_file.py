"""A ledger in a file: who may read it, what is refused, and what the program says when disk, lock or file fail."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.ledger import open_ledger, opening, sqlite
from distributor.ledger.sqlite import sqlite3
from distributor.model.delivery import Delivery
from distributor.model.states import State
from tests.ledger.world import EVERYTHING, ME, Clock, World, draft, packed
from tests.needs import require

NOBODY = 65534


def path_of(world: World) -> Path:
    return Path(world.url.removeprefix("sqlite:///"))


def refusal(url: str, *, create: bool = False) -> Error:
    with pytest.raises(Error) as refused:
        open_ledger(url, by="root@host", now=Clock(), create=create)
    assert refused.value.hint
    return refused.value


def in_a_child(work: Callable[[], object], *, user: int | None = None) -> str:
    """What the work said in a process of its own: "done" or the error; as another user if named."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            work()
            said = "done"
        except Error as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001  the parent shows it
            said = repr(error)
        with suppress(OSError):
            os.write(writing, said.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def test_a_new_ledger_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ledger = open_ledger(f"sqlite:///{tmp_path / 'new.db'}", by="root@host", now=Clock(), create=True)
        ledger.begin_plan("plan-1", {})
        ledger.close()
    finally:
        os.umask(old)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} in (
        {"new.db": 0o600},
        {"new.db": 0o600, "new.db-journal": 0o600},
    )


def test_the_rules_of_a_connection_hold(file_world: World) -> None:
    with file_world.ledger._database.reading() as connection:  # type: ignore[attr-defined]  # noqa: SLF001  the port shows no connection
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in (
                "foreign_keys",
                "trusted_schema",
                "secure_delete",
                "cell_size_check",
                "synchronous",
                "journal_mode",
                "application_id",
            )
        }
    journal, synchronous = ("wal", 2) if sqlite.keeps_wal() else ("truncate", 3)
    assert said == {
        "foreign_keys": 1,
        "trusted_schema": 0,
        "secure_delete": 1,
        "cell_size_check": 1,
        "synchronous": synchronous,
        "journal_mode": journal,
        "application_id": sqlite.APPLICATION,
    }


@pytest.mark.parametrize(
    ("version", "keeps"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.45.0", False),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
    ],
)
def test_a_write_ahead_log_is_used_only_where_sqlite_resets_it_rightly(version: str, *, keeps: bool) -> None:
    assert sqlite.keeps_wal(tuple(map(int, version.split(".")))) is keeps


def test_a_missing_ledger_is_said_and_not_made(tmp_path: Path) -> None:
    error = refusal(f"sqlite:///{tmp_path / 'none.db'}")
    assert str(error) == f"{tmp_path / 'none.db'}: no ledger found"
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_in_a_missing_folder_cannot_be_made(tmp_path: Path) -> None:
    assert isinstance(refusal(f"sqlite:///{tmp_path / 'no' / 'l.db'}", create=True), InvalidInput)


def test_links_folders_and_memory_are_refused(file_world: World, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path_of(file_world))
    assert "symbolic link" in str(refusal(f"sqlite:///{link}"))
    assert "not a regular file" in str(refusal(f"sqlite:///{tmp_path}"))
    assert "file name is missing" in str(refusal("sqlite://", create=True))


@pytest.mark.parametrize("url", ["mysql://host/x", "nonsense", "sqlite3:/x"])
def test_a_url_that_names_no_ledger_is_refused(url: str) -> None:
    assert isinstance(refusal(url), InvalidInput)


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("server:/export /srv/data nfs4 rw 0 0\n/dev/vda / ext4 rw 0 0", "nfs4"),
        ("/dev/vda / ext4 rw 0 0\n//host/share /srv cifs rw 0 0\n/dev/vdb /srv/data ext4 rw 0 0", "ext4"),
        ("/dev/vda / ext4 rw 0 0\nsshfs /srv/data/in fuse.sshfs rw 0 0", "ext4"),
        ("/dev/vda / ext4 rw 0 0\nsshfs /srv fuse.sshfs rw 0 0", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_folder_is_the_nearest_mount(mounts: str, kind: str) -> None:
    assert sqlite.file_system(Path("/srv/data"), mounts) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "file_system", lambda _folder, _mounts: "nfs4")
    assert "network file system (nfs4)" in str(refusal(f"sqlite:///{tmp_path / 'l.db'}", create=True))
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title)")
    connection.close()
    before = path.read_bytes()
    assert "another program" in str(refusal(f"sqlite:///{path}", create=True))
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email;name\n" * 500)
    assert "not a ledger" in str(refusal(f"sqlite:///{path}"))


@pytest.mark.parametrize("create", [False, True])
def test_an_empty_file_is_a_ledger_that_was_lost_and_nothing_is_written_into_it(tmp_path: Path, *, create: bool) -> None:
    path = tmp_path / "empty.db"
    path.touch(0o600)
    error = refusal(f"sqlite:///{path}", create=create)
    assert str(error) == f"{path}: the ledger is an empty file (0 bytes)"
    assert isinstance(error, InvalidInput)
    assert (path.stat().st_size, list(tmp_path.iterdir())) == (0, [path])


def test_a_new_ledger_appears_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_connection: object) -> None:
        assert not (tmp_path / "new.db").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "upgrade", fail)
    with pytest.raises(KeyboardInterrupt):
        open_ledger(f"sqlite:///{tmp_path / 'new.db'}", by="root@host", now=Clock(), create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_ledger_is_said_with_its_name(file_world: World) -> None:
    file_world.queue("anna", "bert")
    file_world.close()
    path = path_of(file_world)
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(data)
    error = refusal(file_world.url)
    assert isinstance(error, InvalidInput)
    assert str(path) in str(error)
    assert "damaged" in str(error)
    file_world.spoiled = True


def test_a_ledger_cut_off_is_refused(file_world: World) -> None:
    file_world.queue("anna")
    file_world.close()
    os.truncate(path_of(file_world), 4096 * 5 + 100)
    assert isinstance(refusal(file_world.url), InvalidInput)
    file_world.spoiled = True


def test_a_ledger_that_stays_locked_is_unavailable_and_changes_nothing(file_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    impatient = file_world.another()
    rival = sqlite3.connect(path_of(file_world), isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceUnavailable, match="is locked") as refused:
        impatient.plan("plan-1", [draft("anna")])
    assert str(path_of(file_world)) in str(refused.value)
    assert list(impatient.deliveries(EVERYTHING)) == []
    rival.execute("ROLLBACK")
    rival.close()
    assert impatient.plan("plan-1", [draft("anna")])


def test_a_journal_is_changed_when_another_program_is_done(file_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file_world.close()
    with closing(sqlite3.connect(path_of(file_world), isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=delete")
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(sqlite.time, "sleep", lambda _: other.execute("ROLLBACK"))
        open_ledger(file_world.url, by="root@host", now=Clock()).close()
        assert not other.in_transaction or not sqlite.keeps_wal()
    file_world.spoiled = True


def test_reading_goes_on_while_another_program_writes(file_world: World) -> None:
    file_world.queue("anna")
    reader = file_world.another()
    with file_world.ledger._database.writing() as connection:  # type: ignore[attr-defined]  # noqa: SLF001  a sender in the middle of its work
        connection.exec_driver_sql("UPDATE delivery SET said = 'uncommitted'")
        assert [delivery.response for delivery in reader.deliveries(EVERYTHING)] == [None]
        assert reader.counts(EVERYTHING) == {State.QUEUED: 1}
        connection.exec_driver_sql("UPDATE delivery SET said = NULL")


def test_a_reader_that_pauses_between_rows_holds_up_no_writer(file_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    file_world.queue("anna", "bert")
    listing = file_world.another().deliveries(EVERYTHING)
    next(listing)
    assert file_world.ledger.withdraw(next(listing).id, "left") is None


def copied(world: World, to: Path) -> Path:
    """A whole copy, also of a ledger that is open."""
    with closing(sqlite3.connect(path_of(world))) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


@contextmanager
def read_only(world: World) -> Iterator[str]:
    """The ledger's file in a folder that nobody but its owner may write to."""
    with tempfile.TemporaryDirectory() as folder:
        path = copied(world, Path(folder) / "ledger.db")
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        yield f"sqlite:///{path}"
        Path(folder).chmod(0o755)


def test_a_read_only_ledger_can_be_read_and_refuses_to_be_written(file_world: World) -> None:
    file_world.queue("anna")

    def read() -> None:
        ledger = open_ledger(url, by="nobody@host", now=Clock())
        assert [delivery.address for delivery in ledger.deliveries(EVERYTHING)] == ["anna@example.org"]
        assert ledger.recover(lambda _: None) == []
        assert ledger.expire() == 0
        assert ledger.verify() == []

    def write() -> None:
        open_ledger(url, by="nobody@host", now=Clock()).plan("plan-1", [draft("bert")])

    with read_only(file_world) as url:
        assert in_a_child(read, user=NOBODY) == "done"
        assert in_a_child(write, user=NOBODY) == f"InvalidInput: {url.removeprefix('sqlite:///')}: the ledger is read-only"


def test_a_ledger_of_somebody_else_is_refused(file_world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    said = in_a_child(lambda: open_ledger(file_world.url, by="nobody@host", now=Clock()), user=NOBODY)
    assert said.startswith(f"InvalidInput: {path_of(file_world)}: ")


def fill(url: str) -> None:
    with closing(open_ledger(url, by="root@host", now=Clock())) as ledger:
        for number in range(400):
            (planned,) = ledger.plan("plan-1", [draft(f"p{number}")])
            assert isinstance(planned, Delivery)
            ledger.enqueue([packed(planned.id, to=planned.address)], ME)


def test_a_file_that_may_not_grow_stops_the_work_and_stays_whole(file_world: World) -> None:
    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = path_of(file_world).stat().st_size + 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        fill(file_world.url)

    assert in_a_child(work) == f"InvalidInput: {path_of(file_world)}: cannot read or write the disk"
    assert file_world.ledger.verify() == []
    assert file_world.ledger.plan("plan-1", [draft("after")])


def test_a_full_disk_is_said_and_nothing_of_the_step_remains(file_world: World, tmp_path: Path) -> None:
    mount, unmount = require("mount"), require("umount")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=600k", "none", small], check=False, capture_output=True).returncode:
        pytest.skip("this machine lacks the right to mount")
    try:
        full = World.existing(f"sqlite:///{copied(file_world, small / 'ledger.db')}")
        with pytest.raises(InvalidInput, match="the disk is full"):
            fill(full.url)
        assert full.ledger.verify() == []
        assert set(full.ledger.counts(EVERYTHING)) <= {State.PLANNED, State.QUEUED}
        full.close()
    finally:
        subprocess.run([unmount, small], check=True)


def test_a_child_process_opens_a_connection_of_its_own(file_world: World) -> None:
    file_world.queue("anna")

    def work() -> None:
        assert file_world.ledger.plan("plan-1", [draft("bert")])

    assert in_a_child(work) == "done"
    assert file_world.ledger.plan("plan-1", [draft("cleo")])
    assert len(list(file_world.ledger.deliveries(EVERYTHING))) == 3
