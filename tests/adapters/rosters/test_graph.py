"""People of a directory behind Microsoft Graph: a double of it that is strict where the service is."""

from __future__ import annotations

import gc
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distributor.adapters.rosters import graph
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, DirectoryUser, Person
from distributor.model.secret import Secret
from tests.doubles.graphd import Cloud
from tests.doubles.graphd.caller import SECRET

ROLES = ["User.Read.All", "GroupMember.Read.All"]
Opened = Callable[..., graph.GraphRoster]


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Trusted by us; a test leaves neither faults nor violations."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    yield running
    assert (running.faults(), running.violations()) == ([], [])


@pytest.fixture
def tag() -> str:
    """What the people of one test have in common."""
    return uuid.uuid4().hex[:8]


@pytest.fixture
def directory(cloud: Cloud, tag: str) -> Opened:
    """The people of this test, or those that are asked for."""

    def opened(roles: list[str] = ROLES, **more: Any) -> graph.GraphRoster:  # noqa: ANN401
        app = cloud.app(secrets={SECRET: None}, roles=roles)
        more = more or {"filter": f"department eq '{tag}'"}
        sign_in = {"tenant": cloud.tenant, "client_id": app, "secret": Secret(SECRET), "login": cloud.login, "graph": cloud.graph}
        return graph.open(graph.Settings(**{**sign_in, **more}), "rosters[0]")

    return opened


def people(directory: graph.GraphRoster) -> list[Person]:
    return [one for one in directory.people() if isinstance(one, Person)]


def addresses(directory: graph.GraphRoster) -> list[str]:
    return [str(person.address) for person in people(directory)]


def asked(cloud: Cloud, operation: str) -> list[str]:
    return [one["target"] for one in cloud.requests(operation)]


# --- who -----------------------------------------------------------------------------------------------------------------


