"""`distributor plan` with people from a directory: the real program, a configuration file, and a double of Microsoft's services."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.doubles.graphd import Cloud, graphd
from tests.doubles.graphd.caller import SECRET
from tests.workspace import Workspace

IssueRow = tuple[str, str, str | None, int | None, str | None]
GRAPH = """
[[rosters]]
kind = "graph"
tenant = "{tenant}"
client_id = "{app}"
secret = "env:GRAPH_SECRET"
login = "{login}"
graph = "{graph}"
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Alice (with an alias) and Bob work here, Dora's account is disabled, and a robot has no mailbox."""
    with graphd(tmp_path_factory.mktemp("graphd")) as made:
        made.user("alice@example.org", displayName="Alice Example", preferredLanguage="de-AT", proxyAddresses=PROXIES)
        made.user("bob@example.org", displayName="Bob Example")
        made.user("dora@example.org", accountEnabled=False)
        made.user(None, userPrincipalName="robot@example.onmicrosoft.com", displayName="Robot")
        yield made
        assert (made.faults(), made.violations()) == ([], [])


PROXIES = ["smtp:a.example@example.org", "SMTP:alice@example.org"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, cloud: Cloud) -> Iterator[Workspace]:
    """A workspace whose people come from there."""
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n")
    app = cloud.app(secrets={SECRET: None}, roles=["User.Read.All", "GroupMember.Read.All"])
    with (tmp_path / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write(GRAPH.format(tenant=cloud.tenant, app=app, login=cloud.login, graph=cloud.graph))
    yield made
    made.close()


@pytest.fixture
def run(workspace: Workspace, cloud: Cloud) -> Run:
    return lambda command: workspace.run(command, **cloud.environment, GRAPH_SECRET=SECRET)


def answer(result: subprocess.CompletedProcess[str], code: int) -> dict[str, Any]:
    assert result.returncode == code, result.stdout
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def issues(found: dict[str, Any]) -> list[IssueRow]:
    return [(i["severity"], i["check"], i["source"], i["line"], i["address"]) for i in found["issues"]]


def test_the_directory_says_who_there_is_and_what_is_wrong(workspace: Workspace, run: Run) -> None:
    for name, address in {"a": "alice@example.org", "b": "a.example@example.org", "d": "dora@example.org", "g": "gone@example.org"}.items():
        workspace.add_pfx(name, address)
    found = answer(run("distributor plan certificates --json"), 1)
    assert [(d["address"], d["name"], d["language"]) for d in found["deliveries"]] == [("alice@example.org", "Alice Example", "de-AT")]
    assert issues(found) == [
        ("note", "no-address", "directory", None, None),
        ("error", "address-mismatch", "b.pfx", None, "alice@example.org"),
        ("error", "no-person", "d.pfx", None, "dora@example.org"),
        ("warning", "no-person", "g.pfx", None, "gone@example.org"),
        ("note", "no-certificate", "directory", None, None),
    ]


def test_a_roster_is_compared_with_the_directory(workspace: Workspace, run: Run) -> None:
    for name in ("alice", "bob", "dora", "gone"):
        workspace.add_pfx(name, f"{name}@example.org")
    workspace.add_roster("a.example@example.org,Alice,en", "Bob@example.org,Bob,", "dora@example.org,Dora,en", "gone@example.org,Gone,en")
    found = answer(run("distributor plan certificates --roster people.csv --json"), 1)
    assert [d["address"] for d in found["deliveries"]] == ["Bob@example.org", "gone@example.org"]
    assert issues(found) == [
        ("error", "address-mismatch", "people.csv", 2, "a.example@example.org"),
        ("warning", "address-case", "people.csv", 3, "Bob@example.org"),
        ("error", "no-person", "people.csv", 4, "dora@example.org"),
        ("warning", "no-person", "people.csv", 5, "gone@example.org"),
    ]


def test_a_roster_in_the_sources_is_compared_with_it_too(workspace: Workspace, run: Run) -> None:
    workspace.add_pfx("dora", "dora@example.org")
    workspace.add_roster("dora@example.org,Dora,en")
    with (workspace.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write('[[sources]]\nkind = "files"\npath = "certificates"\nroster = "people.csv"\n')
    assert issues(answer(run("distributor plan --json"), 1)) == [("error", "no-person", "people.csv", 2, "dora@example.org")]


def test_sending_needs_no_directory(workspace: Workspace, run: Run) -> None:
    workspace.add_server()
    workspace.add_pfx("alice", "alice@example.org")
    assert [d["language"] for d in answer(run("distributor plan certificates --json"), 0)["deliveries"]] == ["de-AT"]
    sent = answer(workspace.run("distributor send --yes --json 2>/dev/null"), 0)  # without the secret, and without trust in the service
    assert (sent["accepted"], [message["address"] for message in sent["deliveries"]]) == (1, ["alice@example.org"])


def test_a_plan_keeps_whom_it_asked_for_and_no_secret(workspace: Workspace, run: Run, cloud: Cloud) -> None:
    workspace.add_pfx("alice", "alice@example.org")
    answer(run("distributor plan certificates --json"), 0)
    kept = b"".join(path.read_bytes() for path in workspace.folder.glob("distributor.db*"))
    assert cloud.tenant.encode() in kept
    assert SECRET.encode() not in kept


def test_a_directory_that_refuses_ends_the_plan_with_nothing_planned(workspace: Workspace, run: Run, cloud: Cloud) -> None:
    workspace.add_pfx("alice", "alice@example.org")
    cloud.fault("user.list", "status", status=403, code="Authorization_RequestDenied")
    result = run("distributor plan certificates")
    assert result.returncode == 4, result.stdout
    assert "User.Read.All" in result.stdout
    assert "Traceback" not in result.stdout
    assert answer(workspace.run("distributor status --json"), 0)["deliveries"] == []


@pytest.mark.parametrize(("line", "where"), [('filter = " "', "rosters[0].filter"), ("guests = 1", "rosters[0].guests")])
def test_a_wrong_key_is_told_with_its_line(workspace: Workspace, run: Run, line: str, where: str) -> None:
    with (workspace.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write(f"{line}\n")
    result = run("distributor plan certificates")
    number = (workspace.folder / "distributor.toml").read_text(encoding="utf-8").splitlines().index(line) + 1
    assert result.returncode == 3, result.stdout
    assert result.stdout.startswith(f"error: distributor.toml line {number}: {where}: ")


def test_a_refused_sign_in_names_the_table(workspace: Workspace, cloud: Cloud) -> None:
    workspace.add_pfx("alice", "alice@example.org")
    result = workspace.run("distributor plan certificates", **cloud.environment, GRAPH_SECRET="another")
    assert result.returncode == 4, result.stdout
    assert "rosters[0].secret" in result.stdout
    assert "another" not in result.stdout
