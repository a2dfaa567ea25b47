"""What a file may cost a command: size, time and memory are bounded before the work is done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

MEMORY = 2**19  # KiB of address space of a command itself; its children have their own bound
LOOPS = "{% for i in a %}{% for j in a %}{% for k in a %}{% if i == 'z' %}x{% endif %}{% endfor %}{% endfor %}{% endfor %}"
SLOW = "\n{% set a = 'y' * 1000 %}" + LOOPS
LARGE = "\n{% set a = 'y' * 250000 %}\n" + "{% set a = a ~ a ~ a ~ a ~ a ~ a ~ a ~ a %}\n" * 5
LINES = {SLOW: 2, LARGE: 6}


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path, authority)
    workspace.run_script("$ distributor init >/dev/null 2>&1\n+ people\n")
    yield workspace
    workspace.close()


@pytest.mark.parametrize("option", ["--roster", "--passwords", "--config"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_refused_wherever_a_file_is_meant(workspace: Workspace, option: str, kind: str) -> None:
    path = "/dev/zero"
    if kind == "pipe":
        os.mkfifo(workspace.folder / "pipe")
        path = "pipe"
    result = workspace.run(f"ulimit -t 20; distributor plan certificates {option} {path}")
    assert result.returncode == 3
    assert f"{path}: not a regular file\nhint: " in result.stdout


@pytest.mark.parametrize("option", ["--roster", "--passwords"])
def test_a_list_that_is_too_large_is_not_read(workspace: Workspace, option: str) -> None:
    with (workspace.folder / "large.csv").open("wb") as file:
        file.write(b"email,password\n")
        file.truncate(400 * 2**20)
    result = workspace.run(f"ulimit -v {MEMORY}; distributor plan certificates {option} large.csv")
    assert result.returncode == 3
    assert "large.csv: 400 MiB is more than the limit" in result.stdout


def test_a_cell_of_a_hundred_thousand_characters_is_a_bad_row_and_the_others_go_on(workspace: Workspace) -> None:
    with (workspace.folder / "people.csv").open("a", encoding="utf-8") as file:
        file.write(f"{'x' * 130_000},Long,en\n{'x' * 30_000},Shorter,en\n")
    result = workspace.run("ulimit -t 20; distributor plan certificates --roster people.csv --json 2>/dev/null")
    answer = json.loads(result.stdout)
    assert answer["ready"] == 2
    assert [(issue["check"], issue["line"]) for issue in answer["issues"]] == [("bad-row", 4), ("bad-address", 5)]
    assert all(len(str(issue)) < 2000 for issue in answer["issues"])


@pytest.mark.parametrize(("bomb", "why"), [(SLOW, "takes longer than"), (LARGE, "needs too much memory")])
def test_a_template_that_takes_too_much_is_an_error_of_doctor_as_of_send(workspace: Workspace, bomb: str, why: str) -> None:
    folder = workspace.folder / "templates" / "message" / "en"
    folder.mkdir(parents=True)
    (folder / "body.txt").write_text(bomb, encoding="utf-8")
    result = workspace.run(f"ulimit -v {4 * MEMORY}; distributor doctor --json 2>/dev/null")
    (found,) = [check for check in json.loads(result.stdout)["checks"] if check["area"] == "templates"]
    assert found["level"] == "error"
    assert why in found["message"]
    workspace.run_script("+ server\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n")
    with (workspace.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write("\n[limits]\nopen_seconds = 300\n")  # the template's own limit counts time of the processor
    result = workspace.run("distributor send --yes")
    assert result.returncode == 1
    assert f"alice@example.org: not packed: templates/message/en/body.txt line {LINES[bomb]}: rendering {why}" in result.stdout
    assert [b"To: Bob Example" in message for message in workspace.handler.messages] == [True]
