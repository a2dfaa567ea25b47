"""The command itself, killed at moments nobody chose: several `distributor send` at once, again and again, then one to the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distributor.model.states import State
from tests.doubles.sink import smtpd
from tests.real.matrix import Cell

PEOPLE = 12
ROUNDS = 8
SEED = 20_261_124


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "distributor", *words, "--config", str(folder / "distributor.toml")]
    return subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def run(folder: Path, *words: str) -> int:
    with command(folder, *words) as process:
        _, output = process.communicate(timeout=600)
    assert "Traceback" not in output, output
    return process.returncode


@pytest.mark.slow(reason="sixteen senders are started and killed; the matrix in test_kill.py kills at every step")
def test_no_moment_is_a_bad_one_to_be_killed(tmp_path: Path, world: Cell) -> None:
    chance = random.Random(SEED)  # noqa: S311  a test that can be repeated
    subprocess.run([sys.executable, "-m", "distributor", "init", str(tmp_path / "work")], check=True, capture_output=True)
    with smtpd(tmp_path / "sink", {"verb": "DOT", "do": "delay", "seconds": 0.03}) as sink:
        cell = world.fresh(sink=sink, count=PEOPLE)
        folder = tmp_path / "work"
        cell.ledger = folder / "distributor.db"
        settings = folder / "distributor.toml"
        settings.write_text(settings.read_text().replace("2525", str(sink.port)))
        assert run(folder, "plan", str(cell.people)) == 0
        for _ in range(ROUNDS):
            senders = [command(folder, "send", "--yes", "--limit", "3") for _ in range(2)]
            time.sleep(chance.uniform(0.3, 1.6))
            for sender in senders:
                os.killpg(sender.pid, signal.SIGKILL)
                sender.communicate()
            assert cell.broken_at_any_time() == []
        assert run(folder, "send", "--yes") in {0, 1}
        assert cell.broken_at_the_end() == []
        unclear = sum(delivery.state is State.AMBIGUOUS for delivery in cell.deliveries())
        assert run(folder, "resolve") == (1 if unclear else 0)
