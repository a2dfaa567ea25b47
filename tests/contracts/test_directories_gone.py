"""What must not be used goes out of every directory, first and always; and what is left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from distributor.model.certificates import PublicationResult
from distributor.model.issues import CheckId, Issue, Severity
from tests.authority import Authority
from tests.contracts.directory_servers import (  # noqa: F401  fixtures too
    ALICE,
    BOB,
    NOW,
    USER,
    DirectoryCase,
    _trusted,
    case,
    opened,
    public,
    server,
)
from tests.contracts.test_directory_ldap import person  # noqa: F401  a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles.slapd import Slapd


def many(authority: Authority, count: int) -> list[bytes]:
    return [authority.issue(f"p{number}@example.org").der for number in range(count)]


def test_an_expired_certificate_goes_without_a_newer_one(case: DirectoryCase, authority: Authority) -> None:  # noqa: F811
    old = authority.issue(str(ALICE), days=10).der
    case.directory.publish(public(ALICE, old), NOW)
    done = case.directory.publish(public(ALICE, None, old), NOW + timedelta(days=20))
    again = case.directory.publish(public(ALICE, None, old), NOW + timedelta(days=20))
    assert isinstance(done, PublicationResult)
    assert isinstance(again, PublicationResult)
    assert (done.changed, len(done.removed), again.changed, again.removed) == (True, 1, False, frozenset())
    assert case.read(ALICE) == []


def test_a_newer_one_takes_its_place_and_the_removal_is_told(case: DirectoryCase, authority: Authority) -> None:  # noqa: F811
    old, new = authority.issue(str(ALICE)).der, authority.issue(str(ALICE)).der
    case.directory.publish(public(ALICE, old), NOW)
    done = case.directory.publish(public(ALICE, new, old), NOW)
    assert isinstance(done, PublicationResult)
    assert (done.removed, case.read(ALICE)) == (public(ALICE, None, old).gone, [new])


def test_where_nobody_is_nothing_has_to_go(server: Slapd, authority: Authority) -> None:  # noqa: F811
    done = opened(server).publish(public(BOB, None, authority.issue(str(BOB)).der), NOW)
    assert done == PublicationResult("", changed=False)


def test_a_revoked_certificate_goes_where_the_entry_has_no_room_for_the_new_one(
    server: Slapd,  # noqa: F811
    person: Callable[..., str],  # noqa: F811
    authority: Authority,
) -> None:
    revoked, new, others = authority.issue(str(ALICE)).der, authority.issue(str(ALICE)).der, many(authority, 15)
    expired = authority.issue(str(ALICE), starts=timedelta(days=-300), days=200).der
    dn = person(**{USER: [*others, revoked, expired]})
    done = opened(server).publish(public(ALICE, new, revoked), NOW)
    assert isinstance(done, PublicationResult)
    assert (done.changed, done.holds, done.removed) == (True, False, public(ALICE, None, revoked).gone)
    assert done.warning is not None
    assert (done.warning.severity, done.warning.check) == (Severity.ERROR, CheckId.NOT_PUBLISHED)
    assert sorted(server.read(dn)[USER]) == sorted(others)
    again = opened(server).publish(public(ALICE, new, revoked), NOW)
    assert isinstance(again, Issue)


def test_an_entry_with_too_many_values_is_an_error_though_ours_is_among_them(
    server: Slapd,  # noqa: F811
    person: Callable[..., str],  # noqa: F811
    authority: Authority,
) -> None:
    ours, others = authority.issue(str(ALICE)).der, many(authority, 16)
    dn = person(**{USER: [*others, ours]})
    done = opened(server).publish(public(ALICE, ours), NOW)
    assert isinstance(done, PublicationResult)
    assert (done.changed, done.holds) == (False, True)
    assert done.warning is not None
    assert (done.warning.severity, "17 unexpired certificates" in done.warning.message) == (Severity.ERROR, True)
    assert sorted(server.read(dn)[USER]) == sorted([*others, ours])


def test_without_a_certificate_to_publish_nothing_of_others_goes(
    server: Slapd,  # noqa: F811
    person: Callable[..., str],  # noqa: F811
    authority: Authority,
) -> None:
    theirs = authority.issue(str(ALICE), starts=timedelta(days=-300), days=200).der
    dn = person(**{USER: [theirs]})
    done = opened(server).publish(public(ALICE, None, authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, PublicationResult)
    assert (done.changed, server.read(dn)[USER]) == (False, [theirs])
