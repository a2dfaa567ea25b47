"""What messages leave in mailboxes: copies that nobody wanted and drafts that nobody will send, found by the ledger and removed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from distributor.adapters.transports.graph import GraphTransport, cleanup
from distributor.model.delivery import Accepted, CleanupEvent, CleanupItem, DraftRef, MailboxCleaner, OutboundMessage, Outcome
from distributor.model.issues import Diagnostic
from distributor.model.ports import CommitIntent
from tests.contracts.test_graph import CREATE, SEND, Arm, Desk, desk_at, moving, spotless
from tests.doubles.graphd import Cloud

__all__ = ["moving"]
PURGE = "message.permanentDelete"


@dataclass
class Book:
    """What a ledger would know."""

    letters: dict[str, CleanupItem] = field(default_factory=dict)
    withdrawn: dict[str, CleanupItem] = field(default_factory=dict)
    marks: list[tuple[str, CleanupEvent]] = field(default_factory=list)
    had_drafts: bool = False

    def copies(self) -> list[CleanupItem]:
        return self._unmarked(self.letters, "copy")

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
            self.letters[message.delivery] = CleanupItem(
                message.delivery, message.message_id, message.sender, outcome.response, at, at, handles
            )


async def carry(road: GraphTransport, book: Book, *parcels: OutboundMessage, arm: CommitIntent | None = None) -> list[Outcome]:
    lane, outcomes = road.connection(), []
    for message in parcels:
        noting = Arm()
        outcomes.append(await lane.deliver(message, arm or noting))
        book.accept(message, outcomes[-1], noting.handles[-1] if noting.handles else None)
    return outcomes


def ended(
    road: GraphTransport, *parcels: OutboundMessage, book: Book | None = None, settled: bool = True
) -> tuple[list[Outcome], list[Diagnostic]]:
    known = book or Book()

    async def go() -> tuple[list[Outcome], list[Diagnostic]]:
        road.tracker().attach_ledger(known)
        outcomes = await carry(road, known, *parcels)
        return outcomes, await road.finish(settled=settled)

    return asyncio.run(go())


def cleared(road: GraphTransport, book: Book) -> list[Diagnostic]:
    """As `track` and `resolve` do it."""

    async def go() -> list[Diagnostic]:
        tracker = road.tracker()
        assert isinstance(tracker, MailboxCleaner)
        try:
            return await tracker.clear(book)
        finally:
            await tracker.close()

    return asyncio.run(go())


async def some_removed(book: Book) -> None:
    async with asyncio.timeout(10):
        while not book.of(CleanupEvent.COPY_REMOVED):  # noqa: ASYNC110  the double is another process
            await asyncio.sleep(0.01)


def told(diagnostics: Sequence[Diagnostic]) -> list[str]:
    return [f"{diagnostic.level}: {diagnostic.message.partition(': ')[2]}" for diagnostic in diagnostics]


@pytest.fixture
def desk(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield desk_at(running, monkeypatch)
    spotless(running)


@pytest.fixture
def later(moving: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield replace(desk_at(moving, monkeypatch), moves=True)
    spotless(moving)


# --- copies of this run ----------------------------------------------------------------------------------------------


def test_copies_go_after_the_run_for_three_requests_a_message_and_others_stay(desk: Desk) -> None:
    desk.by_hand(lambda caller: caller.send(desk.draft(99)))
    book = Book()
    outcomes, diagnostics = ended(desk.open(save_copy=False), *(desk.parcel(number) for number in range(12)), book=book)
    assert ({type(outcome) for outcome in outcomes}, diagnostics) == ({Accepted}, [])
    assert desk.lying("sentitems") == [desk.message_id(99)]
    assert len(desk.lying("recoverableitemspurges")) == 12
    assert sorted(book.of(CleanupEvent.COPY_REMOVED)) == sorted(f"d-{number}" for number in range(12))
    assert len(desk.asked()) == 3 * 12 + 1
    assert desk.cloud.counts()["mailboxes"][desk.box]["max_in_flight"] <= 4
    assert desk.slept == []


def test_copies_stay_where_they_are_wanted_and_cost_nothing(desk: Desk) -> None:
    book = Book()
    assert ended(desk.open(), desk.parcel(), book=book)[1] == []
    assert (desk.asked(), desk.lying("sentitems"), book.marks) == ([CREATE, SEND], [desk.message_id()], [])


def test_copies_go_while_messages_go_one_at_a_time_and_leave_them_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "MANY", 4)
    book, road = Book(), desk.open(save_copy=False)
    seen: list[int] = []

    async def go() -> list[Diagnostic]:
        road.tracker().attach_ledger(book)
        for number in range(9):
            await carry(road, book, desk.parcel(number))
            if number == 4:  # the fourth was the last straw; its own note comes a moment later
                await some_removed(book)
        seen.append(len(book.of(CleanupEvent.COPY_REMOVED)))
        return await road.finish()

    assert (asyncio.run(go()), desk.lying("sentitems")) == ([], [])
    assert seen[0] >= 3
    assert set(desk.slept) == {cleanup.PAUSE}
    assert desk.cloud.counts()["mailboxes"][desk.box]["refused"] == {}


def test_copies_go_after_a_while_though_the_messages_were_few(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "OFTEN", 0.0)
    book, road = Book(), desk.open(save_copy=False)

    async def go() -> list[str]:
        road.tracker().attach_ledger(book)
        await carry(road, book, desk.parcel(1), desk.parcel(2))
        await some_removed(book)
        found = desk.lying("sentitems")
        await road.finish()
        return found

    assert len(asyncio.run(go())) < 2


def test_many_removals_leave_room_for_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "AT_ONCE", 2)
    _, diagnostics = ended(desk.open(save_copy=False), *(desk.parcel(number) for number in range(6)))
    assert (diagnostics, desk.slept) == ([], [cleanup.PAUSE] * 4)


def test_a_copy_that_is_late_is_looked_for_again(later: Desk) -> None:
    with later.cloud.during(sent_after=4):
        _, diagnostics = ended(later.open(save_copy=False), later.parcel())
    assert (diagnostics, later.lying("sentitems"), later.slept) == ([], [], [5.0])


def test_a_copy_that_does_not_come_is_told_and_found_by_a_later_run(later: Desk) -> None:
    book = Book()
    with later.cloud.during(sent_after=1000):
        _, diagnostics = ended(later.open(save_copy=False), later.parcel(1), later.parcel(2), book=book)
        later.cloud.advance(1000)
    assert told(diagnostics) == ["warning: 2 messages' copies were not found in Sent Items yet"]
    (diagnostic,) = cleared(later.open(save_copy=False), book)
    assert (diagnostic.level, diagnostic.message) == ("ok", f"{later.box}: 2 copies that earlier runs left in Sent Items removed")
    assert later.lying("sentitems") == []
    assert cleared(later.open(save_copy=False), book) == []


def test_a_copy_that_was_not_found_for_a_day_is_told_once_and_looked_for_no_more(desk: Desk) -> None:
    book = Book()
    book.accept(desk.parcel(), Accepted("202 Accepted"), DraftRef("gone", desk.message_id()), ago=timedelta(hours=25))
    assert told(cleared(desk.open(save_copy=False), book)) == [
        "warning: 1 message's copy was not found in Sent Items for a day, and no longer looked for"
    ]
    assert (book.of(CleanupEvent.COPY_NOT_FOUND), desk.slept) == (["d-1"], [])
    asked = len(desk.asked())
    assert (cleared(desk.open(save_copy=False), book), len(desk.asked())) == ([], asked)


def test_copies_of_an_unsettled_run_stay_until_the_ledger_knows_their_messages(desk: Desk) -> None:
    book = Book()
    assert ended(desk.open(save_copy=False), desk.parcel(), book=book, settled=False)[1] == []
    assert desk.lying("sentitems") == [desk.message_id()]
    assert told(cleared(desk.open(save_copy=False), book)) == ["ok: 1 copy that earlier runs left in Sent Items removed"]
    assert desk.lying("sentitems") == []


def test_messages_that_went_another_way_are_not_looked_for(desk: Desk) -> None:
    book = Book()
    book.accept(desk.parcel(), Accepted("250 2.0.0 queued"), None)
    road = desk.open(save_copy=False)
    assert not road.tracker().has_work(book)
    assert (cleared(road, book), desk.asked()) == ([], [])


def test_a_copy_that_may_not_be_removed_is_told(desk: Desk) -> None:
    desk.cloud.fault(PURGE, "status", status=403, code="ErrorAccessDenied")
    _, diagnostics = ended(desk.open(save_copy=False), desk.parcel())
    (diagnostic,) = diagnostics
    assert "1 message's copy stays in Sent Items" in diagnostic.message
    assert "ErrorAccessDenied" in diagnostic.message


@pytest.mark.parametrize("what", ["429", "504-before", "504-after", "reset-after", "silence-before"])
def test_a_removal_that_fails_is_tried_again(desk: Desk, what: str) -> None:
    desk.cloud.fault(PURGE, what)
    book = Book()
    _, diagnostics = ended(desk.open(save_copy=False), desk.parcel(), book=book)
    assert (diagnostics, desk.lying("sentitems"), book.of(CleanupEvent.COPY_REMOVED)) == ([], [], ["d-1"])


def test_where_nothing_is_removed_for_good_it_goes_to_the_recoverable_items(desk: Desk) -> None:
    desk.cloud.fault(PURGE, "status", status=400, code="BadRequest")
    _, diagnostics = ended(desk.open(save_copy=False), desk.parcel())
    assert (diagnostics, desk.lying("sentitems"), desk.lying("deleteditems")) == ([], [], [])
    assert desk.lying("recoverableitemsdeletions") == [desk.message_id()]


def test_a_list_of_copies_that_fails_is_told_and_does_not_raise(desk: Desk) -> None:
    desk.cloud.fault("mailFolder.listMessages", "html")
    _, diagnostics = ended(desk.open(save_copy=False), desk.parcel())
    assert ["1 message's copy stays" in diagnostic.message for diagnostic in diagnostics] == [True]


def test_a_run_that_sent_nothing_asks_nothing_at_its_end(desk: Desk) -> None:
    assert ended(desk.open(save_copy=False)) == ([], [])
    assert desk.asked() == []


def test_without_drafts_copies_stay_and_the_words_say_why(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_at(running, monkeypatch, roles=["Mail.Send"])
    first, second = told(ended(desk.open(save_copy=False), desk.parcel())[1])
    assert "without Mail.ReadWrite 1 message went by sendMail" in first
    assert "sendMail keeps a copy of every message that is to arrive as it was made" in first
    assert second.startswith("warning: 1 message's copy stays in Sent Items: ")
    spotless(running)


def test_a_ledger_that_fails_is_told_and_does_not_raise(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Book) -> list[CleanupItem]:
        raise RuntimeError

    book = Book()
    monkeypatch.setattr(Book, "drafts", fails)
    assert told(ended(desk.open(), desk.parcel(), book=book)[1]) == ["warning: RuntimeError"]


# --- drafts ----------------------------------------------------------------------------------------------------------


def withdrawn(desk: Desk, handle: str, number: int = 1, message_id: str = "") -> Book:
    handles = (DraftRef(handle, message_id or desk.message_id(number)),)
    at = datetime.now(UTC)
    message = CleanupItem(f"d-{number}", desk.message_id(number), desk.box, "403", at, at, handles)
    return Book(withdrawn={message.delivery: message})


def refused(desk: Desk, number: int = 1) -> str:
    """The draft of a message that the service did not send."""
    desk.cloud.fault(SEND, "status", status=403, code="ErrorMessageSubmissionBlocked")
    arm = Arm()
    desk.once(number, arm=arm)
    (handle,) = arm.handles
    assert handle is not None
    return handle.id


def test_the_draft_of_a_message_that_was_withdrawn_goes_and_is_told(desk: Desk) -> None:
    book = withdrawn(desk, refused(desk))
    other = desk.draft(2)
    assert told(ended(desk.open(), book=book)[1]) == ["ok: 1 draft of messages that were withdrawn, refused or replaced removed"]
    assert (desk.lying("drafts"), book.of(CleanupEvent.DRAFT_REMOVED)) == ([desk.message_id(2)], ["d-1"])
    assert ended(desk.open(), book=book)[1] == []
    assert other


def test_what_is_no_draft_of_that_message_is_left_alone(desk: Desk) -> None:
    book = withdrawn(desk, refused(desk), message_id="<another@example.org>")
    assert cleared(desk.open(), book) == []
    assert (desk.lying("drafts"), book.of(CleanupEvent.DRAFT_NOT_FOUND)) == ([desk.message_id()], ["d-1"])


def test_a_draft_that_was_sent_is_left_alone(desk: Desk) -> None:
    with desk.cloud.during(id_after_send="same"):
        arm = Arm()
        desk.once(arm=arm)
        (handle,) = arm.handles
        assert handle is not None
        book = withdrawn(desk, handle.id)
        assert cleared(desk.open(), book) == []
    assert (desk.lying("sentitems"), book.of(CleanupEvent.DRAFT_NOT_FOUND)) == ([desk.message_id()], ["d-1"])


def test_a_draft_that_is_gone_is_asked_for_once(desk: Desk) -> None:
    book = withdrawn(desk, "AAkALg-nothing-here")
    assert cleared(desk.open(), book) == cleared(desk.open(), book) == []
    assert desk.asked() == ["message.get"]


def test_a_draft_that_cannot_be_looked_at_is_told_and_tried_again(desk: Desk) -> None:
    book = withdrawn(desk, refused(desk))
    desk.cloud.fault("message.get", "status", status=403, code="ErrorAccessDenied")
    (only,) = told(cleared(desk.open(), book))
    assert only.startswith('warning: 1 draft of messages that will not go may lie in Drafts: "403 ErrorAccessDenied')
    assert told(cleared(desk.open(), book)) == ["ok: 1 draft of messages that were withdrawn, refused or replaced removed"]
