"""One clock decides leases, waiting times and expiry; a clock that was wrong for a while costs nothing and is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from distributor.errors import RequestDenied
from distributor.ledger import projection
from distributor.model.attempts import AttemptResult, RecordIntent
from distributor.model.audit_log import Link
from distributor.model.delivery import ALL_SENDERS, LeaseHolder
from distributor.model.states import PasswordState, State
from tests.ledger.world import EVERYTHING, LEASE, ME, YOU, World, packed

A_YEAR = {"days": 365}  # the certificates are valid for longer, so nothing is withdrawn


def unknown(owner: LeaseHolder) -> bool | None:  # noqa: ARG001  what can be known of a process elsewhere
    return None


def alive(owner: LeaseHolder) -> bool | None:  # noqa: ARG001
    return True


def one_command_with_a_clock_ahead(world: World, **by: float) -> None:
    """Somebody plans a message; then the clock is right again."""
    world.clock.forward(**by)
    world.plan("zoe")
    world.clock.forward(**{name: -value for name, value in by.items()})


# --- one event with a clock that is ahead ---------------------------------------------------------------------------


def test_time_goes_on_after_an_event_from_the_future(world: World) -> None:
    one_command_with_a_clock_ahead(world, **A_YEAR)
    world.queue("anna")
    claim = world.claim()
    assert world.ledger.recover(unknown) == []
    world.clock.forward(seconds=61)
    assert world.ledger.recover(unknown) == [(claim.id, State.QUEUED)]
    assert [event.at for event in world.ledger.history("anna@example.org")][-1] == world.clock.now


def test_what_a_server_puts_off_waits_as_long_as_it_said_whatever_the_last_event_says(world: World) -> None:
    one_command_with_a_clock_ahead(world, hours=2)
    claim = world.armed()
    assert world.ledger.write([AttemptResult(claim, State.DEFERRED, "451 greylisted", timedelta(minutes=5))], ME) == [True]
    assert world.ledger.claim(ME, 5, LEASE, EVERYTHING) == []
    world.clock.forward(minutes=4, seconds=59)
    assert world.ledger.claim(ME, 5, LEASE, EVERYTHING) == []
    world.clock.forward(seconds=1)
    assert [again.id for again in world.ledger.claim(ME, 5, LEASE, EVERYTHING)] == [claim.id]


def test_an_event_from_the_future_is_told_until_the_next_one(world: World) -> None:
    assert world.ledger.ahead() is None
    one_command_with_a_clock_ahead(world, hours=3)
    assert world.ledger.ahead() == world.clock.now + timedelta(hours=3)
    world.plan("anna")
    assert world.ledger.ahead() is None


def test_a_few_minutes_between_clocks_are_not_told(world: World) -> None:
    one_command_with_a_clock_ahead(world, minutes=4)
    assert world.ledger.ahead() is None


def test_times_that_go_back_are_counted_and_are_no_finding(world: World) -> None:
    one_command_with_a_clock_ahead(world, hours=3)
    world.accepted("anna")
    proof = world.ledger.prove()
    assert (proof.findings, proof.back) == ((), 1)


# --- what a clock that was ahead wrote ------------------------------------------------------------------------------


@pytest.mark.parametrize(("armed", "becomes"), [(False, State.QUEUED), (True, State.AMBIGUOUS)])
def test_a_lease_from_a_clock_that_was_ahead_holds_nobody_up(world: World, *, armed: bool, becomes: State) -> None:
    world.clock.forward(**A_YEAR)
    claim = world.armed() if armed else world.claimed()
    world.clock.forward(days=-365)
    assert world.ledger.recover(unknown) == [(claim.id, becomes)]
    *_, last = world.ledger.history("anna@example.org")
    assert last.evidence["why"] == "its lease was written while a clock was ahead"


def test_a_loan_from_a_clock_that_was_ahead_holds_no_packing_up(world: World) -> None:
    world.clock.forward(**A_YEAR)
    (anna,) = world.plan("anna")
    assert world.ledger.lease(ME, 5, LEASE, EVERYTHING)
    world.clock.forward(days=-365)
    assert [lent.id for lent in world.ledger.lease(YOU, 5, LEASE, EVERYTHING)] == [anna.id]


def test_a_waiting_time_from_a_clock_that_was_ahead_is_over_and_the_event_says_so(world: World) -> None:
    world.clock.forward(**A_YEAR)
    claim = world.armed()
    world.ledger.write([AttemptResult(claim, State.DEFERRED, "451 later", timedelta(minutes=5))], ME)
    world.clock.forward(days=-365)
    assert world.ledger.due(EVERYTHING) == {"certs@example.org": 1}
    assert [again.id for again in world.ledger.claim(ME, 5, LEASE, EVERYTHING)] == [claim.id]
    *_, last = world.ledger.history("anna@example.org")
    assert str(last.evidence["clock"]).endswith("while a clock was ahead")


def test_an_attempt_from_the_future_counts_from_when_that_is_noticed(world: World) -> None:
    world.clock.forward(**A_YEAR)
    claim = world.ambiguous()
    world.clock.forward(days=-365)
    world.ledger.recover(unknown)
    (attempt,) = world.ledger.ambiguous(EVERYTHING)
    assert (attempt.delivery.id, attempt.armed_at) == (claim.id, world.clock.now)
    assert world.events()[-1] == "clock-corrected"
    world.ledger.recover(unknown)
    assert world.events().count("clock-corrected") == 1


def test_no_lease_is_longer_than_one_that_counts(world: World) -> None:
    world.queue("anna")
    (claim,) = world.ledger.claim(ME, 1, timedelta(days=30), EVERYTHING)
    assert world.ledger.recover(unknown) == []
    assert world.ledger.write([RecordIntent(claim, timedelta(days=30))], ME) == [True]
    assert world.ledger.recover(unknown) == []
    world.clock.forward(hours=1)
    assert world.ledger.recover(unknown) == [(claim.id, State.AMBIGUOUS)]


def test_a_later_of_years_is_cut_to_a_day(world: World) -> None:
    claim = world.armed()
    world.ledger.write([AttemptResult(claim, State.DEFERRED, "451 later", timedelta(days=900))], ME)
    assert world.ledger.next_due(EVERYTHING) == world.clock.now + timedelta(hours=24)


# --- a clock that is set back ---------------------------------------------------------------------------------------


def test_a_clock_set_back_a_little_frees_no_lease(world: World) -> None:
    claim = world.claimed()
    world.clock.forward(minutes=-50)
    assert world.ledger.recover(unknown) == []
    assert world.arm(claim)


def test_a_clock_set_back_by_hours_frees_no_lease_of_a_sender_that_runs(world: World) -> None:
    claim = world.armed()
    world.clock.forward(hours=-5)
    assert world.ledger.recover(alive) == []
    assert world.settle(claim, State.ACCEPTED)


def test_a_clock_set_back_by_hours_never_makes_a_message_go_twice(world: World) -> None:
    mine = world.claimed()
    world.clock.forward(hours=-5)
    assert world.ledger.recover(unknown) == [(mine.id, State.QUEUED)]
    yours = world.claim(YOU)
    assert not world.arm(mine)
    assert world.arm(yours, YOU)


def test_a_run_that_takes_deferred_messages_early_takes_none_twice_after_the_clock_is_set_back(world: World) -> None:
    claim = world.armed()
    began = world.ledger.position()
    world.clock.forward(hours=-1)
    world.ledger.write([AttemptResult(claim, State.DEFERRED, "451 later", timedelta(hours=1))], ME)
    assert world.ledger.claim(ME, 5, LEASE, EVERYTHING, early=True, since=began) == []


# --- what left through a mailbox -------------------------------------------------------------------------------------


def test_a_mailboxs_day_is_known_whatever_the_order_of_times(world: World) -> None:
    began = world.clock.now
    world.accepted("anna")
    one_command_with_a_clock_ahead(world, days=-700)  # behind, for once
    world.clock.forward(minutes=1)
    world.accepted("bert")
    assert world.ledger.sent_times(began, ALL_SENDERS) == [began, began + timedelta(minutes=1)]


def test_messages_from_the_future_count_until_a_day_after_the_clock_was_right_again(world: World) -> None:
    world.clock.forward(**A_YEAR)
    world.accepted("anna")
    world.clock.forward(days=-365)
    assert world.ledger.sent_times(world.clock.now - timedelta(days=1), ALL_SENDERS) == [world.clock.now]
    world.plan("bert")
    right = world.clock.now
    world.clock.forward(hours=23)
    assert world.ledger.sent_times(world.clock.now - timedelta(days=1), ALL_SENDERS) == [right]
    world.clock.forward(hours=2)
    assert world.ledger.sent_times(world.clock.now - timedelta(days=1), ALL_SENDERS) == []


# --- who holds what --------------------------------------------------------------------------------------------------


def test_what_senders_hold_is_told_with_who_since_when_and_until(world: World) -> None:
    world.queue("anna", "bert", "cleo")
    began = world.clock.now
    first, _ = world.ledger.claim(ME, 2, LEASE, EVERYTHING)
    world.clock.forward(seconds=10)
    assert world.arm(first)
    found = {each.state: each for each in world.ledger.under_way(EVERYTHING)}
    claimed, sending = found[State.CLAIMED], found[State.TRANSMITTING]
    assert (claimed.number, claimed.owner, claimed.by) == (1, ME, "root@host")
    assert (claimed.since, claimed.until) == (began, began + LEASE)
    assert (sending.number, sending.until) == (1, world.clock.now + timedelta(minutes=10))


# --- passwords: expired, then destroyed -------------------------------------------------------------------------------


def password(world: World, name: str = "anna") -> PasswordState:
    return world.ledger.envelopes(f"{name}@example.org")[0].state


def sealed(world: World) -> int:
    """How many passwords' bytes are in the ledger."""
    ((number,),) = world.sql("SELECT count(*) FROM handover WHERE sealed IS NOT NULL")
    return int(str(number))


