"""`audit checkpoint`, what every command publishes at its end, and `audit verify --checkpoint`."""

from __future__ import annotations

import email
import email.policy
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from distributor.bootstrap import checkpoints as publishing
from distributor.config.audit import Destination, DestinationKind, parse_destination
from distributor.ledger.sqlite import sqlite3
from distributor.model.checkpoints import Checkpoint, StoredCheckpoint, parse_checkpoints
from distributor.workflows.checkpoints import Signed
from tests.cli.test_audit import forge
from tests.doubles import pki
from tests.doubles.tsa import authority
from tests.workspace import Workspace

SLOW = pytest.mark.slow(reason="whole commands, several in each; the parts are tested beside the ledger and the model")


def configure(workspace: Workspace, *lines: str) -> None:
    config = workspace.folder / "distributor.toml"
    config.write_text("\n".join([config.read_text(encoding="utf-8"), "[audit]", *lines, ""]), encoding="utf-8")


def key(workspace: Workspace) -> str:
    done = workspace.run("distributor audit key")
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def files(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.folder / "kept").glob("*"))


def test_a_checkpoint_is_shown_written_and_verified(sent: Workspace) -> None:
    done = sent.run("distributor audit checkpoint 2>/dev/null")
    (checkpoint,) = parse_checkpoints(done.stdout)
    assert isinstance(checkpoint, Checkpoint)
    assert sent.run("distributor audit checkpoint --output c.txt").returncode == 0
    assert (sent.folder / "c.txt").read_text(encoding="utf-8") == done.stdout
    done = sent.run("distributor audit verify --checkpoint c.txt")
    assert done.returncode == 0
    assert f"{checkpoint.size} events of c.txt: none changed, none missing" in done.stdout
    assert "the checkpoint in the ledger matches the audit log" in done.stdout
    answer = json.loads(sent.run("distributor audit verify --checkpoint c.txt --json").stdout)
    assert answer["checkpoints"] == {"kept": 1, "given": [{"file": "c.txt", "events": checkpoint.size}]}


@SLOW
def test_an_export_is_verified_with_the_public_key_alone(sent: Workspace) -> None:
    public = key(sent)
    assert sent.run("distributor audit checkpoint --output c.txt && distributor audit export --output e.jsonl").returncode == 0
    assert sent.run("mkdir away && cp e.jsonl c.txt away/").returncode == 0
    done = sent.run("cd away && distributor audit verify e.jsonl --checkpoint c.txt")
    assert done.returncode == 3
    assert "no public key to verify checkpoints with" in done.stdout
    done = sent.run(f"cd away && distributor audit verify e.jsonl --checkpoint c.txt --key {public}")
    assert (done.returncode, "of c.txt: none changed, none missing" in done.stdout) == (0, True), done.stdout
    other = sent.run(
        "distributor init other >/dev/null 2>&1; distributor --config other/distributor.toml audit key 2>/dev/null"
    ).stdout.strip()
    done = sent.run(f"cd away && distributor audit verify e.jsonl --checkpoint c.txt --key {other}")
    assert done.returncode == 1
    assert done.stdout.startswith("c.txt: not signed by ")
    done = sent.run("cd away && distributor audit verify e.jsonl --checkpoint c.txt --key x")
    assert done.returncode == 2


@SLOW
def test_a_rewritten_ledger_is_found_with_a_checkpoint_and_gets_no_new_one(sent: Workspace) -> None:
    assert sent.run("distributor audit checkpoint --output c.txt").returncode == 0
    forge(sent.folder / "distributor.db")
    done = sent.run("distributor audit verify --checkpoint c.txt")
    assert done.returncode == 1
    assert "not those of c.txt, which has another root: they were changed since" in done.stdout
    done = sent.run("distributor resend alice@example.org --reason lost --yes; distributor audit checkpoint")
    assert done.returncode == 3


@SLOW
def test_a_first_event_that_was_edited_is_found_though_the_ledgers_name_is_in_it(sent: Workspace) -> None:
    public = key(sent)
    assert sent.run("distributor audit checkpoint --output c.txt").returncode == 0
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        triggers = list(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE event SET \"by\" = 'eve@host' WHERE seq = 1")
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()
    for words in ("", " --checkpoint c.txt", f" --checkpoint c.txt --key {public}"):
        done = sent.run(f"distributor audit verify{words}")
        assert done.returncode == 1, done.stdout
        assert "event 1: its hash does not match its content" in done.stdout
    assert "c.txt: not compared, since the ledger's name cannot be read" in sent.run("distributor audit verify --checkpoint c.txt").stdout


@SLOW
def test_a_log_with_many_checkpoints_is_one_line_and_a_byte_order_mark_is_none_of_them(sent: Workspace) -> None:
    assert sent.run("distributor audit checkpoint --output c.txt && cat c.txt c.txt c.txt > log.txt").returncode == 0
    assert sent.run(r"(printf '\357\273\277'; cat c.txt) > marked.txt").returncode == 0
    done = sent.run("distributor audit verify --checkpoint log.txt --checkpoint marked.txt")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("events of log.txt (3 checkpoints): none changed, none missing") == 1
    assert "events of marked.txt: none changed, none missing" in done.stdout


