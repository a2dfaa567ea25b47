"""What received mails tell of deliveries: found by Message-ID, recorded once, as far as the state allows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distributor.errors import RequestDenied
from distributor.ledger.notices import MOST_TOLD
from distributor.model.attempts import AttemptResult, DraftRef, RecordIntent
from distributor.model.mailboxes import NOTED, DeliveryNotice, FurtherMessage, NoticeOutcome, RecordedNotice
from distributor.model.reminders import Reminder, ReminderKind
from distributor.model.states import PasswordState, State
from tests.ledger.world import EVERYTHING, LEASE, ME, World

FAILED = {"kind": "report", "action": "failed", "status": "5.2.2", "class": "mailbox-full", "mail_sha256": "aa" * 32}
DELAYED = {"kind": "report", "action": "delayed", "status": "4.4.1", "mail_sha256": "bb" * 32}
FULL = "the mailbox is full: 5.2.2 over quota for anna@example.org"


def bounced(delivery: str, **changes: object) -> DeliveryNotice:
    return DeliveryNotice(delivery, State.BOUNCED, FULL, {**FAILED, **changes})


def delayed(delivery: str, **changes: object) -> DeliveryNotice:
    return DeliveryNotice(delivery, None, "delayed", {**DELAYED, **changes})


def outcome(world: World, notice: DeliveryNotice) -> NoticeOutcome:
    return world.ledger.record_notice(notice).outcome


# --- finding -----------------------------------------------------------------------------------------------------------


def test_deliveries_are_found_by_the_message_id_that_their_readers_see(world: World) -> None:
    world.queue("anna")
    (claim,) = world.ledger.claim(ME, 1, LEASE, EVERYTHING)
    world.ledger.write([RecordIntent(claim, LEASE, DraftRef("AAMk", "<theirs@outlook.example>"))], ME)
    world.ledger.write([AttemptResult(claim, State.ACCEPTED, "202")], ME)
    assert [one.id for one in world.ledger.with_message_ids(["<nobody@x>", "<theirs@outlook.example>"])] == [claim.id]
    assert world.ledger.with_message_ids([f"<{claim.id}@example.org>"]) == []
    assert world.ledger.further_messages("anna@example.org", [f"<{claim.id}@example.org>"]) == [FurtherMessage(claim.id, "queued")]
    assert world.ledger.with_message_ids([]) == world.ledger.further_messages("anna@example.org", []) == []


def test_only_the_first_message_ids_of_a_mail_are_looked_up(world: World) -> None:
    delivery = world.accepted()
    many = [f"<{number}@x>" for number in range(50)]
    assert world.ledger.with_message_ids([*many, f"<{delivery}@example.org>"]) == []
    assert len(world.ledger.with_message_ids([f"<{delivery}@example.org>", *many])) == 1


def test_a_reminder_is_found_among_the_messages_of_its_person(world: World) -> None:
    delivery = world.accepted()
    world.accepted("bert")
    found = world.ledger.delivery(delivery)
    assert found is not None
    reminder = Reminder(
        ReminderKind.UNCONFIRMED,
        delivery,
        found.address,
        found.name,
        "de",
        found.certificate_sha256,
        found.certificate_serial,
        found.certificate_not_after,
        found.updated_at,
        None,
    )
    world.ledger.record_reminder(reminder, "first", "<reminder@x>", "certs@example.org")
    assert world.ledger.further_messages("anna@example.org", ["<reminder@x>"]) == [FurtherMessage(delivery, "reminded")]
    assert world.ledger.further_messages("bert@example.org", ["<reminder@x>"]) == []


# --- recording ---------------------------------------------------------------------------------------------------------


def test_a_report_of_failure_moves_the_delivery_and_only_its_personal_fields_have_the_address(world: World) -> None:
    delivery = world.accepted()
    assert world.ledger.record_notice(bounced(delivery)) == RecordedNotice(NoticeOutcome.MOVED, State.ACCEPTED)
    found = world.ledger.delivery(delivery)
    assert found is not None
    assert (found.state, found.response) == (State.BOUNCED, FULL)
    *_, last = world.ledger.records()
    assert last.event.evidence == {**FAILED, "attempt": 1, "said": FULL}
    assert last.personal == ("said",)


def test_the_same_mail_counts_once_whatever_came_between(world: World) -> None:
    delivery = world.accepted()
    assert outcome(world, bounced(delivery)) is NoticeOutcome.MOVED
    before = world.ledger.position()
    assert outcome(world, bounced(delivery)) is NoticeOutcome.KNOWN
    assert outcome(world, replace(bounced(delivery), state=None)) is NoticeOutcome.KNOWN
    assert world.another().record_notice(bounced(delivery)).outcome is NoticeOutcome.KNOWN
    assert world.ledger.position() == before


def test_another_mail_that_says_the_same_is_no_news_and_one_that_says_more_is(world: World) -> None:
    delivery = world.accepted()
    assert outcome(world, delayed(delivery)) is NoticeOutcome.NOTED
    assert outcome(world, delayed(delivery, mail_sha256="cc" * 32)) is NoticeOutcome.KNOWN
    assert outcome(world, delayed(delivery, mail_sha256="dd" * 32, status="4.2.2")) is NoticeOutcome.NOTED
    assert world.events().count(NOTED) == 2


def test_a_message_that_was_sent_again_may_bounce_with_the_words_that_its_first_attempt_did(world: World) -> None:
    claim = world.ambiguous()
    world.ledger.resolve(claim.id, State.QUEUED, {"kind": "person", "reason": "not there"})
    assert outcome(world, bounced(claim.id)) is NoticeOutcome.NOTED  # of the first attempt, while it waits for the second
    again = world.claim()
    world.ledger.write([RecordIntent(again, LEASE)], ME)
    assert world.settle(again, State.ACCEPTED)
    assert outcome(world, bounced(claim.id)) is NoticeOutcome.KNOWN
    assert outcome(world, bounced(claim.id, mail_sha256="cc" * 32)) is NoticeOutcome.MOVED
    assert world.state(claim.id) is State.BOUNCED


def test_of_thousands_of_forged_notes_some_are_kept_and_a_change_of_state_still_counts(world: World) -> None:
    delivery = world.accepted()
    outcomes = [outcome(world, delayed(delivery, mail_sha256=f"{n:064x}", status=f"4.4.{n}")) for n in range(MOST_TOLD + 3)]
    assert outcomes == [NoticeOutcome.NOTED] * MOST_TOLD + [NoticeOutcome.KNOWN] * 3
    assert outcome(world, bounced(delivery)) is NoticeOutcome.MOVED


def test_a_note_changes_no_state(world: World) -> None:
    delivery = world.accepted()
    before = world.ledger.delivery(delivery)
    assert outcome(world, delayed(delivery)) is NoticeOutcome.NOTED
    assert world.ledger.delivery(delivery) == before
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.before, last.after) == (NOTED, None, None)


def test_ambiguous_messages_are_settled_by_reports_and_delivered_ones_may_still_bounce(world: World) -> None:
    claim = world.ambiguous()
    assert outcome(world, DeliveryNotice(claim.id, State.DELIVERED, "delivered", {"mail_sha256": "ee" * 32})) is NoticeOutcome.MOVED
    delivered = world.ledger.delivery(claim.id)
    assert delivered is not None
    assert (delivered.state, delivered.password_state) == (State.DELIVERED, PasswordState.READY)
    assert outcome(world, bounced(claim.id)) is NoticeOutcome.MOVED
    assert world.state(claim.id) is State.BOUNCED


def test_a_state_that_evidence_cannot_change_is_only_noted(world: World) -> None:
    delivery = world.accepted()
    world.ledger.confirm(delivery, {"kind": "portal"})
    assert outcome(world, bounced(delivery)) is NoticeOutcome.NOTED
    assert world.state(delivery) is State.INSTALLED
    (queued,) = world.queue("bert")
    assert outcome(world, bounced(queued)) is NoticeOutcome.NOTED
    assert world.state(queued) is State.QUEUED


def test_a_report_that_comes_before_the_attempt_has_ended_waits_for_its_end(world: World) -> None:
    claim = world.armed()
    before = world.ledger.position()
    assert outcome(world, bounced(claim.id)) is NoticeOutcome.TOO_EARLY
    assert world.ledger.position() == before
    assert outcome(world, delayed(claim.id)) is NoticeOutcome.NOTED
    assert world.settle(claim, State.AMBIGUOUS)
    assert outcome(world, bounced(claim.id)) is NoticeOutcome.MOVED


def test_words_from_outside_are_made_fit_for_a_line(world: World) -> None:
    delivery = world.accepted()
    notice = DeliveryNotice(delivery, None, "a\nb" + "x" * 5000, {**DELAYED, "reporter": "mx\x1b[31m"}, {"recipient": "c\td@example.org"})
    assert outcome(world, notice) is NoticeOutcome.NOTED
    *_, last = world.ledger.records()
    evidence = last.event.evidence
    assert (evidence["reporter"], evidence["recipient"]) == ("mx\\x1b[31m", "c\\td@example.org")
    assert str(evidence["said"]).startswith("a\\nbx")
    assert len(str(evidence["said"])) < 2100
    assert sorted(last.personal or ()) == ["recipient", "said"]


def test_a_delivery_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(RequestDenied):
        world.ledger.record_notice(bounced("d-nobody"))


def test_the_message_id_is_found_by_an_index(file_world: World) -> None:
    plan = file_world.sql("EXPLAIN QUERY PLAN SELECT id FROM delivery WHERE message_id IN ('<a@b>', '<c@d>')")
    assert "delivery_by_message" in str(plan)
