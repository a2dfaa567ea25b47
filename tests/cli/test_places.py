"""Paths on the command line: what cannot be read or written is said with its place, and with the exit code of input, not of usage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_type_hints

import pytest
import typer
from typer.models import ParameterInfo

from distributor.cli import app as cli
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

PRIVILEGES = "-dac_override,-dac_read_search"


def commands(group: typer.Typer) -> Iterator[typer.models.CommandInfo]:
    yield from group.registered_commands
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from commands(below.typer_instance)


def looks(function: object) -> Iterator[str]:
    """Parameters whose path typer looks at before the command does."""
    for name, hint in get_type_hints(function, include_extras=True).items():
        for found in getattr(hint, "__metadata__", ()):
            if isinstance(found, ParameterInfo) and "Path" in str(hint) and (found.readable or found.exists or not found.dir_okay):
                yield name


def test_no_command_lets_typer_look_at_a_path() -> None:
    found = {
        (command.callback.__name__, name) for command in commands(cli.program()) if command.callback for name in looks(command.callback)
    }
    assert found == set()


def test_the_look_of_typer_would_be_noticed() -> None:
    def command(file: Annotated[Path, typer.Argument()], other: Annotated[Path, typer.Argument(readable=False)]) -> None:
        del file, other

    command.__annotations__ = {"file": Annotated[Path, typer.Argument()], "other": Annotated[Path, typer.Argument(readable=False)]}
    assert list(looks(command)) == ["file"]


class Plain:
    """The program for a user who may read only what its mode allows."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def __call__(self, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "distributor", *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", "--bounding-set", PRIVILEGES, "--inh-caps", PRIVILEGES, *command]
        done = subprocess.run(
            command, cwd=self.workspace.folder, env=self.workspace.environment(), capture_output=True, text=True, timeout=600, check=False
        )
        return done.returncode, done.stderr or done.stdout


@pytest.fixture
def plain(planned: Workspace) -> Iterator[Plain]:
    """With `closed.csv` and a folder `closed` that nobody may read."""
    file, folder = planned.folder / "closed.csv", planned.folder / "closed"
    file.write_text("email\n", encoding="utf-8")
    file.chmod(0)
    folder.mkdir()
    folder.chmod(0)
    yield Plain(planned)
    file.chmod(0o600)
    folder.chmod(0o700)


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "certificates", "--roster", "closed.csv"),
        ("plan", "certificates", "--passwords", "closed.csv"),
        ("plan", "certificates", "--passwords", "closed"),
        ("plan", "closed/alice.pfx"),
        ("status", "--config", "closed.csv"),
        ("status", "--config", "closed/distributor.toml"),
        ("audit", "verify", "closed.csv"),
        ("audit", "export", "--output", "closed/all.jsonl"),
        ("trust", "check", "--sst", "closed.csv"),
        ("trust", "check", "--sst", "closed"),
        ("trust", "check", "--sst", "closed/all.sst"),
        ("trust", "export", "--output", "all.sst", "closed.csv"),
        ("trust", "export", "--output", "all.sst", "closed"),
        ("send", "--dry-run", "closed"),
        ("demo", "--keep", "closed"),
        ("init", "closed"),
        ("init", "closed/below"),
    ],
    ids=" ".join,
)
def test_what_may_not_be_read_is_exit_3_in_two_lines_with_its_place(plain: Plain, arguments: tuple[str, ...]) -> None:
    code, result = plain(*arguments)
    error, hint = result.splitlines()
    assert (code, error.endswith(": permission denied"), hint[:6]) == (3, True, "hint: "), result
    assert "closed" in error


@pytest.mark.parametrize("source", ["certificates/alice.pfx", "closed"])
def test_a_source_that_may_not_be_read_is_an_issue_and_the_others_are_planned(plain: Plain, source: str) -> None:
    plain.workspace.run_script("+ pfx carol carol@example.org\n")
    path = plain.workspace.folder / source
    path.chmod(0)
    code, result = plain("plan", "certificates/carol.pfx", source, "--json")
    assert (code, result.count('"check": "unreadable"'), result.count("permission denied")) == (1, 1, 1), result
    assert '"ready": 1' in result


@pytest.mark.parametrize("output", [".", "..", "/", "certificates"])
@pytest.mark.parametrize("command", [("audit", "export"), ("trust", "export", "authorities/root.crt")], ids="-".join)
def test_a_folder_is_no_file_to_write_into(planned: Workspace, command: tuple[str, ...], output: str) -> None:
    planned.run_script("+ authorities\n")
    done = planned.run(f"distributor {' '.join(command)} --output {output} 2>&1 >/dev/null")
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, f"error: {output}: this is a folder, not a file")
    assert "hint: name a file in it: --output " in done.stdout


def test_a_name_that_is_too_long_is_no_fault_of_the_program(planned: Workspace) -> None:
    done = planned.run(f"distributor plan {'x' * 300}")
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, f"error: {'x' * 300}: file name too long")
