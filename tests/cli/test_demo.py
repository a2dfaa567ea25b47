"""The demo is true: the real commands, a message that opens, a workspace that goes on, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from tests.authority import Authority
from tests.workspace import Workspace


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> tuple[Workspace, subprocess.CompletedProcess[str]]:
    """A demo that was kept in `play`, and what it printed; run as a process of its own."""
    workspace = Workspace(tmp_path_factory.mktemp("kept"), authority)
    workspace.preloaded = False
    printed = workspace.run("distributor demo --keep play --json 2>/dev/null", XDG_STATE_HOME=str(workspace.folder / "state"))
    workspace.preloaded = True
    return workspace, printed


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Workspace:
    return Workspace(tmp_path, authority)


def test_it_answers_with_five_people_of_whom_one_is_refused_with_a_reason(
    kept: tuple[Workspace, subprocess.CompletedProcess[str]],
) -> None:
    workspace, result = kept
    assert result.returncode == 0
    answer = json.loads(result.stdout)
    assert next(iter(answer)) == "schema"
    assert answer["schema"] == "distributor/demo/1"
    assert [person["state"] for person in answer["people"]].count("accepted") == 4
    assert {person["language"].partition("-")[0] for person in answer["people"]} == {"en", "de", "fr"}
    assert [(issue["check"], issue["severity"]) for issue in answer["issues"]] == [("address-mismatch", "error")]
    assert answer["opened"] is True
    (reveal,) = answer["reveals"]
    message = message_from_bytes((workspace.folder / "play" / answer["letters"][0]).read_bytes(), policy=default)
    (attachment,) = message.iter_attachments()
    assert load_pkcs12(attachment.get_content(), reveal["password"].encode()).cert is not None
    assert reveal["password"] not in str(message)


def test_what_it_keeps_is_an_ordinary_workspace(
    kept: tuple[Workspace, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, _ = kept
    monkeypatch.setenv("XDG_STATE_HOME", str(workspace.folder / "state"))
    workspace.run_script(
        "$ cd play && distributor status --json | grep -c accepted\n5\n"
        "$ cd play && distributor audit verify >/dev/null\n"
        "$ cd play && distributor doctor >/dev/null\n"
        '$ cd play && distributor password reveal emil@example.org --reason "he called" --stdout\n...-...\n'
        '$ cd play && distributor resend chloe@example.org --reason "new phone" --yes >/dev/null 2>&1\n'
        "$ cd play && distributor plan >/dev/null 2>&1\n? 1\n"
        "$ distributor demo --keep play\nerror: play: the folder is not empty\nhint: ...\n? 2\n"
    )


def test_without_keep_nothing_is_left_behind_and_no_configuration_is_read(workspace: Workspace, state_folder: Path) -> None:
    temp, config = workspace.folder / "temp", workspace.folder / "distributor.toml"
    config.write_text("not even TOML", encoding="utf-8")
    temp.mkdir()
    result = workspace.run("distributor demo", TMPDIR=str(temp))
    assert result.returncode == 0, result.stdout
    assert "Nothing is left behind" in result.stdout
    assert [path for path in workspace.folder.rglob("*") if path not in {temp, config}] == []
    assert config.read_text(encoding="utf-8") == "not even TOML"
    assert not state_folder.exists()


def test_a_demo_that_cannot_be_set_up_leaves_nothing(workspace: Workspace) -> None:
    result = workspace.run("ulimit -f 2; distributor demo --keep play 2>&1 >/dev/null")
    assert result.returncode == 3
    assert "play: file too large\nhint: free some space" in result.stdout
    assert not (workspace.folder / "play").exists()


def last_command(workspace: Workspace, command: str) -> str:
    done = workspace.run(command, XDG_STATE_HOME=str(workspace.folder / "state"))
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()[-1].strip()


def test_the_last_line_is_a_command_that_works_from_the_same_folder(workspace: Workspace) -> None:
    workspace.preloaded = False  # as `make demo` starts it: by a path, not from the PATH
    again = last_command(workspace, "distributor demo 2>/dev/null")
    assert again.endswith(" -m distributor demo --keep playground")
    in_it = last_command(workspace, f"{again} 2>/dev/null")
    assert workspace.run(in_it, XDG_STATE_HOME=str(workspace.folder / "state")).returncode == 0
