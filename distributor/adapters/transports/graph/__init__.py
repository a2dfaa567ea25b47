"""Microsoft Graph: sends messages through mailboxes of Exchange Online, each as a draft first, so that nothing is sent twice.

The intent is recorded in the ledger between making the draft and sending it: until then the message is certainly unsent; after it only an
answer tells, and without one the message is ambiguous and looked for in the mailbox by its Message-ID (facts: sending.md 1.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from distributor.adapters.transports import check_limits
from distributor.adapters.transports.graph.api import GraphMailboxApi
from distributor.adapters.transports.graph.check import NEEDS, examine
from distributor.adapters.transports.graph.cleanup import SentItemsCleaner
from distributor.adapters.transports.graph.mailbox import DraftSender
from distributor.clients.app_registration import AppRegistration, Tell, registration
from distributor.clients.entra import check
from distributor.clients.graph import IN_FLIGHT, ROOT, GraphClient, graph
from distributor.clients.http import MAX_WAIT
from distributor.clients.sent_items import SentItems
from distributor.clients.throttle import Sleep
from distributor.errors import InvalidInput
from distributor.microsoft.permissions import RequiredPermission
from distributor.model.attempts import OutboundMessage, Outcome
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.mailbox_cleanup import CleanupStore
from distributor.model.people import key_of
from distributor.model.ports import CommitIntent

SIGN_IN = timedelta(minutes=5)  # for signing in twice at most, in addition to the time-outs of a request


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


def open(  # noqa: A001  every adapter has this name
    settings: Settings, accounts: Sequence[Account] = (), *, tell: Tell | None = None, sleep: Sleep = asyncio.sleep
) -> GraphTransport:
    """The transport; connects for its first message. `tell` shows a device code to a person. Raises InvalidInput."""
    check_settings(settings)
    return GraphTransport(settings, accounts, graph(registration(settings), settings.graph, tell=tell, sleep=sleep), sleep)


def needs(_: Settings) -> tuple[RequiredPermission, ...]:
    """The permissions without which it cannot work."""
    return NEEDS


def check_settings(settings: Settings, _: Sequence[Account] = ()) -> None:
    """Raise InvalidInput for settings with which nothing could be sent."""
    if wrong := check(settings, "transport"):
        raise wrong
    if settings.mailbox == "":
        raise InvalidInput("empty", where="transport.mailbox", hint="write the user principal name of the mailbox, or remove the key")
    if not 1 <= settings.connections <= IN_FLIGHT:
        hint = f"write 1 to {IN_FLIGHT}: Graph refuses more concurrent requests"
        raise InvalidInput(f"{settings.connections} is out of range", where="transport.connections", hint=hint)
    check_limits(settings.per_minute, settings.daily, "write a number of messages in 24 hours")


class GraphTransport:
    """Sends through one mailbox, or through several."""

    def __init__(self, settings: Settings, accounts: Sequence[Account], client: GraphClient, sleep: Sleep) -> None:
        self.max_connections = settings.connections
        self.per_minute = settings.per_minute
        self.daily = settings.daily
        self.attempt_timeout = (
            2 * timedelta(seconds=settings.reply_timeout) + SIGN_IN + MAX_WAIT
        )  # a 401 is tried again; a mailbox may be throttled
        self._settings, self.client, self.sleep = settings, client, sleep
        self.reply_timeout = settings.reply_timeout
        self._names = {key_of(one.address): one.username or one.address for one in accounts}
        if accounts and settings.mailbox:
            self._names[key_of(accounts[0].address)] = settings.mailbox  # the first is [sender]
        self._usual = settings.mailbox or next(iter(self._names.values()), None)
        self._used: dict[str, DraftSender] = {}
        self._store: CleanupStore | None = None
        self._cleaner: SentItemsCleaner | None = None

    def connection(self, sender: str | None = None) -> GraphConnection:
        """A connection for messages; those of one mailbox share its HTTP connections."""
        return GraphConnection(self, sender)

    def tracker(self) -> SentItemsTracker:
        """Looks messages up in the mailboxes, by their Message-ID."""
        return SentItemsTracker(self)

    def name(self, sender: str | None) -> str | None:
        """The name of the mailbox that sends a sender's messages."""
        found = None if sender is None else self._names.get(key_of(sender))
        return found or self._usual or sender

    def mailbox(self, sender: str) -> DraftSender:
        """The mailbox that sends a sender's messages, with what this run knows about it."""
        return self._known(self.name(sender) or sender)

    def _known(self, name: str) -> DraftSender:
        if name not in self._used:
            self._used[name] = DraftSender(self._api(name), had_drafts=self._had_drafts, on_accepted=self._on_accepted)
        return self._used[name]

    def _api(self, name: str) -> GraphMailboxApi:
        return GraphMailboxApi(name, self.client, self.reply_timeout)

    # --- cleaning up copies and drafts in the mailboxes ----------------------------------------------------------------

    def attach_ledger(self, store: CleanupStore) -> None:
        """Use the ledger for cleanup in this run."""
        self._store = store
        self._cleaner = self._cleaner or self.cleaner(store)

    def cleaner(self, store: CleanupStore) -> SentItemsCleaner:
        """A cleaner for the mailboxes of this transport."""
        return SentItemsCleaner(
            store, lambda sender: self._known(self.name(sender) or "").api, self.sleep, copies=not self._settings.save_copy
        )

    def _on_accepted(self) -> None:
        if self._cleaner is not None:
            self._cleaner.message_accepted()

    async def _had_drafts(self, sender: str) -> bool:
        return self._store is None or await asyncio.to_thread(self._store.drafted, sender)

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Clean up the mailboxes, and warn where messages were sent without drafts; never raises.

        Where outcomes could not be settled, the copies are their only proof and stay; a later run removes them.
        """
        save_copy = self._settings.save_copy
        mailed = [_without_drafts(used.api.name, used.mailed, save_copy=save_copy) for used in self._used.values() if used.mailed]
        cleaner, self._cleaner, self._store = self._cleaner, None, None
        cleaned = await self.report_cleanup(cleaner.end() if settled else cleaner.leave()) if cleaner is not None else []
        self._used = {}
        return [*mailed, *cleaned, *await self.report_cleanup(self.client.close())]

    async def report_cleanup(self, work: Awaitable[list[Diagnostic] | None]) -> list[Diagnostic]:
        """The diagnostics of some cleanup; its failure must not look like a failed run, for the messages are settled."""
        try:
            return await work or []
        except Exception as error:  # noqa: BLE001  whatever it was, a later run tries again
            return [Diagnostic("transport", "warning", f"the mailbox was not cleaned up: {type(error).__name__}", _UNTIDY)]

    async def check(self) -> list[Diagnostic]:
        """Check the app registration and each mailbox."""
        names = dict.fromkeys([*self._names.values(), *([self._usual] if self._usual else [])])
        who, boxes = registration(self._settings), [self._api(name) for name in names]
        try:
            return await examine(self.client, who, boxes, save_copy=self._settings.save_copy)
        finally:
            await self.client.close()


class SentItemsTracker(SentItems):
    """Looks messages up in the sending mailboxes, and cleans these (model.cleanup.MailboxCleaner)."""

    def __init__(self, transport: GraphTransport) -> None:
        super().__init__(transport.client, transport.name, timeout=transport.reply_timeout, sleep=transport.sleep)
        self._transport = transport

    def attach_ledger(self, store: CleanupStore) -> None:
        """Use the ledger for cleanup in the transport's run."""
        self._transport.attach_ledger(store)

    def has_work(self, store: CleanupStore) -> bool:
        """Whether there is anything to clean up."""
        return self._transport.cleaner(store).has_work()

    async def clear(self, store: CleanupStore) -> list[Diagnostic]:
        """Clean the mailboxes now."""
        return await self._transport.report_cleanup(self._transport.cleaner(store).end())


_UNTIDY = "run `distributor track` to try again; message status is not affected"


def _without_drafts(name: str, messages: int, *, save_copy: bool) -> Diagnostic:
    went = "1 message" if messages == 1 else f"{messages} messages"
    message = f"{name}: {went} sent by sendMail without Mail.ReadWrite; if a response is lost, its message cannot be looked up" + (
        "" if save_copy else _KEPT
    )
    return Diagnostic("transport", "warning", message, "grant the app Mail.ReadWrite for this mailbox; `distributor doctor` shows how")


# Only a message sent as JSON is not kept there, and Exchange writes such a message anew: without our Message-ID and headers, and with text
# or HTML only (facts: sending.md 1.1).
_KEPT = ", and `save_copy = false` has no effect: sendMail keeps a copy of every MIME message"


class GraphConnection:
    """Sends one message at a time through a mailbox."""

    def __init__(self, transport: GraphTransport, sender: str | None) -> None:
        self._transport = transport
        self._sender = sender

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Send one message; see model.ports.Connection. Cancelling closes the HTTP connection of its request."""
        return await self._transport.mailbox(self._sender or message.sender).deliver(message, record_intent)

    async def close(self) -> None:
        """Nothing: the mailbox's HTTP connections are closed at the end of the run."""
