"""Removes copies in Sent Items and unsent drafts from the sending mailboxes, and records that in the ledger.

The service keeps a copy of every message that is sent as MIME. It appears some seconds after the message was accepted, so it is looked for
again, by later runs too; and a draft that nobody sends stays for ever. A copy is proof until the ledger has settled its message. It takes
about one request for each message, slowly enough to leave most of the mailbox's request limit to others (facts: sending.md 1.2).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from distributor.adapters.transports.graph.api import GraphMailboxApi
from distributor.adapters.transports.graph.responses import RequestStep, Response, describe
from distributor.clients.graph import IN_FLIGHT, HttpResponse
from distributor.clients.http import BUSY, MAX_WAIT
from distributor.clients.sent_items import MailboxMessage
from distributor.clients.throttle import RetryPolicy, Sleep
from distributor.errors import Error
from distributor.model.attempts import DraftRef
from distributor.model.issues import Diagnostic
from distributor.model.mailbox_cleanup import CleanupEvent, CleanupItem, CleanupStore

AGAIN = (0.0, 5.0, 15.0, 40.0)  # seconds before each search at the end, as long as copies of messages just sent are missing
JUST = timedelta(minutes=5)
LONG_ENOUGH = timedelta(hours=24)  # after that a copy is no longer looked for
MANY = 300  # accepted messages after which copies are removed while others are sent
OFTEN = 600.0  # seconds after which they are removed though the messages were fewer
BATCH = 50  # removals recorded in one transaction
MARGIN = timedelta(minutes=10)  # for clocks that differ, beyond the known skew
AT_ONCE = 3000  # removals without a pause; 10 000 requests in ten minutes are a mailbox's limit
PAUSE = IN_FLIGHT / 10  # seconds after each further one, so that all connections together make ten a second
_PATIENCE = RetryPolicy(5, timedelta(seconds=5), MAX_WAIT)  # with one removal
_OURS = ("202 ", "found in Sent Items")  # how responses of messages sent through Graph begin
_BY_HAND = "delete them from {folder} of {mailbox}, or set a retention policy"
_LATER = "the next `distributor send` or `distributor track` searches again"


class SentItemsCleaner:
    """Cleans all mailboxes of a run: from time to time while messages are sent, one request at a time; and at the end."""

    def __init__(self, store: CleanupStore, box: Callable[[str | None], GraphMailboxApi], sleep: Sleep, *, copies: bool) -> None:
        """`box`: the mailbox of a sender; `copies`: whether to remove those of sent messages, or drafts only."""
        self._store, self._box, self._sleep, self._copies = store, box, sleep, copies
        self._began = datetime.now(UTC)
        self._boxes: dict[str, MailboxCleanup] = {}
        self._beside: asyncio.Task[None] | None = None
        self._messages = 0  # accepted since copies were last removed
        self._due: float | None = None  # by the loop's clock
        self._ending = False

    def has_work(self) -> bool:
        """Whether there is anything to clean up."""
        return bool(self._store.drafts() or self._copies_to_remove())

    def message_accepted(self) -> None:
        """Count an accepted message; clean up in the background after many, or after a while."""
        if not self._copies:
            return
        now = asyncio.get_running_loop().time()
        self._messages, self._due = self._messages + 1, now + OFTEN if self._due is None else self._due
        if (self._messages >= MANY or now >= self._due) and (self._beside is None or self._beside.done()):
            self._messages, self._due = 0, now + OFTEN
            self._beside = asyncio.ensure_future(self._while_sending())

    async def end(self) -> list[Diagnostic]:
        """Remove everything that can be removed; raises what the ledger raises."""
        await self.leave()
        await self._drafts()
        left = await self._round(IN_FLIGHT)
        for seconds in AGAIN[1:]:
            if not self._just_missed(left):
                break
            await self._sleep(seconds)
            left = await self._round(IN_FLIGHT)
        now = datetime.now(UTC)
        return [diagnostic for name, box in self._boxes.items() for diagnostic in await box.report(left.get(name, ()), self._began, now)]

    async def leave(self) -> None:
        """Wait for the cleanup in the background; leave the rest to a later run."""
        self._ending = True
        if self._beside is not None:
            await asyncio.wait({self._beside})

    async def _while_sending(self) -> None:
        try:
            await self._round(1)
        except Exception:  # noqa: BLE001  done again at the end of the run, where a failure is reported
            return

    def _copies_to_remove(self) -> list[CleanupItem]:
        """Messages whose copies to remove. One without a draft may have been sent by another transport, where no copy was kept."""
        found = self._store.copies() if self._copies else []
        return [message for message in found if message.handles or message.response.startswith(_OURS)]

    async def _round(self, connections: int) -> dict[str, list[CleanupItem]]:
        """Clean each mailbox once; the messages whose copies remain."""
        messages = self._sorted(await asyncio.to_thread(self._copies_to_remove))
        ending = self._ending
        await asyncio.gather(
            *(self._boxes[name].clear(theirs, connections, lambda: ending or not self._ending) for name, theirs in messages.items())
        )
        gone = {delivery for box in self._boxes.values() for delivery in box.removed}
        return {name: [message for message in theirs if message.delivery not in gone] for name, theirs in messages.items()}

    def _sorted(self, messages: Sequence[CleanupItem]) -> dict[str, list[CleanupItem]]:
        found: dict[str, list[CleanupItem]] = {}
        for message in messages:
            box = self._box(message.sender)
            self._boxes.setdefault(box.name, MailboxCleanup(box, self._store, self._sleep))
            found.setdefault(box.name, []).append(message)
        return found

    def _just_missed(self, left: Mapping[str, Sequence[CleanupItem]]) -> bool:
        since = max(self._began, datetime.now(UTC) - JUST)
        return any(not self._boxes[name].refused and any(one.last > since for one in theirs) for name, theirs in left.items())

    async def _drafts(self) -> None:
        messages = self._sorted(await asyncio.to_thread(self._store.drafts))
        await asyncio.gather(*(self._boxes[name].clear_drafts(theirs) for name, theirs in messages.items()))


class MailboxCleanup:
    """The copies and drafts of one mailbox."""

    def __init__(self, box: GraphMailboxApi, store: CleanupStore, sleep: Sleep) -> None:
        self.removed: dict[str, CleanupItem] = {}  # by delivery
        self._box, self._store, self._sleep = box, store, sleep
        self._removals = 0
        self._tried: set[str] = set()  # Message-IDs whose removal was asked for
        self._stuck: set[str] = set()  # Message-IDs whose removal failed
        self._refused: str | None = None  # why nothing more can be done
        self._unwritten: list[str] = []  # deliveries
        self._drafts = Counter[str]()  # by result
        self._why = ""  # why drafts cannot be removed

    @property
    def refused(self) -> bool:
        """Whether the last cleanup failed."""
        return self._refused is not None

    # --- copies --------------------------------------------------------------------------------------------------------

    async def clear(self, messages: Sequence[CleanupItem], connections: int, go_on: Callable[[], bool]) -> None:
        """Remove the copies that are there."""
        self._refused = None
        try:
            await self._clear({message.message_id.casefold(): message for message in messages}, connections, go_on)
            await self._write()
        except Error as error:
            self._refused = str(error)

    async def _clear(self, messages: Mapping[str, CleanupItem], connections: int, go_on: Callable[[], bool]) -> None:
        found = await self._found(messages)
        for name in self._tried & messages.keys() - set(found.values()):  # the removal's answer was lost, and the copy is gone
            await self._gone(messages[name])
        self._stuck, todo = set(), iter(found.items())

        async def work() -> None:
            for message, name in todo:
                if self._refused is not None or not go_on():
                    return
                self._tried.add(name)
                if await self._remove(message):
                    await self._gone(messages[name])
                else:
                    self._stuck.add(name)
                if connections == 1:
                    await self._sleep(PAUSE)

        await asyncio.gather(*(work() for _ in range(connections)))

    async def _gone(self, message: CleanupItem) -> None:
        self.removed[message.delivery] = message
        self._unwritten.append(message.delivery)
        if len(self._unwritten) >= BATCH:
            await self._write()

    async def _write(self) -> None:
        done, self._unwritten = self._unwritten, []
        if done:
            await asyncio.to_thread(self._store.note_cleared, done, CleanupEvent.COPY_REMOVED)

    async def _found(self, messages: Mapping[str, CleanupItem]) -> dict[str, str]:
        """Message-IDs of copies by their ids; all of them before the first removal, which would shift the pages."""
        found: dict[str, str] = {}
        async for row in self._box.sent_since(self._from(min(message.first for message in messages.values()))):
            name = str(row.get("internetMessageId") or "").casefold()
            if name in messages:
                found[str(row.get("id") or "")] = name
        return found

    def _from(self, first: datetime) -> str:
        """When to search from, by the service's clock as far as its skew is known."""
        moment = first - MARGIN + min(self._box.graph.skew or timedelta(), timedelta())
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def _remove(self, message: str) -> bool:
        self._removals += 1
        if self._removals > AT_ONCE:
            await self._sleep(PAUSE)
        response = await _PATIENCE.call(lambda: self._box.remove(message), self._sleep)
        if response is not None and _ends(response):
            self._refused = describe(RequestStep.REMOVE, response)
        return response is None

    # --- drafts --------------------------------------------------------------------------------------------------------

    async def clear_drafts(self, messages: Sequence[CleanupItem]) -> None:
        """Remove drafts that certainly belong to messages that will not be sent."""
        for message in messages:
            marks = [await self._clear_draft(draft) for draft in message.handles]
            if None in marks:
                self._drafts["left"] += 1
                continue
            mark = CleanupEvent.DRAFT_REMOVED if CleanupEvent.DRAFT_REMOVED in marks else CleanupEvent.DRAFT_NOT_FOUND
            self._drafts[mark] += 1
            await asyncio.to_thread(self._store.note_cleared, [message.delivery], mark)

    async def _clear_draft(self, draft: DraftRef) -> CleanupEvent | None:
        """Whether it was removed or not found; None: unknown. After one failure no other is tried."""
        if self._why:
            return None
        match await self._box.look_at(draft.id):
            case MailboxMessage(draft=True, message_id=name) if name.casefold() == draft.message_id.casefold():
                if await self._remove(draft.id):
                    return CleanupEvent.DRAFT_REMOVED
                self._why = self._refused or "the service did not delete it"
            case MailboxMessage() | HttpResponse(code="ErrorItemNotFound"):
                return CleanupEvent.DRAFT_NOT_FOUND
            case response:
                self._why = describe(RequestStep.LOOK, response)
        return None

    # --- report ---------------------------------------------------------------------------------------------------------

    async def report(self, left: Sequence[CleanupItem], began: datetime, now: datetime) -> list[Diagnostic]:
        """What was removed for earlier runs, and what remains; a copy that was not found for long is reported once more, then never."""
        stay = [message for message in left if self.refused or message.message_id.casefold() in self._stuck]
        missed = [message for message in left if message not in stay]
        lost = [message for message in missed if message.last < now - LONG_ENOUGH]
        if lost:
            await asyncio.to_thread(self._store.note_cleared, [message.delivery for message in lost], CleanupEvent.COPY_NOT_FOUND)
        earlier = sum(message.last < began for message in self.removed.values())
        return [*self._good(earlier), *self._bad(len(stay), len(missed) - len(lost), len(lost))]

    def _good(self, copies: int) -> Iterator[Diagnostic]:
        if copies:
            message = f"{self._box.name}: removed {_counted(copies, 'copy', 'copies')} of earlier runs from Sent Items"
            yield Diagnostic("transport", "ok", message)
        if drafts := self._drafts[CleanupEvent.DRAFT_REMOVED]:
            message = f"removed {_counted(drafts, 'draft', 'drafts')} of messages that were withdrawn, rejected or replaced"
            yield Diagnostic("transport", "ok", f"{self._box.name}: {message}")

    def _bad(self, stay: int, missed: int, lost: int) -> Iterator[Diagnostic]:
        name = self._box.name
        if stay:
            why = f': "{self._refused}"' if self._refused is not None else "; the service did not delete them"
            copies = "the copy of 1 message stays" if stay == 1 else f"the copies of {stay} messages stay"
            yield self._warning(f"{copies} in Sent Items{why}", _BY_HAND.format(folder="Sent Items", mailbox=name))
        if missed:
            yield self._warning(f"{_copies(missed)} not found in Sent Items yet", _LATER)
        if lost:
            hint = f"if someone moves messages out of Sent Items of {name}, search for the copies there"
            yield self._warning(f"{_copies(lost)} not found in Sent Items for a day; no longer searched for", hint)
        if drafts := self._drafts["left"]:
            message = f'{_counted(drafts, "draft", "drafts")} of messages that will not be sent may be left in Drafts: "{self._why}"'
            yield self._warning(message, _BY_HAND.format(folder="Drafts", mailbox=name))

    def _warning(self, message: str, hint: str) -> Diagnostic:
        return Diagnostic("transport", "warning", f"{self._box.name}: {message}", hint)


def _ends(response: Response) -> bool:
    """Whether nothing more can be removed in this run."""
    match response:
        case HttpResponse(status=status):
            return status in {401, 403} or (status in BUSY and response.retry_after_exceeds(MAX_WAIT))
    return isinstance(response, Error)


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _copies(number: int) -> str:
    return "the copy of 1 message was" if number == 1 else f"the copies of {number} messages were"
