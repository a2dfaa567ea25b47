"""The collection's commands where a transcript does not reach: JSON, odd certificates, odd files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributor.pki import sst
from tests.authority import Authority
from tests.pki.pki import make
from tests.workspace import Workspace

ROOT = make("Root")
MIDDLE = make("Middle", ROOT)


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """A folder with a root and an intermediate."""
    found = Workspace(tmp_path, authority)
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    (tmp_path / "middle.der").write_bytes(MIDDLE.der)
    yield found
    found.close()


def answered(workspace: Workspace, command: str, code: int = 0) -> dict[str, Any]:
    result = workspace.run(f"distributor trust {command} --json 2>/dev/null")
    assert result.returncode == code, result.stdout
    found: dict[str, Any] = json.loads(result.stdout)
    assert next(iter(found.items())) == ("schema", "distributor/trust/1")
    return found


def checks(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(issue["severity"], issue["check"]) for issue in found["issues"]]


def test_an_export_answers_with_what_is_in_it_and_its_hash(workspace: Workspace) -> None:
    found = answered(workspace, "export --output c.sst middle.der root.pem")
    data = (workspace.folder / "c.sst").read_bytes()
    assert data == sst.write([ROOT.der, MIDDLE.der])
    assert found["file"] == {"path": "c.sst", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert [(row["subject"], row["self_signed"], row["kind"]) for row in found["certificates"]] == [
        ("CN=Root", True, "root"),
        ("CN=Middle", False, "intermediate"),
    ]
    assert found["issues"] == []


def test_the_order_of_the_arguments_does_not_change_the_file(workspace: Workspace) -> None:
    workspace.run_script("$ distributor trust export --output a.sst root.pem middle.der >/dev/null 2>&1\n")
    workspace.run_script("$ distributor trust export --output b.sst middle.der a.sst >/dev/null 2>&1\n$ cmp a.sst b.sst\n")


@pytest.mark.parametrize(
    ("odd", "check"),
    [
        (make("Old", ROOT, days=-1), "expired"),
        (make("Soon", ROOT, starts=9000, days=9999), "not-yet-valid"),
        (make("Person", ROOT, ca=False), "is-ca"),
        (make("Lonely", make("Elsewhere")), "chain-incomplete"),
    ],
)
def test_one_certificate_that_does_not_belong_there_leaves_nothing_written(workspace: Workspace, odd: Any, check: str) -> None:  # noqa: ANN401
    (workspace.folder / "c.sst").write_bytes(b"the one before")
    (workspace.folder / "odd.pem").write_bytes(odd.pem)
    found = answered(workspace, "export --output c.sst root.pem odd.pem", code=1)
    assert (checks(found), found["file"]) == ([("error", check)], None)
    assert (workspace.folder / "c.sst").read_bytes() == b"the one before"
    (workspace.folder / "c.sst").write_bytes(sst.write([ROOT.der, odd.der]))
    assert checks(answered(workspace, "check --sst c.sst", code=1)) == [("error", check)]


def test_a_written_collection_can_be_read_by_others_and_leaves_nothing_beside(workspace: Workspace) -> None:
    workspace.run_script("$ umask 077; distributor trust export --output c.sst root.pem >/dev/null 2>&1\n")
    assert stat.S_IMODE((workspace.folder / "c.sst").stat().st_mode) == 0o644
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["c.sst", "middle.der", "root.pem"]


def test_a_folder_is_searched_without_keys_collections_and_other_files(workspace: Workspace) -> None:
    folder = workspace.folder / "cas"
    (folder / "below").mkdir(parents=True)
    (folder / "root.pem").write_bytes(ROOT.pem)
    (folder / "below" / "middle.CER").write_bytes(MIDDLE.der)
    (folder / "key.pem").write_bytes(workspace.authority.issue("a@example.org").key_pem())
    (folder / "old.sst").write_bytes(sst.write([make("Old", days=-1).der]))
    (folder / "notes.txt").write_text("nothing")
    found = answered(workspace, "export --output cas/c.pem cas")
    assert [row["source"] for row in found["certificates"]] == ["root.pem", "middle.CER"]
    assert answered(workspace, "export --output cas/c.pem cas")["issues"] == []  # what it wrote there is not its own input


def test_files_that_hold_no_certificate_are_issues(workspace: Workspace) -> None:
    workspace.run_script("$ echo hello > note.pem; mkdir empty\n")
    (workspace.folder / "a.pfx").write_bytes(workspace.authority.issue("a@example.org").pfx())
    found = answered(workspace, "export --output c.sst root.pem note.pem empty a.pfx", code=1)
    assert [(issue["check"], issue["source"]) for issue in found["issues"]] == [
        ("unreadable", "note.pem"),
        ("unreadable", "empty"),
        ("unreadable", "a.pfx"),
    ]
    assert not (workspace.folder / "c.sst").exists()
    for name in ("nowhere.pem", "/dev/null"):
        assert workspace.run(f"distributor trust export --output c.sst root.pem {name}").returncode == 3


def test_a_pipe_is_not_waited_for(workspace: Workspace) -> None:
    os.mkfifo(workspace.folder / "pipe.pem")
    result = workspace.run("distributor trust check --sst pipe.pem")
    assert (result.returncode, result.stdout.splitlines()[0]) == (3, "error: pipe.pem: not a regular file")


def test_where_it_cannot_be_written_is_told_with_the_place(workspace: Workspace) -> None:
    result = workspace.run("distributor trust export --output nowhere/c.sst root.pem")
    assert result.returncode == 3
    assert "error: nowhere/c.sst: no such file or directory\nhint: " in result.stdout


def test_a_collection_that_windows_made_is_shown_with_its_names(workspace: Workspace) -> None:
    name = "Wurzel \u202e\n\0".encode("utf-16-le")
    entry = b"".join(number.to_bytes(4, "little") for number in (11, 1, len(name))) + name
    crl = b"".join(number.to_bytes(4, "little") for number in (33, 1, 3)) + b"crl"
    (workspace.folder / "w.sst").write_bytes(sst.MAGIC + entry + sst.write([ROOT.der])[8:-12] + crl + sst.END)
    found = answered(workspace, "check --sst w.sst")
    assert found["certificates"][0]["name"] == "Wurzel \\u202e\\n"
    assert found["file"]["crls"] == 1
    assert "ignored: 1 list of revoked or trusted certificates" in workspace.run("distributor trust check --sst w.sst").stdout


def test_a_name_cannot_move_the_cursor(workspace: Workspace) -> None:
    (workspace.folder / "evil.pem").write_bytes(make("Ev\x1b[2Jil\r\n\u202e").pem)
    result = workspace.run(
        "distributor trust export --output c.sst evil.pem; distributor trust check --sst c.sst; distributor trust runbook --sst c.sst"
    )
    assert result.returncode == 0
    assert not {"\x1b", "\r", "\u202e"} & set(result.stdout)


def test_a_check_tells_the_lack_of_each_certificate_at_hand(workspace: Workspace) -> None:
    (workspace.folder / "c.sst").write_bytes(sst.write([ROOT.der]))
    (workspace.folder / "people.pem").write_bytes(make("Ann", MIDDLE, ca=False).pem + make("Bea", ROOT, ca=False).pem)
    found = answered(workspace, "check --sst c.sst people.pem --offline", code=1)
    assert [(row["subject"], row["complete"]) for row in found["at_hand"]] == [("CN=Ann", False), ("CN=Bea", True)]
    assert checks(found) == [("error", "chain-incomplete")]


def test_a_check_compares_with_the_tenants(workspace: Workspace) -> None:
    (workspace.folder / "c.sst").write_bytes(sst.write([ROOT.der, MIDDLE.der]))
    (workspace.folder / "t.sst").write_bytes(sst.write([MIDDLE.der, ROOT.der]))
    found = answered(workspace, "check --sst c.sst --tenant t.sst")
    assert {name: len(part) for name, part in found["tenant"].items()} == {"same": 2, "only_here": 0, "only_there": 0}
    (workspace.folder / "empty.txt").write_text("\n")
    found = answered(workspace, "check --sst c.sst --tenant empty.txt", code=1)
    assert checks(found) == [("error", "chain-untrusted")] * 2


def test_a_folder_or_a_file_of_certificates_is_a_collection_too(workspace: Workspace) -> None:
    assert len(answered(workspace, "check --sst .")["certificates"]) == 2
    (workspace.folder / "both.pem").write_bytes(ROOT.pem + MIDDLE.pem)
    assert len(answered(workspace, "check --sst both.pem")["certificates"]) == 2
    result = workspace.run("distributor trust runbook --sst both.pem")
    assert result.returncode == 3
    assert result.stdout.startswith("error: both.pem: only a .sst can be uploaded\nhint: distributor trust export")


def test_no_runbook_is_made_for_what_exchange_would_refuse(workspace: Workspace) -> None:
    (workspace.folder / "c.sst").write_bytes(sst.write([ROOT.der, make("Old", ROOT, days=-1).der]))
    result = workspace.run("distributor trust runbook --sst c.sst")
    assert result.returncode == 1
    assert result.stdout == "error: c.sst: the collection has 1 error\nhint: distributor trust check --sst c.sst\n"
