"""People of a real slapd: pages, addresses, languages, disabled accounts, and answers that cannot be used."""

from __future__ import annotations

import re
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from distributor.adapters.rosters import ldap
from distributor.clients import ldap_connection
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.issues import CheckId, Issue
from distributor.model.people import Address, DirectoryUser, Person
from distributor.model.secret import Secret
from tests.doubles.slapd import BASE, WRITER, WRITES, Slapd, entry, slapd

PEOPLE = f"ou=people,{BASE}"
MANY = 3_000
UNLIMITED = f'limits dn.exact="{WRITER}" size=unlimited'
Add = Callable[..., str]


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    with slapd() as running:
        yield running


@pytest.fixture(autouse=True)
def _trusted(server: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))


@pytest.fixture
def add(server: Slapd) -> Iterator[Add]:
    made: list[str] = []

    def one(name: str, **values: str | bytes | list[str | bytes]) -> str:
        made.append(server.add(name, "inetOrgPerson", "microsoftUser", **values))
        return made[-1]

    yield one
    for dn in made:
        server.run("ldapdelete", dn)


def settings(server: Slapd, **changes: Any) -> ldap.Settings:  # noqa: ANN401  settings
    return replace(ldap.Settings(server.url, PEOPLE, WRITER, Secret(WRITES)), **changes)


def entries(server: Slapd, **changes: Any) -> list[DirectoryUser]:  # noqa: ANN401  settings
    found = list(ldap.open(settings(server, **changes), "rosters[0]").entries())
    assert all(isinstance(one, DirectoryUser) for one in found)
    return [one for one in found if isinstance(one, DirectoryUser)]


def addresses(server: Slapd, **changes: Any) -> list[str]:  # noqa: ANN401  settings
    return sorted(str(one.person.address) for one in entries(server, **changes))


@pytest.mark.slow(reason="three thousand entries are loaded into a server")
def test_three_thousand_people_come_page_by_page() -> None:
    text = "".join(
        entry(f"uid=p{n},{PEOPLE}", ("inetOrgPerson",), {"uid": f"p{n}", "cn": f"Person {n}", "sn": "P", "mail": f"p{n}@example.org"})
        for n in range(MANY)
    )
    with slapd(people=text, limit=UNLIMITED) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(server.ca))
        pages: list[int] = []
        ask = ldap.client.LdapClient.ask

        def counting(asked: ldap.client.LdapClient, *question: Any, **more: Any) -> Any:  # noqa: ANN401  the client's own
            found = ask(asked, *question, **more)
            pages.append(len(found[0]))
            return found

        patch.setattr(ldap.client.LdapClient, "ask", counting)
        seen: set[str] = set()
        tracemalloc.start()
        for one in ldap.open(settings(server), "rosters[0]").people():
            assert isinstance(one, Person)
            seen.add(one.address.local)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seen == {f"p{n}" for n in range(MANY)}
    assert pages == [1000] * 3 + [1]  # the last one asks what kind of server it is
    assert peak < 16 * 2**20


def test_a_server_that_gives_only_a_part_is_an_error_and_no_short_list() -> None:
    text = "".join(
        entry(f"uid=p{n},{PEOPLE}", ("inetOrgPerson",), {"uid": f"p{n}", "cn": "P", "sn": "P", "mail": f"p{n}@example.org"})
        for n in range(9)
    )
    with slapd(people=text, limit=f'limits dn.exact="{WRITER}" size=5') as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(server.ca))
        with pytest.raises(ServiceUnavailable, match="only part") as caught:
            list(ldap.open(settings(server), "rosters[0]").people())
    assert "limits" in (caught.value.hint or "")


def test_the_primary_address_is_the_one_in_capitals(server: Slapd, add: Add) -> None:
    proxies = ["smtp:a.example@example.org", "SMTP:alice@example.org", "x500:/o=Example", "sip:alice@example.org"]
    add("alice", mail="old@example.org", proxyAddresses=proxies, userPrincipalName="a@example.onmicrosoft.com")
    (found,) = entries(server)
    assert (str(found.person.address), found.authoritative) == ("alice@example.org", True)
    assert set(found.aliases) == {"a.example@example.org", "old@example.org", "a@example.onmicrosoft.com"}


def test_of_several_mails_the_first_counts_and_all_lead_to_the_person(server: Slapd, add: Add) -> None:
    add("alice", mail=["alice@example.org", "a.example@example.org"])
    (found,) = entries(server)
    assert (str(found.person.address), found.aliases, found.authoritative) == ("alice@example.org", ("a.example@example.org",), False)