def test_two_harmless_commands_with_a_clock_15_days_ahead_destroy_nothing(world: World) -> None:
    id_ = world.accepted()
    world.clock.forward(days=15)
    for name in ("yara", "zoe"):
        world.ledger.expire()
        world.plan(name)
        world.clock.forward(minutes=1)
    assert (password(world), sealed(world)) == (PasswordState.EXPIRED, 1)
    world.clock.forward(days=-15)
    world.ledger.expire()
    assert password(world) is PasswordState.READY
    assert world.events()[-2:] == ["password-expired", "password-ready"]
    assert world.ledger.hand_over(id_, "she phoned", "reveal") == packed(id_).sealed


def test_an_expired_password_is_shown_to_nobody_while_its_bytes_are_there(world: World) -> None:
    id_ = world.accepted()
    world.clock.forward(days=15)
    world.ledger.expire()
    assert world.ledger.envelopes("anna@example.org")[0].sealed is None
    with pytest.raises(RequestDenied, match="the password expired on"):
        world.ledger.hand_over(id_, "late", "reveal")


def test_an_expired_password_is_destroyed_a_week_later_where_the_ledger_is_in_use(world: World) -> None:
    world.accepted()
    for day in range(22):
        world.clock.forward(days=1)
        world.ledger.expire()
        world.plan(f"day{day}")
    assert (password(world), sealed(world)) == (PasswordState.DESTROYED, 0)
    assert world.events()[-2:] == ["password-expired", "password-destroyed"]
    with pytest.raises(RequestDenied, match=r"expired on .* and was destroyed"):
        world.ledger.hand_over(world.ledger.envelopes("anna@example.org")[0].delivery, "late", "reveal")


