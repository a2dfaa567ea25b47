"""Runs `distributor` in forks of a process that has loaded its modules already: the same program, without half a second of imports.

`Preloaded` starts the server; `command()` is what asks it, in place of `python -m distributor`. Each command
is a process of its own with the caller's arguments, environment, folder, standard streams, umask and limits. What only a new
interpreter can honour (a terminal, a closed stream, another PYTHON* or locale variable) is run by a new interpreter.
"""

from __future__ import annotations

import gc
import importlib
import io
import marshal
import os
import pkgutil
import resource
import runpy
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests import run

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("preloaded_client.py")
READ_AT_START = (b"PYTHON", b"LC_", b"LANG", b"TZ", b"LD_", b"OPENSSL_", b"MALLOC_")  # what an interpreter or library reads only once
LIBRARIES = ("httpx2", "jinja2.sandbox", "msal", "rich.progress", "rich.table", "sqlalchemy.dialects.sqlite", "uvloop")  # used in functions
FRESH = "distributor.ledger"  # each command loads it for itself: whether one has done so says what it did (cli/app.py)
SIZE = struct.Struct("=Q")
STARTS = 120.0  # seconds on a busy machine


class Preloaded:
    """The server, as a child of this process; it ends when this process does."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        place = Path(tempfile.mkdtemp(dir=run.folder())) / "commands.sock"
        self.socket = place
        argv = [sys.executable, "-m", "tests.doubles.preloaded", str(place)]
        self._process = subprocess.Popen(argv, cwd=ROOT, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTS
        while not place.exists():
            assert self._process.poll() is None, "the server of preloaded commands ended"
            assert time.monotonic() < deadline, "the server of preloaded commands does not start"
            time.sleep(0.02)  # asks again; ends with the process or the time

    def close(self) -> None:
        """End it, and wait for the end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def command(self) -> list[str]:
        """The words that stand for `python -m distributor`."""
        return [sys.executable, "-I", "-S", str(CLIENT), str(self.socket)]


class Server:
    """Forks for each caller."""

    def __init__(self, place: str) -> None:
        self.environment = _read_at_start(os.environb)
        self.listening = _prepared(place)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listening, selectors.EVENT_READ)
        self.selector.register(0, selectors.EVENT_READ)
        self.running: dict[int, tuple[int, socket.socket]] = {}  # pidfd: the child and who waits for it

    def serve(self) -> None:
        """Until standard input ends. Returns in each child, which is then to run the command."""
        while True:
            for key, _ in self.selector.select():
                if key.fd == 0:
                    os._exit(0)
                elif key.fd in self.running:
                    self._ended(key.fd)
                elif self._accept():
                    return

    def _accept(self) -> bool:
        """Whether this is the child now."""
        caller, _ = self.listening.accept()
        wish = _Wish(caller)
        if _read_at_start(wish.environment) != self.environment:
            wish.close()
            _say(caller, 0)
            caller.close()
            return False
        child = os.fork()
        if child == 0:
            self._close()
            caller.close()
            wish.become()
            return True
        wish.close()
        watched = os.pidfd_open(child)
        self.running[watched] = child, caller
        self.selector.register(watched, selectors.EVENT_READ)
        _say(caller, child)
        return False

    def _ended(self, watched: int) -> None:
        self.selector.unregister(watched)
        os.close(watched)
        child, caller = self.running.pop(watched)
        _say(caller, os.waitpid(child, 0)[1])
        caller.close()

    def _close(self) -> None:
        self.selector.close()
        self.listening.close()
        for watched, (_, caller) in self.running.items():
            os.close(watched)
            caller.close()
        self.running.clear()


class _Wish:
    """What a caller's process has."""

    def __init__(self, caller: socket.socket) -> None:
        head, self.files, _, _ = socket.recv_fds(caller, SIZE.size, 4)
        with caller.makefile("rb") as reader:
            self.arguments, self.environment, self.umask, self.limits = marshal.loads(reader.read(SIZE.unpack(head)[0]))  # noqa: S302  from our client

    def become(self) -> None:
        """Take over from it."""
        for number, file in enumerate(self.files[:3]):
            os.dup2(file, number)
        os.fchdir(self.files[3])
        self.close()
        os.environb.clear()
        os.environb.update(self.environment)
        os.umask(self.umask)
        for kind, bounds in self.limits:
            resource.setrlimit(kind, bounds)
        sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in (0, 1, 2))
        sys.argv = ["-m", *map(os.fsdecode, self.arguments)]
        sys.path[0] = os.getcwd()  # noqa: PTH109  as `python -m` has it

    def close(self) -> None:
        for file in self.files:
            os.close(file)


def _stream(number: int) -> io.TextIOWrapper:
    """A standard stream as a new interpreter opens it."""
    now, mode = (sys.stdin, sys.stdout, sys.stderr)[number], "rb" if number == 0 else "wb"
    at_once = number > 0 and bool(os.environ.get("PYTHONUNBUFFERED"))
    return io.TextIOWrapper(
        open(number, mode, buffering=0 if at_once else -1, closefd=False),
        encoding=now.encoding,
        errors=now.errors,
        line_buffering=number == 2,
        write_through=at_once,
    )


def _read_at_start(environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


def _say(caller: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # the caller was killed
        caller.sendall(SIZE.pack(number))


def _prepared(place: str) -> socket.socket:
    """Load everything, then listen."""
    import distributor  # noqa: PLC0415  for the server only

    found = [module.name for module in pkgutil.walk_packages(distributor.__path__, "distributor.")]
    for name in (*found, *LIBRARIES):
        if not name.endswith(".__main__") and ".migrations" not in name:  # these run when they are imported
            importlib.import_module(name)
    del sys.modules[FRESH]
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{place}.new")
    listening.listen(64)
    os.rename(f"{place}.new", place)  # noqa: PTH104
    return listening


if __name__ == "__main__":
    Server(sys.argv[1]).serve()
    runpy._run_module_as_main("distributor")  # noqa: SLF001  what `python -m` calls