def test_a_person_known_by_proxy_addresses_alone_is_found(server: Slapd, add: Add) -> None:
    add("alice", proxyAddresses="SMTP:alice@example.org")
    assert addresses(server) == ["alice@example.org"]


def test_who_has_no_address_is_left_out(server: Slapd, add: Add) -> None:
    add("robot")
    add("phone", proxyAddresses="sip:phone@example.org")
    assert entries(server) == []


@pytest.mark.parametrize(
    ("written", "language"), [("de-AT", "de-AT"), ("fr-CH, fr;q=0.9, en;q=0.8", "fr-CH"), ("de;q=0.7", "de"), ("*", ""), ("x" * 99, "")]
)
def test_the_language_is_the_one_that_is_preferred(server: Slapd, add: Add, written: str, language: str) -> None:
    add("alice", mail="alice@example.org", preferredLanguage=written)
    assert entries(server)[0].person.language == language


def test_a_name_falls_back_to_the_common_one(server: Slapd, add: Add) -> None:
    add("alice", mail="alice@example.org")
    add("bob", mail="bob@example.org", displayName="Bob  Ünicode")
    assert sorted(one.person.name for one in entries(server)) == ["Bob Ünicode", "alice"]


@pytest.mark.parametrize("written", ["smtp$alice@home.example", "alice@home.example"])
def test_another_mailbox_is_a_second_channel(server: Slapd, add: Add, written: str) -> None:
    add("alice", mail="alice@example.org", otherMailbox=written)
    assert entries(server)[0].person.alternate_email == "alice@home.example"


@pytest.mark.parametrize(("control", "enabled"), [("512", True), ("514", False), ("66050", False), ("66048", True)])
def test_a_disabled_account_is_an_entry_and_no_person(server: Slapd, add: Add, control: str, enabled: bool) -> None:  # noqa: FBT001
    add("alice", mail="alice@example.org", userAccountControl=control)
    assert [one.enabled for one in entries(server)] == [enabled]
    assert len(list(ldap.open(settings(server), "rosters[0]").people())) == enabled


def test_active_directory_that_hides_who_is_disabled_is_not_trusted(server: Slapd, add: Add) -> None:
    add("alice", mail="alice@example.org")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ldap.client.LdapClient, "active_directory", lambda _: True)
        with pytest.raises(ServiceUnavailable, match="which accounts are disabled"):
            list(ldap.open(settings(server), "rosters[0]").entries())
        with pytest.raises(ServiceUnavailable, match="which accounts are disabled"):
            ldap.open(settings(server), "rosters[0]").find(Address("alice", "example.org"))


def test_one_user_is_found_with_the_domain_in_either_form_and_only_within_the_filter(server: Slapd, add: Add) -> None:
    add("alice", proxyAddresses="SMTP:alice@bücher.example", employeeType="active")
    address = Address("alice", "xn--bcher-kva.example")
    for more, found in (({}, True), ({"filter": "(employeeType=active)"}, True), ({"filter": "(employeeType=left)"}, False)):
        assert (ldap.open(settings(server, **more), "rosters[0]").find(address) is not None) == found


def test_of_two_users_with_an_address_the_enabled_one_counts(server: Slapd, add: Add) -> None:
    add("old", mail="alice@example.org", userAccountControl="514")
    add("new", mail="alice@example.org", userAccountControl="512")
    found = ldap.open(settings(server), "rosters[0]").find(Address("alice", "example.org"))
    assert found is not None
    assert found.enabled


@pytest.mark.parametrize("address", ["a@b@c", "x,y@example.org", "a@example.org\u202e", "=?utf-8?q?x?=@example.org", "\x1b[2J@example.org"])
def test_a_bad_address_is_an_issue_that_names_the_entry(server: Slapd, add: Add, address: str) -> None:
    add("alice", proxyAddresses=f"SMTP:{address}")
    (found,) = ldap.open(settings(server), "rosters[0]").entries()
    assert isinstance(found, Issue)
    assert found.check is CheckId.BAD_ADDRESS
    assert "uid=alice" in found.message
    assert (found.hint, found.source) == ("correct the entry in the directory", "directory")


