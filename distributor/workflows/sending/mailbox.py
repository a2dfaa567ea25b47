"""Sends one mailbox's messages over its connections, within the mailbox's rate limit and daily quota.

Mailboxes of one run share the committer and the limit of the run; one that stops does not stop the others. A connection takes its next
message without waiting until the last one is settled. A mailbox with limits is used by one process at a time: other processes on the same
ledger wait for its lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from distributor.errors import Error, ServiceUnavailable
from distributor.model.attempts import Accepted, Ambiguous, Claim, DraftRef, NotSent, Outcome
from distributor.model.delivery import LeaseHolder, SenderFilter
from distributor.model.people import key_of
from distributor.model.ports import CommitIntent, Connection, Ledger, Transport
from distributor.model.states import State
from distributor.workflows.sending.claims import ClaimQueue, SendAttempt, SendLimit, Settler
from distributor.workflows.sending.commits import GroupCommitter
from distributor.workflows.sending.limits import DAY, Backoff, DailyQuota, RateLimiter
from distributor.workflows.sending.report import CircuitBreaker, EarlyStop, OutcomeCounter, SendOptions, Tell, WaitNotice
from distributor.workflows.sending.shutdown import Sleep, sleep_unless

SHORT_WAIT = timedelta(minutes=2)  # a run waits so long for deferred messages before it ends
LOCK_RETRY_SECONDS = 1.0  # seconds between two tries to lock a mailbox that another process uses


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderContext:
    """What the senders of one run share."""

    ledger: Ledger
    transport: Transport
    owner: LeaseHolder
    options: SendOptions
    limit: SendLimit
    committer: GroupCommitter
    counter: OutcomeCounter
    sleep: Sleep
    now: Callable[[], datetime]  # for rate limits and quotas; never set back
    tell: Tell
    task: Callable[[Awaitable[None]], asyncio.Task[None]]  # its failure ends the run
    recover: Callable[[], Awaitable[int]]  # recovers expired leases; how many messages are due again


class MailboxSender:
    """The connections of one sender, or of all senders."""

    def __init__(self, context: SenderContext, senders: SenderFilter) -> None:
        self._context, self._senders = context, senders
        transport = context.transport
        self._sender = senders.only or next(iter(context.options.senders), None)
        packing = context.options.packing is not None
        self.queue = ClaimQueue(self._claim, self._wait_for_deferred, transport.max_connections, context.limit, packing=packing)
        self._settler = Settler(context.committer, self.queue, context.counter)
        self.tasks: list[asyncio.Task[None]] = []
        self._interrupted_attempts: list[SendAttempt] = []  # claimed, and without an outcome so far
        self._in_flight: set[SendAttempt] = set()
        self.error: Error | None = None  # why this mailbox stopped early
        self.locked = transport.per_minute is None and transport.daily is None  # without limits, processes need no lock
        self._opened, self._quota_released = asyncio.Event(), asyncio.Event()
        self._circuit_breaker = CircuitBreaker()
        self._rate_limiter: RateLimiter | None = None
        self._daily_quota: DailyQuota | None = None
        self._waited = timedelta()  # for deferred messages, since one was accepted
        self._last_event = 0  # of the ledger, before this run

    @property
    def in_flight(self) -> int:
        """How many messages the connections are sending."""
        return len(self._in_flight)

    async def acquire_lock(self) -> bool:
        """Lock the mailbox for this process; whether the lock is held."""
        if not self.locked:  # the lock of the first mailbox, which also sends what no other does, is that of the empty name
            key = key_of(self._senders.only or "")
            self.locked = await self._context.committer.call(lambda: self._context.ledger.lock_mailbox(key))
        return self.locked

    def start(self, last_event: int) -> None:
        """Start the connections; they send once the mailbox is locked. `last_event`: the ledger's last before this run."""
        self._last_event = last_event
        connections = range(self._context.transport.max_connections)
        self.tasks = [self._context.task(self._open()), *(self._context.task(self._connection_loop()) for _ in connections)]

    def stop(self, error: Error) -> None:
        """Claim no more for this mailbox; messages in flight finish."""
        self.error = self.error or error
        self.queue.end()

    def cancel(self) -> None:
        """Interrupt the messages in flight."""
        for connection in self.tasks:
            connection.cancel()

    async def finalize(self) -> list[Claim]:
        """Settle as ambiguous what was interrupted after its intent was recorded; the other claims, for release."""
        for attempt in self._interrupted_attempts:
            if attempt.intent_recorded:
                self._settler.settle(attempt.claim, State.AMBIGUOUS, "interrupted while the message was being sent")
        return self.queue.unused() + [attempt.claim for attempt in self._interrupted_attempts if not attempt.intent_recorded]

    # --- before the first message ----------------------------------------------------------------------------------

    async def _open(self) -> None:
        ready = False
        try:
            if await self._wait_for_lock():
                await self._load_recent_sends()
                ready = True
        finally:
            if not ready:
                self.queue.end()
            self._opened.set()

    async def _wait_for_lock(self) -> bool:
        """Wait for a mailbox that another process uses; False when nothing is left to send."""
        announced = False
        while not await self.acquire_lock():
            if not await self._has_pending():
                return False
            if not announced:
                name = self._sender or "this mailbox"
                self._context.tell(WaitNotice(None, f"another `distributor send` is using {name}; waiting for it to finish"))
                announced = True
            if await sleep_unless(LOCK_RETRY_SECONDS, self._context.sleep, self.queue.ended):
                return False
        return True

    async def _has_pending(self) -> bool:
        """Whether messages are left that this mailbox could send: now, or after the other process dies."""
        ledger, options = self._context.ledger, self._context.options
        if self._context.limit.left == 0:
            return False
        return self.queue.packing or await self._context.committer.call(
            lambda: ledger.has_pending(options.scope, self._senders, early=options.early)
        )

    async def _load_recent_sends(self) -> None:
        """Count what any process sent through the mailbox in the last minute and the last 24 hours."""
        context, rate, daily = self._context, self._context.transport.per_minute, self._context.transport.daily
        if rate is None and daily is None:
            return
        await context.committer.call(context.now)  # the first call asks the database, later ones do not
        since = context.now() - max(DAY if daily else timedelta(), RateLimiter(rate).window if rate else timedelta())
        sent = await context.committer.call(lambda: context.ledger.sent_times(since, self._senders))
        self._rate_limiter = RateLimiter(rate, sent) if rate else None
        self._daily_quota = DailyQuota(daily, deque(sent)) if daily else None

    # --- sending one message: the steps in workflows/sending/__init__.py -------------------------------------------

    async def _connection_loop(self) -> None:
        """Send messages over one connection until the claim queue ends."""
        connection, backoff = self._context.transport.connection(self._sender), Backoff()
        await self._opened.wait()
        try:
            while claim := await self.queue.next():  # (0) claim
                attempt = SendAttempt(claim)
                self._interrupted_attempts.append(attempt)  # until there is an outcome
                outcome = await self._send_one(connection, attempt)  # (1) to (6)
                if outcome is None:
                    return
                self._interrupted_attempts.remove(attempt)
                self._settler.record_outcome(attempt, outcome)  # (7) settle; not awaited
                await self._back_off(outcome, backoff)  # (8)
        finally:
            with suppress(asyncio.CancelledError):
                await connection.close()

    async def _send_one(self, connection: Connection, attempt: SendAttempt) -> Outcome | None:
        """The outcome, or None when the run ended before this message could begin."""
        # (1) quota; taken before the wait, so that connections side by side do not exceed it
        if not await self._acquire_quota(attempt.claim.message.sender):
            return None
        may_have_left = False
        try:
            # (2) rate limit
            seconds = self._rate_limiter.reserve(self._context.now()) if self._rate_limiter else 0.0
            if seconds > 0 and await sleep_unless(seconds, self._context.sleep, self.queue.ended):
                return None
            may_have_left = True  # until the outcome tells: it may be interrupted at any point from here on
            self._in_flight.add(attempt)
            try:
                # (3) connect, prepare, (4) record intent by the callback, (5) transmit, (6) classify
                outcome = await connection.deliver(attempt.claim.message, self._commit_intent(attempt))
            finally:
                self._in_flight.remove(attempt)
            may_have_left = isinstance(outcome, Accepted | Ambiguous)
            return outcome
        finally:
            if self._daily_quota is not None:
                self._daily_quota.release(self._context.now(), left=may_have_left)
                self._quota_released.set()

    async def _acquire_quota(self, sender: str) -> bool:
        """Take one message of the quota; False when it is used up, or the run ended while messages in flight might give theirs back."""
        while self._daily_quota is not None and not self._daily_quota.acquire(self._context.now()):
            if (free_at := self._daily_quota.next_free_at()) is not None:
                hint = f"run `distributor send` again after {free_at:%Y-%m-%d %H:%M} UTC"
                self.stop(EarlyStop(f"{self._daily_quota.most} messages in 24 hours is the limit of this mailbox", where=sender, hint=hint))
            if self.queue.ended.is_set():
                return False
            self._quota_released.clear()
            await self._quota_released.wait()
        return True

    def _commit_intent(self, attempt: SendAttempt) -> CommitIntent:
        """Step (4), which a connection awaits before the point of no return."""
        context, rate_limiter = self._context, self._rate_limiter

        def commit(draft: DraftRef | None = None, /) -> Awaitable[bool]:
            attempt.pending = context.committer.record_intent(attempt.claim, context.transport.attempt_timeout, draft)
            return attempt.pending.future

        async def commit_within_rate(draft: DraftRef | None = None, /) -> bool:
            assert rate_limiter is not None  # noqa: S101  for the type checker
            now = context.now()
            if (at := rate_limiter.confirm(now)) > now:
                await context.sleep((at - now).total_seconds())
            applied = attempt in self._in_flight and await commit(draft)  # its connection may have given up meanwhile
            rate_limiter.reschedule(at, context.now())
            return applied

        return commit_within_rate if rate_limiter else commit

    async def _back_off(self, outcome: Outcome, backoff: Backoff) -> None:
        """Wait after a failure; stop the mailbox where further messages would fail too."""
        if error := self._circuit_breaker.record(outcome):
            self.stop(error)
            return
        match outcome:
            case NotSent(response, throttled=throttled, retry_after=retry_after):
                seconds = backoff.next_delay(throttled=throttled, retry_after=retry_after)
                if seconds is None:
                    hint = "run `distributor send` again when the server has recovered"
                    self.stop(ServiceUnavailable(f'no message was accepted for two minutes: "{response}"', hint=hint))
                else:
                    await self._pause(seconds, response)
                return
            case Accepted():
                self._waited = timedelta()
        backoff.reset()

    async def _pause(self, seconds: float, why: str) -> None:
        self._context.tell(WaitNotice(seconds, why))
        await sleep_unless(seconds, self._context.sleep, self.queue.ended)

    # --- what the claim queue calls --------------------------------------------------------------------------------

    async def _claim(self, count: int) -> list[Claim]:
        context, options, since = self._context, self._context.options, self._last_event
        return await context.committer.call(
            lambda: context.ledger.claim(
                context.owner, count, options.lease, options.scope, early=options.early, since=since, senders=self._senders
            )
        )

    async def _wait_for_deferred(self) -> bool:
        """Wait for a message that is due within SHORT_WAIT; False when there is none."""
        context = self._context
        if await context.recover():  # of a process that died meanwhile
            return True
        due = await context.committer.call(lambda: context.ledger.next_due(context.options.scope, self._senders))
        wait = timedelta.max if due is None else due - await context.committer.call(context.ledger.now)
        if not timedelta(0) < wait <= SHORT_WAIT - self._waited:
            return False
        self._waited += wait
        await self._pause(wait.total_seconds(), 'a server said "later"')
        return not self.queue.ended.is_set()
