"""Nobody writes over another's work: owners, attempts, leases, and what happens when a sender dies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from distributor.model.attempts import Claim, RecordIntent
from distributor.model.delivery import LeaseHolder
from distributor.model.states import PasswordState, State
from tests.ledger.world import EVERYTHING, LEASE, ME, YOU, World, packed


def dead(owner: LeaseHolder) -> bool | None:  # noqa: ARG001  what a look at the process table says
    return False


def unknown(owner: LeaseHolder) -> bool | None:  # noqa: ARG001
    return None


def alive(owner: LeaseHolder) -> bool | None:  # noqa: ARG001
    return True


def test_a_lease_that_ended_before_arming_goes_back_to_the_queue(world: World) -> None:
    claim = world.claimed()
    assert world.ledger.recover(unknown) == []
    world.clock.forward(seconds=61)
    assert world.ledger.recover(unknown) == [(claim.id, State.QUEUED)]
    assert world.claim(YOU).attempt == 2


def test_a_lease_that_ended_after_arming_leaves_the_message_ambiguous(world: World) -> None:
    claim = world.armed()
    world.clock.forward(minutes=9)
    assert world.ledger.recover(alive) == []
    world.clock.forward(minutes=2)
    assert world.ledger.recover(alive) == [(claim.id, State.AMBIGUOUS)]
    assert world.ledger.claim(YOU, 5, LEASE, EVERYTHING) == []


@pytest.mark.parametrize(("armed", "becomes"), [(False, State.QUEUED), (True, State.AMBIGUOUS)])
def test_the_dead_lose_their_claims_at_once(world: World, *, armed: bool, becomes: State) -> None:
    claim = world.armed() if armed else world.claimed()
    assert world.ledger.recover(dead) == [(claim.id, becomes)]
    assert world.ledger.recover(dead) == []


def test_recovery_asks_of_each_owner_what_was_recorded_of_it(world: World) -> None:
    world.claimed()
    asked: list[LeaseHolder] = []
    world.ledger.recover(lambda owner: asked.append(owner) is not None)
    assert asked == [ME]


def test_recovery_says_why_in_the_history(world: World) -> None:
    world.armed()
    world.ledger.recover(dead)
    *_, last = world.ledger.history("anna@example.org")
    assert last.evidence["why"] == "its sending process ended"
    assert last.evidence["armed_at"] == "2026-11-24T09:00:00.000000Z"


def test_a_stalled_sender_cannot_arm_what_another_has_claimed_since(world: World) -> None:
    mine = world.claimed()
    world.clock.forward(seconds=61)
    world.ledger.recover(unknown)
    yours = world.claim(YOU)
    assert not world.arm(mine)
    assert world.arm(yours, YOU)
    assert not world.settle(mine, State.ACCEPTED)
    assert world.settle(yours, State.ACCEPTED, YOU)


def test_a_stalled_sender_cannot_arm_after_its_lease_even_if_nobody_noticed(world: World) -> None:
    claim = world.claimed()
    world.clock.forward(seconds=60)
    assert not world.arm(claim)
    assert world.state(claim.id) is State.CLAIMED


def test_a_sign_of_life_keeps_the_claim(world: World) -> None:
    claim = world.claimed()
    world.clock.forward(seconds=50)
    world.ledger.renew(ME, LEASE)
    world.clock.forward(seconds=50)
    assert world.ledger.recover(unknown) == []
    assert world.arm(claim)


def test_a_sign_of_life_does_not_stretch_an_armed_lease(world: World) -> None:
    claim = world.armed()
    world.ledger.renew(ME, timedelta(days=1))
    world.clock.forward(minutes=11)
    assert world.ledger.recover(unknown) == [(claim.id, State.AMBIGUOUS)]


def test_an_owner_of_the_same_attempt_number_is_still_another_owner(world: World) -> None:
    claim = world.claimed()
    assert not world.arm(claim, YOU)
    assert not world.settle(claim, State.DEFERRED, YOU)


def test_arming_twice_is_refused(world: World) -> None:
    claim = world.armed()
    assert not world.arm(claim)


def test_a_late_250_of_the_same_attempt_turns_ambiguous_into_accepted(world: World) -> None:
    claim = world.armed()
    world.ledger.recover(dead)
    assert world.settle(claim, State.ACCEPTED)
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.evidence["late"]) == ("accepted", True)
    assert world.ledger.envelopes("anna@example.org")[0].state is PasswordState.READY


@pytest.mark.parametrize("state", [State.DEFERRED, State.QUEUED, State.REJECTED, State.AMBIGUOUS])
def test_nothing_else_moves_an_ambiguous_message_late(world: World, state: State) -> None:
    claim = world.ambiguous()
    assert not world.settle(claim, state)
    assert world.state(claim.id) is State.AMBIGUOUS


def test_a_late_250_of_another_owner_or_attempt_moves_nothing(world: World) -> None:
    claim = world.ambiguous()
    assert not world.settle(claim, State.ACCEPTED, YOU)
    assert not world.settle(Claim(claim.id, 2, 0, claim.message), State.ACCEPTED)
    assert world.state(claim.id) is State.AMBIGUOUS


def test_a_late_250_after_a_persons_word_moves_nothing(world: World) -> None:
    claim = world.ambiguous()
    world.ledger.resolve(claim.id, State.QUEUED, {"reason": "not in the log"})
    assert not world.settle(claim, State.ACCEPTED)
    assert world.claim(YOU).attempt == 2
    assert not world.settle(claim, State.ACCEPTED)


def test_a_second_ledger_sees_and_respects_what_the_first_wrote(world: World) -> None:
    claim = world.claimed()
    other = world.another("worker@host")
    assert other.claim(YOU, 5, LEASE, EVERYTHING) == []
    assert other.recover(dead) == [(claim.id, State.QUEUED)]
    assert not world.arm(claim)
    assert world.events()[-1] == "queued"


def test_threads_and_ledgers_share_the_work_without_doing_any_twice(world: World) -> None:
    ids = world.queue(*(f"p{i}" for i in range(60)))
    ledgers = [world.ledger, world.another("second@host"), world.another("third@host")]

    def work(number: int) -> list[str]:
        owner, ledger, done = LeaseHolder(f"worker-{number}", "this-host", number, None), ledgers[number % 3], []
        while claims := ledger.claim(owner, 3, LEASE, EVERYTHING):
            for claim in claims:
                assert ledger.write([RecordIntent(claim, LEASE)], owner) == [True]
                done.append(claim.id)
        return done

    with ThreadPoolExecutor(6) as threads:
        done = [id_ for part in threads.map(work, range(6)) for id_ in part]
    assert sorted(done) == ids
    assert world.ledger.counts(EVERYTHING) == {State.TRANSMITTING: 60}


def test_threads_that_freeze_the_same_messages_freeze_each_once(world: World) -> None:
    planned = world.plan(*(f"p{i}" for i in range(20)))
    with ThreadPoolExecutor(4) as threads:
        messages = [[packed(one.id, again=str(number), to=one.address) for one in planned] for number in range(4)]
        verdicts = list(threads.map(lambda each: world.ledger.enqueue(each, ME), messages))
    assert [sum(each) for each in zip(*verdicts, strict=True)] == [1] * 20
