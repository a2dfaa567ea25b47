"""What every roster does; a new file in `distributor/rosters/` is found by itself and needs a list here that says the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest

from distributor.adapters import REGISTRY
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, Person
from distributor.model.ports import Roster
from distributor.model.secret import Secret
from tests.doubles.graphd import graphd
from tests.doubles.graphd.caller import SECRET
from tests.doubles.slapd import BASE, WRITER, WRITES, slapd

KINDS = sorted(REGISTRY["rosters"])


ALICE = Person(Address("alice", "example.org"), "Alice Example", "de-AT", alternate_email="a@home.example")


@dataclass(frozen=True)
class Lists:
    """Of one kind: a list of Alice, of a bad address and of Bob; one that cannot be read; and what only this kind says of Alice."""

    good: Roster
    gone: Roster
    alice: Person


@contextmanager
def _csv(folder: Path) -> Iterator[Lists]:
    path = folder / "people.csv"
    path.write_text(
        "email,name,language,phone,manager,alternate_email,Cost Centre\n"
        "alice@example.org,Alice Example,de-AT,+1 555,boss@example.org,a@home.example,42\n"
        "not an address,Nobody,,,,,\n"
        "bob@example.org,,,,,,\n",
        encoding="utf-8",
    )
    csv = import_module("distributor.adapters.rosters.csv")
    alice = replace(ALICE, phone="+1 555", manager="boss@example.org", columns={"cost_centre": "42"})
    yield Lists(csv.open(csv.Settings(path)), csv.open(csv.Settings(folder / "gone.csv")), alice)


@contextmanager
def _graph(folder: Path) -> Iterator[Lists]:
    graph = import_module("distributor.adapters.rosters.graph")
    with graphd(folder) as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        cloud.user("alice@example.org", displayName="Alice Example", preferredLanguage="de-AT", otherMails=["a@home.example"])
        cloud.user("not an address", userPrincipalName="nobody@example.org")
        cloud.user("bob@example.org", displayName=None)
        app = cloud.app(secrets={SECRET: None}, roles=["User.Read.All"])
        settings = graph.Settings(tenant=cloud.tenant, client_id=app, secret=Secret(SECRET), login=cloud.login, graph=cloud.graph)
        yield Lists(graph.open(settings, "rosters[0]"), graph.open(replace(settings, group=str(uuid.uuid4())), "rosters[0]"), ALICE)


@contextmanager
def _ldap(folder: Path) -> Iterator[Lists]:
    del folder
    ldap = import_module("distributor.adapters.rosters.ldap")
    with slapd() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(server.ca))
        alice = {
            "mail": "alice@example.org",
            "displayName": "Alice Example",
            "preferredLanguage": "de-AT",
            "otherMailbox": "a@home.example",
        }
        server.add("alice", "inetOrgPerson", "microsoftUser", **alice)
        server.add("nobody", "inetOrgPerson", mail="not an address")
        server.add("bob", "inetOrgPerson", mail="bob@example.org")
        settings = ldap.Settings(server.url, f"ou=people,{BASE}", WRITER, Secret(WRITES))
        yield Lists(ldap.open(settings, "rosters[0]"), ldap.open(replace(settings, base="ou=gone,dc=example,dc=org"), "rosters[0]"), ALICE)


LISTS: dict[str, Callable[[Path], AbstractContextManager[Lists]]] = {"csv": _csv, "graph": _graph, "ldap": _ldap}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in LISTS:
        pytest.fail(f"{name} has no list in {__file__}")
    return name


@pytest.fixture
def lists(kind: str, tmp_path: Path) -> Iterator[Lists]:
    with LISTS[kind](tmp_path) as made:
        yield made


@pytest.fixture
def roster(lists: Lists) -> Roster:
    return lists.good


def test_a_kind_has_settings_and_open(kind: str) -> None:
    module = import_module(REGISTRY["rosters"][kind])
    assert module.Settings.__dataclass_params__.frozen
    assert callable(module.open)


def test_people_come_with_all_that_the_list_says(lists: Lists) -> None:
    alice = next(row for row in lists.good.people() if isinstance(row, Person))
    assert replace(alice, hint=None) == lists.alice


def test_a_bad_row_is_an_issue_in_its_place_and_the_others_go_on(roster: Roster) -> None:
    rows = list(roster.people())
    assert [type(row) for row in rows] == [Person, Issue, Person]
    assert isinstance(rows[1], Issue)
    assert (rows[1].severity, rows[1].check) == (Severity.ERROR, CheckId.BAD_ADDRESS)
    assert rows[1].hint


def test_people_can_be_asked_for_twice(roster: Roster) -> None:
    assert list(roster.people()) == list(roster.people())


def test_a_list_that_cannot_be_read_is_an_error_with_a_place_and_a_way_out(lists: Lists) -> None:
    with pytest.raises((InvalidInput, ServiceUnavailable)) as caught:
        list(lists.gone.people())
    assert caught.value.where
    assert caught.value.hint