def test_a_filter_narrows_and_everybody_is_no_longer_meant(server: Slapd, add: Add) -> None:
    add("alice", mail="alice@example.org", departmentNumber="42")
    add("bob", mail="bob@example.org")
    add("robot", departmentNumber="42")
    assert addresses(server, filter="(departmentNumber=42)") == ["alice@example.org"]
    assert addresses(server) == ["alice@example.org", "bob@example.org"]
    assert [ldap.open(settings(server, filter=chosen), "rosters[0]").is_full_directory for chosen in (None, "(cn=*)")] == [True, False]


@pytest.mark.parametrize("wrong", ["", "cn=alice", "(cn=alice", "(cn=alice))", "(&(cn=a)\n)"])
def test_what_is_no_filter_is_told_with_its_key(server: Slapd, wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ldap.open(settings(server, filter=wrong), "rosters[1]")
    assert caught.value.where == "rosters[1].filter"


def test_a_filter_that_only_looks_like_one_is_told_too(server: Slapd) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(ldap.open(settings(server, filter="(&(cn))"), "rosters[1]").people())
    assert caught.value.where == "rosters[1].filter"


def test_anonymous_reads_what_anybody_may(server: Slapd, add: Add) -> None:
    add("alice", mail="alice@example.org")
    assert addresses(server, bind=None, password=None) == ["alice@example.org"]
    clear = {"url": f"ldap://127.0.0.1:{server.port}", "starttls": False}
    assert addresses(server, bind=None, password=None, **clear) == ["alice@example.org"]


def test_an_empty_password_signs_nobody_in(server: Slapd) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(ldap.open(settings(server, password=Secret("")), "rosters[0]").people())
    assert caught.value.where == "rosters[0].password"


# --- servers that are none --------------------------------------------------------------------------------------------


@contextmanager
def answering(*answers: bytes, close: bool = True) -> Iterator[str]:
    """Something on loopback that says this, each after it was asked something, and then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            line, _ = listening.accept()
            with line:
                for answer in answers:
                    asked = line.recv(4096)
                    if not asked:
                        return
                    try:
                        line.sendall(_numbered(answer, asked) if answer == STRIPPED else answer)
                    except OSError:
                        return
                if not close:
                    over.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"ldap://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        thread.join(20)
    assert not thread.is_alive()


NOT_LDAP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
STRIPPED = bytes.fromhex("78070a010204000400")  # protocolError to StartTLS, as who strips it says


def _numbered(operation: bytes, asked: bytes) -> bytes:
    """An LDAP message with the number of the one that asked."""
    message = asked[2 : 4 + asked[3]] + operation
    return bytes([0x30, len(message)]) + message


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([NOT_LDAP], "the answer|the connection|message"),
        ([b""], "connection was cut"),
        ([STRIPPED], "refused StartTLS"),
        ([bytes.fromhex("3084ffffffff") + b"x" * 100], "connection was cut|larger"),
        ([b"0\x05\x02\x01\x01\x7f\x00"], "response|connection|Error|tag"),
    ],
)
def test_what_answers_but_is_no_directory_is_an_error_of_ours(server: Slapd, answers: list[bytes], why: str) -> None:
    with answering(*answers) as url, pytest.raises(ServiceUnavailable) as caught:
        list(ldap.open(settings(server, url=url), "rosters[0]").people())
    assert caught.value.where == url
    assert re.search(why, caught.value.message), caught.value.message
    assert caught.value.hint


def test_an_answer_without_end_is_given_up(server: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap_connection, "LARGEST_RESPONSE", 4096)
    flood = bytes.fromhex("308400ffffff") + b"x" * 100_000
    clear = settings(server, bind=None, password=None, starttls=False)
    with answering(flood) as url, pytest.raises(Error, match="larger than"):
        list(ldap.open(replace(clear, url=url), "rosters[0]").people())


def test_a_silent_server_is_waited_for_so_long_and_no_longer(server: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap.client.LdapClient.__init__, "__defaults__", (None, "url", 1))
    with answering(b"", close=False) as url, pytest.raises(ServiceUnavailable, match="no answer in 1 s"):
        list(ldap.open(settings(server, url=url), "rosters[0]").people())


def test_referrals_are_not_followed(server: Slapd) -> None:
    other = f"cn=elsewhere,{PEOPLE}"
    server.run("ldapadd", text=entry(other, ("referral", "extensibleObject"), {"cn": "elsewhere", "ref": "ldap://127.0.0.1:1/dc=other"}))
    try:
        assert entries(server) == []
        with pytest.raises(ServiceUnavailable, match="refers to another"):
            entries(server, base=other)
    finally:
        server.run("ldapdelete", "-M", other)
