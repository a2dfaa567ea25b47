"""A workspace for transcripts: a folder, the real program, a mail server on loopback, and fixtures that a script asks for with `+ NAME`.

A script has comments (`# ...`), fixtures (`+ people`), commands (`$ ...`), the lines they print on stdout and stderr together, and
`? CODE` where the exit code is not 0. `...` in a line stands for anything, `...` alone for any lines.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import Envelope
from cryptography.hazmat.primitives.serialization import Encoding

from tests import run
from tests.authority import Authority
from tests.doubles.preloaded import Preloaded
from tests.doubles.sink import smtpd

PRELOADED: list[Preloaded] = []  # once it is wanted; it ends with this process
COLUMNS = "400"  # so that a line of a script is never wrapped; tests/cli/test_widths.py is about that
PASSWORD = "as-it-came-from-the-ca"


@dataclass
class Step:
    """A command, what it is to print, and its exit code."""

    line: int
    command: str
    expected: list[str] = field(default_factory=list)
    code: int = 0


def steps(script: str) -> Iterator[Step]:
    """The commands of a script; fixtures are commands that begin with `+`."""
    step: Step | None = None
    for number, line in enumerate(script.splitlines(), 1):
        if line.startswith(("$ ", "+ ")):
            if step:
                yield step
            step = Step(number, line if line[0] == "+" else line[2:])
        elif line.startswith("? ") and step:
            step.code = int(line[2:])
        elif step and not line.startswith("#"):
            step.expected.append(line)
    if step:
        yield step


class Recording(Sink):
    """A mail server's handler that keeps what it was given, refuses who is called `refused`, and puts `later` off."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.arrived = threading.Event()

    async def handle_RCPT(self, _server: object, _session: object, envelope: Envelope, address: str, _options: object) -> str:  # noqa: N802  aiosmtpd's name
        """Refuse one kind of recipient, put another off."""
        if address.startswith("refused@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later@"):
            return "450 4.7.1 try again in 10 minutes"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's name
        """Keep a message."""
        self.messages.append(bytes(envelope.original_content or b""))
        self.arrived.set()
        return f"250 2.0.0 queued as {len(self.messages)}"


class Workspace:
    """One workspace: its folder, its mail server, and the program run in it."""

    preloaded = True  # whether commands run in forks of a process that has the modules loaded: the same program, only sooner

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self.server: Controller | None = None
        self.handler = Recording()
        self._ends = ExitStack()

    def close(self) -> None:
        """End the servers."""
        self._ends.close()
        if self.server:
            self.server.stop()

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command line through a shell, as a person does; both outputs together."""
        shell = f'distributor() {{ {shlex.join(self.program())} "$@"; }}; {command}'
        return subprocess.run(
            ["/bin/sh", "-c", shell],
            cwd=self.folder,
            env={**self.environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )

    def program(self) -> list[str]:
        """The words before a command's arguments; one server of preloaded commands serves all workspaces of this process."""
        if not self.preloaded:
            return [sys.executable, "-m", "distributor"]
        if not PRELOADED:
            PRELOADED.append(Preloaded(self.environment()))
            run.ENDS.callback(PRELOADED[0].close)
        return PRELOADED[0].command()

    def environment(self) -> dict[str, str]:
        """The environment of this process, without what would configure the program."""
        kept = {
            name: value for name, value in os.environ.items() if name == "XDG_STATE_HOME" or not name.startswith(("DISTRIBUTOR", "XDG"))
        }
        return {**kept, "PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(self.folder), "COLUMNS": COLUMNS, "PYTHONUNBUFFERED": "1"}

    def run_script(self, script: str) -> None:
        """Run a script; an AssertionError names the line where it went another way."""
        for step in steps(script):
            if step.command.startswith("+ "):
                name, *arguments = step.command[2:].split()
                getattr(self, f"add_{name}")(*arguments)
                continue
            done = self.run(step.command)
            printed = done.stdout.rstrip("\n").splitlines()
            assert done.returncode == step.code, f"line {step.line}: $ {step.command}\nexit code {done.returncode}\n{done.stdout}"
            assert matches(step.expected, printed), f"line {step.line}: $ {step.command}\nprinted:\n{done.stdout}"

    # --- fixtures ------------------------------------------------------------------------------------------------

    def add_closed_port(self) -> None:
        """A port where nobody answers, until the workspace is closed."""
        taken = self._ends.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))
        self._point_to(taken.getsockname()[1])

    def add_server(self) -> None:
        """A mail server for the workspace here."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.server = Controller(self.handler, hostname="127.0.0.1", port=port)
        self.server.start()
        self._point_to(port)

    def add_faulty_server(self, *rules: str) -> None:
        """The server of tests/doubles with faults such as `DOT:stored-drop:1` or `DOT:reply:1:554 no` (verb, what it does, which time)."""
        asked = [rule.split(":", 3) for rule in rules]
        faults = [{"verb": verb, "do": do, "nth": [int(nth)], "text": "".join(text)} for verb, do, nth, *text in asked]
        self._point_to(self._ends.enter_context(smtpd(self.folder / "server", *faults)).port)

    def _point_to(self, port: int) -> None:
        """Let the workspace's messages go to this port."""
        config = self.folder / "distributor.toml"
        config.write_text(re.sub(r"(?m)^port = \d+", f"port = {port}", config.read_text(encoding="utf-8")), encoding="utf-8")

    def add_pfx(self, name: str, *addresses: str, days: int = 365) -> None:
        """A PFX `certificates/NAME.pfx` for these addresses, valid for so many days."""
        folder = self.folder / "certificates"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.pfx").write_bytes(self.authority.issue(*addresses, name=name.title(), days=days).pfx(PASSWORD))
        (folder / f"{name}.txt").write_text(PASSWORD, encoding="utf-8")

    def add_authorities(self) -> None:
        """The certificates of root and intermediate in authorities/, and Alice's in alice.pem."""
        folder = self.folder / "authorities"
        folder.mkdir(exist_ok=True)
        (folder / "root.crt").write_bytes(self.authority.root.public_bytes(Encoding.PEM))
        (folder / "mail-ca.cer").write_bytes(self.authority.issuer.public_bytes(Encoding.DER))
        (self.folder / "alice.pem").write_bytes(self.authority.issue("alice@example.org", name="Alice").pem)

    def add_roster(self, *rows: str) -> None:
        """people.csv with rows `address,name,language`; a name's blanks are written as underscores."""
        text = "\n".join(["email,name,language", *(row.replace("_", " ") for row in rows)])
        (self.folder / "people.csv").write_text(text + "\n", encoding="utf-8")

    def add_people(self) -> None:
        """Alice and Bob with their certificates, and a roster."""
        self.add_pfx("alice", "alice@example.org")
        self.add_pfx("bob", "bob@example.org")
        self.add_roster("alice@example.org,Alice_Example,en", "bob@example.org,Bob_Example,de")


def answer(result: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """The JSON that a command printed; it must have ended with this code."""
    assert result.returncode == code, result.stdout
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines are as expected; blank lines at the end of either do not count."""
    while expected and not expected[-1].strip():
        expected = expected[:-1]
    parts = ["(?:.*\n)*?" if line.strip() == "..." else _line(line) for line in expected]
    return re.fullmatch("".join(parts), "".join(f"{line.rstrip()}\n" for line in printed)) is not None


def _line(line: str) -> str:
    return ".*".join(re.escape(piece) for piece in line.rstrip().split("...")) + "\n"
