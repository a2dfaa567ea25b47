"""Reports and receipts move the delivery that they are about, with evidence, once; whatever is not sure changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from distributor.errors import Error, ServiceUnavailable
from distributor.model.attempts import AttemptResult, RecordIntent
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.issues import Diagnostic, WorkerFailure
from distributor.model.mailboxes import MailBatch, ReceivedMail
from distributor.model.notices import Action, DeliveryReport, Notice, ReadReceipt, RecipientReport, Reference, Unknown
from distributor.model.ports import Ledger
from distributor.model.requests import RequestLimits
from distributor.model.states import State
from distributor.workflows.mailboxes import MailboxContext, MailPolicy, read_mailboxes
from distributor.workflows.notices import MailboxReport
from tests.workflows import outbox

LEASE = timedelta(minutes=1)
FULL = "552 5.2.2 Mailbox is over quota"


@dataclass
class Box:
    """A ledger with messages to p1 and p2, and mailboxes in memory. A mail's bytes are a name, its notice is the value beside it."""

    ledger: Ledger
    notices: dict[bytes, Notice] = field(default_factory=dict)
    position: int = 0
    received: datetime = field(default_factory=outbox.now)

    def map(self, jobs: Iterable[bytes]) -> Iterator[tuple[bytes, Notice | WorkerFailure]]:
        return ((job, self.notices[job]) for job in jobs)

    def send(self, state: State = State.ACCEPTED) -> None:
        owner = outbox.me()
        for claim in self.ledger.claim(owner, 10, LEASE, DeliveryFilter()):
            self.ledger.write([RecordIntent(claim, LEASE)], owner)
            if state is not State.TRANSMITTING:
                self.ledger.write([AttemptResult(claim, state, "250 ok")], owner)

    def delivery(self, person: str = "p1") -> Delivery:
        (found,) = self.ledger.find(f"{person}@example.org", None)
        return found

    def state(self, person: str = "p1") -> State:
        return self.delivery(person).state

    def about(self, person: str = "p1") -> Reference:
        return Reference(returned=(self.delivery(person).message_id or "",))

    def evidence(self, person: str = "p1") -> dict[str, object]:
        *_, last = self.ledger.history(f"{person}@example.org")
        return {name: value for name, value in last.evidence.items() if name not in {"mail_sha256", "attempt", "said"}}

    def read(self, *notices: Notice, since: datetime | None = None, name: str = "box", fault: Error | None = None) -> MailboxReport:
        """Read a mailbox with these mails; what they tell."""
        self.notices = {f"{notice!r}".encode(): notice for notice in notices}
        self.folder = Folder(tuple(self.notices), self.received, name, fault=fault)
        policy = MailPolicy(by_mail=False, automatic=False, limits=RequestLimits(3, 3))
        return asyncio.run(read_mailboxes(MailboxContext(self.ledger, self, policy, asyncio.to_thread, since), [self.folder]))


@dataclass
class Folder:
    """A mailbox in memory, in batches of two."""

    mails: Sequence[bytes]
    received: datetime
    name: str = "box"
    marked: list[bytes] = field(default_factory=list)
    fault: Error | None = None
    began: tuple[str | None, datetime] | None = None

    async def read(self, after: str | None, since: datetime) -> AsyncIterator[MailBatch]:
        self.began = after, since
        for start in range(int(after or 0), len(self.mails), 2):
            part = self.mails[start : start + 2]
            mails = [ReceivedMail(str(start + n), raw, self.received) for n, raw in enumerate(part)]
            yield MailBatch(tuple(mails), str(start + len(part)))

    async def mark(self, handled: Sequence[ReceivedMail]) -> None:
        if self.fault is not None:
            raise self.fault
        self.marked += [mail.raw for mail in handled]

    async def check(self) -> list[Diagnostic]:
        return []

    async def close(self) -> None:
        pass


@pytest.fixture
def queued(tmp_path: Path) -> Iterator[Box]:
    ledger = outbox.new_ledger(tmp_path / "distributor.db")
    outbox.queue(ledger, 2)
    yield Box(ledger)
    assert ledger.verify() == []
    ledger.close()


@pytest.fixture
def box(queued: Box) -> Box:
    queued.send()
    queued.received = outbox.now()
    return queued


def recipient(
    action: Action = Action.FAILED, address: str = "p1@example.org", status: str = "5.2.2", diagnostic: str = FULL
) -> RecipientReport:
    return RecipientReport(address, action, status, diagnostic)


def report(about: Reference, *recipients: RecipientReport, machine_readable: bool = True) -> DeliveryReport:
    return DeliveryReport(about, recipients or (recipient(),), "mx.Example.net", machine_readable)


