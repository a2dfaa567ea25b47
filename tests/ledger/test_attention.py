"""What `status` says first: what needs a person, until something makes up for it."""

from __future__ import annotations

from distributor.model.attempts import TrackingEvent
from distributor.model.attention import Attention, Need
from distributor.model.delivery import DeliveryFilter
from distributor.model.requests import RequestLimits
from distributor.model.states import State
from tests.ledger.world import EVERYTHING, World, draft


def needs(world: World, scope: DeliveryFilter = EVERYTHING) -> dict[Need, tuple[int, str | None]]:
    return {one.need: (one.number, one.address) for one in world.ledger.attention(scope)}


def test_nothing_needs_anybody_at_first(world: World) -> None:
    world.accepted()
    assert world.ledger.attention(EVERYTHING) == []
    assert world.ledger.ready_channels(EVERYTHING) == {"reveal"}


def test_failures_come_in_the_order_of_their_weight_with_the_address_where_there_is_one(world: World) -> None:
    for name in ("anna", "bert"):
        world.ledger.observe([TrackingEvent(world.accepted(name), State.BOUNCED, "gone", {"kind": "report"})])
    world.ambiguous("cleo")
    assert world.ledger.attention(EVERYTHING) == [Attention(Need.AMBIGUOUS, 1, "cleo@example.org"), Attention(Need.BOUNCED, 2, None)]
    assert needs(world, DeliveryFilter(addresses=frozenset({"bert@example.org"}))) == {Need.BOUNCED: (1, "bert@example.org")}


def test_a_later_generation_makes_up_for_a_bounce(world: World) -> None:
    id_ = world.accepted()
    world.ledger.observe([TrackingEvent(id_, State.BOUNCED, "gone", {"kind": "report"})])
    assert needs(world) == {Need.BOUNCED: (1, "anna@example.org")}
    new = world.ledger.regenerate(id_, "bounced")
    assert needs(world) == {}
    world.ledger.withdraw(new.id, "not now")
    assert needs(world) == {Need.BOUNCED: (1, "anna@example.org")}


def test_passwords_are_named_before_and_after_they_expire(world: World) -> None:
    world.accepted("anna")
    world.ledger.hand_over(world.accepted("bert"), "called", "reveal")
    world.clock.forward(days=12)
    assert needs(world) == {Need.PASSWORD_EXPIRING: (1, "anna@example.org")}
    world.clock.forward(days=3)
    world.ledger.expire()
    assert needs(world) == {Need.PASSWORD_EXPIRED: (1, "anna@example.org")}


def test_certificates_are_named_a_month_before_they_expire_unless_a_later_plan_renewed_them(world: World) -> None:
    id_ = world.accepted()
    world.ledger.hand_over(id_, "called", "reveal")
    world.clock.now = draft("anna").facts.not_after.replace(year=2027, month=12, day=10)
    assert needs(world) == {Need.CERTIFICATE_EXPIRING: (1, "anna@example.org")}


def test_an_incident_stays_until_the_certificate_is_revoked(world: World) -> None:
    world.accepted()
    world.ledger.incident("anna@example.org", "phone stolen")
    assert needs(world) == {Need.INCIDENT: (1, "anna@example.org")}
    world.ledger.revoke(draft("anna").facts.sha256, "revoked on 2026-11-24 (keyCompromise)")
    assert needs(world) == {}


def test_a_request_waits_until_somebody_decides(world: World) -> None:
    request = world.ledger.ask(world.accepted(), "new phone", limits=RequestLimits())
    assert needs(world) == {Need.REQUEST: (1, "anna@example.org")}
    world.another("admin@vm").decide(request.id, "no", approve=False)
    assert needs(world) == {}
