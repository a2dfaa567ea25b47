"""Every directory keeps the promises of model.certificates.PublicDirectory. A new kind is found in the registry and needs its server."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from importlib import import_module

import pytest

from distributor.adapters import REGISTRY
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.certificates import PublicationResult
from tests.authority import Authority
from tests.contracts.directory_servers import ALICE, BOB, KINDS, NOW, DirectoryCase, _trusted, case, public, server
from tests.doubles.slapd import WRITES

__all__ = ["_trusted", "case", "server"]  # fixtures


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_settings_and_open(kind: str) -> None:
    module = import_module(REGISTRY["directories"][kind])
    assert module.Settings.__dataclass_params__.frozen
    assert callable(module.open)


def test_exactly_what_was_delivered_is_there_and_twice_is_once(case: DirectoryCase, authority: Authority) -> None:
    leaf = authority.issue(str(ALICE)).der
    first = case.directory.publish(public(ALICE, leaf), NOW)
    again = case.directory.publish(public(ALICE, leaf), NOW)
    assert isinstance(first, PublicationResult)
    assert (first.changed, again) == (True, replace(first, changed=False))
    assert (case.read(ALICE), case.read(BOB)) == ([leaf], [])


def test_a_newer_certificate_takes_the_place_of_one_that_expired(case: DirectoryCase, authority: Authority) -> None:
    old, new = authority.issue(str(ALICE), days=10).der, authority.issue(str(ALICE)).der
    case.directory.publish(public(ALICE, old), NOW)
    case.directory.publish(public(ALICE, new), NOW + timedelta(days=20))
    assert case.read(ALICE) == [new]


def test_a_revoked_certificate_goes_and_anybody_elses_stays(case: DirectoryCase, authority: Authority) -> None:
    revoked, kept = authority.issue(str(ALICE)).der, authority.issue(str(BOB)).der
    case.directory.publish(public(ALICE, revoked), NOW)
    case.directory.publish(public(BOB, kept), NOW)
    done = case.directory.publish(public(ALICE, None, revoked), NOW)
    untouched = case.directory.publish(public(BOB, None, revoked), NOW)
    assert isinstance(done, PublicationResult)
    assert isinstance(untouched, PublicationResult)
    assert (done.changed, untouched.changed) == (True, False)
    assert (case.read(ALICE), case.read(BOB)) == ([], [kept])


def test_its_name_says_where_and_holds_no_secret(case: DirectoryCase) -> None:
    assert case.directory.where
    assert WRITES not in case.directory.where


def test_what_works_for_nobody_is_an_error_with_a_place_and_a_way_out(case: DirectoryCase, authority: Authority) -> None:
    with pytest.raises((InvalidInput, ServiceUnavailable)) as caught:
        case.broken.publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert caught.value.where
    assert caught.value.hint
    case.broken.close()