# --- failures ----------------------------------------------------------------------------------------------------------


def test_a_failure_bounces_the_delivery_in_plain_words_with_a_next_step(box: Box) -> None:
    found = box.read(report(box.about()))
    (moved,) = found.moved
    assert (moved.address, moved.before, moved.after) == ("p1@example.org", State.ACCEPTED, State.BOUNCED)
    assert moved.reason == f"the mailbox is full: {FULL}"
    assert moved.remedy == 'have the recipient free space, then: distributor resend p1@example.org --reason "it bounced"'
    assert (box.state(), box.state("p2")) == (State.BOUNCED, State.ACCEPTED)
    wanted = {"kind": "report", "action": "failed", "status": "5.2.2", "class": "mailbox-full", "reporter": "mx.example.net"}
    assert box.evidence() == {**wanted, "match": "message-id"}
    assert (found.read, found.unmatched, found.noted, found.hints, len(box.folder.marked)) == (1, 0, [], [], 1)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.AMBIGUOUS, State.DELIVERED])
def test_every_message_that_left_may_bounce(queued: Box, state: State) -> None:
    queued.send(State.AMBIGUOUS if state is State.AMBIGUOUS else State.ACCEPTED)
    if state is State.DELIVERED:
        queued.read(report(queued.about(), recipient(Action.DELIVERED)))
    assert [moved.before for moved in queued.read(report(queued.about(), recipient(status="5.1.1")), name="other").moved] == [state]
    assert queued.state() is State.BOUNCED


def test_the_same_mail_in_two_mailboxes_and_a_second_run_change_nothing(box: Box) -> None:
    box.read(report(box.about()))
    before = box.ledger.position()
    again = box.read(report(box.about()), name="another mailbox")
    assert (again.moved, again.noted, again.unmatched, len(box.folder.marked)) == ([], [], 0, 1)
    assert box.read(report(box.about())) == MailboxReport()
    assert box.ledger.position() == before


def test_mails_are_read_again_from_a_date_without_counting_twice(box: Box) -> None:
    box.read(report(box.about()))
    before, since = box.ledger.position(), outbox.now() - timedelta(days=90)
    found = box.read(report(box.about()), since=since)
    assert box.folder.began == (None, since)
    assert (found.read, found.moved, found.noted) == (1, [], [])
    assert box.ledger.position() == before


# --- which message -----------------------------------------------------------------------------------------------------


def test_a_report_about_an_unknown_message_changes_nothing_whatever_else_it_names(box: Box) -> None:
    known, before = box.delivery(), box.ledger.position()
    about = Reference(("<another@example.org>",), f"{known.id}.1", (known.message_id or "",))
    found = box.read(report(about))
    assert (found.unmatched, found.hints, found.moved, found.noted, box.folder.marked) == (1, [], [], [], [])
    assert box.ledger.position() == before


def test_the_envid_names_the_delivery_where_no_message_is_returned(box: Box) -> None:
    assert len(box.read(report(Reference((), f"{box.delivery().id}.1"))).moved) == 1
    assert box.evidence()["match"] == "envid"


@pytest.mark.parametrize("envid", ["{}", "{}-reminder.1", "{}-password.1", "{}.x", ".1", "d-nobody.1"])
def test_the_envid_of_another_message_of_ours_does_not(box: Box, envid: str) -> None:
    found = box.read(report(Reference((), envid.format(box.delivery().id))))
    assert (found.moved, found.noted, found.unmatched) == ([], [], 1)
    assert box.state() is State.ACCEPTED


def test_a_report_that_only_answers_our_message_counts_for_its_recipient(box: Box) -> None:
    about = Reference(answers=("<x@y>", box.delivery().message_id or ""))
    assert len(box.read(report(about)).moved) == 1
    assert box.evidence()["match"] == "in-reply-to"


def test_a_mail_that_could_be_about_two_messages_is_about_none(box: Box) -> None:
    about = Reference((*box.about().returned, *box.about("p2").returned))
    found = box.read(report(about))
    assert (found.moved, found.unmatched) == ([], 1)


def test_a_recipient_alone_is_only_a_hint(box: Box) -> None:
    before = box.ledger.position()
    found = box.read(report(Reference()))
    (hint,) = found.hints
    assert (hint.delivery, hint.address, hint.said) == (box.delivery().id, "p1@example.org", f"the mailbox is full: {FULL}")
    assert (found.unmatched, box.folder.marked, box.ledger.position()) == (1, [], before)


def test_a_hint_is_given_only_for_a_message_of_the_last_days(box: Box) -> None:
    box.received = outbox.now() + timedelta(days=15)
    assert box.read(report(Reference())).hints == []
    box.received = outbox.now() - timedelta(days=1)
    assert box.read(report(Reference()), name="earlier").hints == []


