"""A command in a fork of a process that has the modules loaded is the command that a new interpreter runs."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="each command runs twice; it concerns the tests themselves")


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    found = Workspace(tmp_path, authority)
    found.run_script("$ distributor init >/dev/null 2>&1\n")
    yield found
    found.close()


def both(workspace: Workspace, command: str, **environment: str) -> list[tuple[int, str]]:
    """Exit code and output, each way."""
    results = []
    for workspace.preloaded in (True, False):
        done = workspace.run(command, **environment)
        results.append((done.returncode, done.stdout))
    return results


@pytest.mark.parametrize(
    "command",
    [
        "distributor --help",
        "distributor nonsense",
        "distributor status --json",
        "cd / && distributor status",
        "distributor status --config no-such.toml 2>/dev/null; echo $?",
        "distributor --version >&-",
        "distributor status --json | head -c 10",
        "LC_ALL=C distributor status; PYTHONOPTIMIZE=1 distributor --version",
        "ulimit -f 0; distributor init elsewhere",
        "umask 077; distributor config show >shown; cat shown",
        "DISTRIBUTOR_CONFIG=elsewhere.toml distributor status",
    ],
)
def test_it_ends_and_prints_the_same(workspace: Workspace, command: str) -> None:
    preloaded, alone = both(workspace, command)
    assert preloaded == alone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("preloaded", [True, False])
def test_it_is_a_process_that_a_signal_reaches(workspace: Workspace, preloaded: bool, number: signal.Signals) -> None:  # noqa: FBT001
    workspace.run_script("+ server\n+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n")
    config = workspace.folder / "distributor.toml"
    config.write_text(config.read_text(encoding="utf-8").replace('# rate = "30/min"', 'rate = "1/min"'), encoding="utf-8")
    workspace.preloaded = preloaded
    with subprocess.Popen(
        [*workspace.program(), "send", "--yes"],
        cwd=workspace.folder,
        env=workspace.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as sending:
        assert workspace.handler.arrived.wait(300)
        sending.send_signal(number)
        sending.communicate(timeout=300)  # until nobody has its standard error any more
        assert sending.returncode == (130 if number == signal.SIGINT else -number)
