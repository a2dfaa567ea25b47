"""Who we are, and whether another process still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from distributor.workers import process
from tests.needs import require_file


@pytest.fixture(autouse=True)
def proc() -> None:
    require_file("/proc/self/stat")


def test_this_process_is_alive_and_two_owners_of_it_differ() -> None:
    one, two = process.current_process(), process.current_process()
    assert one.pid == os.getpid()
    assert one.id != two.id
    assert process.is_alive(one) is True


def test_a_process_that_ended_is_dead_even_as_a_zombie() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = process._stat(child.pid)  # noqa: SLF001
        assert stat
        owner = replace(process.current_process(), pid=child.pid, started=stat[1])
        assert process.is_alive(owner) is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has taken note: a zombie
        assert process.is_alive(owner) is False
    assert process.is_alive(owner) is False


def test_another_process_with_the_same_number_is_not_the_owner() -> None:
    owner = process.current_process()
    assert process.is_alive(replace(owner, started=(owner.started or 0) - 1)) is False


@pytest.mark.parametrize("change", [{"host": "elsewhere/boot/pid:[1]"}, {"started": None}])
def test_what_cannot_be_seen_from_here_is_unknown(change: dict[str, object]) -> None:
    assert process.is_alive(replace(process.current_process(), **change)) is None
