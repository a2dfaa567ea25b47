"""After an incident no password of the person is left, nothing of theirs is sent, and the CA gets what it needs to revoke."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from distributor.errors import RequestDenied, UsageError
from distributor.model.delivery import Delivery
from distributor.model.requests import RequestLimits
from distributor.model.states import PasswordState, State
from tests.ledger.world import EVERYTHING, LEASE, ME, World, draft, packed

LIMITS = RequestLimits()


def plan(world: World, *certificates: str) -> list[str]:
    found = world.ledger.plan("plan-1", [draft("anna", certificate=name) for name in certificates])
    return [one.id for one in found if isinstance(one, Delivery)]


def test_an_incident_destroys_every_password_and_withdraws_what_has_not_left(world: World) -> None:
    berts = world.accepted("bert")
    sent = world.accepted()
    queued, planned = plan(world, "second", "third")
    world.ledger.enqueue([packed(queued)], ME)
    found = world.ledger.incident("anna@example.org", "phone stolen")
    assert [(one.delivery, one.state, one.withdrawn, one.password_destroyed) for one in found] == [
        (sent, State.ACCEPTED, False, True),
        (queued, State.WITHDRAWN, True, True),
        (planned, State.WITHDRAWN, True, False),
    ]
    assert found[0].accepted_at == world.clock.now
    assert (found[0].sha256, found[0].serial) == (draft("anna").facts.sha256, draft("anna").facts.serial)
    assert {one.sealed for one in world.ledger.envelopes("anna@example.org")} == {None}
    assert [one.state for one in world.ledger.envelopes("bert@example.org")] == [PasswordState.READY]
    assert world.outbox().count("anna@example.org") == 1  # the message that left
    assert world.state(berts) is State.ACCEPTED
    assert world.events().count("incident") == 3


def test_the_event_of_an_incident_commits_to_its_reason(world: World) -> None:
    world.accepted()
    world.ledger.acting_as("helpdesk@host").incident("anna@example.org", "phone stolen in Paris")
    ((evidence, by),) = world.sql("SELECT evidence, \"by\" FROM event WHERE event = 'incident'")
    assert "Paris" not in str(evidence)
    assert "anna@example.org" not in str(evidence)
    assert by == "helpdesk@host"
    *_, last = world.ledger.history("anna@example.org")
    assert (last.evidence["reason"], last.evidence["password"]) == ("phone stolen in Paris", "destroyed")


def test_the_sealed_bytes_are_gone_from_the_files_too(file_world: World, tmp_path: Path) -> None:
    id_ = file_world.accepted()
    sealed = packed(id_).sealed
    files = list(tmp_path.glob("ledger.db*"))
    assert any(sealed in path.read_bytes() for path in files)
    file_world.ledger.incident("anna@example.org", "phone stolen")
    assert not any(sealed in path.read_bytes() for path in tmp_path.glob("ledger.db*"))


def test_a_password_that_was_revealed_is_reported_with_its_time(world: World) -> None:
    id_ = world.accepted()
    world.clock.forward(hours=1)
    world.ledger.hand_over(id_, "she phoned", "reveal")
    world.clock.forward(hours=1)
    (found,) = world.ledger.incident("anna@example.org", "phone stolen")
    assert (found.revealed_at, found.password_destroyed) == (world.clock.now - timedelta(hours=1), False)
    assert found.accepted_at == world.clock.now - timedelta(hours=2)


def test_a_sender_whose_claim_was_taken_may_not_transmit_any_more(world: World) -> None:
    claim = world.claimed()
    (found,) = world.another().incident("anna@example.org", "phone stolen")
    assert (found.state, found.withdrawn) == (State.WITHDRAWN, True)
    assert not world.arm(claim)
    world.ledger.release([claim], ME)
    assert world.state(claim.id) is State.WITHDRAWN


def test_a_packer_whose_delivery_was_taken_may_not_store_it_any_more(world: World) -> None:
    (planned,) = world.plan("anna")
    assert world.ledger.lease(ME, 1, LEASE, EVERYTHING)
    world.another().incident("anna@example.org", "phone stolen")
    assert world.ledger.enqueue([packed(planned.id)], ME) == [False]
    assert world.outbox() == []


@pytest.mark.parametrize("after", [State.DEFERRED, State.QUEUED])
def test_a_message_that_comes_back_from_its_sender_is_withdrawn_instead_of_sent(world: World, after: State) -> None:
    claim = world.armed()
    (found,) = world.ledger.incident("anna@example.org", "phone stolen")
    assert (found.state, found.withdrawn, found.password_destroyed) == (State.TRANSMITTING, False, True)
    assert world.settle(claim, after, response="450 later")
    assert world.ledger.claim(ME, 9, LEASE, EVERYTHING, early=True) == []
    assert world.state(claim.id) is State.WITHDRAWN
    (taken,) = world.ledger.taken_back()
    assert taken.reason == "an incident was recorded on 2026-11-24"


def test_a_message_that_arrives_after_all_has_no_password(world: World) -> None:
    claim = world.armed()
    world.ledger.incident("anna@example.org", "phone stolen")
    assert world.settle(claim, State.ACCEPTED)
    with pytest.raises(RequestDenied, match="password was destroyed"):
        world.ledger.hand_over(claim.id, "she phoned", "reveal")


def test_an_ambiguous_message_is_not_sent_again(world: World) -> None:
    claim = world.ambiguous()
    world.ledger.incident("anna@example.org", "phone stolen")
    with pytest.raises(RequestDenied, match="the message is not sent again: an incident was recorded on 2026-11-24"):
        world.ledger.resolve(claim.id, State.QUEUED, {"reason": "it did not arrive"})


def test_afterwards_neither_a_new_generation_nor_a_request_is_accepted(world: World) -> None:
    id_ = world.accepted()
    asked = world.ledger.acting_as("helpdesk@host").ask(id_, "lost", limits=LIMITS)
    world.ledger.incident("anna@example.org", "phone stolen")
    for refused in (
        lambda: world.ledger.regenerate(id_, "again"),
        lambda: world.ledger.decide(asked.id, "", approve=True),
    ):
        with pytest.raises(RequestDenied, match="an incident was recorded on 2026-11-24") as error:
            refused()
        assert error.value.hint is not None
        assert "new certificate" in error.value.hint
    assert world.ledger.decide(asked.id, "key lost", approve=False)
    with pytest.raises(RequestDenied, match="an incident was recorded"):
        world.ledger.ask(id_, "again", limits=LIMITS)


def test_what_was_planned_again_with_the_same_certificate_is_withdrawn_and_a_new_one_goes(world: World) -> None:
    (old,) = world.plan("anna")
    world.ledger.incident("anna@example.org", "phone stolen")
    assert list(world.ledger.revoked([draft("anna").facts.sha256]).values()) == ["an incident was recorded on 2026-11-24"]
    (again,) = world.plan("anna")
    assert again.generation == old.generation + 1
    assert world.ledger.lease(ME, 9, LEASE, EVERYTHING) == []
    assert world.state(again.id) is State.WITHDRAWN
    (new,) = plan(world, "second")
    assert [task.id for task in world.ledger.lease(ME, 9, LEASE, EVERYTHING)] == [new]


def test_a_new_certificate_with_the_same_key_is_withdrawn_too(world: World) -> None:
    world.plan("anna")
    (new,) = plan(world, "second")
    world.sql("UPDATE certificate SET key_sha256 = 'the same'")  # what a plan reads from real certificates
    world.spoiled = True
    world.ledger.withdraw(new, "to be planned again")
    world.ledger.incident("anna@example.org", "phone stolen")
    assert set(world.ledger.revoked([draft("anna").facts.sha256, draft("anna", certificate="third").facts.sha256])) == {
        draft("anna").facts.sha256
    }
    (third,) = plan(world, "third")
    world.sql("UPDATE certificate SET key_sha256 = 'the same'")
    assert world.ledger.lease(ME, 9, LEASE, EVERYTHING) == []
    assert world.state(third) is State.WITHDRAWN
    (taken,) = world.ledger.taken_back()
    assert taken.reason == "an incident was recorded on 2026-11-24 for another certificate with the same key"


def test_a_status_names_the_incident(world: World) -> None:
    world.accepted()
    world.ledger.incident("anna@example.org", "phone stolen")
    (found,) = world.ledger.deliveries(EVERYTHING)
    assert found.response is not None
    assert str(found.response).startswith("an incident was recorded on 2026-11-24")


def test_a_certificate_with_an_incident_is_no_longer_published(world: World) -> None:
    world.accepted()
    (before,) = world.ledger.holders()
    assert not before.certificates[0].revoked
    world.ledger.incident("anna@example.org", "phone stolen")
    (after,) = world.ledger.holders()
    assert after.certificates[0].revoked


def test_a_person_without_deliveries_is_a_usage_error(world: World) -> None:
    with pytest.raises(UsageError, match="no deliveries"):
        world.ledger.incident("eve@example.org", "phone stolen")


def test_a_second_incident_changes_nothing_more(world: World) -> None:
    world.accepted()
    world.ledger.incident("anna@example.org", "phone stolen")
    (found,) = world.ledger.incident("anna@example.org", "and the laptop")
    assert (found.state, found.withdrawn, found.password_destroyed) == (State.ACCEPTED, False, False)


def test_a_person_confirms_that_it_works(world: World) -> None:
    id_ = world.accepted()
    world.ledger.acting_as("portal:anna-1").confirm(id_, {"how": "the person pressed a button", "proved": False})
    assert world.state(id_) is State.INSTALLED
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.by, last.evidence["proved"]) == ("installed", "portal:anna-1", False)
    with pytest.raises(RequestDenied, match="is installed"):
        world.ledger.confirm(id_, {})
