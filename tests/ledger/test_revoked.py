"""A revoked certificate is not sent, not packed, not planned and not forgotten; after a hold, and only then, it is good again."""

from __future__ import annotations

import pytest

from distributor.errors import RequestDenied
from distributor.model.revocation import GOOD_AGAIN, RELEASED, REVOKED
from distributor.model.states import State
from tests.ledger.world import EVERYTHING, LEASE, ME, World, draft

REASON = "the certificate was revoked (2026-11-20, superseded)"
HELD = "the certificate was revoked (2026-11-20, on hold)"


def sha(name: str = "anna") -> str:
    return draft(name).facts.sha256


def revoked(world: World, *names: str) -> dict[str, str]:
    return dict(world.ledger.revoked([sha(name) for name in names]))


def shown(world: World) -> list[str | None]:
    return [row[10] for row in world.ledger.rows(EVERYTHING)]


def test_an_ambiguous_message_of_a_revoked_certificate_is_taken_back_and_not_sent_again(world: World) -> None:
    claim = world.ambiguous()
    world.ledger.revoke(sha(), REASON)
    with pytest.raises(RequestDenied, match="superseded") as refused:
        world.ledger.resolve(claim.id, State.QUEUED, {"kind": "person", "reason": "not in the log"})
    assert f"distributor withdraw {claim.id}" in str(refused.value.hint)
    assert world.state(claim.id) is State.AMBIGUOUS
    world.ledger.withdraw(claim.id, "revoked")
    assert (world.state(claim.id), world.outbox()) == (State.WITHDRAWN, [])


def test_an_ambiguous_message_of_a_good_certificate_is_not_taken_back(world: World) -> None:
    claim = world.ambiguous()
    with pytest.raises(RequestDenied, match="cannot be withdrawn"):
        world.ledger.withdraw(claim.id, "why not")


def test_what_a_sender_gives_back_after_the_revocation_is_withdrawn_and_the_next_message_claimed(world: World) -> None:
    claim = world.claimed("anna")
    world.queue("bert")
    world.ledger.revoke(sha(), REASON)
    world.ledger.release([claim], ME)
    (next_,) = world.ledger.claim(ME, 1, LEASE, EVERYTHING)
    assert next_.id != claim.id
    assert (world.state(claim.id), world.outbox()) == (State.WITHDRAWN, ["bert@example.org"])
    assert world.events()[-2:] == ["queued", "withdrawn"]


def test_what_was_planned_without_asking_is_withdrawn_and_not_packed(world: World) -> None:
    claim = world.ambiguous()
    world.ledger.revoke(sha(), REASON)
    world.ledger.withdraw(claim.id, "it stays")
    (second,) = world.plan("anna")  # the ledger's caller asks before it plans; who does not is stopped at the packing
    assert world.ledger.lease(ME, 10, LEASE, EVERYTHING) == []
    assert world.state(second.id) is State.WITHDRAWN
    assert world.events()[-2:] == [REVOKED, "withdrawn"]


def test_of_many_that_wait_the_good_ones_are_packed(world: World) -> None:
    for name in ("anna", "bert"):
        world.plan(name)
        world.ledger.revoke(sha(name), REASON)
    bad = world.plan("anna", "bert")
    good = world.plan("cleo", "dora")
    assert [one.id for one in world.ledger.lease(ME, 1, LEASE, EVERYTHING)] == [good[0].id]
    assert [world.state(one.id) for one in bad] == [State.WITHDRAWN, State.WITHDRAWN]
    (again,) = world.plan("anna")
    assert [one.id for one in world.ledger.lease(ME, 10, LEASE, EVERYTHING)] == [good[1].id]
    assert world.state(again.id) is State.WITHDRAWN


def test_a_listing_goes_on_saying_that_it_was_revoked_whatever_a_server_says_later(world: World) -> None:
    claim = world.ambiguous()
    world.queue("bert")
    world.ledger.revoke(sha(), REASON)
    assert shown(world) == [REASON, None]
    world.ledger.resolve(claim.id, State.ACCEPTED, {"kind": "person", "reason": "the log has it"})
    assert shown(world) == [f"{REASON}; settled by hand: the log has it", None]


def test_another_persons_delivery_of_the_same_certificate_is_known_by_it_too(world: World) -> None:
    world.accepted("anna")
    assert revoked(world, "anna", "bert") == {}
    world.ledger.revoke(sha("anna"), REASON)
    assert revoked(world, "anna", "bert") == {sha("anna"): REASON}


def test_a_hold_that_is_over_is_written_once_and_the_certificate_is_good_again(world: World) -> None:
    id_ = world.accepted()
    world.ledger.revoke(sha(), HELD)
    (reinstated,) = world.ledger.reinstate(sha(), GOOD_AGAIN)
    assert (reinstated.delivery, reinstated.address, reinstated.reason) == (id_, "anna@example.org", GOOD_AGAIN)
    assert world.ledger.reinstate(sha(), GOOD_AGAIN) == []
    assert (revoked(world, "anna"), shown(world)) == ({}, [GOOD_AGAIN])
    assert world.events()[-2:] == [REVOKED, RELEASED]
    (holder,) = world.ledger.holders()
    assert not holder.certificates[0].revoked


def test_any_other_reason_is_final(world: World) -> None:
    world.accepted()
    world.ledger.revoke(sha(), REASON)
    assert world.ledger.reinstate(sha(), GOOD_AGAIN) == []
    assert revoked(world, "anna") == {sha(): REASON}


def test_a_hold_that_becomes_a_revocation_is_final_and_written_again(world: World) -> None:
    world.accepted()
    world.ledger.revoke(sha(), HELD)
    assert len(world.ledger.revoke(sha(), REASON)) == 1
    assert world.ledger.revoke(sha(), REASON) == []
    assert world.ledger.reinstate(sha(), GOOD_AGAIN) == []
    assert world.events().count(REVOKED) == 2


def test_what_was_withdrawn_by_a_hold_is_asked_about_on_and_may_be_planned_again(world: World) -> None:
    (waiting,) = world.queue("anna")
    world.ledger.revoke(sha(), HELD)
    assert world.state(waiting) is State.WITHDRAWN
    (one,) = world.ledger.issued(world.clock.now)
    assert (one.sha256, one.revoked, one.addresses) == (sha(), HELD, ("anna@example.org",))
    world.ledger.reinstate(sha(), GOOD_AGAIN)
    (second,) = world.plan("anna")
    assert [one.id for one in world.ledger.lease(ME, 10, LEASE, EVERYTHING)] == [second.id]
    assert world.state(waiting) is State.WITHDRAWN


def test_one_that_is_revoked_after_a_hold_was_over_is_told_again(world: World) -> None:
    world.accepted()
    world.ledger.revoke(sha(), HELD)
    world.ledger.reinstate(sha(), GOOD_AGAIN)
    assert len(world.ledger.revoke(sha(), HELD)) == 1
    assert revoked(world, "anna") == {sha(): HELD}