def test_a_ledger_that_is_used_once_a_month_destroys_its_passwords_too(world: World) -> None:
    world.accepted()
    states = []
    for _ in range(2):
        world.clock.forward(days=30)
        world.ledger.expire()
        states.append(password(world))
    assert states == [PasswordState.EXPIRED, PasswordState.DESTROYED]


def test_after_a_jump_a_command_some_hours_later_is_the_second_sign(world: World) -> None:
    world.accepted()
    world.clock.forward(days=15)
    world.ledger.expire()
    world.clock.forward(days=8)
    for hours, state in ((0, PasswordState.EXPIRED), (5, PasswordState.EXPIRED), (1, PasswordState.DESTROYED)):
        world.clock.forward(hours=hours)
        world.ledger.expire()
        assert password(world) is state
    assert [record.event.event for record in world.ledger.records()].count("clock-gap") == 1


def test_a_sign_that_the_clock_took_back_counts_for_nothing(world: World) -> None:
    world.accepted("anna")
    world.clock.forward(days=15)
    world.ledger.expire()
    world.clock.forward(days=30)  # wrong
    world.ledger.expire()
    world.clock.forward(days=-23)  # right again: a week after it expired
    world.ledger.expire()
    assert password(world) is PasswordState.EXPIRED
    world.clock.forward(hours=6)
    world.ledger.expire()
    assert password(world) is PasswordState.DESTROYED


def test_messages_stay_in_the_outbox_after_a_jump_until_a_second_sign(world: World) -> None:
    world.accepted("anna")
    world.clock.forward(days=31)
    world.ledger.expire()
    assert world.outbox() == ["anna@example.org"]
    world.clock.forward(hours=6)
    world.ledger.expire()
    assert world.outbox() == []


def test_a_resend_destroys_what_expired_at_once(world: World) -> None:
    old = world.accepted()
    world.clock.forward(days=15)
    world.ledger.expire()
    world.ledger.regenerate(old, "lost the phone")
    assert sealed(world) == 0
    assert world.ledger.envelopes("anna@example.org")[0].state is PasswordState.DESTROYED


def test_bytes_that_should_be_destroyed_and_are_there_are_found(world: World) -> None:
    world.accepted()
    world.clock.forward(days=15)
    world.ledger.expire()
    world.sql("UPDATE handover SET sealed = NULL")
    assert any("sealed password is missing" in str(finding) for finding in world.ledger.verify())
    world.spoiled = True


@pytest.mark.parametrize(("evidence", "there"), [("{}", False), ('{"sealed_until":"2026-12-15T09:00:00.000000Z"}', True)])
def test_an_earlier_programs_expired_password_is_one_whose_bytes_are_gone(evidence: str, *, there: bool) -> None:
    at, frozen = "2026-12-08T09:00:00.000000Z", '{"channel":"reveal"}'
    expected = projection.project(
        [
            Link(1, at, "d-1", "queued", "planned", "queued", "root@host", frozen, None, None, "", ""),
            Link(2, at, "d-1", "password-expired", None, None, "root@host", evidence, None, None, "", ""),
        ]
    )
    assert expected.password is not None
    assert (expected.password["state"], expected.sealed) == (PasswordState.EXPIRED, there)


# --- the clock that counts --------------------------------------------------------------------------------------------


def test_the_machines_clock_is_that_of_a_file(file_world: World) -> None:
    from distributor.ledger import open_ledger  # noqa: PLC0415  without a clock of a test

    ledger = open_ledger(file_world.url, by="root@host")
    assert abs(ledger.now() - datetime.now(UTC)) < timedelta(seconds=5)
    ledger.close()
