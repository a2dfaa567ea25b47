"""One server for all processes of a test run: the first that needs it starts it, and it stops when the last one is gone.

A process of its own keeps the server: `python -m tests.doubles.shared MODULE:FUNCTION NAME`, where FUNCTION is a context manager that
gives the server's facts. Each user holds a shared lock, which the kernel takes away however a user ends; the keeper waits for all of them.
"""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tests import run

ROOT = Path(__file__).parents[2]
KEEPERS: list[subprocess.Popen[bytes]] = []  # that this process started; nobody waits for their end
STARTS = 120.0  # seconds that a server may take on a busy machine


@contextmanager
def shared(server: str, name: str) -> Iterator[Any]:
    """The facts of the run's only server of that name, which runs at least as long as this context."""
    place = run.folder()
    assert place is not None, "only within a test run"
    with run.locked(place / f"{name}.starting"):
        users = (place / f"{name}.users").open("ab")
        fcntl.flock(users, fcntl.LOCK_SH)
        info = place / f"{name}.running"
        if not info.exists():
            _start(server, name, info)
    with users:
        yield json.loads(info.read_text(encoding="utf-8"))


def _start(server: str, name: str, info: Path) -> None:
    log = info.with_suffix(".log")
    with log.open("wb") as file:  # a session of its own: Ctrl-C is for the users
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.shared", server, name],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    KEEPERS.append(keeper)
    deadline = time.monotonic() + STARTS
    while not info.exists():
        assert keeper.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        assert time.monotonic() < deadline, f"{name} does not start"
        time.sleep(0.02)  # asks again; ends with the keeper or the time


def keep(server: str, name: str) -> None:
    """Run a server until nobody uses it."""
    place = run.folder()
    assert place is not None, "only within a test run"
    module, _, function = server.partition(":")
    info = place / f"{name}.running"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop the server first
    with getattr(import_module(module), function)() as made:
        fresh = info.with_suffix(".new")
        fresh.write_text(json.dumps(made), encoding="utf-8")
        fresh.rename(info)
        users = (place / f"{name}.users").open("ab")
        fcntl.flock(users, fcntl.LOCK_EX)  # nobody begins to use it while it stops
    info.unlink(missing_ok=True)


if __name__ == "__main__":
    keep(*sys.argv[1:])
