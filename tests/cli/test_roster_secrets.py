"""A list of people with passwords in it, however wrongly it is written: they are in no message, no JSON and not in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.workspace import PASSWORD, Workspace

WORD = "Sommer-2026-geheim"


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ pfx alice alice@example.org\n")
    yield made
    made.close()


def everything(workspace: Workspace, roster: str, *commands: str) -> str:
    """What is printed and kept of a plan with this list, but for the list itself."""
    (workspace.folder / "people.csv").write_text(roster, encoding="utf-8")
    printed = [workspace.run(f"distributor {command}").stdout for command in commands]
    kept = [path.read_bytes().decode("latin-1") for path in workspace.folder.glob("distributor.db*")]
    assert "Traceback" not in "".join(printed)
    return "".join([*printed, *kept])


@pytest.mark.parametrize(
    "roster",
    [
        f"email,name,password\nalice@example.org;Alice;{WORD}\n",  # another delimiter than the header
        f"email,name,password\n{WORD},Alice,alice@example.org\n",  # swapped cells
        f"alice;Alice;{WORD}\n",  # no header, no address
        f"alice@example.org|{WORD}\n",  # a delimiter that nobody knows
        f"email,file,password\nalice@example.org,{WORD},alice.pfx\n",
        f"email,password_file\nalice@example.org,{WORD}\n",
        f"email,file\nalice@example.org,../{WORD}\n",
        f'email,name\nalice@example.org,"{WORD}"x\n',
        f"email,name\nalice@example.org,Alice,{WORD}\n",
        f"email,language\nalice@example.org,{WORD}\n",
    ],
)
def test_no_cell_that_may_be_a_password_is_repeated(workspace: Workspace, roster: str) -> None:
    output = everything(workspace, roster, "plan certificates --roster people.csv --json")
    assert WORD not in output
    assert "people.csv" in output


@pytest.mark.parametrize("name", ["Contraseña", "PFX Pass", "geheimnis"])
def test_a_column_that_no_message_names_is_not_kept_whatever_it_is_called(workspace: Workspace, name: str) -> None:
    output = everything(
        workspace, f"email;name;{name}\nalice@example.org;Alicia;{WORD}\n", "plan certificates --roster people.csv", "status --json"
    )
    assert "1 ready" in output
    assert WORD not in output


@pytest.mark.parametrize("name", ["Contraseña"])
def test_a_password_is_known_by_its_name_in_other_languages(workspace: Workspace, name: str) -> None:
    (workspace.folder / "certificates/alice.txt").unlink()
    output = everything(workspace, f"email;{name}\nalice@example.org;{PASSWORD}\n", "plan certificates --roster people.csv")
    assert "1 ready" in output


def test_a_column_that_a_message_names_is_kept_and_goes_when_no_message_names_it_any_more(workspace: Workspace) -> None:
    own = workspace.folder / "templates/message/en/body.txt"
    own.parent.mkdir(parents=True)
    own.write_text("To room {{ column.room }}.\n", encoding="utf-8")
    roster = f"email,room,other\nalice@example.org,Room-4711,{WORD}\n"
    kept = everything(workspace, roster, "plan certificates --roster people.csv", "send --dry-run look")
    assert "Room-4711" in kept
    assert WORD not in kept
    assert any(b"Room-4711" in path.read_bytes() for path in (workspace.folder / "look").iterdir())
    own.unlink()
    everything(workspace, roster, "plan certificates --roster people.csv")
    again = b"".join(path.read_bytes() for path in workspace.folder.glob("distributor.db*"))
    assert b'"room"' not in again
