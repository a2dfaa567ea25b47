"""Certificates published by LDAP."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.certificates import PublicationResult
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.contracts.directory_servers import ALICE, NOW, USER, _trusted, case, opened, public, server
from tests.doubles.slapd import ADMIN, BASE, PASSWORD, Slapd
from tests.needs import require

__all__ = ["_trusted", "case", "server"]  # fixtures


@pytest.fixture
def person(server: Slapd) -> Iterator[Callable[..., str]]:
    """Adds entries, and takes them away again."""
    made: list[str] = []

    def add(name: str = "alice", *classes: str, **values: str | bytes | list[bytes]) -> str:
        made.append(server.add(name, *(classes or ("inetOrgPerson",)), **{"mail": f"{name}@example.org", **values}))
        return made[-1]

    yield add
    for dn in made:
        with suppress(AssertionError):  # a test may have taken it away
            server.run("ldapdelete", dn)


def test_a_person_that_cannot_hold_a_certificate_gets_the_object_class(server: Slapd, authority: Authority) -> None:
    dn = server.add("alice", "organizationalPerson", "extensibleObject", mail=str(ALICE))
    leaf = authority.issue(str(ALICE)).der
    try:
        assert isinstance(opened(server).publish(public(ALICE, leaf), NOW), PublicationResult)
        found = server.read(dn)
        assert b"pkiUser" in found["objectClass"]
        assert found[USER] == [leaf]
    finally:
        server.run("ldapdelete", dn)


def test_an_inetorgperson_needs_no_object_class(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn = person()
    opened(server).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert b"pkiUser" not in server.read(dn)["objectClass"]


def test_expired_values_go_whoever_put_them_there_and_valid_ones_stay(
    server: Slapd, person: Callable[..., str], authority: Authority
) -> None:
    expired, valid = authority.issue(str(ALICE), starts=timedelta(days=-300), days=200).der, authority.issue("other@example.org").der
    dn = person(**{USER: [expired, valid]})
    leaf = authority.issue(str(ALICE)).der
    opened(server).publish(public(ALICE, leaf), NOW)
    assert sorted(server.read(dn)[USER]) == sorted([valid, leaf])


def test_more_than_fifteen_values_are_never_written(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    there = [authority.issue(f"p{number}@example.org").der for number in range(15)]
    dn = person(**{USER: there[:14]})
    directory, leaf = opened(server), authority.issue(str(ALICE)).der
    assert isinstance(directory.publish(public(ALICE, there[14]), NOW), PublicationResult)
    done = directory.publish(public(ALICE, leaf), NOW)
    assert isinstance(done, Issue)
    assert (done.check, "15" in done.message) == (CheckId.NOT_PUBLISHED, True)
    assert sorted(server.read(dn)[USER]) == sorted(there)


def test_what_another_writes_at_the_same_time_is_not_lost(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    expired = authority.issue(str(ALICE), starts=timedelta(days=-300), days=200).der
    dn, leaf, theirs = person(**{USER: [expired]}), authority.issue(str(ALICE)).der, authority.issue("other@example.org").der
    directory = opened(server)
    change = directory._client.change  # noqa: SLF001  the moment between reading and writing
    between: list[str] = []

    def late(name: str, changes: Any) -> object:  # noqa: ANN401  the client's own
        if not between:
            value = base64.b64encode(theirs).decode()
            server.change(dn, f"replace: {USER}\n{USER}:: {value}")
            between.append(name)
        return change(name, changes)

    directory._client.change = late  # type: ignore[method-assign]  # noqa: SLF001
    assert isinstance(directory.publish(public(ALICE, leaf), NOW), PublicationResult)
    assert between == [dn]
    assert sorted(server.read(dn)[USER]) == sorted([leaf, theirs])


def test_a_server_that_takes_two_for_the_same_is_told_of_once_tried(
    server: Slapd, person: Callable[..., str], authority: Authority
) -> None:
    """Issuer and serial number are all that slapd compares (certificateExactMatch)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cryptography.x509.random_serial_number", lambda: 4711)
        one, other = authority.issue(str(ALICE)).der, authority.issue(str(ALICE), name="Another").der
    person(**{USER: [one]})
    done = opened(server).publish(public(ALICE, other), NOW)
    assert isinstance(done, Issue)
    assert done.check is CheckId.NOT_PUBLISHED


