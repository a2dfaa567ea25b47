"""`distributor publish`: the real program, a folder, and a real slapd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.slapd import BASE, WRITER, WRITES, Slapd, slapd
from tests.workspace import Workspace

LDAP = """
[[directories]]
kind = "ldap"
url = "{url}"
base = "ou=people,{base}"
bind = "{bind}"
password = "env:LDAP_PASSWORD"
"""
FOLDER = '\n[[directories]]\nkind = "folder"\npath = "public"\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    with slapd() as running:
        yield running


def configure(workspace: Workspace, *tables: str) -> None:
    with (workspace.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write("".join(tables))


def ldap(server: Slapd, **changes: str) -> str:
    return LDAP.format(**{"url": server.url, "base": BASE, "bind": WRITER, **changes})


def run(workspace: Workspace, server: Slapd, code: int, command: str = "publish --json 2>/dev/null", **environment: str) -> str:
    result = workspace.run(f"distributor {command}", **{**server.environment, "LDAP_PASSWORD": WRITES, **environment})
    assert result.returncode == code, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def answer(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    assert text.startswith('{"schema": "distributor/publish/1"')
    return found


def test_everybody_is_published_once_in_every_directory(sent: Workspace, server: Slapd) -> None:
    configure(sent, ldap(server), FOLDER)
    names = [server.add(name, "inetOrgPerson", mail=f"{name}@example.org") for name in ("alice", "bob")]
    try:
        first = answer(run(sent, server, 0))
        assert (first["written"], first["unchanged"], first["issues"]) == (4, 0, [])
        again = answer(run(sent, server, 0))
        assert (again["written"], again["unchanged"], again["issues"]) == (0, 4, [])
        for name, dn in zip(("alice", "bob"), names, strict=True):
            assert server.read(dn)["userCertificate;binary"] == [(sent.folder / "public" / f"{name}@example.org.cer").read_bytes()]
    finally:
        for dn in names:
            server.run("ldapdelete", dn)
    events = json.loads(sent.run("distributor history alice@example.org --json").stdout)["events"]
    assert [event["event"] for event in events][-2:] == ["published", "published"]
    assert sent.run("distributor audit verify").returncode == 0
    assert WRITES.encode() not in b"".join(path.read_bytes() for path in sent.folder.rglob("*") if path.is_file())


def test_who_is_not_in_the_directory_is_exit_1_and_the_other_is_written(sent: Workspace, server: Slapd) -> None:
    configure(sent, ldap(server))
    dn = server.add("alice", "inetOrgPerson", mail="alice@example.org")
    try:
        found = answer(run(sent, server, 1))
    finally:
        server.run("ldapdelete", dn)
    assert found["written"] == 1
    assert [(i["severity"], i["check"], i["address"]) for i in found["issues"]] == [("error", "no-person", "bob@example.org")]


def test_a_directory_that_cannot_be_reached_is_exit_4_and_the_folder_is_written(sent: Workspace, server: Slapd) -> None:
    configure(sent, ldap(server, url="ldap://localhost:1"), FOLDER)
    result = run(sent, server, 4, "publish")
    assert "2 written, 0 unchanged" in result
    assert "error: ldap://localhost:1: connection refused" in result


def test_a_wrong_password_is_exit_4_and_not_shown(sent: Workspace, server: Slapd) -> None:
    configure(sent, ldap(server))
    result = run(sent, server, 4, "publish", LDAP_PASSWORD="hidden-here")
    assert "sign-in refused" in result
    assert "`directories[0].password`" in result
    assert "hidden-here" not in result


def test_without_a_directory_the_way_out_is_told(sent: Workspace, server: Slapd) -> None:
    assert "hint: add [[directories]]" in run(sent, server, 1, "publish")


def test_nobody_received_anything_yet(planned: Workspace, server: Slapd) -> None:
    configure(planned, FOLDER)
    assert "next: distributor send" in run(planned, server, 0, "publish")


@pytest.mark.parametrize(("changes", "where"), [({"url": "ldap://ldap.example.org/x"}, "url"), ({"base": "\t"}, "base")])
def test_a_table_that_cannot_work_is_told_by_every_command(planned: Workspace, server: Slapd, changes: dict[str, str], where: str) -> None:
    configure(planned, ldap(server, **changes).replace("ou=people,\t", " "))
    assert f"directories[0].{where}: " in run(planned, server, 3, "status")


def test_without_the_extra_the_way_to_it_is_told(sent: Workspace, server: Slapd, tmp_path: Path) -> None:
    configure(sent, ldap(server))
    (tmp_path / "ldap3.py").write_text("raise ModuleNotFoundError('ldap3')", encoding="utf-8")
    result = run(sent, server, 3, f"publish --config {sent.folder}/distributor.toml", PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}")
    assert "pip install 'distributor[ldap]'" in result
