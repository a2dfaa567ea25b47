"""The README tells the truth: its sessions are played, its commands exist, its exit codes are the program's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor import errors
from tests.authority import Authority
from tests.session_picture import PICTURE, draw, session
from tests.workspace import Workspace

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    found = Workspace(tmp_path, authority)
    yield found
    found.close()


def test_the_session_is_what_the_program_prints(workspace: Workspace) -> None:
    (session,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    before, after = session.split("$ distributor plan", 1)
    workspace.run_script(before)
    workspace.run_script("+ server\n+ people\n$ distributor plan" + after)
    assert len(workspace.handler.messages) == 2


def _listed() -> list[str]:
    rows = re.findall(r"^\| (`distributor .*?) \|", README.replace("\\|", "/"), re.MULTILINE)
    return [re.split(r" [\[A-Z-]", command)[0] for row in rows for command in re.findall(r"`distributor ([^`]*)`", row)]


def test_every_listed_command_exists_and_has_an_example(workspace: Workspace) -> None:
    assert len(_listed()) == 43
    for command in _listed():
        result = workspace.run(f"distributor {command} --help")
        assert result.returncode == 0, result.stdout
        assert re.search("examples?:", result.stdout), command


def test_every_flag_in_the_table_exists(workspace: Workspace) -> None:
    for row in re.findall(r"^\| `distributor (.*?)` \|", README.replace("\\|", "/"), re.MULTILINE):
        command = re.split(r" [\[A-Z-]", row)[0]
        if "`" not in row:
            result = workspace.run(f"distributor {command} --help").stdout
            assert not [flag for flag in re.findall(r"--[a-z-]+", row) if flag not in result], row


def test_every_command_of_the_program_is_listed(workspace: Workspace) -> None:
    _, _, section = workspace.run("distributor --help").stdout.partition("Commands:")
    names = set(re.findall(r"^  ([a-z]+)  ", section, re.MULTILINE))
    assert names == {command.split()[0] for command in _listed()}


def test_the_exit_codes_are_the_programs() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    kinds = (errors.RequestDenied, errors.UsageError, errors.InvalidInput, errors.ServiceUnavailable, errors.Interrupted)
    assert codes == {0, *(kind.exit_code for kind in kinds)}


def test_every_make_target_it_names_exists() -> None:
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_it_can_be_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 160


def test_the_picture_shows_the_session() -> None:
    """`python -m tests.session_picture` draws it anew."""
    assert PICTURE.read_text(encoding="utf-8") == draw(session())
