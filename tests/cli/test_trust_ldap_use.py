"""`distributor trust ldap`: certificates that are found and of no use, and servers that let nobody in who has not signed in."""

from __future__ import annotations

import pytest

from distributor.microsoft import ldap_lookup
from distributor.microsoft.ldap_lookup import LdapProbe, LookupResult
from tests.authority import Authority
from tests.cli.test_trust_ldap import ALICE, NOW, USER, _nowhere, ask, person, server, trusting  # noqa: F401  fixtures too
from tests.doubles.slapd import slapd


def verdict(*values: bytes, delivered: bytes | None = None) -> tuple[str, str]:
    found = LdapProbe((), answers=(LookupResult(ALICE, "", 1, values),))
    (one,) = ldap_lookup.verdicts(found, {} if delivered is None else {ALICE: delivered}, NOW)
    return one.level, one.message


def test_a_certificate_for_signing_only_is_not_found(authority: Authority) -> None:
    signs = authority.issue(ALICE, usage=("digital_signature",)).der
    encrypts = authority.issue(ALICE, usage=("key_encipherment",)).der
    assert verdict(signs) == ("error", "only certificates that cannot be used for encryption")
    assert verdict(signs, encrypts) == ("ok", "found")
    assert verdict(signs, encrypts, delivered=signs) == ("error", "the delivered certificate cannot be used for encryption")


def test_a_certificate_of_somebody_else_is_not_found(authority: Authority) -> None:
    assert verdict(authority.issue("bob@example.org").der) == ("error", "only certificates of someone else")
    assert verdict(authority.issue("ALICE@example.org").der) == ("ok", "found")


def test_the_way_out_of_signing_only_is_another_certificate(capsys: pytest.CaptureFixture[str], authority: Authority) -> None:
    signs = authority.issue(ALICE, usage=("digital_signature",)).der
    with slapd(people=person(**{USER: signs})) as running, trusting(running):
        found = ask(capsys, running.ldaps, ALICE, code=1)
    assert "have a certificate issued that allows encryption" in found["remarks"][-1]["hint"]


@pytest.mark.parametrize(("first", "area"), [("require authc", "people"), ("disallow bind_anon", "sign-in")])
def test_a_server_that_wants_everybody_signed_in_is_told_which_line_to_remove(
    capsys: pytest.CaptureFixture[str], authority: Authority, first: str, area: str
) -> None:
    with slapd(people=person(**{USER: authority.issue(ALICE).der}), first=first) as running, trusting(running):
        found = ask(capsys, running.ldaps, ALICE, code=1)
    hints = [one["hint"] for one in found["remarks"] if one["area"] == area]
    assert ["remove `require authc` and `disallow bind_anon`" in hint for hint in hints] == [True]
