"""Lists that are stale, lists of changes, and places that cost Exchange its time."""

from __future__ import annotations

import pytest
from cryptography import x509

from distributor.model.issues import CheckId
from distributor.pki.validation.revocation import DownloadFailed, Fetched
from tests.authority import Identity, rsa_key
from tests.doubles.pki import DAY, Extension, point
from tests.pki.hierarchy import LEAF, SUB, WEB, Hierarchy, hierarchy

DELTA, OTHER, FIRST = f"{WEB}/delta.crl", f"{WEB}/other.crl", f"{WEB}/first.crl"
CHANGES: Extension = (x509.DeltaCRLIndicator(5), True)
ODD: Extension = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)


def freshest(*urls: str) -> Extension:
    return x509.FreshestCRL([point(url) for url in urls]), False


def serial(person: Identity) -> int:
    return person.certificate.serial_number


def naming(w: Hierarchy, *urls: str) -> Identity:
    """A person's certificate that says itself where changes lie."""
    return w.sub.person("b@example.org", crl=LEAF, extensions=[freshest(*urls)])


# --- stale -------------------------------------------------------------------------------------------------------------


def test_who_is_on_a_stale_list_was_revoked() -> None:
    w = hierarchy()
    w.downloads.pages[LEAF] = w.sub.crl((serial(w.person), x509.ReasonFlags.key_compromise), begins=-30 * DAY)
    (issue,) = w.issues()
    assert issue.check is CheckId.REVOKED
    assert "key compromise" in issue.message
    w.downloads.pages[LEAF] = w.sub.crl(serial(w.person) + 1, begins=-30 * DAY)
    assert w.checks() == ["crl-stale"]


def test_an_authority_on_a_stale_list_was_revoked_too() -> None:
    w = hierarchy()
    w.downloads.pages[SUB] = w.root.crl(w.sub.certificate.serial_number, begins=-30 * DAY)
    assert w.checks() == ["revoked"]


def test_a_stale_list_that_is_forged_or_of_another_says_nothing() -> None:
    w = hierarchy()
    one = serial(w.person)
    stranger = w.root.sub("Mail CA", crl=SUB)  # of the same name, with another key
    for data, check in (
        (w.sub.crl(one, begins=-30 * DAY, key=rsa_key(5)), "crl-unreachable"),
        (w.root.crl(one, begins=-30 * DAY), "crl-unreachable"),
        (stranger.crl(one, begins=-30 * DAY), "crl-stale"),
        (w.sub.crl(one, begins=-30 * DAY, extensions=[ODD]), "crl-stale"),
        (w.sub.crl(one, extensions=[ODD]), "crl-unreachable"),
    ):
        w.downloads.pages[LEAF] = data
        assert w.checks() == [check]


def test_who_is_on_a_list_was_revoked_although_its_changes_are_out_of_reach() -> None:
    w = hierarchy()
    w.downloads.pages[LEAF] = w.sub.crl(serial(w.person), number=5, extensions=[freshest(DELTA)])
    assert w.checks() == ["revoked"]


def test_who_is_on_stale_changes_was_revoked() -> None:
    w = hierarchy()
    stale = w.sub.crl(serial(w.person), number=6, begins=-30 * DAY, extensions=[CHANGES])
    w.downloads.pages |= {LEAF: w.sub.crl(number=5, extensions=[freshest(DELTA)]), DELTA: stale}
    assert w.checks() == ["revoked"]


# --- changes that the certificate names itself ---------------------------------------------------------------------------


def test_changes_that_the_certificate_names_itself_count() -> None:
    w = hierarchy()
    person = naming(w, DELTA)
    w.downloads.pages |= {LEAF: w.sub.crl(number=5), DELTA: w.sub.crl(serial(person), number=6, extensions=[CHANGES])}
    assert w.checks(person) == ["revoked"]
    w.downloads.pages[DELTA] = w.sub.crl(number=6, extensions=[CHANGES])
    assert w.checks(person) == []
    w.downloads.pages[DELTA] = w.sub.crl(serial(person), number=6, key=rsa_key(5), extensions=[CHANGES])
    assert w.checks(person) == ["crl-unreachable"]
    del w.downloads.pages[DELTA]
    assert w.checks(person) == ["crl-unreachable"]


def test_changes_of_list_and_certificate_count_both_and_the_newest_most() -> None:
    w = hierarchy()
    person = naming(w, DELTA)
    held, back = (serial(person), x509.ReasonFlags.certificate_hold), (serial(person), x509.ReasonFlags.remove_from_crl)
    w.downloads.pages |= {
        LEAF: w.sub.crl(number=5, extensions=[freshest(OTHER)]),
        OTHER: w.sub.crl(number=6, extensions=[CHANGES]),
        DELTA: w.sub.crl(held, number=7, extensions=[CHANGES]),
    }
    assert w.checks(person) == ["revoked"]
    w.downloads.pages[OTHER] = w.sub.crl(back, number=8, extensions=[CHANGES])
    assert w.checks(person) == []


def test_changes_that_a_certificate_names_by_ldap_only_are_left_alone() -> None:
    w = hierarchy()
    w.downloads.pages[LEAF] = w.sub.crl(number=5)
    assert w.checks(naming(w, "ldap:///CN=x")) == []


# --- time --------------------------------------------------------------------------------------------------------------


def two_places(w: Hierarchy) -> Identity:
    return w.sub.person("b@example.org", crl=[FIRST, LEAF])


def test_a_first_place_that_never_answers_costs_exchange_all_its_time() -> None:
    w = hierarchy()
    w.downloads.pages[FIRST] = DownloadFailed("no answer in 10 s", silent=True)
    (issue,) = w.issues(two_places(w))
    assert issue.check is CheckId.CRL_UNREACHABLE
    assert f'"{FIRST}" does not respond; Exchange Online waits 10 s' in issue.message


def test_a_first_place_that_refuses_at_once_costs_nothing() -> None:
    w = hierarchy()
    w.downloads.pages[FIRST] = DownloadFailed("connection refused")
    assert w.checks(two_places(w)) == []


def test_what_comes_after_a_good_list_costs_nothing() -> None:
    w = hierarchy()
    w.downloads.pages[FIRST] = DownloadFailed("no answer in 10 s", silent=True)
    assert w.checks(w.sub.person("b@example.org", crl=[LEAF, FIRST])) == []


@pytest.mark.parametrize(("seconds", "check"), [(4.0, None), (7.0, "crl-unreachable")])
def test_a_slow_first_place_counts_with_the_second(seconds: float, check: str | None) -> None:
    w = hierarchy()
    w.downloads.pages |= {FIRST: Fetched(b"<html>", seconds), LEAF: Fetched(w.sub.crl(), 4.0)}
    assert w.checks(two_places(w)) == ([check] if check else [])


def test_a_revoked_certificate_is_told_whatever_its_places_cost() -> None:
    w = hierarchy()
    person = two_places(w)
    w.downloads.pages |= {FIRST: DownloadFailed("no answer in 10 s", silent=True), LEAF: w.sub.crl(serial(person))}
    assert w.checks(person) == ["revoked"]


def test_changes_take_their_time_too() -> None:
    w = hierarchy()
    w.downloads.pages |= {LEAF: w.sub.crl(number=5, extensions=[freshest(DELTA)])}
    w.downloads.pages[DELTA] = Fetched(w.sub.crl(number=6, extensions=[CHANGES]), 10.0)
    assert w.checks() == ["crl-unreachable"]
