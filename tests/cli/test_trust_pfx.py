"""`distributor trust check` on the files people's certificates come in: PFX with their passwords, as docs/trust.md has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributor.pki import sst
from tests.authority import Authority
from tests.doubles.pki import CA, root
from tests.workspace import PASSWORD, Workspace


@pytest.fixture
def ca() -> CA:
    return root()


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, ca: CA) -> Iterator[Workspace]:
    """A collection, and alice's PFX in a folder; no workspace."""
    made = Workspace(tmp_path, authority)
    (tmp_path / "collection.sst").write_bytes(sst.write([ca.der]))
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "alice.pfx").write_bytes(ca.person("alice@example.org").pfx(PASSWORD))
    yield made
    made.close()


def checked(workspace: Workspace, rest: str, code: int) -> dict[str, Any]:
    done = workspace.run(f"distributor trust check --sst collection.sst --offline {rest} --json 2>/dev/null")
    assert done.returncode == code, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("named", ["certificates/", "certificates/alice.pfx"])
def test_a_pfx_opens_with_the_password_that_lies_beside_it(workspace: Workspace, named: str) -> None:
    (workspace.folder / "certificates" / "alice.txt").write_text(PASSWORD, encoding="utf-8")
    found = checked(workspace, named, 0)
    assert found["issues"] == []
    assert all(one["complete"] for one in found["at_hand"])
    assert "CN=alice@example.org" in {one["subject"] for one in found["at_hand"]}


def test_a_pfx_opens_with_the_passwords_that_plan_takes(workspace: Workspace) -> None:
    (workspace.folder / "passwords.csv").write_text(f"file,password\nalice.pfx,{PASSWORD}\n", encoding="utf-8")
    assert checked(workspace, "certificates/ --passwords passwords.csv", 0)["issues"] == []


def test_a_pfx_without_its_password_is_an_issue_of_that_file(workspace: Workspace) -> None:
    found = checked(workspace, "certificates/", 1)
    assert [(issue["check"], issue["source"]) for issue in found["issues"]] == [("wrong-password", "alice.pfx")]


def test_what_the_collection_lacks_for_a_pfx_is_told(workspace: Workspace) -> None:
    other = root("Other")
    (workspace.folder / "certificates" / "bob.pfx").write_bytes(other.person("bob@example.org").pfx(PASSWORD))
    for name in ("alice", "bob"):
        (workspace.folder / "certificates" / f"{name}.txt").write_text(PASSWORD, encoding="utf-8")
    assert {issue["check"] for issue in checked(workspace, "certificates/", 1)["issues"]} <= {"chain-incomplete", "chain-untrusted"}


def test_an_empty_file_is_not_taken_for_a_tenant_without_a_collection(workspace: Workspace) -> None:
    (workspace.folder / "tenant.txt").write_bytes(b"")
    done = workspace.run("distributor trust check --sst collection.sst --tenant tenant.txt")
    assert (done.returncode, "tenant.txt: the file is empty" in done.stdout) == (3, True)
