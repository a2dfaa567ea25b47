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
from distributor.model.people import Address, Directory, Person
from distributor.model.ports import Roster
from distributor.model.secret import Secret
from tests.doubles.graphd import graphd
from tests.doubles.graphd.caller import SECRET
from tests.doubles.slapd import BASE, WRITER, WRITES, slapd

KINDS = sorted(REGISTRY["rosters"])


ALICE = Person(Address("alice", "example.org"), "Alice Example", "de-AT", alternate_email="a@home.example")


@dataclass(frozen=True)
class Lists:
    """Of one kind: a list of Alice, of a bad address and of Bob; one that cannot be read; and what only this kind says of Alice.

    `directories`: both again, where the kind also finds one user; its Alice has the alias `a.example`, and Dora's account is disabled.
    """

    good: Roster
    gone: Roster
    alice: Person
    directories: tuple[Directory, Directory] | None = None


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
        proxies = ["smtp:a.example@example.org", "SMTP:alice@example.org"]
        alice = {"displayName": "Alice Example", "preferredLanguage": "de-AT", "otherMails": ["a@home.example"]}
        cloud.user("alice@example.org", proxyAddresses=proxies, **alice)
        cloud.user("not an address", userPrincipalName="nobody@example.org")
        cloud.user("bob@example.org", displayName=None, proxyAddresses=[])
        cloud.user("dora@example.org", accountEnabled=False)
        app = cloud.app(secrets={SECRET: None}, roles=["User.Read.All"])
        settings = graph.Settings(tenant=cloud.tenant, client_id=app, secret=Secret(SECRET), login=cloud.login, graph=cloud.graph)
        good, gone = graph.open(settings, "rosters[0]"), graph.open(replace(settings, group=str(uuid.uuid4())), "rosters[0]")
        yield Lists(good, gone, ALICE, (good, gone))
        assert cloud.violations() == []


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
            "proxyAddresses": ["smtp:a.example@example.org", "SMTP:alice@example.org"],
        }
        server.add("alice", "inetOrgPerson", "microsoftUser", **alice)
        server.add("nobody", "inetOrgPerson", mail="not an address")
        server.add("bob", "inetOrgPerson", mail="bob@example.org")
        server.add("dora", "inetOrgPerson", "microsoftUser", mail="dora@example.org", userAccountControl="514")
        settings = ldap.Settings(server.url, f"ou=people,{BASE}", WRITER, Secret(WRITES))
        good, gone = (ldap.open(replace(settings, base=f"ou={name},{BASE}"), "rosters[0]") for name in ("people", "gone"))
        yield Lists(good, gone, ALICE, (good, gone))


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


# --- one user of a directory -------------------------------------------------------------------------------------------


directories = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "csv"], indirect=True)


@pytest.fixture
def directory(kind: str, lists: Lists) -> Directory:
    assert lists.directories is not None, f"{kind} has no directories in {__file__}"
    return lists.directories[0]


@directories
def test_a_user_is_found_by_the_primary_address_in_any_case(directory: Directory) -> None:
    found = directory.find(Address("ALICE", "example.org"))
    assert found is not None
    assert (replace(found.person, hint=None), found.enabled) == (ALICE, True)
    bob = directory.find(Address("bob", "example.org"))
    assert bob is not None
    assert bob.person.address == Address("bob", "example.org")


@directories
def test_a_disabled_user_is_found_as_one(directory: Directory) -> None:
    found = directory.find(Address("dora", "example.org"))
    assert found is not None
    assert not found.enabled


@directories
@pytest.mark.parametrize("local", ["nobody", "a.example", "alic", "alice*", "o'brien", "a)(mail=*"])
def test_nobody_is_found_by_an_alias_or_by_a_part_of_an_address(directory: Directory, local: str) -> None:
    assert directory.find(Address(local, "example.org")) is None


@directories
def test_a_directory_that_cannot_be_read_finds_nobody_by_an_error(directory: Directory, lists: Lists) -> None:
    del directory
    assert lists.directories is not None
    with pytest.raises((InvalidInput, ServiceUnavailable)) as caught:
        lists.directories[1].find(Address("alice", "example.org"))
    assert caught.value.where
    assert caught.value.hint
