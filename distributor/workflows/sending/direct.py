"""Sends messages that are not in the outbox, one after the other: passwords and reminders.

They use the transport and count against the limits of their mailbox as the messages with packages do. Each caller records its own intent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from distributor.errors import Error, ServiceUnavailable
from distributor.mail.message import Mailbox
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, NotSent, OutboundMessage, Outcome
from distributor.model.delivery import ALL_SENDERS, SenderFilter
from distributor.model.issues import Diagnostic
from distributor.model.people import key_of
from distributor.model.ports import CommitIntent, Connection, Ledger, Transport
from distributor.workflows.sending.limits import DAY, DailyQuota, RateLimiter

_A_MINUTE = timedelta(minutes=1)
_FAILURES = 3  # messages in a row that were not sent because of the connection or the service


class SentCopies(Protocol):
    """Remembers the copies and drafts that messages leave in a mailbox, for their removal (`adapters.channels.mail`)."""

    def note(self, outbound: OutboundMessage, draft: DraftRef | None, outcome: Outcome) -> None:
        """Remember a message and its draft."""
        ...


@dataclass(frozen=True, slots=True)
class DirectSendingContext:
    """What sending depends on. `senders`: all mailboxes that send, the first one first; `command`: what a hint tells to run again."""

    ledger: Ledger
    transport: Transport
    senders: Sequence[Mailbox]
    copies: SentCopies
    command: str
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class DirectResult(Protocol):
    """What happened to one message."""

    @property
    def outcome(self) -> str:
        """In a word, such as `sent`."""
        ...


Result = TypeVar("Result", bound=DirectResult)


@dataclass(slots=True)
class DirectReport(Generic[Result]):
    """The results of a run; `error` ended it early."""

    results: list[Result] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    error: Error | None = None

    def count(self, outcome: str) -> int:
        """How many ended so."""
        return sum(result.outcome == outcome for result in self.results)


class DirectSender:
    """The connections of one run, and the limits of its mailboxes. `error` is why no more messages are sent."""

    def __init__(self, context: DirectSendingContext) -> None:
        self._context = context
        self.error: Error | None = None
        self._connections: dict[str, Connection] = {}
        self._limits: dict[str, _MailboxLimits] = {}
        self._failures = 0

    def mailbox(self, address: str | None) -> Mailbox:
        """The mailbox with this address while it is configured, else the first."""
        senders = self._context.senders
        return next((mailbox for mailbox in senders if str(mailbox.address) == address), senders[0])

    async def may_send(self, sender: Mailbox) -> bool:
        """Wait for the mailbox's turn; False, with an `error`, where it may send no more today, or another process sends from it."""
        key = str(sender.address)
        if key not in self._limits:
            self._limits[key] = await asyncio.to_thread(_MailboxLimits, self._context, sender)
        try:
            await self._limits[key].wait(self._context)
        except ServiceUnavailable as error:
            self.error = error
            return False
        return True

    async def deliver(self, outbound: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Send a message for which `may_send` was True. Sets `error` where the service refuses everything."""
        connection = self._connections.setdefault(outbound.sender, self._context.transport.connection(outbound.sender))
        intent = _Intent(record_intent)
        outcome = await connection.deliver(outbound, intent)
        self._limits[outbound.sender].release(self._context, left=isinstance(outcome, Accepted | Ambiguous))
        self._context.copies.note(outbound, intent.draft, outcome)
        if intent.denied:
            return outcome
        self._failures = self._failures + 1 if isinstance(outcome, NotSent) else 0
        if isinstance(outcome, NotSent) and (outcome.fatal or self._failures >= _FAILURES):
            hint = f"run `{self._context.command}` again later"
            self.error = outcome.fatal or ServiceUnavailable(outcome.response, where="transport", hint=hint)
        return outcome

    async def finish(self) -> list[Diagnostic]:
        """Close the connections and clean up; what could not be cleaned up."""
        for connection in self._connections.values():
            await connection.close()
        return await self._context.transport.finish()


@dataclass(slots=True)
class _Intent:
    """What the caller records, the message's draft, and whether the caller denied it: then no service has failed."""

    record: CommitIntent
    draft: DraftRef | None = None
    denied: bool = False

    async def __call__(self, handle: DraftRef | None = None, /) -> bool:
        self.draft = handle
        self.denied = not await self.record(handle)
        return not self.denied


class _MailboxLimits:
    """The lock, the rate limit and the daily quota of a mailbox, which it shares with the messages of packages."""

    def __init__(self, context: DirectSendingContext, sender: Mailbox) -> None:
        ledger, transport, now = context.ledger, context.transport, context.ledger.now()
        addresses = [str(mailbox.address) for mailbox in context.senders]
        address = str(sender.address)
        own = ALL_SENDERS
        if len(addresses) > 1:
            own = SenderFilter(without=frozenset(addresses[1:])) if address == addresses[0] else SenderFilter(only=address)
        limited = transport.per_minute is not None or transport.daily is not None
        self._locked = not limited or ledger.lock_mailbox(key_of(own.only or ""))
        self._address = address
        minute = ledger.sent_times(now - _A_MINUTE, own) if transport.per_minute else []
        self._rate = RateLimiter(transport.per_minute, minute) if transport.per_minute else None
        day = ledger.sent_times(now - DAY, own) if transport.daily else []
        self._quota = DailyQuota(transport.daily, deque(day)) if transport.daily else None

    async def wait(self, context: DirectSendingContext) -> None:
        """Wait for the next turn. Raises ServiceUnavailable where another process has the mailbox, or its quota is used up."""
        if not self._locked:
            hint = f"run `{context.command}` again when it has ended"
            raise ServiceUnavailable("another `distributor send` is using the mailbox", where=self._address, hint=hint)
        now = context.ledger.now()
        if self._quota is not None and not self._quota.acquire(now):
            again = self._quota.next_free_at()
            hint = f"run `{context.command}` after {again:%Y-%m-%d %H:%M} UTC" if again else "run it again tomorrow"
            raise ServiceUnavailable("the mailbox's daily quota is used up", where=self._address, hint=hint)
        if self._rate is not None:
            await context.sleep(self._rate.reserve(now))

    def release(self, context: DirectSendingContext, *, left: bool) -> None:
        """The message is done; it counts against the quota only if it may have left."""
        if self._quota is not None:
            self._quota.release(context.ledger.now(), left=left)