def test_nobody_and_several_are_issues(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    leaf = authority.issue(str(ALICE)).der
    nobody = opened(server).publish(public(ALICE, leaf), NOW)
    person("alice")
    person("alice2", mail=str(ALICE))
    several = opened(server).publish(public(ALICE, leaf), NOW)
    assert isinstance(nobody, Issue)
    assert isinstance(several, Issue)
    assert (nobody.check, several.check) == (CheckId.NO_PERSON, CheckId.DUPLICATE)
    assert "uid=alice2" in several.message


@pytest.mark.parametrize("local", ["*", "*)(uid=*", "a\\b", "a(b", "a)b", "x*"])
def test_an_address_means_nothing_in_a_filter(server: Slapd, person: Callable[..., str], authority: Authority, local: str) -> None:
    dn = person("xavier", mail="x@example.org")
    done = opened(server).publish(public(Address(local, "example.org"), authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert done.check is CheckId.NO_PERSON
    assert USER not in server.read(dn)


def test_a_filter_of_ones_own_is_asked_with(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn, leaf = person("alice", description="alice@example.org", mail="else@example.org"), authority.issue(str(ALICE)).der
    directory = opened(server, filter="(&(objectClass=inetOrgPerson)(|(mail={address})(description={address})))")
    assert isinstance(directory.publish(public(ALICE, leaf), NOW), PublicationResult)
    assert server.read(dn)[USER] == [leaf]


def test_who_may_not_write_is_told_which_right_is_missing(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn = person()
    done = opened(server, bind=None, password=None).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert done.check is CheckId.NOT_PUBLISHED
    assert "userCertificate" in (done.hint or "")
    assert USER not in server.read(dn)


@pytest.mark.parametrize("rdn", ["cn=M\u00fcller\\, Anna", 'cn=a\\"b\\\\c\\+d', "cn=x\\3dy", "cn=\\ blank\\ "])
def test_an_entry_by_an_odd_name_is_written_to(server: Slapd, authority: Authority, rdn: str) -> None:
    dn, leaf = f"{rdn},ou=people,{BASE}", authority.issue(str(ALICE)).der
    lines = ["objectClass: inetOrgPerson", "sn: x", f"mail: {ALICE}"]
    named = base64.b64encode(dn.encode()).decode()
    server.run("ldapadd", text="\n".join([f"dn:: {named}", *lines, "", ""]))
    try:
        done = opened(server).publish(public(ALICE, leaf), NOW)
        assert isinstance(done, PublicationResult)
        assert done.changed
        assert opened(server).publish(public(ALICE, leaf), NOW) == replace(done, changed=False)
    finally:
        server.run("ldapdelete", dn)


def test_what_outlook_takes_before_it_is_a_warning(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    leaf = authority.issue(str(ALICE)).der
    dn = person(userSMIMECertificate=b"0\x82" + authority.issue(str(ALICE)).der)
    for changed in (True, False):
        done = opened(server).publish(public(ALICE, leaf), NOW)
        assert isinstance(done, PublicationResult)
        assert done.changed is changed
        assert done.warning is not None
        assert (done.warning.severity, "userSMIMECertificate" in done.warning.message) == (Severity.WARNING, True)
    value = base64.b64encode(b"0\x82" + leaf).decode()
    server.change(dn, f"replace: userSMIMECertificate\nuserSMIMECertificate:: {value}")
    assert opened(server).publish(public(ALICE, leaf), NOW) == PublicationResult(dn, changed=False)


def test_active_directory_gets_the_attribute_by_its_plain_name(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    """Slapd refuses what Active Directory wants, and says so; the real one is not to be had here."""
    person()
    done = opened(server, active_directory=True).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert "requires ;binary transfer" in done.message


def test_ldaps_works_as_starttls_does(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn, leaf = person(), authority.issue(str(ALICE)).der
    opened(server, url=server.ldaps).publish(public(ALICE, leaf), NOW)
    assert server.read(dn)[USER] == [leaf]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"url": "https://localhost"}, "url"),
        ({"url": "ldap://user:secret@localhost"}, "url"),
        ({"url": "ldap://localhost/dc=example"}, "url"),
        ({"url": "ldap://localhost:99999"}, "url"),
        ({"url": "ldap://ldap.example.org", "starttls": False}, "starttls"),
        ({"starttls": False}, "starttls"),
        ({"base": " "}, "base"),
        ({"bind": None}, "bind"),
        ({"password": None}, "password"),
        ({"filter": "(mail=*)"}, "filter"),
        ({"filter": "mail={address}"}, "filter"),
        ({"filter": "((mail={address})"}, "filter"),
        ({"attribute": "userCertificate;binary"}, "attribute"),
        ({"attribute": "usersmimecertificate"}, "attribute"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(server: Slapd, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        opened(server, **changes)
    assert caught.value.where == f"directories[0].{where}"
    assert caught.value.hint
    assert "secret" not in f"{caught.value}{caught.value.hint}"


def test_no_password_goes_to_a_server_that_is_not_trusted(server: Slapd, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    for url in (server.url, server.ldaps):
        with pytest.raises(ServiceUnavailable, match="not trusted") as caught:
            opened(server, url=url).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
        assert "SSL_CERT_FILE" in (caught.value.hint or "")


def test_a_server_by_another_name_than_its_certificates_is_not_trusted(
    server: Slapd, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, *how, **more: resolve("127.0.0.1", port, *how, **more))
    for url in (server.url, server.ldaps):
        with pytest.raises(ServiceUnavailable, match="not trusted"):
            opened(server, url=url.replace("localhost", "ldap.example.org")).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)


def test_a_wrong_base_is_told(server: Slapd, authority: Authority) -> None:
    with pytest.raises(InvalidInput) as caught:
        opened(server, base="dc=elsewhere").publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert "`directories[0].base`" in (caught.value.hint or "")


def test_a_foreign_client_finds_what_was_published(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    person()
    leaf = authority.issue(str(ALICE)).der
    opened(server, bind=ADMIN, password=Secret(PASSWORD)).publish(public(ALICE, leaf), NOW)
    command = [
        require("ldapsearch"),
        "-x",
        "-LLL",
        "-o",
        "ldif-wrap=no",
        "-H",
        f"ldap://127.0.0.1:{server.port}",
        "-b",
        BASE,
        f"mail={ALICE}",
        USER,
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"{USER}:: {base64.b64encode(leaf).decode()}" in output


def test_reading_a_table_loads_nothing_heavy() -> None:
    program = (
        "import sys; from distributor.adapters.directories import folder, ldap\n"
        "ldap.open(ldap.Settings('ldaps://ldap.example.org', 'dc=example'), 'directories[0]')\n"
        "sys.exit(any(name in sys.modules for name in ('ldap3', 'cryptography', 'asyncio')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
