"""`distributor plan` with people from a real slapd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.doubles.slapd import BASE, WRITER, WRITES, Slapd, slapd
from tests.workspace import Workspace

LDAP = """
[[rosters]]
kind = "ldap"
url = "{url}"
base = "ou=people,{base}"
bind = "{bind}"
password = "env:LDAP_PASSWORD"
"""
PROXIES = ["smtp:a.example@example.org", "SMTP:alice@example.org"]


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    """Alice (with an alias) and Bob work here, and Dora's account is disabled."""
    with slapd() as running:
        alice = {"displayName": "Alice Example", "preferredLanguage": "de-AT", "mail": "alice@example.org", "proxyAddresses": PROXIES}
        running.add("alice", "inetOrgPerson", "microsoftUser", **alice)
        running.add("bob", "inetOrgPerson", mail="bob@example.org", displayName="Bob Example")
        running.add("dora", "inetOrgPerson", "microsoftUser", mail="dora@example.org", userAccountControl="514")
        yield running


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, server: Slapd) -> Iterator[Workspace]:
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n")
    with (tmp_path / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write(LDAP.format(url=server.url, base=BASE, bind=WRITER))
    yield made
    made.close()


def plan(workspace: Workspace, server: Slapd, code: int) -> dict[str, Any]:
    result = workspace.run("distributor plan certificates --json", **server.environment, LDAP_PASSWORD=WRITES)
    assert result.returncode == code, result.stdout
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_directory_says_who_there_is_and_what_is_wrong(workspace: Workspace, server: Slapd) -> None:
    for name, address in {"a": "alice@example.org", "b": "a.example@example.org", "d": "dora@example.org", "g": "gone@example.org"}.items():
        workspace.add_pfx(name, address)
    found = plan(workspace, server, 1)
    assert [(d["address"], d["name"], d["language"]) for d in found["deliveries"]] == [("alice@example.org", "Alice Example", "de-AT")]
    assert [(i["severity"], i["check"], i["source"], i["address"]) for i in found["issues"]] == [
        ("error", "address-mismatch", "b.pfx", "alice@example.org"),
        ("error", "no-person", "d.pfx", "dora@example.org"),
        ("warning", "no-person", "g.pfx", "gone@example.org"),
        ("note", "no-certificate", "directory", None),
    ]


def test_a_plan_keeps_whom_it_asked_and_not_how(workspace: Workspace, server: Slapd) -> None:
    workspace.add_pfx("alice", "alice@example.org")
    plan(workspace, server, 0)
    kept = b"".join(path.read_bytes() for path in workspace.folder.glob("distributor.db*"))
    assert server.url.encode() in kept
    assert WRITES.encode() not in kept
    assert WRITER.encode() not in kept


def test_a_directory_that_is_away_ends_the_plan_with_nothing_planned(workspace: Workspace, server: Slapd) -> None:
    workspace.add_pfx("alice", "alice@example.org")
    result = workspace.run("distributor plan certificates", LDAP_PASSWORD=WRITES, SSL_CERT_FILE="/dev/null")
    assert result.returncode == 4, result.stdout
    assert "not trusted" in result.stdout
    assert json.loads(workspace.run("distributor status --json").stdout)["deliveries"] == []
    assert server.url in result.stdout


def test_the_configuration_is_shown_without_the_password(workspace: Workspace) -> None:
    shown = workspace.run("distributor config show --json", LDAP_PASSWORD=WRITES)
    assert shown.returncode == 0, shown.stdout
    assert WRITES not in shown.stdout
    assert "env:LDAP_PASSWORD" in shown.stdout
