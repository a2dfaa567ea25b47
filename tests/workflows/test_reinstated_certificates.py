"""What the ledger knows of revocations, in a plan without the network; and when a look at fresh lists makes a certificate good again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distributor.model.issues import CheckId, Severity
from distributor.model.states import State
from distributor.workflows.revocation import SHOWN, watch
from tests.authority import Authority
from tests.ledger.world import World, draft, worlds
from tests.workflows.test_revocation import REVOKED, STALE, FakeChecker, planned

HOLD = replace(REVOKED, message="the certificate was revoked (2026-11-20, on hold)")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from worlds(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_plan_that_asks_nobody_still_knows_what_was_revoked(world: World, authority: Authority) -> None:
    alice = authority.issue("alice@example.org")
    (delivery,) = planned(world, FakeChecker(), alice).deliveries
    world.ledger.revoke(delivery.certificate_sha256, REVOKED.message)
    again = planned(world, FakeChecker(), alice)
    assert (list(again.deliveries), world.state(delivery.id)) == ([], State.WITHDRAWN)
    assert [(i.severity, i.check, i.message, i.source, i.address) for i in again.issues] == [
        (Severity.ERROR, CheckId.REVOKED, REVOKED.message, "0.pem", "alice@example.org")
    ]


def test_what_the_network_says_too_is_said_once(world: World, authority: Authority) -> None:
    alice = authority.issue("alice@example.org")
    (delivery,) = planned(world, FakeChecker(), alice).deliveries
    world.ledger.revoke(delivery.certificate_sha256, REVOKED.message)
    assert [issue.check for issue in planned(world, FakeChecker(REVOKED), alice).issues] == [CheckId.REVOKED]


def test_a_hold_ends_with_lists_that_are_in_order_and_not_with_one_that_cannot_be_read(world: World) -> None:
    world.accepted()
    watch(world.ledger, FakeChecker(HOLD), now=world.clock.now)
    assert watch(world.ledger, FakeChecker(STALE), now=world.clock.now).reinstated == []
    assert [one.address for one in watch(world.ledger, FakeChecker(), now=world.clock.now).reinstated] == ["anna@example.org"]
    assert watch(world.ledger, FakeChecker(), now=world.clock.now).reinstated == []
    assert world.ledger.revoked([draft("anna").facts.sha256]) == {}


def test_what_was_revoked_for_good_never_comes_back(world: World) -> None:
    world.accepted()
    watch(world.ledger, FakeChecker(REVOKED), now=world.clock.now)
    assert watch(world.ledger, FakeChecker(), now=world.clock.now).reinstated == []
    assert world.ledger.revoked([draft("anna").facts.sha256]) != {}


def test_a_fault_names_the_person_or_some_of_the_people_it_concerns(world: World) -> None:
    world.queue("anna")
    (issue,) = watch(world.ledger, FakeChecker(STALE), now=world.clock.now).issues
    assert (issue.address, issue.message) == ("anna@example.org", STALE.message)
    world.queue("bert", "cleo", "dora", "emil")
    (issue,) = watch(world.ledger, FakeChecker(STALE), now=world.clock.now).issues
    assert (issue.address, issue.message.count("@"), issue.message[-12:]) == (None, SHOWN, " and 2 more)")