# --- which recipient ---------------------------------------------------------------------------------------------------


def test_the_recipient_of_the_delivery_counts_and_no_other(box: Box) -> None:
    found = box.read(report(box.about(), recipient(address="other@example.org"), recipient(Action.DELIVERED)))
    assert [moved.after for moved in found.moved] == [State.DELIVERED]


@pytest.mark.parametrize("address", ["", "p1@example.org"], ids=["a recipient without address", "the same recipient"])
def test_a_failure_beside_a_delivery_is_no_bounce(box: Box, address: str) -> None:
    found = box.read(report(box.about(), recipient(address=address), recipient(Action.DELIVERED, status="2.0.0", diagnostic="")))
    assert State.BOUNCED not in {moved.after for moved in found.moved}
    assert box.state() is (State.ACCEPTED if address else State.DELIVERED)


def test_a_forwarded_message_bounces_and_the_evidence_says_so_without_the_address(box: Box) -> None:
    found = box.read(report(box.about(), recipient(address="private@elsewhere.example")))
    assert [moved.after for moved in found.moved] == [State.BOUNCED]
    *_, last = box.ledger.records()
    assert last.event.evidence["rewritten"] is True
    assert last.event.evidence["recipient"] == "private@elsewhere.example"
    assert sorted(last.personal or ()) == ["recipient", "said"]


def test_a_forwarded_copy_that_fails_does_not_undo_a_delivery(box: Box) -> None:
    box.read(report(box.about(), recipient(Action.DELIVERED)))
    found = box.read(report(box.about(), recipient(address="private@elsewhere.example")), name="later")
    assert (found.moved, len(found.noted), box.state()) == ([], 1, State.DELIVERED)


def test_one_failed_member_of_a_list_is_no_bounce(box: Box) -> None:
    members = recipient(address="m1@example.org"), recipient(Action.DELIVERED, "m2@example.org", "2.0.0", "")
    found = box.read(report(box.about(), *members))
    assert (found.moved, len(found.noted), box.state()) == ([], 1, State.ACCEPTED)


@pytest.mark.parametrize("how", ["envid", "in-reply-to"])
def test_without_its_message_id_another_recipient_is_only_a_hint(box: Box, how: str) -> None:
    known = box.delivery()
    about = Reference((), f"{known.id}.1") if how == "envid" else Reference(answers=(known.message_id or "",))
    found = box.read(report(about, recipient(address="private@elsewhere.example")))
    assert (found.moved, found.noted, [hint.delivery for hint in found.hints], found.unmatched) == ([], [], [known.id], 1)


# --- other actions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.DELAYED, Action.RELAYED, Action.EXPANDED])
def test_what_is_no_end_is_noted_once_and_changes_no_state(box: Box, action: Action) -> None:
    before = box.delivery()
    found = box.read(report(box.about(), recipient(action, status="4.4.1", diagnostic="connection timed out")))
    (noted,) = found.noted
    assert (noted.delivery, noted.address, found.moved) == (before.id, "p1@example.org", [])
    assert noted.said.endswith(": 4.4.1 connection timed out")
    assert box.delivery() == before
    assert box.evidence()["action"] == action
    assert box.read(report(box.about(), recipient(action, status="4.4.1", diagnostic="connection timed out")), name="2").noted == []


def test_delivered_is_believed_for_the_message_id_and_the_envid_only(box: Box) -> None:
    first, second = box.delivery(), box.delivery("p2")
    good = recipient(Action.DELIVERED, "p2@example.org", "2.1.5", "delivered")
    found = box.read(report(Reference(answers=(second.message_id or "",)), good))
    assert (found.moved, len(found.noted), box.state("p2")) == ([], 1, State.ACCEPTED)
    ours = recipient(Action.DELIVERED, status="2.1.5", diagnostic="delivered")
    found = box.read(report(box.about(), ours), report(Reference((), f"{second.id}.1"), good), name="2")
    assert [(moved.delivery, moved.after) for moved in found.moved] == [(first.id, State.DELIVERED), (second.id, State.DELIVERED)]


@pytest.mark.parametrize("about", ["returned", "answers", "envid"])
@pytest.mark.parametrize("action", list(Action))
def test_a_guess_counts_only_as_a_failure_of_the_message_that_it_returns(box: Box, about: str, action: Action) -> None:
    known = box.delivery()
    reference = {
        "returned": box.about(),
        "answers": Reference(answers=(known.message_id or "",)),
        "envid": Reference((), f"{known.id}.1"),
    }[about]
    found = box.read(report(reference, recipient(action), machine_readable=False))
    if (about, action) == ("returned", Action.FAILED):
        assert (box.state(), box.evidence()["guessed"]) == (State.BOUNCED, True)
    else:
        assert (box.state(), [hint.delivery for hint in found.hints], found.unmatched) == (State.ACCEPTED, [known.id], 1)