def test_a_user_becomes_a_person_with_everything_that_matters(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.user(
        "alice@example.org",
        department=tag,
        displayName=" Alice  Example ",
        preferredLanguage="de-AT",
        proxyAddresses=["smtp:a.example@example.org", "SMTP:Alice@Example.org", "X500:/o=Example", "SIP:alice@example.org"],
        otherMails=["not an address", "a@example.org", "alice@home.example", "alice@second.example"],
        userPrincipalName=f"{tag}@example.onmicrosoft.com",
    )
    (entry,) = directory().entries()
    assert isinstance(entry, DirectoryUser)
    assert entry.person == Person(Address("Alice", "example.org"), "Alice Example", "de-AT", alternate_email="alice@home.example")
    assert (entry.enabled, entry.authoritative) == (True, True)
    assert set(entry.aliases) == {"a.example@example.org", f"{tag}@example.onmicrosoft.com"}


def test_the_primary_address_is_the_one_in_capitals_and_not_the_mail(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.user(f"old.{tag}@example.org", department=tag, proxyAddresses=[f"SMTP:new.{tag}@example.org", f"smtp:old.{tag}@example.org"])
    (entry,) = directory().entries()
    assert isinstance(entry, DirectoryUser)
    assert (str(entry.person.address), entry.aliases) == (f"new.{tag}@example.org", (f"old.{tag}@example.org",))


def test_where_exchange_knows_nothing_the_mail_serves_but_proves_less(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.user(f"{tag}@example.org", department=tag, proxyAddresses=[], userPrincipalName=f"{tag}@example.onmicrosoft.com")
    (entry,) = directory().entries()
    assert isinstance(entry, DirectoryUser)
    assert (str(entry.person.address), entry.authoritative) == (f"{tag}@example.org", False)
    assert entry.aliases == (f"{tag}@example.onmicrosoft.com",)


def test_a_sign_in_name_is_no_address_and_who_has_none_is_told_once(cloud: Cloud, directory: Opened, tag: str) -> None:
    for number in range(5):
        cloud.user(None, department=tag, userPrincipalName=f"{number}.{tag}@example.org", displayName="Robot")
    cloud.user(None, department=tag, userPrincipalName=f"off.{tag}@example.org", displayName="Off", accountEnabled=False)
    (issue,) = directory().entries()
    assert isinstance(issue, Issue)
    assert (issue.severity, issue.check, issue.source) == (Severity.NOTE, CheckId.NO_ADDRESS, "directory")
    assert issue.message.endswith(f'"2.{tag}@example.org" and 2 more')


def test_a_bad_address_is_an_issue_and_the_others_go_on(cloud: Cloud, directory: Opened, tag: str) -> None:
    bad = '"alice b"@example.org'
    cloud.user(bad, department=tag, userPrincipalName=f"{tag}@example.org")
    cloud.user(bad, department=tag, userPrincipalName=f"off.{tag}@example.org", accountEnabled=False)
    cloud.user(f"bob.{tag}@example.org", department=tag)
    issue, person = directory().people()
    assert isinstance(issue, Issue)
    assert (issue.severity, issue.check, issue.source, issue.address) == (Severity.ERROR, CheckId.BAD_ADDRESS, "directory", bad)
    assert f"{tag}@example.org" in issue.message
    assert isinstance(person, Person)


def test_a_disabled_user_is_an_entry_but_nobody_to_write_to(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.user(f"off.{tag}@example.org", department=tag, accountEnabled=False)
    cloud.user(f"on.{tag}@example.org", department=tag)
    asked_of = directory()
    assert [(str(e.person.address), e.enabled) for e in asked_of.entries() if isinstance(e, DirectoryUser)] == [
        (f"off.{tag}@example.org", False),
        (f"on.{tag}@example.org", True),
    ]
    assert addresses(asked_of) == [f"on.{tag}@example.org"]


def test_guests_come_only_where_they_are_wanted(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.user(f"member.{tag}@example.org", department=tag)
    cloud.user(f"guest.{tag}@elsewhere.example", department=tag, userType="Guest")
    cloud.user(f"old.{tag}@example.org", department=tag, userType=None)
    everybody = [f"member.{tag}@example.org", f"guest.{tag}@elsewhere.example", f"old.{tag}@example.org"]
    assert addresses(directory()) == [everybody[0], everybody[2]]
    assert addresses(directory(filter=f"department eq '{tag}'", guests=True)) == everybody


@pytest.mark.parametrize("language", ["../../etc", "de_AT", "x" * 20, None])
def test_what_is_no_language_is_none(cloud: Cloud, directory: Opened, tag: str, language: str | None) -> None:
    cloud.user(f"{tag}@example.org", department=tag, preferredLanguage=language)
    assert [person.language for person in people(directory())] == [""]


def test_an_address_of_the_same_mailbox_is_no_second_channel(cloud: Cloud, directory: Opened, tag: str) -> None:
    same = [f"a@{tag}.example", "b@example.onmicrosoft.com"]
    cloud.user(
        f"{tag}@example.org",
        department=tag,
        proxyAddresses=[f"SMTP:{tag}@example.org", f"smtp:x@{tag}.example"],
        userPrincipalName=f"{tag}@example.onmicrosoft.com",
        otherMails=same,
    )
    assert [person.alternate_email for person in people(directory())] == [""]


# --- how they are asked for ----------------------------------------------------------------------------------------------


def test_pages_are_followed_to_their_end(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.users({"mail": f"{number}.{tag}@example.org", "department": tag} for number in range(7))
    before = len(cloud.requests("user.list"))
    with cloud.during(page_cap=3):
        assert addresses(directory()) == [f"{number}.{tag}@example.org" for number in range(7)]
    assert len(cloud.requests("user.list")) - before == 3


def test_a_service_that_is_busy_is_asked_again(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.users({"mail": f"{number}.{tag}@example.org", "department": tag} for number in range(4))
    cloud.fault("user.list", "429", times=2, skip=1, retry_after=0)
    with cloud.during(page_cap=2):
        assert len(addresses(directory())) == 4
    assert [one["status"] for one in cloud.requests("user.list")][-4:] == [200, 429, 429, 200]


def test_without_group_and_filter_it_is_everybody(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.user(f"{tag}@example.org")
    opened = directory(group=None)
    assert opened.is_full_directory
    assert f"{tag}@example.org" in addresses(opened)
    assert "$count" not in asked(cloud, "user.list")[-1]


def test_a_groups_people_come_through_its_groups_and_by_a_filter_too(cloud: Cloud, directory: Opened, tag: str) -> None:
    alice, bob, carol = (cloud.user(f"{name}.{tag}@example.org", department=name) for name in ("alice", "bob", "carol"))
    group = cloud.group("Outer", [alice, cloud.group("Inner", [bob, carol])])
    opened = directory(group=group)
    assert not opened.is_full_directory
    assert addresses(opened) == [f"{name}.{tag}@example.org" for name in ("alice", "bob", "carol")]
    assert addresses(directory(group=group, filter="department ne 'bob'")) == [f"{name}.{tag}@example.org" for name in ("alice", "carol")]


def test_a_filter_may_be_an_advanced_one_on_every_page(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.users({"mail": f"{number}@{tag}.example"} for number in range(3))
    with cloud.during(page_cap=1):
        assert len(addresses(directory(filter=f"endsWith(mail,'@{tag}.example')"))) == 3


def test_nothing_is_asked_before_somebody_looks(cloud: Cloud, directory: Opened) -> None:
    before = len(cloud.requests())
    opened = directory()
    assert len(cloud.requests()) == before
    assert list(opened.people()) == []


def test_who_stops_looking_leaves_nothing_open(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.users({"mail": f"{number}.{tag}@example.org", "department": tag} for number in range(3))
    found = directory().people()
    assert isinstance(next(found), Person)
    found.close()  # type: ignore[attr-defined]  # a generator
    gc.collect()  # what is left open warns, and a warning fails


@pytest.mark.slow(reason="many thousand users of the double")
def test_many_thousand_users_stream(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.users({"mail": f"{number}.{tag}@example.org", "department": tag, "displayName": f"Person {number}"} for number in range(8_000))
    opened = directory()
    list(zip(range(10), opened.people(), strict=False))  # what is loaded once is not counted
    tracemalloc.start()
    count = sum(1 for _ in opened.entries())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 8_000
    assert peak < 4 * 2**20


# --- when it goes wrong --------------------------------------------------------------------------------------------------


def test_an_app_without_the_permission_is_told_which(directory: Opened) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        list(directory(roles=[]).people())
    assert "User.Read.All" in (caught.value.hint or "")
    assert "GroupMember.Read.All" in (caught.value.hint or "")


def test_a_group_that_is_not_there_is_told_with_the_key(directory: Opened) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        list(directory(group=str(uuid.uuid4())).people())
    assert "`group`" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["department is 'x'", "nonsense eq 'x'"])
def test_a_filter_that_makes_no_sense_is_told_with_the_key(directory: Opened, text: str) -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        list(directory(filter=text).people())
    assert "`filter`" in (caught.value.hint or "")


@pytest.mark.parametrize("held_back", ["userPrincipalName", "accountEnabled"])
def test_users_whom_graph_shows_in_part_only_are_not_taken_as_they_are(cloud: Cloud, directory: Opened, tag: str, held_back: str) -> None:
    user = cloud.user(f"{tag}@example.org", department=tag)
    cloud.change_user(user, **{held_back: None})
    with pytest.raises(ServiceUnavailable, match="is not allowed to") as caught:
        list(directory().people())
    assert "User.Read.All" in (caught.value.hint or "")


def test_one_user_is_asked_for_and_nobody_else_is_read(cloud: Cloud, directory: Opened, tag: str) -> None:
    cloud.users([{"mail": f"{n}.{tag}@example.org"} for n in range(5)])
    before = len(cloud.requests("user.list"))
    assert directory(guests=False).find(Address(f"3.{tag}", "example.org")) is not None
    (asked,) = cloud.requests("user.list")[before:]
    assert f"eq%20%27smtp%3A3.{tag}%40example.org%27" in asked["target"]


def test_only_those_of_the_group_and_of_the_filter_are_found(cloud: Cloud, directory: Opened, tag: str) -> None:
    inside = cloud.user(f"in.{tag}@example.org", department=tag)
    cloud.user(f"out.{tag}@example.org")
    cloud.user(f"guest.{tag}@example.org", department=tag, userType="Guest")
    group = cloud.group(f"group {tag}", [inside])
    for opened in (directory(), directory(group=group), directory(group=group, filter=f"department eq '{tag}'")):
        assert opened.find(Address(f"in.{tag}", "example.org")) is not None
        assert opened.find(Address(f"out.{tag}", "example.org")) is None
        assert opened.find(Address(f"guest.{tag}", "example.org")) is None
    assert directory(filter=f"department eq '{tag}'", guests=True).find(Address(f"guest.{tag}", "example.org")) is not None


@pytest.mark.parametrize("held_back", ["userPrincipalName", "accountEnabled"])
def test_a_user_whom_graph_shows_in_part_only_is_not_gone(cloud: Cloud, directory: Opened, tag: str, held_back: str) -> None:
    cloud.change_user(cloud.user(f"{tag}@example.org", department=tag), **{held_back: None})
    with pytest.raises(ServiceUnavailable, match="is not allowed to"):
        directory().find(Address(tag, "example.org"))


def test_a_service_that_stays_away_finds_nobody_by_an_error(cloud: Cloud, directory: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LOOKUP", 0.0)
    with pytest.raises(ServiceUnavailable, match="no answer in"):
        directory().find(Address("alice", "example.org"))
    monkeypatch.undo()
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    cloud.fault("user.list", "status", times=5, status=503, retry_after=0)
    with pytest.raises(ServiceUnavailable, match="refused"):
        directory().find(Address("alice", "example.org"))


def test_a_service_that_stays_away_is_unavailable(cloud: Cloud, directory: Opened) -> None:
    cloud.fault("user.list", "status", times=5, status=503, retry_after=0)
    with pytest.raises(ServiceUnavailable):
        list(directory().people())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no tenant": ({"client_id": "x", "secret": Secret("x")}, "rosters[0].tenant"),
    "no proof": ({"tenant": "example.org", "client_id": "x"}, "rosters[0]"),
    "an empty group": ({"tenant": "example.org", "client_id": "x", "secret": Secret("x"), "group": ".."}, "rosters[0].group"),
    "an empty filter": ({"tenant": "example.org", "client_id": "x", "secret": Secret("x"), "filter": " "}, "rosters[0].filter"),
    "no https": ({"tenant": "example.org", "client_id": "x", "secret": Secret("x"), "graph": "http://x.example"}, "rosters[0].graph"),
}


@pytest.mark.parametrize("what", WRONG)
def test_settings_that_cannot_work_are_refused_at_once(what: str) -> None:
    values, where = WRONG[what]
    with pytest.raises(InvalidInput) as caught:
        graph.open(graph.Settings(**values), "rosters[0]")
    assert caught.value.where == where


def test_the_settings_show_no_secret() -> None:
    assert "hunter2" not in repr(graph.Settings(secret=Secret("hunter2")))
