"""A terminal: the program in front of a pseudo-terminal, with what it shows and keys to press."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 300.0  # seconds, on a busy machine


class Screen:
    """A running program and its terminal."""

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid, self._terminal = pid, terminal
        self.shown = ""

    def until(self, text: str) -> str:
        """Read until `text` is on the screen."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < deadline, f"never shown: {text!r} in {self.shown!r}"
            assert self._read(deadline - time.monotonic()), f"ended without {text!r}: {self.shown!r}"
        return self.shown

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline - time.monotonic()):
            assert time.monotonic() < deadline, "it does not end"
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, wait: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], max(0.0, wait))
        if not ready:
            return True
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # Linux says so when the program is gone
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@contextmanager
def screen(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[Screen]:
    """Run the program on a terminal of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(  # noqa: S606  no shell is wanted
            sys.executable, [sys.executable, "-m", "distributor", *arguments], {**environment, "TERM": "xterm"}
        )
    found = Screen(pid, terminal)
    try:
        yield found
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it ended, as it should
        os.close(terminal)
