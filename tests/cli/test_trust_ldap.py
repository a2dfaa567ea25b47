"""`distributor trust ldap`: a real slapd, set up well and badly, asked as a phone may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from distributor.cli.trust_ldap import ldap
from distributor.errors import InvalidInput, ServiceUnavailable, UsageError
from distributor.microsoft import ldap_lookup
from distributor.microsoft.ldap_lookup import Endpoint, LdapProbe, LookupResult
from tests.authority import Authority
from tests.doubles.slapd import BASE, WRITER, WRITES, Slapd, entry, slapd
from tests.workspace import Workspace

ALICE = "alice@example.org"
USER = "userCertificate;binary"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    with slapd() as running:
        yield running


@pytest.fixture(autouse=True)
def _nowhere(server: Slapd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTRIBUTOR_CONFIG", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))


@contextmanager
def trusting(running: Slapd) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(running.ca))
        yield


def person(**values: str | bytes | list[str | bytes]) -> str:
    """Alice, as LDIF."""
    return entry(f"uid=alice,ou=people,{BASE}", ("inetOrgPerson",), {"uid": "alice", "cn": "Alice", "sn": "A", "mail": ALICE, **values})


def ask(capsys: pytest.CaptureFixture[str], host: str, *addresses: str, code: int, chosen: Path | None = None) -> dict[str, Any]:
    capsys.readouterr()
    assert ldap(host, list(addresses), chosen, as_json=True) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["schema"] == "distributor/trust-ldap/1"
    return found


def levels(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["area"], one["level"]) for one in found["remarks"]]


def test_a_server_that_is_set_up_well_is_found_so(capsys: pytest.CaptureFixture[str], authority: Authority) -> None:
    with slapd(people=person(**{USER: authority.issue(ALICE).der})) as running, trusting(running):
        found = ask(capsys, running.ldaps, ALICE, code=0)
    assert (found["found"], found["people"]) == (1, [{"address": ALICE, "level": "ok", "message": "found"}])
    assert levels(found) == [("connection", "ok")]


def test_without_a_default_base_the_line_to_add_is_told(capsys: pytest.CaptureFixture[str], authority: Authority) -> None:
    with slapd(people=person(**{USER: authority.issue(ALICE).der}), default_base=False) as running, trusting(running):
        found = ask(capsys, running.ldaps, ALICE, code=1)
    assert levels(found) == [("connection", "ok"), ("base", "error")]
    assert f'defaultsearchbase "{BASE}"' in found["remarks"][1]["hint"]


def test_certificates_that_nobody_in_particular_may_read_are_told(capsys: pytest.CaptureFixture[str], authority: Authority) -> None:
    for access in ("auth", "search"):
        with slapd(people=person(**{USER: authority.issue(ALICE).der}), anonymous=access) as running, trusting(running):
            found = ask(capsys, running.ldaps, ALICE, code=1)
        assert ("people", "error") in levels(found)
        assert "access to" in found["remarks"][-1]["hint"]


def test_in_clear_is_a_warning_and_a_closed_way_too(capsys: pytest.CaptureFixture[str], authority: Authority) -> None:
    with slapd(people=person(**{USER: authority.issue(ALICE).der})) as running, trusting(running):
        found = ask(capsys, f"localhost:{running.port}", ALICE, code=0)
    assert levels(found) == [("connection", "warning"), ("connection", "ok"), ("connection", "warning")]
    assert [(way["works"], way["secure"]) for way in found["ways"]] == [(False, True), (True, False)]


def test_who_is_not_there_or_has_nothing_valid_is_told(capsys: pytest.CaptureFixture[str], authority: Authority) -> None:
    expired = authority.issue(ALICE, starts=timedelta(days=-300), days=200).der
    with slapd(people=person(**{USER: expired})) as running, trusting(running):
        found = ask(capsys, running.ldaps, ALICE, "bob@example.org", "*@example.org", code=1)
    assert [one["message"] for one in found["people"]] == [
        "only certificates that are expired or cannot be read",
        "no entry with this address",
        "no entry with this address",
    ]


def test_a_certificate_that_phones_do_not_trust_is_no_way(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with slapd() as running:
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(ServiceUnavailable):
            ldap(running.ldaps, [ALICE], as_json=True)
    assert "not trusted" in json.loads(capsys.readouterr().out)["ways"][0]["said"]


def test_everybody_who_received_a_certificate_is_looked_for(sent: Workspace, server: Slapd, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = sent.folder / "distributor.toml"
    names = [server.add(name, "inetOrgPerson", mail=f"{name}@example.org") for name in ("alice", "bob")]
    try:
        before = ask(capsys, server.ldaps, code=1, chosen=chosen)
        table = f'\n[[directories]]\nkind = "ldap"\nurl = "{server.url}"\nbase = "{BASE}"\nbind = "{WRITER}"\npassword = "env:LDAP"\n'
        chosen.write_text(chosen.read_text(encoding="utf-8") + table, encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LDAP", WRITES)
            assert sent.run("distributor publish").returncode == 0
        after = ask(capsys, server.ldaps, code=0, chosen=chosen)
    finally:
        for dn in names:
            server.run("ldapdelete", dn)
    assert [one["message"] for one in before["people"]] == ["no certificate that can be read without a login"] * 2
    assert (before["found"], after["found"]) == (0, 2)


def test_another_certificate_than_the_delivered_one_is_told(sent: Workspace, server: Slapd, capsys: pytest.CaptureFixture[str]) -> None:
    dn = server.add("alice", "inetOrgPerson", **{"mail": ALICE, USER: sent.authority.issue(ALICE).der})
    try:
        found = ask(capsys, server.ldaps, ALICE, code=1, chosen=sent.folder / "distributor.toml")
    finally:
        server.run("ldapdelete", dn)
    assert found["people"][0]["message"] == "not the certificate that was delivered"


def test_a_person_reads_it_too(server: Slapd, capsys: pytest.CaptureFixture[str]) -> None:
    assert ldap(server.ldaps, [ALICE]) == 1
    printed = capsys.readouterr()
    assert f"{ALICE}  error  no entry with this address" in printed.out
    assert "others can encrypt to 0 of 1 person" in printed.err


@pytest.mark.parametrize("host", ["https://x", "ldap://u@x", "ldap.example.org/dc=example", "ldap.example.org:0"])
def test_what_outlook_does_not_take_is_refused(host: str) -> None:
    with pytest.raises(UsageError):
        ldap(host, [ALICE])


def test_without_a_workspace_somebody_has_to_be_named(server: Slapd) -> None:
    with pytest.raises(InvalidInput):
        ldap(server.ldaps, None)


# --- what no slapd says -----------------------------------------------------------------------------------------------


def test_active_directory_that_answers_nobody_is_told_its_own_way_out() -> None:
    answer = LookupResult(ALICE, "", 0, (), code=1, detail='operations error ("a successful bind must be completed") [1]')
    looked = LdapProbe((Endpoint("ldaps://dc.example.org:636", secure=True),), ("dc=example,dc=org",), active=True, answers=(answer,))
    found = list(ldap_lookup.remarks(looked, ldap_lookup.verdicts(looked, {}, NOW)))
    assert [diagnostic.level for diagnostic in found] == ["ok", "error"]
    assert "dsHeuristics" in (found[1].hint or "")


def test_active_directory_without_a_base_is_asked_at_its_catalog(authority: Authority) -> None:
    answer = LookupResult(ALICE, "dc=example,dc=org", 1, (authority.issue(ALICE).der,))
    looked = LdapProbe((Endpoint("ldaps://dc.example.org:636", secure=True),), ("dc=example,dc=org",), active=True, answers=(answer,))
    found = list(ldap_lookup.remarks(looked, ldap_lookup.verdicts(looked, {}, NOW)))
    assert "3269" in (found[1].hint or "")


@pytest.mark.parametrize(("more", "level"), [({"entries": 2}, "warning"), ({"plainly": True}, "warning"), ({}, "ok")])
def test_what_is_found_in_an_odd_way_is_a_warning(authority: Authority, more: dict[str, Any], level: str) -> None:
    answer = LookupResult(**{"address": ALICE, "base": "", "entries": 1, "values": (authority.issue(ALICE).der,), **more})
    (verdict,) = ldap_lookup.verdicts(LdapProbe((), answers=(answer,)), {}, NOW)
    assert verdict.level == level