@SLOW
def test_an_older_copy_of_the_ledger_lacks_events_of_the_checkpoint(sent: Workspace) -> None:
    assert sent.run("cp distributor.db older.db && distributor resend alice@example.org --reason lost --yes").returncode == 0
    assert sent.run("distributor audit checkpoint --output c.txt").returncode == 0
    assert sent.run("rm -f distributor.db-* && cp older.db distributor.db").returncode == 0
    done = sent.run("distributor audit verify --checkpoint c.txt")
    assert done.returncode == 1
    assert "the end was removed" in done.stdout
    verified = sent.run("distributor audit verify")
    assert (verified.returncode, "ledger: this ledger is older than the one last used on this machine" in verified.stdout) == (1, True)
    done = sent.run("distributor audit checkpoint")
    assert done.returncode == 3
    assert "no checkpoint was signed: " in done.stdout


@SLOW
def test_a_workspace_without_a_key_says_how_to_make_one(sent: Workspace) -> None:
    (sent.folder / "checkpoint.key").unlink()
    done = sent.run("distributor audit checkpoint")
    assert done.returncode == 3
    assert "`distributor audit key`" in done.stdout
    assert sent.run("distributor audit verify").returncode == 0
    done = sent.run("distributor audit key")
    assert "created: it signs checkpoints" in done.stdout
    assert (sent.folder / "checkpoint.key").stat().st_mode & 0o777 == 0o600
    assert sent.run("distributor audit key").stdout == done.stdout.splitlines(keepends=True)[-1]
    assert sent.run("distributor audit checkpoint").returncode == 0


