"""A person asks for another copy within limits, somebody else decides, and the new generation is linked; the history says all of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.errors import InvalidInput, RequestDenied, UsageError
from distributor.model.requests import CopyRequest, RequestLimits, SignInAccount
from distributor.model.states import RequestState, State
from tests.ledger.world import World, draft

FEW = RequestLimits(daily=2, monthly=3)
ANNA = SignInAccount("https://login.example.org", "anna-1")


def ask(world: World, delivery: str, by: str = "portal:anna-1", *, approve: bool = False, limits: RequestLimits = FEW) -> CopyRequest:
    return world.ledger.acting_as(by).ask(delivery, "new phone", limits=limits, approve=approve)


@pytest.fixture
def anna(world: World) -> str:
    """Her delivery; she is bound to an account."""
    id_ = world.accepted("anna")
    world.ledger.acting_as("portal:anna-1").bind(ANNA, "anna@example.org", "email")
    return id_


def test_a_request_is_open_until_somebody_else_approves_it(world: World, anna: str) -> None:
    asked = ask(world, anna)
    assert (asked.state, asked.by, asked.reason, asked.address) == (RequestState.OPEN, "portal:anna-1", "new phone", "anna@example.org")
    assert world.ledger.requests({RequestState.OPEN}) == [asked]
    world.clock.forward(hours=1)
    decided = world.ledger.decide(asked.id, "", approve=True)
    assert (decided.state, decided.decided_by, decided.decided_at) == (RequestState.APPROVED, "root@host", world.clock.now)
    assert world.ledger.unplanned() == [decided]
    assert world.events()[-3:] == ["bound", "requested", "approved"]
    *_, requested, _ = world.ledger.history("anna@example.org")
    assert (requested.by, requested.evidence) == ("portal:anna-1", {"request": asked.id, "reason": "new phone"})


def test_a_denial_keeps_its_reason_and_is_final(world: World, anna: str) -> None:
    asked = ask(world, anna)
    denied = world.ledger.decide(asked.id, "left the company", approve=False)
    assert (denied.state, denied.answer) == (RequestState.DENIED, "left the company")
    with pytest.raises(RequestDenied, match="was denied on 2026-11-24 by root@host"):
        world.ledger.decide(asked.id, "", approve=True)
    assert world.ledger.unplanned() == []


def test_the_reason_is_committed_to_and_does_not_stand_in_the_clear_evidence(world: World, anna: str) -> None:
    ask(world, anna)
    rows = world.sql("SELECT evidence, personal FROM event WHERE event = 'requested'")
    assert "new phone" not in str(rows[0][0])
    assert "new phone" in str(rows[0][1])


def test_an_open_request_for_the_same_certificate_is_returned_instead(world: World, anna: str) -> None:
    first = ask(world, anna)
    assert ask(world, anna) == first
    world.ledger.decide(first.id, "", approve=True)
    assert ask(world, anna).id == first.id  # its new generation is still to come
    assert world.events().count("requested") == 1


def test_whoever_asked_cannot_approve_but_may_take_it_back(world: World, anna: str) -> None:
    asked = ask(world, anna, by="root@host")
    with pytest.raises(RequestDenied, match="the requester cannot approve"):
        world.ledger.decide(asked.id, "", approve=True)
    assert world.ledger.decide(asked.id, "by mistake", approve=False).state is RequestState.DENIED


def test_the_same_person_by_another_account_cannot_approve(world: World, anna: str) -> None:
    world.ledger.bind(SignInAccount("https://other.example.org", "anna-2"), "anna@example.org", "oid")
    for asked in (ask(world, anna), ask(world, world.accepted("bert"), by="root@host")):
        approver = world.ledger.acting_as("portal:anna-2")
        if asked.address == "anna@example.org":
            with pytest.raises(RequestDenied, match="the requester cannot approve"):
                approver.decide(asked.id, "", approve=True)
        else:
            assert approver.decide(asked.id, "", approve=True).decided_by == "portal:anna-2"


def test_nobody_approves_a_request_for_their_own_certificate(world: World, anna: str) -> None:
    asked = ask(world, anna, by="root@host")  # the helpdesk asked for her
    with pytest.raises(RequestDenied, match="the requester cannot approve"):
        world.ledger.acting_as("portal:anna-1").decide(asked.id, "", approve=True)


def test_an_account_asks_for_its_own_person_only_and_learns_nothing_else(world: World, anna: str) -> None:
    berts = world.accepted("bert")
    answers = set()
    for delivery in (berts, "d-0", anna + "0"):
        with pytest.raises(RequestDenied) as refused:
            ask(world, delivery)
        answers.add((refused.value.message, refused.value.hint))
    assert answers == {("another copy of this certificate cannot be requested", None)}
    with pytest.raises(RequestDenied):
        ask(world, anna, by="portal:nobody")


def test_by_policy_a_request_is_approved_at_once(world: World, anna: str) -> None:
    asked = ask(world, anna, approve=True)
    assert (asked.state, asked.decided_by) == (RequestState.APPROVED, "policy")
    assert world.events()[-2:] == ["requested", "approved"]


def test_the_new_generation_is_linked_once_and_only_if_it_is_one(world: World, anna: str) -> None:
    asked = ask(world, anna)
    new = world.ledger.regenerate(anna, "asked again").id
    with pytest.raises(RequestDenied, match="the request is open"):
        world.ledger.planned(asked.id, new)
    world.ledger.decide(asked.id, "", approve=True)
    for other in (anna, world.accepted("bert")):
        with pytest.raises(RequestDenied, match="no later generation"):
            world.ledger.planned(asked.id, other)
    world.ledger.planned(asked.id, new)
    assert world.ledger.unplanned() == []
    (found,) = world.ledger.requests()
    assert found.planned == new
    with pytest.raises(RequestDenied, match="planned already"):
        world.ledger.planned(asked.id, new)
    assert ask(world, anna).id != asked.id


def test_an_unknown_request_is_a_usage_error(world: World) -> None:
    with pytest.raises(UsageError, match="no such request"):
        world.ledger.decide("r-0", "", approve=True)


def denied(world: World, delivery: str) -> None:
    world.ledger.decide(ask(world, delivery).id, "no", approve=False)


def test_the_daily_limit_names_the_minute_from_which_another_is_accepted(world: World, anna: str) -> None:
    world.clock.forward(seconds=30)
    denied(world, anna)
    world.clock.forward(hours=2)
    denied(world, anna)  # a denied one counts too
    with pytest.raises(RequestDenied, match=r"2 requests in 24 hours.* from 2026-11-25 09:01 UTC"):
        ask(world, anna)
    world.clock.now = world.clock.now.replace(day=25, hour=9, minute=0, second=29)
    with pytest.raises(RequestDenied):
        ask(world, anna)
    world.clock.forward(seconds=31)
    assert ask(world, anna).state is RequestState.OPEN


def test_the_monthly_limit_names_the_day_from_which_another_is_accepted(world: World, anna: str) -> None:
    for _ in range(3):
        denied(world, anna)
        world.clock.forward(days=2)
    with pytest.raises(RequestDenied, match=r"3 requests in 30 days.* from 2026-12-24$"):
        ask(world, anna)
    world.clock.now = world.clock.now.replace(month=12, day=23, hour=23, minute=59)
    with pytest.raises(RequestDenied):
        ask(world, anna)
    world.clock.forward(minutes=1)
    assert ask(world, anna).state is RequestState.OPEN


def test_a_limit_counts_all_certificates_of_the_person_and_nobody_elses(world: World, anna: str) -> None:
    (second,) = world.ledger.plan("plan-1", [draft("anna", certificate="second")])
    one = RequestLimits(daily=1, monthly=9)
    ask(world, anna, limits=one)
    with pytest.raises(RequestDenied, match="1 request in 24 hours"):
        ask(world, getattr(second, "id", ""), limits=one)
    assert ask(world, world.accepted("bert"), by="root@host", limits=one)


def test_requests_dated_by_a_clock_that_was_ahead_do_not_lock_a_person_out(world: World, anna: str) -> None:
    now = world.clock.now
    world.clock.forward(days=300)
    for _ in range(2):
        denied(world, anna)
    world.clock.now = now
    assert ask(world, anna).state is RequestState.OPEN


def test_an_expired_certificate_is_not_asked_for_or_approved(world: World, anna: str) -> None:
    asked = ask(world, anna)
    world.clock.forward(days=3000)
    with pytest.raises(RequestDenied, match="expired on"):
        world.ledger.decide(asked.id, "", approve=True)
    world.ledger.decide(asked.id, "expired", approve=False)
    with pytest.raises(RequestDenied, match="expired on"):
        ask(world, anna)


def test_requests_of_one_person_are_found(world: World, anna: str) -> None:
    asked = ask(world, anna)
    ask(world, world.accepted("bert"), by="root@host")
    assert world.ledger.requests(address="anna@example.org") == [asked]
    assert world.ledger.requests({RequestState.DENIED}) == []
    assert [found.address for found in world.ledger.requests()] == ["anna@example.org", "bert@example.org"]


CHANGES = [
    ("UPDATE request SET state = 'approved'", 'state is "approved", but the audit log says "open"'),
    ("UPDATE request SET reason = 'nice'", 'reason is "nice", but the audit log says "new phone"'),
    ("UPDATE request SET \"by\" = 'eve'", 'by is "eve", but the audit log says "portal:anna-1"'),
    ("UPDATE request SET at = '2020'", 'at is "2020", but the audit log says "2026-11-24'),
    ("UPDATE request SET decided_by = 'eve'", 'decided_by is "eve", but the audit log says empty'),
    ("UPDATE request SET planned = delivery", "planned is "),
    ("DELETE FROM request", "has events but is missing"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[change for change, _ in CHANGES])
def test_a_request_that_was_changed_or_removed_is_found(world: World, anna: str, change: str, words: str) -> None:
    asked = ask(world, anna)
    world.sql(change)
    world.spoiled = True
    (finding,) = world.ledger.verify()
    assert str(finding).startswith(f"request {asked.id}: {words}")


def test_a_request_that_was_added_is_found(world: World, anna: str) -> None:
    asked = ask(world, anna)
    columns = 'delivery, state, at, "by", reason, decided_at, decided_by, answer, planned'
    world.sql(f"INSERT INTO request (id, {columns}) SELECT 'r-eve', {columns} FROM request")  # noqa: S608  tampering is the point
    world.spoiled = True
    assert [str(one) for one in world.ledger.verify()] == ["request r-eve: has no events"]
    assert asked.id != "r-eve"


@pytest.mark.parametrize("by", ["helga@host", "helga@laptop", "Helga@HOST", " helga@host"])
def test_nobody_approves_a_request_of_his_own_from_another_machine(world: World, anna: str, by: str) -> None:
    asked = ask(world, anna, by="helga@host")
    with pytest.raises(RequestDenied, match="the requester cannot approve the request"):
        world.ledger.acting_as(by).decide(asked.id, "", approve=True)
    assert world.ledger.acting_as("adam@host").decide(asked.id, "", approve=True).state is RequestState.APPROVED


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ("UPDATE request SET state = 'approved', decided_at = at, decided_by = 'eve'", "state, decided_by"),
        ("UPDATE request SET state = 'approved', delivery = :other", "it has no events"),
        (
            "INSERT INTO request SELECT 'r-EVE', delivery, 'approved', at, \"by\", reason, at, 'eve', '', NULL FROM request",
            "it has no events",
        ),
    ],
)
def test_a_request_that_was_edited_gets_no_generation(world: World, anna: str, edit: str, named: str) -> None:
    other = world.accepted("bert")
    asked = ask(world, anna)
    world.ledger.decide(asked.id, "left", approve=False)
    world.sql(edit.replace(":other", f"'{other}'"))
    world.spoiled = True
    (forged,) = world.ledger.unplanned()
    with pytest.raises(InvalidInput, match=rf"modified outside distributor \({named}.*; nothing is sent for this request"):
        world.ledger.regenerate(forged.delivery, "new phone", asked=forged.id)
    assert [each.generation for each in world.ledger.find("anna@example.org", None)] == [1]


def test_a_request_whose_requester_was_edited_is_not_approved(world: World, anna: str) -> None:
    asked = ask(world, anna, by="root@host")
    world.sql("UPDATE request SET \"by\" = 'helga@host'")
    world.spoiled = True
    with pytest.raises(InvalidInput, match=r"modified outside distributor \(by\)"):
        world.ledger.decide(asked.id, "", approve=True)
    assert world.ledger.decide(asked.id, "edited", approve=False).state is RequestState.DENIED


def test_a_decided_and_planned_request_verifies(world: World, anna: str) -> None:
    first = ask(world, anna)
    world.ledger.decide(first.id, "fine", approve=True)
    world.ledger.planned(first.id, world.ledger.regenerate(anna, "asked again").id)
    world.ledger.decide(ask(world, anna).id, "enough", approve=False)
    ask(world, world.accepted("bert"), by="root@host", approve=True)
    assert world.ledger.verify() == []
    world.sql("UPDATE request SET answer = 'never' WHERE state = 'denied'")
    world.spoiled = True
    (finding,) = world.ledger.verify()
    assert 'answer is "never", but the audit log says "enough"' in str(finding)


def test_a_request_of_a_delivery_that_is_withdrawn_later_stays_and_can_be_decided(world: World) -> None:
    (planned,) = world.plan("anna")
    asked = ask(world, planned.id, by="helpdesk@host")
    world.ledger.withdraw(planned.id, "typing error")
    assert world.state(planned.id) is State.WITHDRAWN
    assert world.ledger.decide(asked.id, "", approve=True).state is RequestState.APPROVED


def test_two_years_apart_is_not_a_month(world: World, anna: str) -> None:
    denied(world, anna)
    world.clock.now += timedelta(days=31)
    assert ask(world, anna, limits=RequestLimits(daily=1, monthly=1)).state is RequestState.OPEN
