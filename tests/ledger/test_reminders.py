"""Who is due a reminder, that none is written twice or once it is not needed, and that reminders count against a mailbox's limits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from distributor.errors import RequestDenied
from distributor.model.attempts import TrackingEvent
from distributor.model.delivery import ALL_SENDERS, Delivery, SenderFilter
from distributor.model.reminders import Reminder, ReminderKind
from distributor.model.states import State
from tests.ledger.world import ME, World, draft, packed

EXPIRING, UNCOLLECTED, UNCONFIRMED = ReminderKind
MONTH = timedelta(days=30)
SENDER = "certs@example.org"


def usages(leaf: bytes) -> Collection[str]:
    """What the leaves of `draft` are for, by the name of the certificate."""
    name = leaf.split()[1]
    return {b"sign": ["sign"], b"decrypt": ["encrypt"]}.get(name.partition(b"-")[0].rstrip(b"."), ["sign", "encrypt"])


def sent(world: World, name: str, certificate: str = "first", *, days: int = 400, state: State | None = State.ACCEPTED) -> str:
    """A delivery whose certificate is valid for this many days; accepted, or left planned."""
    asked = draft(name, certificate=certificate)
    facts = replace(asked.facts, not_before=world.clock.now - timedelta(days=300), not_after=world.clock.now + timedelta(days=days))
    (planned,) = world.ledger.plan("plan-1", [replace(asked, facts=facts)])
    assert isinstance(planned, Delivery)
    if state is not None:
        assert world.ledger.enqueue([packed(planned.id, to=planned.address)], ME) == [True]
        claim = world.claim()
        assert world.arm(claim)
        assert world.settle(claim, state)
    return planned.id


def found(world: World, kind: ReminderKind, within: timedelta = MONTH) -> list[Reminder]:
    return [one for one in world.ledger.reminders(world.clock.now + within, usages) if one.kind is kind]


def addresses(world: World, kind: ReminderKind) -> list[str]:
    return [one.address.partition("@")[0] for one in found(world, kind)]


def remind(world: World, reminder: Reminder, message_id: str = "<r1@example.org>") -> None:
    step = reminder.due_step(world.clock.now)
    assert step is not None
    world.ledger.record_reminder(reminder, step, message_id, SENDER)


# --- who is listed ---------------------------------------------------------------------------------------------------


def test_certificates_that_expire_soon_or_have_expired_are_listed_and_others_are_not(world: World) -> None:
    for name, days in (("soon", 29), ("later", 31), ("gone", 1)):
        sent(world, name, days=days)
    sent(world, "planned", days=5, state=None)
    sent(world, "refused", days=5, state=State.REJECTED)
    world.clock.forward(days=1, hours=1)
    assert addresses(world, EXPIRING) == ["soon", "later", "gone"]
    assert [one.address for one in found(world, EXPIRING, timedelta(days=10))] == ["gone@example.org"]


@pytest.mark.parametrize("state", [None, State.ACCEPTED, State.AMBIGUOUS])
def test_a_newer_certificate_for_the_same_purposes_ends_the_reminders(world: World, state: State | None) -> None:
    sent(world, "anna", days=10)
    sent(world, "bert", days=10)
    sent(world, "anna", "second", state=state)
    assert addresses(world, EXPIRING) == ["bert"]


def test_one_that_was_refused_or_is_for_something_else_replaces_nothing(world: World) -> None:
    sent(world, "anna", "decrypt-old", days=10)
    sent(world, "anna", "sign-new")
    sent(world, "bert", days=10)
    sent(world, "bert", "second", state=State.REJECTED)
    sent(world, "cleo", days=10)
    sent(world, "cleo", "sign-new")
    assert addresses(world, EXPIRING) == ["anna", "bert", "cleo"]
    sent(world, "cleo", "decrypt-new")
    assert addresses(world, EXPIRING) == ["anna", "bert"]


def test_of_several_generations_only_the_last_one_that_arrived_is_listed(world: World) -> None:
    first = sent(world, "anna", days=20)
    second = world.ledger.regenerate(first, "new phone").id
    assert [one.delivery for one in found(world, EXPIRING)] == [first]
    world.ledger.enqueue([packed(second, again="2")], ME)
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED)
    assert [one.delivery for one in found(world, EXPIRING)] == [second]


def test_a_revoked_certificate_is_not_reminded_of(world: World) -> None:
    sha256 = found_delivery(world, sent(world, "anna", days=20)).certificate_sha256
    world.ledger.revoke(sha256, "revoked on 2026-11-20")
    world.clock.forward(days=8)
    assert list(world.ledger.reminders(world.clock.now + MONTH, usages)) == []


def found_delivery(world: World, name: str) -> Delivery:
    delivery = world.ledger.delivery(name)
    assert delivery is not None
    return delivery


def test_a_password_is_uncollected_while_it_is_ready_and_works(world: World) -> None:
    anna, bert = sent(world, "anna"), sent(world, "bert")
    world.queue("cleo")
    (one, _) = found(world, UNCOLLECTED)
    assert (one.delivery, one.since, one.expires_at) == (anna, world.clock.now, world.clock.now + timedelta(days=14))
    world.ledger.hand_over(bert, "called", "reveal")
    assert addresses(world, UNCOLLECTED) == ["anna"]
    world.clock.forward(days=14)
    assert addresses(world, UNCOLLECTED) == []


def test_after_a_week_without_a_word_a_certificate_is_unconfirmed(world: World) -> None:
    anna, bert = sent(world, "anna"), sent(world, "bert")
    world.ledger.hand_over(anna, "called", "reveal")
    world.ledger.observe([TrackingEvent(bert, State.INSTALLED, "signed answer", {})])
    world.clock.forward(days=6, hours=23)
    assert addresses(world, UNCONFIRMED) == []
    world.clock.forward(hours=1)
    assert addresses(world, UNCONFIRMED) == ["anna"]
    world.ledger.regenerate(anna, "new phone")
    assert addresses(world, UNCONFIRMED) == []


# --- which step is due -----------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)


def reminder(kind: ReminderKind, **values: object) -> Reminder:
    named: dict[str, object] = {"not_after": NOW + timedelta(days=200), "since": NOW, "expires_at": None, **values}
    return Reminder(kind, "d-1", "anna@example.org", "Anna", "de", "ab" * 32, "4f2a", **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("days", "step"),
    [
        (31, None),
        (30, "30"),
        (15, "30"),
        (14, "14"),
        (7, "7"),
        (3.5, "7"),
        (2, "3"),
        (0.5, "1"),
        (0, "expired"),
        (-30, "expired"),
        (-31, None),
    ],
)
def test_only_the_newest_step_before_and_after_expiry_is_due(days: float, step: str | None) -> None:
    one = reminder(EXPIRING, not_after=NOW + timedelta(days=days))
    assert one.due_step(NOW) == step
    assert one._replace(steps=frozenset({step or "", "30"})).due_step(NOW) is None


@pytest.mark.parametrize(
    ("age", "left", "step"),
    [(2.9, 11.1, None), (3, 11, "3-days"), (12.9, 1.1, "3-days"), (13, 1, "last-day"), (0.5, 0.5, None), (40, None, "3-days")],
)
def test_a_password_is_reminded_of_after_three_days_and_on_its_last_day(age: float, left: float | None, step: str | None) -> None:
    ends = None if left is None else NOW + timedelta(days=left)
    assert reminder(UNCOLLECTED, since=NOW - timedelta(days=age), expires_at=ends).due_step(NOW) == step


def test_nobody_is_asked_to_confirm_before_the_password_was_collected_or_when_the_certificate_expires_soon() -> None:
    assert reminder(UNCONFIRMED).due_step(NOW) == "7-days"
    assert reminder(UNCONFIRMED, not_after=NOW + timedelta(days=30)).due_step(NOW) is None
    assert reminder(UNCONFIRMED, waits=True).due_step(NOW) is None


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_a_step_is_recorded_once_and_the_next_one_is_due_again(world: World) -> None:
    sent(world, "anna", days=14)
    (one,) = found(world, EXPIRING)
    remind(world, one)
    with pytest.raises(RequestDenied, match="sent meanwhile"):
        remind(world, one, "<r2@example.org>")
    (again,) = found(world, EXPIRING)
    assert (again.due_step(world.clock.now), again.last, again.steps) == (None, world.clock.now, {"14"})
    world.clock.forward(days=7)
    (again,) = found(world, EXPIRING)
    assert again.due_step(world.clock.now) == "7"
    assert world.events()[-1] == "reminded"
    (event,) = [each for each in world.ledger.history("anna@example.org") if each.event == "reminded"]
    assert (event.evidence["kind"], event.evidence["step"]) == ("expiring", "14")
    assert event.evidence["not_after"] == "2026-12-08T09:00:00.000000Z"


def test_a_reminder_that_was_refused_is_due_again(world: World) -> None:
    sent(world, "anna", days=14)
    (one,) = found(world, EXPIRING)
    remind(world, one)
    world.ledger.refuse_reminder(one, "14", "<r1@example.org>", SENDER, "550 no such mailbox")
    (again,) = found(world, EXPIRING)
    assert (again.due_step(world.clock.now), again.last) == ("14", None)
    remind(world, again, "<r2@example.org>")
    assert found(world, EXPIRING)[0].due_step(world.clock.now) is None


def test_what_was_written_of_a_certificate_counts_for_its_next_generation_and_not_for_the_new_password(world: World) -> None:
    first = sent(world, "anna", days=20)
    world.clock.forward(days=3)
    for one in (*found(world, EXPIRING), *found(world, UNCOLLECTED)):
        remind(world, one, f"<{one.kind}@example.org>")
    second = world.ledger.regenerate(first, "new phone").id
    world.ledger.enqueue([packed(second, again="2")], ME)
    claim = world.claim()
    assert world.arm(claim)
    assert world.settle(claim, State.ACCEPTED)
    world.clock.forward(days=2, hours=1)
    (one,) = found(world, EXPIRING)
    assert (one.delivery, one.steps) == (second, {"30"})
    (one,) = found(world, UNCOLLECTED)
    assert one.steps == frozenset()


def test_a_reminder_that_is_not_needed_any_more_is_not_recorded(world: World) -> None:
    anna = sent(world, "anna")
    world.clock.forward(days=7)
    uncollected, unconfirmed = found(world, UNCOLLECTED)[0], found(world, UNCONFIRMED)[0]
    assert unconfirmed.waits
    world.ledger.hand_over(anna, "called", "reveal")
    with pytest.raises(RequestDenied, match="not needed any more"):
        remind(world, uncollected)
    world.ledger.observe([TrackingEvent(anna, State.INSTALLED, "signed answer", {})])
    with pytest.raises(RequestDenied, match="not needed any more"):
        remind(world, unconfirmed._replace(waits=False))
    assert "reminded" not in world.events()


def test_reminders_count_against_the_limits_of_their_mailbox_unless_refused(world: World) -> None:
    sent(world, "anna", days=14)
    sent(world, "bert", days=14)
    before, since = len(world.ledger.sent_times(world.clock.now, ALL_SENDERS)), world.clock.now
    world.clock.forward(minutes=1)
    anna, bert = found(world, EXPIRING)
    remind(world, anna)
    remind(world, bert, "<r2@example.org>")
    world.ledger.refuse_reminder(bert, "14", "<r2@example.org>", SENDER, "550 no such mailbox")
    assert world.ledger.sent_times(since, ALL_SENDERS)[before:] == [world.clock.now]
    later = world.clock.now
    assert world.ledger.sent_times(later, SenderFilter(only=SENDER)) == [later]
    assert world.ledger.sent_times(later, SenderFilter(only="other@example.org")) == []
    assert world.ledger.sent_times(later, SenderFilter(without=frozenset({SENDER}))) == []
    assert world.ledger.sent_times(later + timedelta(seconds=1), ALL_SENDERS) == []


def test_the_index_of_reminders_is_used(file_world: World) -> None:
    asked = "SELECT at FROM event WHERE event IN ('reminded', 'reminder-refused') AND delivery IN ('a', 'b')"
    assert "event_of_reminder" in str(file_world.sql(f"EXPLAIN QUERY PLAN {asked}"))