def test_a_guess_about_another_recipient_is_only_a_hint(box: Box) -> None:
    found = box.read(report(box.about(), recipient(address="private@elsewhere.example"), machine_readable=False))
    assert (found.moved, len(found.hints)) == ([], 1)


def test_a_report_that_names_no_recipient_tells_nothing(box: Box) -> None:
    found = box.read(replace(report(box.about()), recipients=()))
    assert (found.moved, found.noted, [hint.said for hint in found.hints]) == ([], [], ["no recipient is named"])


# --- receipts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("disposition", "state"), [("displayed", State.DELIVERED), ("deleted", State.DELIVERED), ("dispatched", None)])
def test_a_receipt_of_the_mail_program_proves_that_the_message_arrived(box: Box, disposition: str, state: State | None) -> None:
    found = box.read(ReadReceipt(box.about(), "p1@example.org", disposition, automatic=True))
    assert [moved.after for moved in found.moved] == [state] * (state is not None)
    assert (len(found.noted), box.state()) == (state is None, state or State.ACCEPTED)
    assert box.evidence() == {"kind": "receipt", "disposition": disposition, "automatic": True, "match": "message-id"}


def test_a_receipt_of_somebody_else_or_of_an_unknown_message_proves_nothing(box: Box) -> None:
    found = box.read(
        ReadReceipt(box.about(), "private@elsewhere.example", "displayed", automatic=False),
        ReadReceipt(Reference(("<x@y>",)), "p1@example.org", "displayed", automatic=False),
    )
    assert (found.moved, len(found.noted), found.unmatched, box.state()) == ([], 1, 1, State.ACCEPTED)
    assert box.evidence()["rewritten"] is True


# --- other messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.FAILED, Action.DELIVERED])
def test_a_report_about_a_reminder_is_noted_and_leaves_the_package_alone(box: Box, action: Action) -> None:
    (reminder, *_) = box.ledger.reminders(outbox.now() + timedelta(days=3650), lambda _: ())
    box.ledger.record_reminder(reminder, "30", "<reminder@example.org>", outbox.SENDER)
    found = box.read(report(Reference(("<reminder@example.org>",)), recipient(action)))
    (noted,) = found.noted
    assert noted.said.startswith("the reminder: ")
    assert (found.moved, box.state(), box.evidence()["message"]) == ([], State.ACCEPTED, "reminder")


# --- around them -------------------------------------------------------------------------------------------------------


def test_a_report_about_a_message_that_is_being_sent_is_read_again_when_that_has_ended(queued: Box) -> None:
    owner = outbox.me()
    claims = queued.ledger.claim(owner, 2, LEASE, DeliveryFilter())
    queued.ledger.write([RecordIntent(claim, LEASE) for claim in claims], owner)
    mails = Unknown("lunch"), Unknown("dinner"), report(queued.about())
    found = queued.read(*mails)
    assert (found.read, found.moved, queued.folder.marked, queued.ledger.mailbox_position("box")) == (3, [], [], "2")
    queued.ledger.write([AttemptResult(claim, State.AMBIGUOUS, "no answer") for claim in claims], owner)
    found = queued.read(*mails)
    assert (found.read, len(found.moved), queued.state(), queued.ledger.mailbox_position("box")) == (1, 1, State.BOUNCED, "3")


def test_mails_that_cannot_be_marked_keep_no_other_from_being_read_and_are_marked_the_next_time(box: Box) -> None:
    mails = report(box.about()), Unknown("lunch"), Unknown("dinner"), report(box.about("p2"))
    found = box.read(*mails, fault=ServiceUnavailable("MOVE was refused"))
    assert ([error.message for error in found.errors], len(found.moved)) == (["MOVE was refused"], 2)
    assert box.ledger.mailbox_position("box") is None
    again = box.read(*mails)
    assert (again.moved, again.errors, len(box.folder.marked), box.ledger.mailbox_position("box")) == ([], [], 2, "4")


def test_odd_words_of_a_server_are_not_evidence_in_clear(box: Box) -> None:
    odd = replace(report(box.about(), recipient(status="p1@example.org")), reporter="p1@example.org")
    box.read(odd)
    *_, last = box.ledger.records()
    clear = {name: value for name, value in last.event.evidence.items() if name not in (last.personal or ())}
    assert "@" not in str(clear)
