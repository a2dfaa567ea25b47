"""What is taken out of directories again: revoked, expired, came back; wherever it is found, and never what is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from distributor.model.attempts import TrackingEvent
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.states import State
from tests.authority import Authority
from tests.ledger.world import World, worlds
from tests.workflows.test_publish import START, FakeDirectory, received, revoke, run, summary

ANNA = "anna@example.org"
FULL = Issue(Severity.ERROR, CheckId.NOT_PUBLISHED, "the entry has 15 certificates", "remove old certificates", "directory", None, ANNA)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(now=START)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from worlds(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_what_expired_goes_without_a_newer_one_too(world: World, authority: Authority) -> None:
    received(world, "anna", authority.issue(ANNA, days=10))
    directory = FakeDirectory()
    run(world, directory)
    assert summary(run(world, directory, days=20)) == (0, 0, 1, [(Severity.WARNING, CheckId.EXPIRED, ANNA)])
    assert directory.holds == {}
    assert world.events()[-1] == "unpublished"
    assert summary(run(world, directory, days=20))[:3] == (0, 0, 0)


def test_a_directory_under_another_name_is_searched_for_what_must_go(world: World, authority: Authority) -> None:
    id_ = received(world, "anna", authority.issue(ANNA))
    before, after = FakeDirectory("ldap://old.example.org/dc=x"), FakeDirectory("ldaps://new.example.org/dc=x")
    run(world, before)
    revoke(world, id_)
    after.holds = before.holds
    assert summary(run(world, after))[:3] == (0, 0, 1)
    assert after.holds == {}
    (event,) = [event for event in world.ledger.history(ANNA) if event.event == "unpublished"]
    assert (event.delivery, event.evidence["place"]) == (id_, after.where)
    assert summary(run(world, after))[:3] == (0, 0, 0)


def test_what_somebody_else_wrote_stays(world: World, authority: Authority) -> None:
    revoke(world, received(world, "anna", authority.issue(ANNA)))
    theirs = authority.issue(ANNA).der
    directory = FakeDirectory()
    directory.holds[ANNA] = theirs
    assert summary(run(world, directory))[:3] == (0, 0, 0)
    assert directory.holds == {ANNA: theirs}


def test_what_is_gone_is_noted_where_the_new_one_has_no_room(world: World, authority: Authority) -> None:
    id_ = received(world, "anna", authority.issue(ANNA))
    directory = FakeDirectory()
    run(world, directory)
    revoke(world, id_)
    received(world, "anna", authority.issue(ANNA))
    directory.warns, directory.takes = FULL, False
    assert summary(run(world, directory)) == (0, 0, 1, [(Severity.ERROR, CheckId.NOT_PUBLISHED, ANNA)])
    assert world.events()[-1] == "unpublished"


def test_what_came_back_after_it_was_published_is_taken_out_and_told_once(world: World, authority: Authority) -> None:
    identity = authority.issue(ANNA)
    id_ = received(world, "anna", identity)
    directory = FakeDirectory()
    run(world, directory)
    assert world.ledger.observe([TrackingEvent(id_, State.BOUNCED, "550 no such user", {"kind": "trace"})]) == [State.ACCEPTED]
    done = run(world, directory)
    assert summary(done) == (0, 0, 1, [(Severity.WARNING, CheckId.NOT_PUBLISHED, ANNA)])
    assert f"distributor resend {ANNA}" in str(done.issues[0].hint)
    assert directory.holds == {}
    assert summary(run(world, directory)) == (0, 0, 0, [])


def test_a_hold_that_is_over_publishes_again(world: World, authority: Authority) -> None:
    identity = authority.issue(ANNA)
    id_ = received(world, "anna", identity)
    directory = FakeDirectory()
    run(world, directory)
    delivery = world.ledger.delivery(id_)
    assert delivery is not None
    world.ledger.revoke(delivery.certificate_sha256, "the certificate was revoked (2026-11-20, on hold)")
    assert summary(run(world, directory))[2] == 1
    world.ledger.reinstate(delivery.certificate_sha256, "good again")
    assert summary(run(world, directory)) == (1, 0, 0, [])
    assert directory.holds == {ANNA: identity.der}


def test_an_expired_certificate_gives_way_to_a_newer_one_and_is_counted(world: World, authority: Authority) -> None:
    received(world, "anna", authority.issue(ANNA, days=10))
    directory = FakeDirectory()
    run(world, directory)
    newer = authority.issue(ANNA, days=100, starts=timedelta(days=5))
    world.clock.forward(days=6)
    received(world, "anna", newer)
    assert summary(run(world, directory, days=20)) == (1, 0, 1, [])
    assert directory.holds == {ANNA: newer.der}
