"""A request of a person who is gone from the directory is denied; where the directory cannot be asked, the request waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from distributor import bootstrap
from distributor.bootstrap import requests
from distributor.model.states import RequestState
from tests.cli.test_directory import GRAPH
from tests.cli.test_follow import following
from tests.cli.test_ldap_people import LDAP
from tests.doubles.graphd import Cloud, graphd
from tests.doubles.graphd.caller import SECRET
from tests.doubles.slapd import BASE, WRITER, WRITES, slapd
from tests.workspace import Workspace

ALICE, BOB = "alice@example.org", "bob@example.org"
SOURCES = '\n[[sources]]\nkind = "files"\npath = "certificates/"\nroster = "people.csv"\n'
PORTAL = '\n[portal]\nurl = "https://example.org"\nauthority = "https://example.org"\nclient_id = "x"\nrequests = "automatic"\n'


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Alice works here, and Bob's account is disabled."""
    with graphd(tmp_path_factory.mktemp("graphd")) as made:
        made.user(ALICE)
        made.user(BOB, accountEnabled=False)
        yield made
        assert made.violations() == []


def configure(workspace: Workspace, tables: str) -> None:
    with (workspace.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write(tables)


def of_graph(cloud: Cloud, roles: tuple[str, ...] = ("User.Read.All",)) -> str:
    app = cloud.app(secrets={SECRET: None}, roles=list(roles))
    return GRAPH.format(tenant=cloud.tenant, app=app, login=cloud.login, graph=cloud.graph)


def ask(workspace: Workspace, address: str) -> str:
    done = workspace.run(f'LOGNAME=helga distributor requests add {address} --reason "new phone" 2>/dev/null')
    assert done.returncode == 0, done.stdout
    return done.stdout.split()[0]


def approve(workspace: Workspace, address: str, **environment: str) -> tuple[int, str]:
    done = workspace.run(f"LOGNAME=adam distributor requests approve {ask(workspace, address)}", **environment)
    return done.returncode, done.stdout


def states(workspace: Workspace) -> dict[str, Any]:
    found = json.loads(workspace.run("distributor requests --json").stdout)["requests"]
    return {each["address"]: (each["state"], each["decided_by"].partition("@")[0], each["planned"] is not None) for each in found}


def generations(workspace: Workspace) -> dict[str, int]:
    found = json.loads(workspace.run("distributor status --json").stdout)["deliveries"]
    return {each["address"]: each["generation"] for each in found}


def test_a_disabled_account_in_entra_is_denied_and_another_is_planned(sent: Workspace, cloud: Cloud) -> None:
    configure(sent, of_graph(cloud))
    environment = {**cloud.environment, "GRAPH_SECRET": SECRET}
    code, said = approve(sent, BOB, **environment)
    assert code == 1
    assert "is denied: the person is no longer in the directory" in said
    assert "next:" not in said
    assert approve(sent, ALICE, **environment)[0] == 0
    assert states(sent) == {BOB: ("denied", "policy", False), ALICE: ("approved", "adam", True)}
    assert generations(sent) == {ALICE: 2, BOB: 1}


def test_a_directory_that_refuses_lets_the_request_wait_until_the_next_send(sent: Workspace, cloud: Cloud) -> None:
    base = (sent.folder / "distributor.toml").read_text(encoding="utf-8")
    configure(sent, of_graph(cloud, roles=()))
    environment = {**cloud.environment, "GRAPH_SECRET": SECRET}
    code, said = approve(sent, ALICE, **environment)
    assert code == 1
    assert "is approved but not planned: cannot check whether the person is still in the directory:" in said
    assert "next: correct this, then distributor send" in said
    assert states(sent) == {ALICE: ("approved", "adam", False)}
    (sent.folder / "distributor.toml").write_text(base + of_graph(cloud), encoding="utf-8")
    done = sent.run("distributor send --yes", **environment)
    assert (done.returncode, "generation 2 planned as requested" in done.stdout) == (0, True), done.stdout


def test_a_person_who_left_the_ldap_directory_is_denied_while_sending(sent: Workspace) -> None:
    with slapd() as server:
        server.add("alice", "inetOrgPerson", mail=ALICE)
        request = ask(sent, BOB)
        sent.run_script(f"$ mv certificates away; LOGNAME=adam distributor requests approve {request} >/dev/null 2>&1\n? 1\n")
        assert states(sent) == {BOB: ("approved", "adam", False)}
        sent.run_script("$ mv away certificates\n")
        configure(sent, LDAP.format(url=server.url, base=BASE, bind=WRITER))
        with following(sent, **server.environment, LDAP_PASSWORD=WRITES) as follower:
            follower.until("denied", address=BOB)
            assert follower.stop() == 0
    assert states(sent) == {BOB: ("denied", "policy", False)}
    assert generations(sent) == {ALICE: 1, BOB: 1}


def test_without_a_directory_the_roster_of_the_sources_decides(sent: Workspace) -> None:
    configure(sent, SOURCES)
    rows = (sent.folder / "people.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (sent.folder / "people.csv").write_text("".join(row for row in rows if BOB not in row), encoding="utf-8")
    assert approve(sent, BOB)[0] == 1
    assert approve(sent, ALICE)[0] == 0
    assert states(sent) == {BOB: ("denied", "policy", False), ALICE: ("approved", "adam", True)}


def test_sources_without_a_roster_say_nothing_about_who_is_gone(sent: Workspace) -> None:
    configure(sent, SOURCES + SOURCES.partition("roster")[0])
    (sent.folder / "people.csv").write_text("email,name\n", encoding="utf-8")
    assert approve(sent, BOB)[0] == 0


def test_a_part_of_a_directory_says_nothing_about_others_in_the_rosters(
    sent: Workspace, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**cloud.environment, "GRAPH_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)
    config = sent.folder / "distributor.toml"
    configure(sent, SOURCES + of_graph(cloud) + "filter = \"department eq 'Sales'\"\n")
    is_member = requests.Membership(bootstrap.settings(config))
    assert (is_member(ALICE), is_member("gone@example.org")) == (True, False)
    config.write_text(config.read_text(encoding="utf-8").replace("filter = ", "# filter = "), encoding="utf-8")
    assert not requests.Membership(bootstrap.settings(config))("gone@example.org")


def test_a_request_in_the_portal_is_denied_at_once_where_the_person_is_gone(sent: Workspace) -> None:
    configure(sent, SOURCES + PORTAL)
    (sent.folder / "people.csv").write_text(f"email,name\n{ALICE},Alice\n", encoding="utf-8")
    settings = bootstrap.settings(sent.folder / "distributor.toml")
    with bootstrap.open_for_writing(settings) as ledger:
        asked = [requests.ask(settings, ledger, ledger.find(address, None)[0].id, "lost") for address in (ALICE, BOB)]
    assert [each.state for each in asked] == [RequestState.APPROVED, RequestState.DENIED]
