"""What the processes of one test run share: a folder, an environment without the user's settings, and what takes long to make.

`conftest.py` calls `begin` before anything of the program is imported, and `end` last. The first process of a run makes the folder;
pytest-xdist's workers inherit its path. Other users of the tests' code, such as `make bench`, have no such folder and share nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
_STOPPING = 60.0  # seconds that shared servers may take to stop


def begin() -> bool:
    """Set this process's environment, for itself and for all that it starts; whether it is the first process of the run."""
    first = _FOLDER not in os.environ
    if first:
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="distributor-tests-")
    for name in _NOT_OURS:
        os.environ.pop(name, None)
    home = Path(os.environ[_FOLDER]) / f"home-{os.getpid()}"
    for name, below in _HOMES.items():
        place = home / below
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[name] = str(place)
    return first


def end() -> None:
    """Remove the folder, once the servers in it have stopped; for the first process of the run, after all others."""
    run = Path(os.environ.pop(_FOLDER))
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
