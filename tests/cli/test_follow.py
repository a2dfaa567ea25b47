"""`send --follow` sends what becomes due until it is stopped, waits while a service refuses, and speaks with systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.workspace import Workspace

PATIENCE = 180.0  # seconds until a command that hangs is killed


@dataclass
class Follower:
    """A running `send --follow`, and the lines that it has written."""

    process: subprocess.Popen[str]
    lines: list[dict[str, object]] = field(default_factory=list)

    def until(self, event: str, **fields: object) -> dict[str, object]:
        """Read until a line of this event with these fields; its fields."""
        assert self.process.stderr is not None
        for text in self.process.stderr:
            line = json.loads(text)
            self.lines.append(line)
            if line["event"] == event and fields.items() <= line.items():
                return line
        pytest.fail(f"ended without {event}: {self.lines}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.lines += [json.loads(text) for text in self.process.stderr]
        return self.process.wait()


@contextmanager
def following(workspace: Workspace, **environment: str) -> Iterator[Follower]:
    command = [*workspace.program(), "send", "--follow", "--yes", "--log", "json"]
    with subprocess.Popen(
        command, cwd=workspace.folder, env={**workspace.environment(), **environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        try:
            yield Follower(process)
        finally:
            killer.cancel()
            process.kill()


def test_what_is_planned_meanwhile_is_sent_and_a_signal_ends_it(planned: Workspace) -> None:
    with following(planned) as follower:
        assert follower.until("ready")
        both = {follower.until("accepted")["address"] for _ in range(2)}
        assert both == {"alice@example.org", "bob@example.org"}
        planned.run_script("+ pfx carol carol@example.org\n$ distributor plan certificates/carol.pfx >/dev/null 2>&1\n")
        sent = follower.until("accepted", address="carol@example.org")
        assert str(sent["delivery"]).startswith("d-")
        assert follower.stop() == 0
    assert follower.lines[-1]["event"] == "stopped"
    assert len(planned.handler.messages) == 3


def test_ctrl_c_ends_it_as_sigterm_does(sent: Workspace) -> None:
    with following(sent) as follower:
        follower.until("ready")
        assert follower.stop(signal.SIGINT) == 0
    assert [line["event"] for line in follower.lines] == ["ready", "stopped"]


def test_no_line_has_a_password_or_a_name(planned: Workspace) -> None:
    with following(planned) as follower:
        follower.until("accepted")
        follower.until("accepted")
        follower.stop()
    text = json.dumps(follower.lines)
    shown = subprocess.run(
        [*planned.program(), "password", "reveal", "alice@example.org", "--reason", "test", "--stdout"],
        cwd=planned.folder,
        env=planned.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert len(shown) > 20
    assert shown not in text
    assert "Alice" not in text
    assert {key for line in follower.lines for key in line} <= {"at", "event", "position", "delivery", "address", "message", "hint"}


def test_a_server_that_is_gone_is_waited_for(planned: Workspace) -> None:
    planned.add_closed_port()
    with following(planned) as follower:
        refused = follower.until("refused")
        assert refused["again_in"] == 30
        assert follower.process.poll() is None
        assert follower.stop() == 0
    planned.run_script("$ distributor status --state queued 2>/dev/null | grep -c example.org\n2\n")


def test_a_file_that_is_gone_is_not_tried_each_second(planned: Workspace) -> None:
    (planned.folder / "certificates" / "bob.pfx").rename(planned.folder / "bob.away")
    with following(planned) as follower:
        follower.until("accepted", address="alice@example.org")
        planned.run_script("+ pfx carol carol@example.org\n$ distributor plan certificates/carol.pfx >/dev/null 2>&1\n")
        follower.until("accepted", address="carol@example.org")
        assert follower.stop() == 0
    assert 1 <= sum(line["event"] == "not-packed" for line in follower.lines) <= 2  # with Alice, and with Carol


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(sent: Workspace) -> None:
    name = f"distributor-{os.getpid()}"  # in no file system, whose paths may be too long for a socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(PATIENCE)
        with following(sent, NOTIFY_SOCKET=f"@{name}", WATCHDOG_USEC="3000000") as follower:
            assert manager.recv(4096).decode().splitlines()[0] == "READY=1"
            assert manager.recv(4096).decode() == "WATCHDOG=1"
            follower.process.send_signal(signal.SIGTERM)
            heard = manager.recv(4096).decode()
            while heard == "WATCHDOG=1":
                heard = manager.recv(4096).decode()
            assert heard == "STOPPING=1"
            assert follower.process.wait() == 0


@pytest.mark.parametrize("log", ["pipe", "full"])
def test_a_log_that_cannot_be_written_does_not_end_it(sent: Workspace, log: str) -> None:
    reading, writing = os.pipe() if log == "pipe" else (-1, os.open("/dev/full", os.O_WRONLY))
    if log == "pipe":
        os.close(reading)
    command = [*sent.program(), "send", "--follow", "--yes"]
    with subprocess.Popen(command, cwd=sent.folder, env=sent.environment(), stderr=writing) as process:
        os.close(writing)
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        for name in ("carol", "dave"):
            sent.handler.arrived.clear()
            sent.run_script(f"+ pfx {name} {name}@example.org\n$ distributor plan certificates/{name}.pfx >/dev/null 2>&1\n")
            assert sent.handler.arrived.wait(PATIENCE)
        process.terminate()
        assert process.wait() == 0 or log == "full"
        killer.cancel()
    assert len(sent.handler.messages) == 4


def test_it_asks_once_and_takes_no_other_choice(sent: Workspace) -> None:
    sent.run_script(
        "$ distributor send --follow </dev/null\nerror: ...\nhint: ...--yes...\n? 2\n"
        "$ distributor send --follow --yes --limit 3\nerror: --follow sends everything that becomes due\nhint: leave out ...\n? 2\n"
    )


def test_a_ledger_that_cannot_be_used_is_said_at_once(sent: Workspace) -> None:
    (sent.folder / "distributor.db").write_bytes(b"")
    sent.run_script("$ distributor send --follow --yes\nerror: ...\nhint: ...\n? 3\n")


def test_an_approved_request_is_planned_and_sent(sent: Workspace) -> None:
    with following(sent) as follower:
        follower.until("ready")
        sent.run_script('$ LOGNAME=helga distributor requests add alice@example.org --reason "new phone" >/dev/null 2>&1\n')
        asked = json.loads(sent.run("distributor requests --json").stdout)["requests"][0]
        sent.run_script(f"$ LOGNAME=adam distributor requests approve {asked['id']} >/dev/null 2>&1\n")
        follower.until("accepted", address="alice@example.org")
        assert follower.stop() == 0
    assert len(sent.handler.messages) == 3


def test_systemd_hears_signs_of_life_while_messages_are_sent(planned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        time.sleep(2.5)

    name = f"distributor-{os.getpid()}-slow"
    assert planned.handler is not None
    monkeypatch.setattr(planned.handler.arrived, "set", slow)  # called before the 250
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        with following(planned, NOTIFY_SOCKET=f"@{name}", WATCHDOG_USEC="3000000") as follower:
            follower.until("accepted")
            manager.setblocking(False)
            heard = []
            with suppress(BlockingIOError):
                while True:
                    heard.append(manager.recv(4096).decode())
    assert heard.count("WATCHDOG=1") >= 3