@pytest.mark.parametrize("content", ["hello", "", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused_and_not_shown(planned: Workspace, content: str) -> None:
    (planned.folder / "checkpoint.key").write_text(content, encoding="ascii")
    done = planned.run("distributor audit checkpoint")
    assert done.returncode == 3
    assert "AAAA" not in done.stdout
    assert "Traceback" not in done.stdout


# --- at the end of each command -------------------------------------------------------------------------------------


@SLOW
def test_whatever_writes_events_publishes_a_checkpoint_at_its_end(sent: Workspace) -> None:
    configure(sent, 'checkpoints = ["file:kept", "mail:auditor@example.org"]')
    before = len(sent.handler.messages)
    assert sent.run("distributor status").returncode == 0
    assert not (sent.folder / "kept").exists()
    done = sent.run("distributor resend alice@example.org --reason lost --yes")
    assert (done.returncode, "warning" in done.stdout) == (0, False), done.stdout
    (first,) = files(sent)
    assert sent.run("distributor password reveal alice@example.org --reason called --stdout").returncode == 0
    assert len(files(sent)) == 2
    words = " ".join(f"--checkpoint kept/{name}" for name in files(sent))
    done = sent.run(f"distributor audit verify {words}")
    assert done.returncode == 0, done.stdout
    mails = [email.message_from_bytes(data, policy=email.policy.default) for data in sent.handler.messages[before:]]
    (mail,) = [mail for mail in mails if mail["To"] == "auditor@example.org"]  # once a day
    (attached,) = mail.iter_attachments()
    assert attached.get_content().replace("\r\n", "\n") == (sent.folder / "kept" / first).read_text(encoding="utf-8")


@SLOW
def test_a_place_that_cannot_be_written_to_is_a_warning_and_the_command_succeeds(sent: Workspace) -> None:
    (sent.folder / "kept").write_text("a file", encoding="ascii")
    configure(sent, 'checkpoints = ["file:kept"]')
    done = sent.run("distributor resend alice@example.org --reason lost --yes")
    assert done.returncode == 0
    assert "warning: file:kept: " in done.stdout
    assert sent.run("distributor audit checkpoint").returncode == 3
    (sent.folder / "kept").unlink()
    assert "published: file:kept" in sent.run("distributor audit checkpoint").stdout
    assert len(files(sent)) == 1


@SLOW
def test_a_missing_key_is_a_warning_at_the_end_of_a_command(sent: Workspace) -> None:
    (sent.folder / "checkpoint.key").unlink()
    configure(sent, 'checkpoints = ["file:kept"]')
    done = sent.run("distributor resend alice@example.org --reason lost --yes")
    assert done.returncode == 0
    assert "warning: " in done.stdout
    assert "hint: " in done.stdout
    assert "`distributor audit key`" in done.stdout


# --- time stamps ------------------------------------------------------------------------------------------------------


@SLOW
def test_a_checkpoint_gets_a_time_stamp_that_is_kept_and_verified(sent: Workspace, tmp_path: Path) -> None:
    with authority(tmp_path / "tsa") as tsa:
        configure(sent, f'checkpoints = ["file:kept"]\ntimestamp = "{tsa.url}"')
        done = sent.run("distributor audit checkpoint --output c.txt")
        assert done.returncode == 0, done.stdout
        assert tsa.types == ["application/timestamp-query"]
        assert tsa.check(sent.folder / "c.tst", sent.folder / "c.txt") == "Verification: OK"
    assert [Path(name).suffix for name in files(sent)] == [".tst", ".txt"]
    done = sent.run("distributor audit verify --checkpoint c.txt")
    assert done.returncode == 0
    assert "by CN=Time Stamping (certificate " in done.stdout
    (sent.folder / "c.tst").write_bytes(b"x")
    done = sent.run("distributor audit verify --checkpoint c.txt")
    assert done.returncode == 1
    assert done.stdout.startswith("c.tst: the time stamp of c.txt is not valid: ")


@SLOW
def test_an_authority_that_gives_none_does_not_keep_the_checkpoint_back(sent: Workspace) -> None:
    with pki.server() as server:
        server.put("/text", b"<html>")
        for path, words in (("/none", "the authority answered 404"), ("/text", "not an answer of a time-stamping authority")):
            toml = sent.folder / "distributor.toml"
            before = toml.read_text(encoding="utf-8")
            configure(sent, f'checkpoints = ["file:kept"]\ntimestamp = "{server.url}{path}"')
            done = sent.run("distributor resend alice@example.org --reason lost --yes")
            assert (done.returncode, words in done.stdout) == (0, True), done.stdout
            toml.write_text(before, encoding="utf-8")
    assert len(files(sent)) == 2


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def signed(sent: Workspace) -> Signed:
    done = sent.run("distributor audit checkpoint 2>/dev/null")
    (checkpoint,) = parse_checkpoints(done.stdout)
    assert isinstance(checkpoint, Checkpoint)
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        ((size, note),) = connection.execute("SELECT size, note FROM checkpoint")
    stored = StoredCheckpoint(size, datetime(2026, 11, 30, tzinfo=UTC), note, (), "", b"a token")
    return Signed(stored, checkpoint, None, new=True)


def test_a_folder_gets_a_file_for_each_and_none_is_changed(signed: Signed, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "kept"
    publishing.to_folder(folder, signed)
    publishing.to_folder(folder, signed)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"checkpoint-{signed.stored.size:012}.tst", f"checkpoint-{signed.stored.size:012}.txt"]
    (folder / names[1]).write_text("another", encoding="ascii")
    with pytest.raises(Exception, match="another content"):
        publishing.to_folder(folder, signed)
    assert (folder / names[1]).read_text(encoding="ascii") == "another"
    assert len(list(folder.iterdir())) == 2


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        yield listening


def test_syslog_gets_the_whole_note_in_one_line(signed: Signed, udp: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    publishing.to_syslog(Destination(DestinationKind.UDP, "127.0.0.1", udp.getsockname()[1]), signed)
    line = udp.recv(4096)
    assert line.startswith(b"<38>distributor: checkpoint of ")  # auth.info
    assert parse_checkpoints(line.decode("ascii")) == [signed.checkpoint]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        publishing.to_syslog(Destination(DestinationKind.TCP, "127.0.0.1", listening.getsockname()[1]), signed)
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as stream:
            assert stream.read() == line + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
        path = f"\0distributor-syslog-{os.getpid()}"  # in no file system, whose paths may be too long for a socket
        local.bind(path)
        local.settimeout(10)
        monkeypatch.setattr(publishing, "_LOCAL_SYSLOG", path)
        publishing.to_syslog(Destination(DestinationKind.LOCAL), signed)
        assert local.recv(4096).rstrip(b"\0") == line


def test_a_syslog_that_nobody_serves_is_an_error(signed: Signed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            publishing.to_syslog(Destination(DestinationKind.TCP, "127.0.0.1", taken.getsockname()[1]), signed)
    monkeypatch.setattr(publishing, "_LOCAL_SYSLOG", str(tmp_path / "none"))
    with pytest.raises(OSError, match="No such file"):
        publishing.to_syslog(Destination(DestinationKind.LOCAL), signed)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("file:kept", Destination(DestinationKind.FILE, "/w/kept")),
        ("file:/kept", Destination(DestinationKind.FILE, "/kept")),
        ("syslog", Destination(DestinationKind.LOCAL)),
        ("syslog:log.example.org", Destination(DestinationKind.UDP, "log.example.org", 514)),
        ("syslog:[::1]:1514", Destination(DestinationKind.UDP, "::1", 1514)),
        ("syslog+tcp:log.example.org:601", Destination(DestinationKind.TCP, "log.example.org", 601)),
        ("mail:auditor@example.org", Destination(DestinationKind.MAIL, "auditor@example.org")),
    ],
)
def test_places_are_read_as_they_are_written(text: str, found: Destination) -> None:
    assert parse_destination(text, Path("/w")) == found


@pytest.mark.parametrize(
    "text", ["", "kept", "file:", "syslog:", "syslog:host:x", "syslog:host:99999", "syslog:a@b", "mail:", "mail:x", "ftp:x"]
)
def test_other_places_are_faults_of_the_configuration(planned: Workspace, text: str) -> None:
    configure(planned, f'checkpoints = ["{text}"]')
    done = planned.run("distributor status")
    assert done.returncode == 3
    assert "audit.checkpoints[0]: " in done.stdout
