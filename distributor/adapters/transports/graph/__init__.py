"""Microsoft Graph: messages leave through mailboxes of Exchange Online, each as a draft first, so that nothing goes twice.

The ledger's ARM stands between the draft and its `send`: until then everything is proved unsent; after it only an answer tells, and
without one the message is ambiguous and looked for in the mailbox by its Message-ID (facts: sending.md 1.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from distributor.adapters.transports.graph.api import GraphMailboxApi
from distributor.adapters.transports.graph.check import examine
from distributor.adapters.transports.graph.cleanup import SentItemsCleaner
from distributor.adapters.transports.graph.mailbox import DraftSender
from distributor.clients.app_registration import AppRegistration, Tell, registration
from distributor.clients.entra import check
from distributor.clients.graph import IN_FLIGHT, ROOT, GraphClient, graph
from distributor.clients.http import MAX_WAIT
from distributor.clients.retry import Sleep
from distributor.clients.sent_items import SentItems
from distributor.errors import InvalidInput
from distributor.model.cleanup import CleanupStore
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.outcomes import OutboundMessage, Outcome
from distributor.model.people import key_of
from distributor.model.ports import CommitIntent

SIGN_IN = timedelta(minutes=5)  # that signing in twice may take at most, beside the time-outs of a request


@dataclass(frozen=True)
class Settings(AppRegistration):
    """`[transport]` of kind graph: the keys of the registration, and these."""

    mailbox: str | None = None  # its user principal name or id; without one, the sender's address
    graph: str = ROOT
    save_copy: bool = True
    per_minute: float | None = 30.0  # what Exchange Online takes from a mailbox without delaying it (facts: sending.md 1.2)
    connections: int = IN_FLIGHT
    daily: int | None = 10_000
    reply_timeout: float = 100.0  # seconds; the service's own gateways give up sooner


def open(  # noqa: A001  every adapter is opened by this name
    settings: Settings, accounts: Sequence[Account] = (), *, tell: Tell | None = None, sleep: Sleep = asyncio.sleep
) -> GraphTransport:
    """The transport; connects when its first message goes. `tell` shows a device code to a person. Raises Unusable."""
    if wrong := check(settings, "transport"):
        raise wrong
    _check(settings)
    return GraphTransport(settings, accounts, graph(registration(settings), settings.graph, tell=tell, sleep=sleep), sleep)


def _check(settings: Settings) -> None:
    if settings.mailbox == "":
        raise InvalidInput("empty", where="transport.mailbox", hint="write the user principal name of the mailbox, or remove the key")
    if not 1 <= settings.connections <= IN_FLIGHT:
        hint = f"write 1 to {IN_FLIGHT}: Graph refuses a fifth request side by side"
        raise InvalidInput(f"{settings.connections} connections to one mailbox", where="transport.connections", hint=hint)
    if settings.per_minute is not None and settings.per_minute <= 0:
        raise InvalidInput(
            f"{settings.per_minute:g} messages a minute are none", where="transport.rate", hint='write a rate such as "30/min"'
        )
    if settings.daily is not None and settings.daily < 1:
        raise InvalidInput(f"{settings.daily} messages a day are none", where="transport.daily", hint="write how many may go in 24 hours")


class GraphTransport:
    """The road through one mailbox, or through several."""

    def __init__(self, settings: Settings, accounts: Sequence[Account], client: GraphClient, sleep: Sleep) -> None:
        self.max_connections = settings.connections
        self.per_minute = settings.per_minute
        self.daily = settings.daily
        self.attempt_timeout = (
            2 * timedelta(seconds=settings.reply_timeout) + SIGN_IN + MAX_WAIT
        )  # a 401 is asked again; a mailbox may want rest
        self._settings, self.client, self.sleep = settings, client, sleep
        self.reply_timeout = settings.reply_timeout
        self._names = {key_of(one.address): one.username or one.address for one in accounts}
        if accounts and settings.mailbox:
            self._names[key_of(accounts[0].address)] = settings.mailbox  # the first is [sender]
        self._usual = settings.mailbox or next(iter(self._names.values()), None)
        self._used: dict[str, DraftSender] = {}
        self._book: CleanupStore | None = None
        self._clearing: SentItemsCleaner | None = None

    def connection(self, sender: str | None = None) -> GraphConnection:
        """A lane; all lanes of a mailbox share its connections."""
        return GraphConnection(self, sender)

    def tracker(self) -> SentItemsTracker:
        """The mailboxes themselves: they know a message by its Message-ID."""
        return SentItemsTracker(self)

    def name(self, sender: str | None) -> str | None:
        """The mailbox that a sender's messages leave through."""
        found = None if sender is None else self._names.get(key_of(sender))
        return found or self._usual or sender

    def mailbox(self, sender: str) -> DraftSender:
        """The same, with what is known of it in this run."""
        return self._known(self.name(sender) or sender)

    def _known(self, name: str) -> DraftSender:
        if name not in self._used:
            self._used[name] = DraftSender(self._box(name), drafted=self._drafted, news=self._news)
        return self._used[name]

    def _box(self, name: str) -> GraphMailboxApi:
        return GraphMailboxApi(name, self.client, self.reply_timeout)

    # --- what messages leave in the mailboxes ---------------------------------------------------------------------------

    def attach_ledger(self, store: CleanupStore) -> None:
        """What the ledger knows, for this run."""
        self._book = store
        self._clearing = self._clearing or self.clearing(store)

    def clearing(self, store: CleanupStore) -> SentItemsCleaner:
        """Whoever clears the mailboxes of this road."""
        return SentItemsCleaner(
            store, lambda sender: self._known(self.name(sender) or "").box, self.sleep, copies=not self._settings.save_copy
        )

    def _news(self) -> None:
        if self._clearing is not None:
            self._clearing.message_accepted()

    async def _drafted(self, sender: str) -> bool:
        return self._book is None or await asyncio.to_thread(self._book.drafted, sender)

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Remove what is not wanted of what messages left, and say what sending without drafts costs; never raises.

        Where outcomes were not written down, the copies are the only proof of them, and stay; a later run finds them.
        """
        mailed = [
            _without_drafts(used.box.name, used.mailed, save_copy=self._settings.save_copy) for used in self._used.values() if used.mailed
        ]
        clearing, self._clearing, self._book = self._clearing, None, None
        cleared = await self.tidied(clearing.end() if settled else clearing.leave()) if clearing is not None else []
        self._used = {}
        return [*mailed, *cleared, *await self.tidied(self.client.close())]

    async def tidied(self, work: Awaitable[list[Diagnostic] | None]) -> list[Diagnostic]:
        """What some clearing up had to say; the messages are settled, and what is left over must not look like a failed run."""
        try:
            return await work or []
        except Exception as error:  # noqa: BLE001  whatever it was, a later run does it
            return [Diagnostic("transport", "warning", f"the mailbox was not tidied up: {type(error).__name__}", _UNTIDY)]

    async def check(self) -> list[Diagnostic]:
        """What `doctor` says of the registration and of each mailbox."""
        names = dict.fromkeys([*self._names.values(), *([self._usual] if self._usual else [])])
        who, boxes = registration(self._settings), [self._box(name) for name in names]
        try:
            return await examine(self.client, who, boxes, save_copy=self._settings.save_copy)
        finally:
            await self.client.close()


class SentItemsTracker(SentItems):
    """They tell what became of messages, and can be cleared of what these left there (core.leavings.Clears)."""

    def __init__(self, transport: GraphTransport) -> None:
        super().__init__(transport.client, transport.name, timeout=transport.reply_timeout, sleep=transport.sleep)
        self._road = transport

    def attach_ledger(self, store: CleanupStore) -> None:
        """For the run whose transport this is."""
        self._road.attach_ledger(store)

    def has_work(self, store: CleanupStore) -> bool:
        """Whether there is anything to clear."""
        return self._road.clearing(store).has_work()

    async def clear(self, store: CleanupStore) -> list[Diagnostic]:
        """Clear them now."""
        return await self._road.tidied(self._road.clearing(store).end())


_UNTIDY = "`distributor track` tries again; the messages themselves are settled"


def _without_drafts(name: str, messages: int, *, save_copy: bool) -> Diagnostic:
    went = "1 message" if messages == 1 else f"{messages} messages"
    told = f"{name}: without Mail.ReadWrite {went} went by sendMail; an answer that is lost cannot be looked up" + (
        "" if save_copy else _KEPT
    )
    return Diagnostic("transport", "warning", told, "give the app Mail.ReadWrite for this mailbox; `distributor doctor` shows how")


# Only what goes as JSON is not kept there, and Exchange writes such a message anew: not our Message-ID, not our headers, and of text and
# HTML only one (facts: sending.md 1.1).
_KEPT = ", and `save_copy = false` cannot be honoured: sendMail keeps a copy of every message that is to arrive as it was made"


class GraphConnection:
    """One message at a time through a mailbox."""

    def __init__(self, transport: GraphTransport, sender: str | None) -> None:
        self._road = transport
        self._sender = sender

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Carry one message; see core.ports.Lane. What is cut off by cancelling is cut off with its connection."""
        return await self._road.mailbox(self._sender or message.sender).deliver(message, record_intent)

    async def close(self) -> None:
        """The connections are the mailbox's, and end with the run."""
