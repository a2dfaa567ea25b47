"""A password is handed over once, after its message was accepted, with a witness in the history; and it dies in time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from distributor.errors import InvalidInput, RequestDenied
from distributor.model.attempts import Claim
from distributor.model.states import PasswordState, State
from tests.ledger.world import ME, World, packed


def test_a_ready_password_is_handed_over_once_and_leaves_the_ledger(world: World) -> None:
    id_ = world.accepted()
    assert world.ledger.hand_over(id_, "she phoned", "reveal") == packed(id_).sealed
    (envelope,) = world.ledger.envelopes("anna@example.org")
    assert (envelope.state, envelope.sealed) == (PasswordState.HANDED_OVER, None)
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.before, last.after, last.by) == ("revealed", None, None, "root@host")
    assert (last.evidence["reason"], last.evidence["channel"]) == ("she phoned", "reveal")


def test_a_second_look_is_refused_and_says_when_and_by_whom_the_first_was(world: World) -> None:
    id_ = world.accepted()
    world.ledger.hand_over(id_, "she phoned", "reveal")
    with pytest.raises(RequestDenied, match="handed over on 2026-11-24T09:00:00") as refused:
        world.ledger.hand_over(id_, "again", "reveal")
    assert "by root@host" in refused.value.message
    assert refused.value.hint is not None
    assert "distributor resend" in refused.value.hint
    assert world.events().count("revealed") == 1


def test_two_readers_at_once_get_one_password(world: World) -> None:
    id_ = world.accepted()
    other = world.another()
    assert other.hand_over(id_, "first", "reveal")
    with pytest.raises(RequestDenied):
        world.ledger.hand_over(id_, "second", "reveal")


def test_no_password_leaves_before_its_message_is_accepted(world: World) -> None:
    claim = world.ambiguous()
    with pytest.raises(RequestDenied, match="is not available until the message is accepted"):
        world.ledger.hand_over(claim.id, "impatient", "reveal")
    (planned,) = world.plan("bert")
    with pytest.raises(RequestDenied, match="has no password"):
        world.ledger.hand_over(planned.id, "impatient", "reveal")


def test_a_replaced_message_is_not_sent_again_since_its_password_is_gone(world: World) -> None:
    old = world.ambiguous().id
    new = world.ledger.regenerate(old, "she asked again")
    with pytest.raises(RequestDenied, match="password destroyed") as refused:
        world.ledger.resolve(old, State.QUEUED, {"reason": "mx1 does not have it"})
    assert refused.value.hint is not None
    assert "distributor withdraw" in refused.value.hint
    world.ledger.withdraw(old, "replaced")
    assert (world.state(old), world.state(new.id)) == (State.WITHDRAWN, State.PLANNED)


def test_an_expired_password_is_refused_even_before_anybody_noticed(world: World) -> None:
    id_ = world.accepted()
    world.clock.forward(days=14)
    with pytest.raises(RequestDenied, match="expired on 2026-12-08"):
        world.ledger.hand_over(id_, "late", "reveal")


def test_expiry_ends_what_is_overdue_and_nothing_else(world: World) -> None:
    old = world.accepted("anna")
    world.clock.forward(days=1)
    world.accepted("bert")
    assert world.ledger.expire() == 0
    world.clock.forward(days=13)
    assert world.ledger.expire() == 1
    assert world.ledger.expire() == 0
    (envelope,) = world.ledger.envelopes("anna@example.org")
    assert (envelope.delivery, envelope.state, envelope.sealed) == (old, PasswordState.EXPIRED, None)
    assert world.events()[-1] == "password-expired"
    assert world.ledger.envelopes("bert@example.org")[0].sealed is not None
    with pytest.raises(RequestDenied, match="expired"):
        world.ledger.hand_over(old, "late", "reveal")


def test_the_time_of_a_password_counts_from_acceptance_not_from_packing(world: World) -> None:
    claim = world.claimed()
    world.clock.forward(days=20)
    world.ledger.renew(ME, timedelta(minutes=5))
    assert world.ledger.expire() == 0
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED)
    assert world.ledger.envelopes("anna@example.org")[0].expires_at == world.clock.now + timedelta(days=14)


def test_a_password_without_an_end_stays(world: World) -> None:
    (anna,) = world.plan("anna")
    world.ledger.enqueue([packed(anna.id, expires=None)], ME)
    claim: Claim = world.claim()
    world.arm(claim)
    world.settle(claim, State.ACCEPTED)
    world.clock.forward(days=5000)
    assert world.ledger.expire() == 0
    assert world.ledger.hand_over(anna.id, "found the phone", "reveal")


def test_messages_leave_the_outbox_some_time_after_acceptance_but_not_before(world: World) -> None:
    world.accepted("anna")
    world.queue("bert")
    world.clock.forward(days=29)
    world.queue("cleo")
    world.clock.forward(days=2)
    world.ledger.expire()
    assert world.outbox() == ["bert@example.org", "cleo@example.org"]


def test_passwords_are_listed_newest_generation_first(world: World) -> None:
    old = world.accepted()
    world.clock.forward(seconds=1)
    new = world.ledger.regenerate(old, "lost")
    world.ledger.enqueue([packed(new.id)], ME)
    assert [(envelope.generation, envelope.state) for envelope in world.ledger.envelopes("anna@example.org")] == [
        (2, PasswordState.HELD),
        (1, PasswordState.DESTROYED),
    ]
    assert world.ledger.envelopes("nobody@example.org") == []


# --- sealed passwords that were changed from outside ------------------------------------------------------------------


def test_a_password_whose_sealed_bytes_are_gone_is_not_handed_over(world: World) -> None:
    id_ = world.accepted()
    world.sql("UPDATE handover SET sealed = NULL")
    world.spoiled = True
    with pytest.raises(InvalidInput, match="the sealed password is missing") as refused:
        world.ledger.hand_over(id_, "she phoned", "reveal")
    assert "distributor resend" in str(refused.value.hint)
    assert "revealed" not in world.events()


def test_a_sealed_password_that_became_text_is_not_handed_over(file_world: World) -> None:
    id_ = file_world.accepted()
    file_world.sql("UPDATE handover SET sealed = 'a text'")
    file_world.spoiled = True
    assert file_world.ledger.envelopes("anna@example.org")[0].sealed == b"a text"
    with pytest.raises(InvalidInput, match=r"modified outside distributor \(password's sealed\)"):
        file_world.ledger.hand_over(id_, "she phoned", "reveal")
    assert "revealed" not in file_world.events()
