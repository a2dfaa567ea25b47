"""Runs `distributor` in forks of a process that has loaded its modules already: the same program, without half a second of imports.

`Preloaded` starts the server; `command()` is what asks it, in place of `python -m distributor`. Each command
is a process of its own with the caller's arguments, environment, folder, standard streams, umask and limits, and so is each worker
process that a command starts. What only a new interpreter can honour (a terminal, a closed stream, another PYTHON* or locale variable) is
run by a new interpreter. A fork ends without taking the loaded modules apart, which takes longer than most commands.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import io
import marshal
import os
import pkgutil
import resource
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests import run
from tests.doubles import preloaded_client

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("preloaded_client.py")
READ_AT_START = (b"PYTHON", b"LC_", b"LANG", b"TZ", b"LD_", b"OPENSSL_", b"MALLOC_")  # what an interpreter or library reads only once
LIBRARIES = (  # used in functions
    "alembic.command",
    "attrs",
    "cattrs.gen",
    "cattrs.typealiases",
    "encodings.utf_8_sig",
    "httpx2",
    "jinja2.sandbox",
    "msal",
    "pwd",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "typer._adapters",
    "typer._click._textwrap",
    "typer._click.decorators",
    "uvloop",
)
COMMAND, WORKER = "distributor", "distributor.workers.child"
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

    def serve(self) -> str:
        """Until standard input ends. Returns in each child the module that it is to run."""
        while True:
            for key, _ in self.selector.select():
                if key.fd == 0:
                    os._exit(0)
                elif key.fd in self.running:
                    self._ended(key.fd)
                elif isinstance(key.data, int):
                    self._left(key.fileobj, key.data)
                elif module := self._accept():
                    return module

    def _accept(self) -> str:
        """The module to run where this is the child now, else nothing."""
        caller, _ = self.listening.accept()
        wish = _Wish(caller)
        if wish.module == COMMAND and _read_at_start(wish.environment) != self.environment:
            wish.close()
            _say(caller, 0)
            caller.close()
            return ""
        child = os.fork()
        if child == 0:
            self._close()
            caller.close()
            wish.become()
            return wish.module
        wish.close()
        watched = os.pidfd_open(child)
        self.running[watched] = child, caller
        self.selector.register(watched, selectors.EVENT_READ)
        self.selector.register(caller, selectors.EVENT_READ, data=watched)
        _say(caller, child)
        return ""

    def _ended(self, watched: int) -> None:
        self.selector.unregister(watched)
        os.close(watched)
        child, caller = self.running.pop(watched)
        if caller in self.selector.get_map():
            self.selector.unregister(caller)
        _say(caller, os.waitpid(child, 0)[1])
        caller.close()

    def _left(self, caller: selectors._FileObject, watched: int) -> None:
        """The caller was killed, and so is what stands for it."""
        if watched in self.running:
            self.selector.unregister(caller)
            os.kill(self.running[watched][0], signal.SIGKILL)

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
            said = marshal.loads(reader.read(SIZE.unpack(head)[0]))  # noqa: S302  from our client
        self.module, self.arguments, self.environment, self.umask, self.limits = said

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
        if self.module == WORKER:
            os.setsid()

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
    schema: Any = importlib.import_module("distributor.ledger.schema_verification")
    schema._fresh_file = functools.cache(schema._fresh_file)  # noqa: SLF001  `audit verify` makes it anew each time
    schema._fresh_file()  # noqa: SLF001
    del sys.modules[FRESH]
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{place}.new")
    listening.listen(64)
    os.rename(f"{place}.new", place)  # noqa: PTH104
    return listening


class Worker:
    """A worker process in a fork of the server; has what `distributor.workers.pool` uses of `subprocess.Popen`."""

    def __init__(self, place: str, environment: Mapping[str, str]) -> None:
        source, given = os.pipe()
        taken, answers = os.pipe()
        self.stdin, self.stdout = os.fdopen(given, "wb", buffering=0), os.fdopen(taken, "rb", buffering=0)
        self.returncode: int | None = None
        nothing, here = os.open(os.devnull, os.O_RDWR), os.open(".", os.O_RDONLY)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(place)
        limits = [(kind, resource.getrlimit(kind)) for kind in preloaded_client.LIMITS]
        umask = os.umask(0)
        os.umask(umask)
        asked = marshal.dumps((WORKER, [b"-m"], {os.fsencode(k): os.fsencode(v) for k, v in environment.items()}, umask, limits))
        socket.send_fds(self._server, [SIZE.pack(len(asked))], [source, answers, nothing, here])
        self._server.sendall(asked)
        for file in (source, answers, nothing, here):
            os.close(file)
        self.pid = preloaded_client.number_from(self._server)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; a negative one is a signal's number."""
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                self.returncode = os.waitstatus_to_exitcode(preloaded_client.number_from(self._server))
            except TimeoutError:
                raise subprocess.TimeoutExpired(WORKER, timeout or 0.0) from None
            self._server.close()
        return self.returncode

    def kill(self) -> None:
        """Kill it; no harm where it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _fork_workers(place: str) -> None:
    """Let the worker processes of this command be forks of the server too."""
    pool: Any = importlib.import_module("distributor.workers.pool")

    def start(argv: list[str], *, env: Mapping[str, str], **more: Any) -> Worker | subprocess.Popen[bytes]:  # noqa: ANN401  Popen's
        if argv == [sys.executable, "-P", "-m", WORKER]:
            return Worker(place, env)
        return subprocess.Popen(argv, env=env, **more)

    pool.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": start})


def _run(module: str) -> None:
    """Run a module as `python -m` does, and end."""
    code = 0
    try:
        runpy._run_module_as_main(module)  # noqa: SLF001  what `python -m` calls
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # noqa: SLF001  what an interpreter does at its end, as the two below
    atexit._run_exitfuncs()  # noqa: SLF001
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        sys.exit(code)  # the interpreter says what this means
    os._exit(code & 0xFF)


if __name__ == "__main__":
    socket_of_server = sys.argv[1]
    wanted = Server(socket_of_server).serve()
    if wanted == COMMAND:
        _fork_workers(socket_of_server)
    _run(wanted)
