"""The chain that is recorded with a certificate: a later plan may bring a better one, and the audit log tells it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distributor.model.delivery import DeliveryRequest, ExistingDelivery
from distributor.model.states import State
from tests.doubles.pki import root
from tests.ledger.world import ME, World, draft, found, packed

ISSUER, ROOT, OTHER = (name.ljust(900, b".") for name in (b"issuer", b"root", b"another issuer"))


def with_chain(*chain: bytes, validated: bool = False) -> DeliveryRequest:
    return replace(draft("anna"), chain=chain, validated=validated)


def accept(world: World) -> str:
    """Send the only delivery."""
    (id_,) = (str(row[0]) for row in world.sql("SELECT id FROM delivery"))
    assert world.ledger.enqueue([packed(id_)], ME) == [True]
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED)
    return id_


def chain(world: World) -> tuple[bytes, ...]:
    (one,) = world.ledger.issued(world.clock.now)
    return one.chain


@pytest.mark.parametrize("state", ["planned", "accepted"])
def test_a_longer_chain_of_a_later_plan_is_kept_and_recorded(world: World, state: str) -> None:
    world.ledger.plan("plan-1", [with_chain(ISSUER)])
    if state == "accepted":
        accept(world)
    (known,) = world.ledger.plan("plan-1", [with_chain(ISSUER, ROOT)])
    assert isinstance(known, ExistingDelivery)
    assert chain(world) == (ISSUER, ROOT)
    assert world.events()[-1] == "chain-changed"
    assert world.ledger.verify() == []


@pytest.mark.parametrize("later", [(), (OTHER,)], ids=["none", "as long"])
def test_a_chain_that_is_no_longer_changes_nothing(world: World, later: tuple[bytes, ...]) -> None:
    world.ledger.plan("plan-1", [with_chain(ISSUER)])
    world.ledger.plan("plan-1", [with_chain(*later)])
    assert chain(world) == (ISSUER,)
    assert world.events() == ["planned"]


def test_a_validated_path_takes_the_place_of_a_chain_of_any_length(world: World) -> None:
    world.ledger.plan("plan-1", [with_chain(OTHER, ISSUER, ROOT)])
    world.ledger.plan("plan-1", [with_chain(ISSUER, ROOT, validated=True)])
    world.ledger.plan("plan-1", [with_chain(ISSUER, ROOT, validated=True)])
    assert chain(world) == (ISSUER, ROOT)
    assert world.events() == ["planned", "chain-changed"]


def test_a_chain_that_reaches_its_root_is_not_replaced_by_a_longer_one(world: World) -> None:
    top = root()
    sub = top.sub("Mail CA")
    whole = (sub.der, top.der)
    world.ledger.plan("plan-1", [with_chain(sub.der)])
    world.ledger.plan("plan-1", [with_chain(*whole)])
    world.ledger.plan("plan-1", [with_chain(sub.der, OTHER, ISSUER, ROOT)])
    assert chain(world) == whole


def test_a_new_generation_is_planned_with_the_better_chain(world: World) -> None:
    world.ledger.plan("plan-1", [with_chain(ISSUER)])
    id_ = accept(world)
    world.ledger.plan("plan-1", [with_chain(ISSUER, ROOT)])
    assert world.ledger.regenerate(id_, "new phone").generation == 2
    assert chain(world) == (ISSUER, ROOT)


def test_a_chain_that_was_changed_from_outside_is_found_after_a_better_one_was_recorded(world: World) -> None:
    world.ledger.plan("plan-1", [with_chain(ISSUER)])
    before = str(world.sql("SELECT chain FROM certificate")[0][0])
    world.ledger.plan("plan-1", [with_chain(ISSUER, ROOT)])
    assert any("certificate's chain does not match" in each for each in found(world, f"UPDATE certificate SET chain = '{before}'"))  # noqa: S608  ours
