"""URLs, filters and tables of directories, by values; the connection itself is tested through those who use it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.clients import ldap
from distributor.clients.ldap_connection import BadUrl, LdapEndpoint, ldap_result, parse_url
from distributor.model.redaction import REDACTED, Redactor
from distributor.model.secret import Secret

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from ldap3.operation.search import MATCH_EQUAL, parse_filter
    from ldap3.protocol.convert import prepare_filter_for_sending

TABLE = ldap.LdapBind("ldaps://ldap.example.org", "dc=example,dc=org")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("ldaps://ldap.example.org", LdapEndpoint("ldap.example.org", 636, "tls")),
        ("ldap://ldap.example.org/", LdapEndpoint("ldap.example.org", 389, "starttls")),
        ("LDAPS://LDAP.Example.org:1636", LdapEndpoint("ldap.example.org", 1636, "tls")),
        ("ldap://[::1]:3890", LdapEndpoint("::1", 3890, "starttls")),
        ("ldaps://192.0.2.1", LdapEndpoint("192.0.2.1", 636, "tls")),
    ],
)
def test_a_url_names_a_server(url: str, place: LdapEndpoint) -> None:
    assert parse_url(url) == place
    assert parse_url(str(place)) == place


@pytest.mark.parametrize("url", ["https://me:hunter2@ldap.example.org", "ldap//me:hunter2@x", "ldaps://me:hun@ter2@[::1"])
def test_a_password_in_a_url_is_not_repeated(url: str) -> None:
    found = parse_url(url)
    assert isinstance(found, BadUrl)
    assert "ter2" not in f"{found.reason} {found.hint}"


def test_what_a_server_repeats_of_a_bind_is_cut_out() -> None:
    response = {"result": 49, "description": "invalidCredentials", "message": "no HUNTER2- hunter2 for cn=me"}
    assert str(ldap_result(response, Redactor([Secret("hunter2-hunter2")]))) == f'invalid credentials ("no {REDACTED} for cn=me") [49]'


@pytest.mark.parametrize(
    "url",
    [
        "ldap.example.org",
        "ldapi:///run/slapd",
        "ldaps://",
        "ldaps://ldap.example.org:0x1",
        "ldaps://ldap.example.org/dc=example",
        "ldaps://a:b@ldap.example.org",
        "ldaps://ldap.example.org?x",
        "ldaps://ldap example.org",
        "ldaps://-x",
        "ldaps://[::1",
        "ldaps://ex\u00e4mple.org",
    ],
)
def test_what_names_no_server_is_told_with_a_way_out(url: str) -> None:
    found = parse_url(url)
    assert isinstance(found, BadUrl)
    assert found.reason
    assert found.hint


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()))
def test_an_escaped_text_is_one_value_of_a_filter_and_nothing_else(text: str) -> None:
    root = parse_filter(f"(mail={ldap.escape(text)})", None, False, None, None, False).elements[0]
    assert root.tag == MATCH_EQUAL  # neither presence nor a part
    assert (root.assertion["attr"], bytes(prepare_filter_for_sending(root.assertion["value"]))) == ("mail", text.encode())


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, None),
        ({"bind": "cn=x", "password": Secret("y")}, None),
        ({"url": "ldap://localhost", "starttls": False}, None),
        ({"url": "ldap://127.0.0.1", "starttls": False, "bind": "cn=x", "password": Secret("y")}, "t.starttls"),
        ({"url": "ldap://ldap.example.org", "starttls": False}, "t.starttls"),
        ({"bind": "cn=x"}, "t.password"),
        ({"password": Secret("y")}, "t.bind"),
        ({"base": ""}, "t.base"),
    ],
)
def test_a_table_is_looked_at_before_anybody_is_asked(changes: dict[str, object], where: str | None) -> None:
    fault = ldap.check(replace(TABLE, **changes), "t")  # type: ignore[arg-type]  a row of the table above
    assert (fault.where if fault else None) == where
