"""What messages leave in mailboxes: copies that nobody wanted and drafts that nobody will send, found by the ledger and removed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from distributor.adapters.transports.graph import GraphTransport, cleanup
from distributor.model.attempts import Accepted, DraftRef, OutboundMessage, Outcome
from distributor.model.issues import Diagnostic
from distributor.model.mailbox_cleanup import CleanupEvent, CleanupItem, MailboxCleaner
from distributor.model.ports import CommitIntent
from tests.contracts.graph_mailbox import CREATE, SEND, GraphMailbox, IntentRecorder, mailbox_at, spotless
from tests.doubles.graphd import Cloud

PURGE = "message.permanentDelete"


@dataclass
class FakeLedger:
    """What a ledger would know."""

    messages: dict[str, CleanupItem] = field(default_factory=dict)
    withdrawn: dict[str, CleanupItem] = field(default_factory=dict)
    marks: list[tuple[str, CleanupEvent]] = field(default_factory=list)
    had_drafts: bool = False

    def copies(self) -> list[CleanupItem]:
        return self._unmarked(self.messages, "copy")

    def drafts(self) -> list[CleanupItem]:
        return self._unmarked(self.withdrawn, "draft")

    def _unmarked(self, messages: dict[str, CleanupItem], what: str) -> list[CleanupItem]:
        done = {delivery for delivery, mark in self.marks if mark.startswith(what)}
        return [message for message in messages.values() if message.delivery not in done]

    def drafted(self, sender: str) -> bool:
        assert sender
        return self.had_drafts

    def note_cleared(self, deliveries: Sequence[str], mark: CleanupEvent) -> None:
        self.marks += [(delivery, mark) for delivery in deliveries]

    def of(self, mark: CleanupEvent) -> list[str]:
        return [delivery for delivery, one in self.marks if one is mark]

    def accept(self, message: OutboundMessage, outcome: Outcome, handle: DraftRef | None, ago: timedelta = timedelta()) -> None:
        if isinstance(outcome, Accepted):
            at = datetime.now(UTC) - ago
            handles = (handle,) if handle else ()
            self.messages[message.delivery] = CleanupItem(
                message.delivery, message.message_id, message.sender, outcome.response, at, at, handles
            )


async def carry(
    transport: GraphTransport, ledger: FakeLedger, *outgoing: OutboundMessage, record_intent: CommitIntent | None = None
) -> list[Outcome]:
    connection, outcomes = transport.connection(), []
    for message in outgoing:
        noting = IntentRecorder()
        outcomes.append(await connection.deliver(message, record_intent or noting))
        ledger.accept(message, outcomes[-1], noting.handles[-1] if noting.handles else None)
    return outcomes


def ended(
    transport: GraphTransport, *outgoing: OutboundMessage, ledger: FakeLedger | None = None, settled: bool = True
) -> tuple[list[Outcome], list[Diagnostic]]:
    known = ledger or FakeLedger()

    async def go() -> tuple[list[Outcome], list[Diagnostic]]:
        transport.tracker().attach_ledger(known)
        outcomes = await carry(transport, known, *outgoing)
        return outcomes, await transport.finish(settled=settled)

    return asyncio.run(go())


def cleared(transport: GraphTransport, ledger: FakeLedger) -> list[Diagnostic]:
    """As `track` and `resolve` do it."""

    async def go() -> list[Diagnostic]:
        tracker = transport.tracker()
        assert isinstance(tracker, MailboxCleaner)
        try:
            return await tracker.clear(ledger)
        finally:
            await tracker.close()

    return asyncio.run(go())


async def some_removed(ledger: FakeLedger) -> None:
    async with asyncio.timeout(10):
        while not ledger.of(CleanupEvent.COPY_REMOVED):  # noqa: ASYNC110  the double is another process
            await asyncio.sleep(0.01)


def diagnostic_lines(diagnostics: Sequence[Diagnostic]) -> list[str]:
    return [f"{diagnostic.level}: {diagnostic.message.partition(': ')[2]}" for diagnostic in diagnostics]


# --- copies of this run ----------------------------------------------------------------------------------------------


def test_copies_go_after_the_run_for_three_requests_a_message_and_others_stay(mailbox: GraphMailbox) -> None:
    mailbox.by_hand(lambda caller: caller.send(mailbox.draft(99)))
    ledger = FakeLedger()
    outcomes, diagnostics = ended(mailbox.open(save_copy=False), *(mailbox.outbound(number) for number in range(12)), ledger=ledger)
    assert ({type(outcome) for outcome in outcomes}, diagnostics) == ({Accepted}, [])
    assert mailbox.lying("sentitems") == [mailbox.message_id(99)]
    assert len(mailbox.lying("recoverableitemspurges")) == 12
    assert sorted(ledger.of(CleanupEvent.COPY_REMOVED)) == sorted(f"d-{number}" for number in range(12))
    assert len(mailbox.asked()) == 3 * 12 + 1
    assert mailbox.cloud.counts()["mailboxes"][mailbox.address]["max_in_flight"] <= 4
    assert mailbox.slept == []


def test_copies_stay_where_they_are_wanted_and_cost_nothing(mailbox: GraphMailbox) -> None:
    ledger = FakeLedger()
    assert ended(mailbox.open(), mailbox.outbound(), ledger=ledger)[1] == []
    assert (mailbox.asked(), mailbox.lying("sentitems"), ledger.marks) == ([CREATE, SEND], [mailbox.message_id()], [])


def test_copies_go_while_messages_go_one_at_a_time_and_leave_them_room(mailbox: GraphMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "MANY", 4)
    ledger, transport = FakeLedger(), mailbox.open(save_copy=False)
    seen: list[int] = []

    async def go() -> list[Diagnostic]:
        transport.tracker().attach_ledger(ledger)
        for number in range(9):
            await carry(transport, ledger, mailbox.outbound(number))
            if number == 4:  # the fourth was the last straw; its own note comes a moment later
                await some_removed(ledger)
        seen.append(len(ledger.of(CleanupEvent.COPY_REMOVED)))
        return await transport.finish()

    assert (asyncio.run(go()), mailbox.lying("sentitems")) == ([], [])
    assert seen[0] >= 3
    assert set(mailbox.slept) == {cleanup.PAUSE}
    assert mailbox.cloud.counts()["mailboxes"][mailbox.address]["refused"] == {}


def test_copies_go_after_a_while_though_the_messages_were_few(mailbox: GraphMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "OFTEN", 0.0)
    ledger, transport = FakeLedger(), mailbox.open(save_copy=False)

    async def go() -> list[str]:
        transport.tracker().attach_ledger(ledger)
        await carry(transport, ledger, mailbox.outbound(1), mailbox.outbound(2))
        await some_removed(ledger)
        found = mailbox.lying("sentitems")
        await transport.finish()
        return found

    assert len(asyncio.run(go())) < 2


def test_many_removals_leave_room_for_others(mailbox: GraphMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "AT_ONCE", 2)
    _, diagnostics = ended(mailbox.open(save_copy=False), *(mailbox.outbound(number) for number in range(6)))
    assert (diagnostics, mailbox.slept) == ([], [cleanup.PAUSE] * 4)


def test_a_copy_that_is_late_is_looked_for_again(later: GraphMailbox) -> None:
    with later.cloud.during(sent_after=4):
        _, diagnostics = ended(later.open(save_copy=False), later.outbound())
    assert (diagnostics, later.lying("sentitems"), later.slept) == ([], [], [5.0])


def test_a_copy_that_does_not_come_is_told_and_found_by_a_later_run(later: GraphMailbox) -> None:
    ledger = FakeLedger()
    with later.cloud.during(sent_after=1000):
        _, diagnostics = ended(later.open(save_copy=False), later.outbound(1), later.outbound(2), ledger=ledger)
        later.cloud.advance(1000)
    assert diagnostic_lines(diagnostics) == ["warning: the copies of 2 messages were not found in Sent Items yet"]
    (diagnostic,) = cleared(later.open(save_copy=False), ledger)
    assert (diagnostic.level, diagnostic.message) == ("ok", f"{later.address}: removed 2 copies of earlier runs from Sent Items")
    assert later.lying("sentitems") == []
    assert cleared(later.open(save_copy=False), ledger) == []


def test_a_copy_that_was_not_found_for_a_day_is_told_once_and_looked_for_no_more(mailbox: GraphMailbox) -> None:
    ledger = FakeLedger()
    ledger.accept(mailbox.outbound(), Accepted("202 Accepted"), DraftRef("gone", mailbox.message_id()), ago=timedelta(hours=25))
    assert diagnostic_lines(cleared(mailbox.open(save_copy=False), ledger)) == [
        "warning: the copy of 1 message was not found in Sent Items for a day; no longer searched for"
    ]
    assert (ledger.of(CleanupEvent.COPY_NOT_FOUND), mailbox.slept) == (["d-1"], [])
    asked = len(mailbox.asked())
    assert (cleared(mailbox.open(save_copy=False), ledger), len(mailbox.asked())) == ([], asked)


def test_copies_of_an_unsettled_run_stay_until_the_ledger_knows_their_messages(mailbox: GraphMailbox) -> None:
    ledger = FakeLedger()
    assert ended(mailbox.open(save_copy=False), mailbox.outbound(), ledger=ledger, settled=False)[1] == []
    assert mailbox.lying("sentitems") == [mailbox.message_id()]
    assert diagnostic_lines(cleared(mailbox.open(save_copy=False), ledger)) == ["ok: removed 1 copy of earlier runs from Sent Items"]
    assert mailbox.lying("sentitems") == []


def test_messages_that_went_another_way_are_not_looked_for(mailbox: GraphMailbox) -> None:
    ledger = FakeLedger()
    ledger.accept(mailbox.outbound(), Accepted("250 2.0.0 queued"), None)
    transport = mailbox.open(save_copy=False)
    assert not transport.tracker().has_work(ledger)
    assert (cleared(transport, ledger), mailbox.asked()) == ([], [])


def test_a_copy_that_may_not_be_removed_is_told(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(PURGE, "status", status=403, code="ErrorAccessDenied")
    _, diagnostics = ended(mailbox.open(save_copy=False), mailbox.outbound())
    (diagnostic,) = diagnostics
    assert "the copy of 1 message stays in Sent Items" in diagnostic.message
    assert "ErrorAccessDenied" in diagnostic.message


@pytest.mark.parametrize("what", ["429", "504-before", "504-after", "reset-after", "silence-before"])
def test_a_removal_that_fails_is_tried_again(mailbox: GraphMailbox, what: str) -> None:
    mailbox.cloud.fault(PURGE, what)
    ledger = FakeLedger()
    _, diagnostics = ended(mailbox.open(save_copy=False), mailbox.outbound(), ledger=ledger)
    assert (diagnostics, mailbox.lying("sentitems"), ledger.of(CleanupEvent.COPY_REMOVED)) == ([], [], ["d-1"])


def test_where_nothing_is_removed_for_good_it_goes_to_the_recoverable_items(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault(PURGE, "status", status=400, code="BadRequest")
    _, diagnostics = ended(mailbox.open(save_copy=False), mailbox.outbound())
    assert (diagnostics, mailbox.lying("sentitems"), mailbox.lying("deleteditems")) == ([], [], [])
    assert mailbox.lying("recoverableitemsdeletions") == [mailbox.message_id()]


def test_a_list_of_copies_that_fails_is_told_and_does_not_raise(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("mailFolder.listMessages", "html")
    _, diagnostics = ended(mailbox.open(save_copy=False), mailbox.outbound())
    assert ["the copy of 1 message stays" in diagnostic.message for diagnostic in diagnostics] == [True]


def test_a_run_that_sent_nothing_asks_nothing_at_its_end(mailbox: GraphMailbox) -> None:
    assert ended(mailbox.open(save_copy=False)) == ([], [])
    assert mailbox.asked() == []


def test_without_drafts_copies_stay_and_the_words_say_why(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = mailbox_at(running, monkeypatch, roles=["Mail.Send"])
    first, second = diagnostic_lines(ended(mailbox.open(save_copy=False), mailbox.outbound())[1])
    assert "1 message sent by sendMail without Mail.ReadWrite" in first
    assert "sendMail keeps a copy of every MIME message" in first
    assert second.startswith("warning: the copy of 1 message stays in Sent Items: ")
    spotless(running)


def test_a_ledger_that_fails_is_told_and_does_not_raise(mailbox: GraphMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: FakeLedger) -> list[CleanupItem]:
        raise RuntimeError

    ledger = FakeLedger()
    monkeypatch.setattr(FakeLedger, "drafts", fails)
    assert diagnostic_lines(ended(mailbox.open(), mailbox.outbound(), ledger=ledger)[1]) == ["warning: RuntimeError"]


# --- drafts ----------------------------------------------------------------------------------------------------------


def withdrawn(mailbox: GraphMailbox, handle: str, number: int = 1, message_id: str = "") -> FakeLedger:
    handles = (DraftRef(handle, message_id or mailbox.message_id(number)),)
    at = datetime.now(UTC)
    message = CleanupItem(f"d-{number}", mailbox.message_id(number), mailbox.address, "403", at, at, handles)
    return FakeLedger(withdrawn={message.delivery: message})


def refused(mailbox: GraphMailbox, number: int = 1) -> str:
    """The draft of a message that the service did not send."""
    mailbox.cloud.fault(SEND, "status", status=403, code="ErrorMessageSubmissionBlocked")
    record_intent = IntentRecorder()
    mailbox.once(number, record_intent=record_intent)
    (handle,) = record_intent.handles
    assert handle is not None
    return handle.id


def test_the_draft_of_a_message_that_was_withdrawn_goes_and_is_told(mailbox: GraphMailbox) -> None:
    ledger = withdrawn(mailbox, refused(mailbox))
    other = mailbox.draft(2)
    assert diagnostic_lines(ended(mailbox.open(), ledger=ledger)[1]) == [
        "ok: removed 1 draft of messages that were withdrawn, rejected or replaced"
    ]
    assert (mailbox.lying("drafts"), ledger.of(CleanupEvent.DRAFT_REMOVED)) == ([mailbox.message_id(2)], ["d-1"])
    assert ended(mailbox.open(), ledger=ledger)[1] == []
    assert other


def test_what_is_no_draft_of_that_message_is_left_alone(mailbox: GraphMailbox) -> None:
    ledger = withdrawn(mailbox, refused(mailbox), message_id="<another@example.org>")
    assert cleared(mailbox.open(), ledger) == []
    assert (mailbox.lying("drafts"), ledger.of(CleanupEvent.DRAFT_NOT_FOUND)) == ([mailbox.message_id()], ["d-1"])


def test_a_draft_that_was_sent_is_left_alone(mailbox: GraphMailbox) -> None:
    with mailbox.cloud.during(id_after_send="same"):
        record_intent = IntentRecorder()
        mailbox.once(record_intent=record_intent)
        (handle,) = record_intent.handles
        assert handle is not None
        ledger = withdrawn(mailbox, handle.id)
        assert cleared(mailbox.open(), ledger) == []
    assert (mailbox.lying("sentitems"), ledger.of(CleanupEvent.DRAFT_NOT_FOUND)) == ([mailbox.message_id()], ["d-1"])


def test_a_draft_that_is_gone_is_asked_for_once(mailbox: GraphMailbox) -> None:
    ledger = withdrawn(mailbox, "AAkALg-nothing-here")
    assert cleared(mailbox.open(), ledger) == cleared(mailbox.open(), ledger) == []
    assert mailbox.asked() == ["message.get"]


def test_a_draft_that_cannot_be_looked_at_is_told_and_tried_again(mailbox: GraphMailbox) -> None:
    ledger = withdrawn(mailbox, refused(mailbox))
    mailbox.cloud.fault("message.get", "status", status=403, code="ErrorAccessDenied")
    (only,) = diagnostic_lines(cleared(mailbox.open(), ledger))
    assert only.startswith('warning: 1 draft of messages that will not be sent may be left in Drafts: "403 ErrorAccessDenied')
    assert diagnostic_lines(cleared(mailbox.open(), ledger)) == [
        "ok: removed 1 draft of messages that were withdrawn, rejected or replaced"
    ]
