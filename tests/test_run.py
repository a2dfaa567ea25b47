"""What the processes of a test run share ends with them, and nothing of the user's reaches in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import run
from tests.authority import rsa_key

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0  # seconds, on a busy machine
USER = """
import sys
from tests.doubles.shared import shared
with shared("tests.test_run:noted", "noted") as facts:
    print(facts, flush=True)
    sys.stdin.read()
"""


@contextmanager
def noted() -> Iterator[int]:
    """A server that notes when it starts and stops; its facts are the keeper's process."""
    place = run.folder()
    assert place is not None
    with (place / "notes").open("a") as notes:
        print("started", file=notes, flush=True)
        yield os.getpid()
        print("stopped", file=notes, flush=True)


def user(place: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "DISTRIBUTOR_TESTS_FOLDER": str(place)}
    return subprocess.Popen(
        [sys.executable, "-c", USER], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_shared_server_starts_once_and_stops_after_its_last_user_even_one_that_was_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with user(tmp_path) as first, user(tmp_path) as second:
        result = {process.stdout.readline() for process in (first, second)}
        assert len(result) == 1
        first.communicate()
        assert notes.read_text() == "started\n"
        second.kill()
    deadline = time.monotonic() + PATIENCE
    while (tmp_path / "noted.running").exists():
        assert time.monotonic() < deadline, "it does not stop"
        time.sleep(0.02)
    assert notes.read_text() == "started\nstopped\n"


def test_a_key_is_the_same_in_all_processes_of_the_run_and_another_for_each_number() -> None:
    program = "from tests.authority import rsa_key; print(rsa_key(1).private_numbers().d)"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(result) == rsa_key(1).private_numbers().d
    assert rsa_key(1).public_key() != rsa_key(2).public_key()


def test_nothing_lies_where_the_user_s_own_settings_and_state_lie() -> None:
    place = run.folder()
    assert place is not None
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        assert Path(os.environ[name]).is_relative_to(place)
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
