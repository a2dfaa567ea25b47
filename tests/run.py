"""What the processes of one test run share: a folder, an environment without the user's settings, and what takes long to make.

`conftest.py` calls `begin` before anything of the program is imported, and `end` last. The first process of a run makes the folder, in
memory where there is room (a ledger waits for the disk at each commit); pytest-xdist's workers inherit its path. Whoever else uses the
tests' code, such as `make bench`, has no such folder and shares nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_FOLDER = "DISTRIBUTOR_TESTS_FOLDER"
# The user's settings; and without PYTHONDONTWRITEBYTECODE a program that a test starts need not compile itself each time.
_NOT_OURS = ("DISTRIBUTOR_CONFIG", "CREDENTIALS_DIRECTORY", "XDG_RUNTIME_DIR", "PYTHONDONTWRITEBYTECODE")
_HOMES = {
    "HOME": "",
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}
_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made there
_ROOM = 4 * 2**30  # bytes that must be free there; a whole run needs a tenth of it
_PREFIX = "distributor-tests-"
_STOPPING = 60.0  # seconds that shared servers may take to stop
ENDS = ExitStack()  # what this process closes when its tests are over
_HELD: list[BinaryIO] = []  # by the first process of a run, as long as it lives


def begin() -> bool:
    """Set this process's environment, for itself and for all that it starts; whether it is the first process of the run."""
    first = _FOLDER not in os.environ
    if first:
        os.environ[_FOLDER] = str(_made())
        os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ[_FOLDER]  # where pytest puts `tmp_path`
    for name in _NOT_OURS:
        os.environ.pop(name, None)
    home = Path(os.environ[_FOLDER]) / f"home-{os.getpid()}"
    for name, below in _HOMES.items():
        place = home / below
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[name] = str(place)
    return first


def _made() -> Path:
    """A new folder, held by this process; what runs that were killed left behind is removed."""
    memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM
    where = _MEMORY if memory else Path(tempfile.gettempdir())
    for left in where.glob(f"{_PREFIX}*"):
        with suppress(OSError), (left / "held").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where))
    _HELD.append((made / "held").open("ab"))
    fcntl.flock(_HELD[0], fcntl.LOCK_EX)
    return made


def end(*, first: bool) -> None:
    """Close what this process opened; the first process of the run then waits for the shared servers' end and removes the folder."""
    ENDS.close()
    if not first:
        return
    run = Path(os.environ.pop(_FOLDER))
    _HELD.pop().close()
    deadline = time.monotonic() + _STOPPING
    while any(run.glob("*.running")) and time.monotonic() < deadline:
        time.sleep(0.02)  # asks again; ends with the servers or the time
    shutil.rmtree(run, ignore_errors=True)


def folder() -> Path | None:
    """Where the processes of this run share files."""
    return Path(os.environ[_FOLDER]) if _FOLDER in os.environ else None


def made_once(name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` returns, made by the first process of the run that asks for it."""
    shared = folder()
    if shared is None:
        return make()
    path = shared / name
    if not path.exists():
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                fresh = path.with_suffix(".new")
                fresh.write_bytes(make())
                fresh.rename(path)
    return path.read_bytes()


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file. It ends with this process, however that ends."""
    with path.open("ab") as file:
        fcntl.flock(file, how)
        yield
