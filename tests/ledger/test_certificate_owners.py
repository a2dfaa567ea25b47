"""One certificate and one key for one person: in the transaction that plans, for another generation, and before a message leaves."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from distributor.errors import InvalidInput, RequestDenied
from distributor.ledger import certificate_owners
from distributor.model.attempts import TrackingEvent
from distributor.model.certificates import RevokedDelivery
from distributor.model.delivery import Delivery, DeliveryRequest, ExistingDelivery, Taken
from distributor.model.states import State
from distributor.pki.spki import sha256_of
from tests.authority import Authority, Identity
from tests.identities import credential
from tests.ledger.world import EVERYTHING, LEASE, ME, Clock, World, draft, packed


@pytest.fixture(scope="module")
def authority() -> Authority:
    """In the time of these ledgers."""
    return Authority(now=Clock().now)


def issued(name: str, identity: Identity) -> DeliveryRequest:
    """A draft of a real certificate."""
    found = credential(identity)
    return replace(draft(name), facts=found.facts, leaf=found.leaf)


def other(name: str, of: DeliveryRequest) -> DeliveryRequest:
    """The same certificate for somebody else."""
    return replace(of, person=draft(name).person)


def plan(world: World, *drafts: DeliveryRequest) -> list[Delivery | ExistingDelivery | Taken]:
    return world.ledger.plan("plan-1", drafts)


def put(world: World, one: DeliveryRequest) -> str:
    (found,) = plan(world, one)
    assert isinstance(found, Delivery)
    return found.id


def sent(world: World, one: DeliveryRequest, state: State = State.ACCEPTED) -> str:
    id_ = put(world, one)
    assert world.ledger.enqueue([packed(id_, to=str(one.person.address))], ME) == [True]
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, state, response="the server's word")
    return id_


def test_a_certificate_that_somebody_has_is_not_planned_for_another(world: World) -> None:
    anna = draft("anna")
    id_ = sent(world, anna)
    (found,) = plan(world, other("schmidt", anna))
    assert isinstance(found, Taken)
    assert (found.delivery, found.address, found.name, found.state) == (id_, "anna@example.org", "anna Example", State.ACCEPTED)
    assert found.same_certificate
    assert [delivery.address for delivery in world.ledger.deliveries(EVERYTHING)] == ["anna@example.org"]


@pytest.mark.parametrize("state", [State.REJECTED, State.AMBIGUOUS, State.DEFERRED])
def test_it_counts_in_every_state_but_withdrawn(world: World, state: State) -> None:
    anna = draft("anna")
    sent(world, anna, state)
    assert isinstance(plan(world, other("schmidt", anna))[0], Taken)


def test_once_it_is_withdrawn_unsent_another_person_may_have_it(world: World) -> None:
    anna = draft("anna")
    world.ledger.withdraw(put(world, anna), "the other one is wrong")
    assert isinstance(plan(world, other("schmidt", anna))[0], Delivery)


def test_a_withdrawn_message_that_may_have_left_still_counts(world: World) -> None:
    anna = draft("anna")
    id_ = sent(world, anna, State.AMBIGUOUS)
    newer = world.ledger.regenerate(id_, "no answer")
    world.ledger.withdraw(id_, "replaced")
    world.ledger.withdraw(newer.id, "not needed")
    assert isinstance(plan(world, other("schmidt", anna))[0], Taken)


def test_a_key_that_somebody_has_is_not_planned_for_another(world: World, authority: Authority) -> None:
    one = authority.issue("anna@example.org")
    two = authority.issue("bert@example.org", key=one.key)
    id_ = sent(world, issued("anna", one))
    (found,) = plan(world, issued("bert", two))
    assert isinstance(found, Taken)
    assert (found.delivery, found.same_certificate) == (id_, False)


def test_a_renewal_about_the_same_key_is_fine_for_the_same_person(world: World, authority: Authority) -> None:
    one = authority.issue("anna@example.org")
    sent(world, issued("anna", one))
    assert isinstance(plan(world, issued("anna", authority.issue("anna@example.org", key=one.key)))[0], Delivery)


def test_of_two_in_one_call_the_first_is_planned(world: World, authority: Authority) -> None:
    anna = draft("anna")
    one = authority.issue("cleo@example.org")
    drafts = [anna, other("bert", anna), issued("cleo", one), issued("dora", authority.issue("dora@example.org", key=one.key)), anna]
    assert [type(found) for found in plan(world, *drafts)] == [Delivery, Taken, Delivery, Taken, ExistingDelivery]


def test_two_plans_at_once_give_it_to_one_of_them(world: World) -> None:
    anna = draft("anna")
    drafts = [anna, other("schmidt", anna)]
    ledgers = [world.another(), world.another()]
    found: list[Delivery | ExistingDelivery | Taken] = []
    start = threading.Barrier(2)

    def work(number: int) -> None:
        start.wait(20)
        found.extend(ledgers[number].plan("plan-1", [drafts[number]]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(type(one).__name__ for one in found) == ["Delivery", "Taken"]


def test_a_further_generation_is_refused_where_somebody_else_has_it(world: World) -> None:
    anna = draft("anna")
    id_ = sent(world, anna)
    taken_over(world, anna)
    with pytest.raises(RequestDenied, match=r'this certificate is already planned for "schmidt@example.org"'):
        world.ledger.regenerate(id_, "new phone")
    with pytest.raises(RequestDenied, match="this certificate is already"):
        world.ledger.regenerate(id_, "new phone", other("third", anna))


def pass_time(world: World) -> None:
    """800 days, and a command the day before."""
    world.clock.forward(days=799)
    (id_,) = (delivery.id for delivery in world.plan("zoe"))
    world.ledger.withdraw(id_, "so that the ledger is in use")
    world.clock.forward(days=1)


def taken_over(world: World, of: DeliveryRequest) -> str:
    """A second person with the same certificate, as older programs planned it: they did not ask who else has it."""
    with pytest.MonkeyPatch.context() as older:
        older.setattr(certificate_owners, "find_other_owners", lambda _, drafts: [None] * len(drafts))
        return put(world, other("schmidt", of))


def test_what_an_older_program_planned_for_a_second_person_is_withdrawn_before_it_is_packed(world: World) -> None:
    anna = draft("anna")
    sent(world, anna)
    id_ = taken_over(world, anna)
    assert world.ledger.lease(ME, 10, LEASE, EVERYTHING) == []
    reason = "the certificate is already accepted for anna@example.org"
    assert world.ledger.taken_back() == [RevokedDelivery(id_, "schmidt@example.org", State.PLANNED, State.WITHDRAWN, reason)]
    assert world.ledger.taken_back() == []


def test_of_two_that_wait_the_one_that_was_planned_first_goes(world: World) -> None:
    anna = draft("anna")
    first = put(world, anna)
    second = taken_over(world, anna)
    assert [todo.id for todo in world.ledger.lease(ME, 10, LEASE, EVERYTHING)] == [first]
    assert [struck.delivery for struck in world.ledger.taken_back()] == [second]


def test_a_certificate_that_expired_meanwhile_is_not_packed_but_withdrawn_and_told(world: World) -> None:
    (id_,) = (delivery.id for delivery in world.plan("anna"))
    pass_time(world)
    assert world.ledger.lease(ME, 10, LEASE, EVERYTHING) == []
    reason = "the certificate expired on 2028-01-01"
    assert world.ledger.taken_back() == [RevokedDelivery(id_, "anna@example.org", State.PLANNED, State.WITHDRAWN, reason)]
    *_, event = world.ledger.history("anna@example.org")
    assert (event.event, event.evidence["reason"]) == ("withdrawn", reason)


@pytest.mark.parametrize("harmless", [False, True])
def test_what_expired_by_a_clock_that_jumped_is_held_back_until_a_second_sign(world: World, *, harmless: bool) -> None:
    world.accepted("carl")
    (queued,) = world.queue("bert")
    (planned,) = (delivery.id for delivery in world.plan("anna"))
    world.clock.forward(days=800)
    if harmless:
        world.ledger.expire()  # writes events that are dated after the jump
    for _ in range(2):
        assert world.ledger.lease(ME, 1, LEASE, EVERYTHING) == []
        assert world.ledger.claim(ME, 1, LEASE, EVERYTHING) == []
        revoked = {(struck.delivery, struck.before, struck.after, struck.reason) for struck in world.ledger.taken_back()}
        reason = "held back: the certificate expired on 2028-01-01, by a clock that jumped"
        assert revoked == {(planned, State.PLANNED, State.PLANNED, reason), (queued, State.QUEUED, State.QUEUED, reason)}
    young = draft("dora")
    young = replace(young, facts=replace(young.facts, not_after=world.clock.now + timedelta(days=1)))
    other_id = put(world, young)
    assert [todo.id for todo in world.ledger.lease(ME, 1, LEASE, EVERYTHING)] == [other_id]
    world.clock.forward(days=-800)
    assert {todo.id for todo in world.ledger.lease(ME, 9, LEASE, EVERYTHING)} == {planned, other_id}  # its lease was implausible
    world.clock.forward(days=800, hours=7)
    assert [todo.id for todo in world.ledger.lease(ME, 9, LEASE, EVERYTHING)] == [other_id]
    assert world.ledger.claim(ME, 9, LEASE, EVERYTHING) == []
    assert (world.state(planned), world.state(queued)) == (State.WITHDRAWN, State.WITHDRAWN)


@pytest.mark.parametrize("state", [State.QUEUED, State.DEFERRED])
def test_a_message_whose_certificate_expired_meanwhile_is_withdrawn_and_the_others_go(world: World, state: State) -> None:
    if state is State.QUEUED:
        (id_,) = world.queue("anna")
    else:
        claim = world.armed("anna")
        id_ = claim.id
        assert world.settle(claim, State.DEFERRED, response="450 later", not_before=world.clock.now + timedelta(minutes=5))
    pass_time(world)
    young = draft("bert")
    young = replace(young, facts=replace(young.facts, not_after=world.clock.now + timedelta(days=1)))
    other_id = put(world, young)
    assert world.ledger.enqueue([packed(other_id, to=str(young.person.address))], ME) == [True]
    assert [claim.id for claim in world.ledger.claim(ME, 10, LEASE, EVERYTHING)] == [other_id]
    assert [(struck.delivery, struck.before, struck.after) for struck in world.ledger.taken_back()] == [(id_, state, State.WITHDRAWN)]
    assert world.state(id_) is State.WITHDRAWN
    assert list(world.ledger.messages(EVERYTHING)) == []


def test_an_unclear_message_of_an_expired_certificate_is_not_sent_again_but_may_be_taken_back(world: World) -> None:
    claim = world.ambiguous()
    pass_time(world)
    with pytest.raises(RequestDenied, match="the certificate expired on 2028-01-01"):
        world.ledger.resolve(claim.id, State.QUEUED, {"reason": "again"})
    world.ledger.withdraw(claim.id, "expired")
    assert world.state(claim.id) is State.WITHDRAWN


def test_evidence_that_it_did_not_leave_sends_no_expired_certificate(world: World) -> None:
    claim = world.ambiguous()
    pass_time(world)
    world.ledger.observe([TrackingEvent(claim.id, State.QUEUED, "a draft is still there", {"kind": "sent-items"})])
    assert world.ledger.claim(ME, 10, LEASE, EVERYTHING) == []
    assert world.state(claim.id) is State.WITHDRAWN


def test_a_certificate_that_is_not_valid_yet_stops_the_run_for_a_clock_is_wrong(world: World) -> None:
    world.clock.forward(days=30)
    young = draft("anna")
    young = replace(young, facts=replace(young.facts, not_before=world.clock.now - timedelta(days=1)))
    id_ = put(world, young)
    assert world.ledger.enqueue([packed(id_)], ME) == [True]
    world.sql("UPDATE head SET at = '2026-11-24T09:00:00.000000Z'")
    world.clock.forward(days=-20)
    with pytest.raises(InvalidInput, match="not valid before 2026-12-23T09:00:00Z; this machine's clock says 2026-12-04"):
        world.ledger.claim(ME, 10, LEASE, EVERYTHING)
    assert world.state(id_) is State.QUEUED
    world.spoiled = True


def test_the_key_of_a_certificate_is_kept_with_it(world: World, authority: Authority) -> None:
    one = authority.issue("anna@example.org")
    put(world, issued("anna", one))
    put(world, draft("bert"))
    rows = world.sql("SELECT key_sha256 FROM certificate ORDER BY key_sha256 IS NULL")
    assert rows == [(sha256_of(one.der),), (None,)]
