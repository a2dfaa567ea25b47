"""`intune settings`: files, table and JSON from the same choices."""

from __future__ import annotations

import json
import plistlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.workspace import Workspace

KEY = "com.microsoft.outlook.Mail.SMIMEEnabled"
FILES = ["outlook-android.json", "outlook-apps.json", "outlook-ios.json", "outlook-ios.plist", "outlook.txt"]


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """An empty folder; no workspace is needed."""
    found = Workspace(tmp_path, authority)
    yield found
    found.close()


def test_every_form_is_written_with_the_chosen_values(workspace: Workspace) -> None:
    result = workspace.run("distributor intune settings --sign-all --no-users-may-change --ldap ldaps://ldap.example.org --output a/b")
    assert result.returncode == 0, result.stdout
    folder = workspace.folder / "a" / "b"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    listed = plistlib.loads((folder / "outlook-ios.plist").read_bytes())
    assert (listed[f"{KEY}.SignAllMail"], listed[f"{KEY}.UserChangeAllowed"]) == (True, False)
    robot = json.loads((folder / "outlook-android.json").read_text())
    assert {"key": f"{KEY}.LDAPHostName", "valueString": "ldaps://ldap.example.org"} in robot["managedProperty"]
    assert f"ldaps://ldap.example.org  none     {KEY}.LDAPHostName" in result.stdout
    assert f"true                      false  {KEY}.SignAllMail " in (folder / "outlook.txt").read_text()


def test_the_answer_in_json_holds_the_same_as_the_files(workspace: Workspace) -> None:
    result = json.loads(workspace.run("distributor intune settings --encrypt-all --json --output out").stdout)
    assert next(iter(result.items())) == ("schema", "distributor/intune/1")
    assert {row["key"]: row["value"] for row in result["settings"]} == plistlib.loads(
        (workspace.folder / "out" / "outlook-ios.plist").read_bytes()
    )
    for form in ("ios", "android", "apps"):
        assert result[form] == json.loads((workspace.folder / "out" / f"outlook-{form}.json").read_text())
    assert [diagnostic["area"] for diagnostic in result["remarks"] if diagnostic["level"] == "warning"] == ["encryption"]
    assert sorted(Path(name).name for name in result["files"]) == FILES


def test_nothing_is_written_when_a_value_is_wrong(workspace: Workspace) -> None:
    result = workspace.run("distributor intune settings --ldap ldaps://ldap.example.org/dc=example --output out")
    assert result.returncode == 2
    assert result.stdout == (
        'error: --ldap: "ldaps://ldap.example.org/dc=example" has a path or base, which Outlook does not support\n'
        "hint: write HOST, HOST:PORT or ldaps://HOST[:PORT]\n"
    )
    assert list(workspace.folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(workspace: Workspace) -> None:
    (workspace.folder / "file").write_text("")
    result = workspace.run("distributor intune settings --output file/out")
    assert (result.returncode, result.stdout.splitlines()[0]) == (3, "error: file/out: not a directory")


def test_a_group_without_a_command_shows_its_commands(workspace: Workspace) -> None:
    result = workspace.run("distributor intune")
    assert result.returncode == 2
    assert "settings" in result.stdout
