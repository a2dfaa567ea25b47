"""One mailbox's messages -> lanes that carry them: claim, carry, arm, settle, at the mailbox's own pace and within its own day.

Roads of one run share the ledger's desk and the budget; one that is refused ends alone. A lane does not wait for a settlement
before its next message. A mailbox with limits is driven by one process at a time: others that share the ledger wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from distributor.errors import Error, ServiceUnavailable
from distributor.model.delivery import Claim, SenderFilter
from distributor.model.outcomes import Accepted, Ambiguous, DraftRef, NotSent, Outcome
from distributor.model.people import key_of
from distributor.model.ports import CommitIntent, Connection
from distributor.model.states import State
from distributor.workflows.sending.claims import ClaimQueue, SendLimit
from distributor.workflows.sending.limits import DAY, Backoff, DailyQuota, RateLimiter
from distributor.workflows.sending.report import CircuitBreaker, EarlyStop, WaitNotice
from distributor.workflows.sending.settlement import SendAttempt, Settler
from distributor.workflows.sending.shutdown import sleep_unless

if TYPE_CHECKING:
    from distributor.workflows.sending.run import SendRun

SHORT_WAIT = timedelta(minutes=2)  # a "later" of a server that a run waits for by itself
LOCK_RETRY_SECONDS = 1.0  # seconds between two tries to take a mailbox that another process drives


class MailboxSender:
    """The lanes of one sender, or of all."""

    def __init__(self, run: SendRun, senders: SenderFilter, budget: SendLimit) -> None:
        self.run, self.senders = run, senders
        self.queue = ClaimQueue(
            self._claim, self._is_short_wait, run.transport.max_connections, budget, packing=run.options.packing is not None
        )
        self.settler = Settler(run.committer, self.queue, run.counter)
        self.tasks: list[asyncio.Task[None]] = []
        self.interrupted_attempts: list[SendAttempt] = []  # claimed, and the lane ended before the message did
        self._in_flight: set[SendAttempt] = set()
        self.error: Error | None = None  # why the road ends early
        self.locked = run.transport.per_minute is None and run.transport.daily is None  # without limits, processes need not take turns
        self._opened, self._landed = asyncio.Event(), asyncio.Event()
        self._circuit_breaker = CircuitBreaker()
        self._rate_limiter: RateLimiter | None = None
        self._daily_quota: DailyQuota | None = None
        self._waited = timedelta()

    @property
    def in_flight(self) -> int:
        """How many messages are in lanes."""
        return len(self._in_flight)

    async def acquire_lock(self) -> bool:
        """Take the mailbox for this process; whether it is ours."""
        if not self.locked:  # the first mailbox is the one that messages of all others go by too, whatever its name
            self.locked = await self.run.committer.call(lambda: self.run.ledger.lock_mailbox(key_of(self.senders.only or "")))
        return self.locked

    def start(self) -> None:
        """Let the lanes begin as soon as the mailbox is ours."""
        self.tasks = [
            self.run.task(self._open()),
            *(self.run.task(self._connection_loop()) for _ in range(self.run.transport.max_connections)),
        ]

    def stop(self, error: Error) -> None:
        """End the road early; messages on the wire finish."""
        self.error = self.error or error
        self.queue.end()

    def cancel(self) -> None:
        """Let nothing finish."""
        for connection in self.tasks:
            connection.cancel()

    async def finalize(self) -> list[Claim]:
        """Settle what was cut off on the wire; what was claimed and not begun."""
        for attempt in self.interrupted_attempts:
            if attempt.intent_recorded:
                self.settler.settle(attempt.claim, State.AMBIGUOUS, "interrupted while the message was on the wire")
        return self.queue.unused() + [attempt.claim for attempt in self.interrupted_attempts if not attempt.intent_recorded]

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
        """Wait for a mailbox that another process drives; False when there is nothing left to wait for."""
        told = False
        while not await self.acquire_lock():
            if not await self._waits():
                return False
            if not told:
                self.run.tell(WaitNotice(None, f"another `distributor send` drives {self._name}; this one goes on after it"))
                told = True
            if await sleep_unless(LOCK_RETRY_SECONDS, self.run.context.sleep, self.queue.ended):
                return False
        return True

    @property
    def _name(self) -> str:
        return self.senders.only or self.run.first or "this mailbox"

    async def _waits(self) -> bool:
        """Whether there are messages that this road could take: now, or if whoever drives it dies."""
        run, options = self.run, self.run.options
        if self.queue.budget.left == 0:
            return False
        return self.queue.packing or await run.committer.call(
            lambda: run.ledger.has_pending(options.scope, self.senders, early=options.early)
        )

    async def _load_recent_sends(self) -> None:
        """What the mailbox sent in its last minute and its last day, by whomever."""
        rate, most = self.run.transport.per_minute, self.run.transport.daily
        if rate is None and most is None:
            return
        await self.run.committer.call(self.run.now)  # from here on no question to the database
        since = self.run.now() - max(DAY if most else timedelta(), RateLimiter(rate).window if rate else timedelta())
        sent = await self.run.committer.call(lambda: self.run.ledger.sent_times(since, self.senders))
        self._rate_limiter = RateLimiter(rate, sent) if rate else None
        self._daily_quota = DailyQuota(most, deque(sent)) if most else None

    # --- what the feed asks for ------------------------------------------------------------------------------------

    async def _claim(self, room: int) -> list[Claim]:
        run, options = self.run, self.run.options
        return await run.committer.call(
            lambda: run.ledger.claim(
                run.owner, room, options.lease, options.scope, early=options.early, since=run.began, senders=self.senders
            )
        )

    async def _is_short_wait(self) -> bool:
        """Wait for a message that is due soon; False when there is none worth waiting for."""
        if await self.run.recover():  # of a sender that died beside us
            return True
        due = await self.run.committer.call(lambda: self.run.ledger.next_due(self.run.options.scope, self.senders))
        wait = timedelta.max if due is None else due - await self.run.committer.call(self.run.ledger.now)
        if not timedelta(0) < wait <= SHORT_WAIT - self._waited:
            return False
        self._waited += wait
        await self._back_off(wait.total_seconds(), 'a server said "later"')
        return not self.queue.ended.is_set()

    async def _back_off(self, seconds: float, why: str) -> None:
        self.run.tell(WaitNotice(seconds, why))
        await sleep_unless(seconds, self.run.context.sleep, self.queue.ended)

    # --- one lane --------------------------------------------------------------------------------------------------

    async def _connection_loop(self) -> None:
        connection, backoff = self.run.transport.connection(self.senders.only or self.run.first), Backoff()
        await self._opened.wait()
        try:
            while claim := await self.queue.next():
                attempt = SendAttempt(claim)
                self.interrupted_attempts.append(attempt)  # until an outcome says better
                outcome = await self._send_one(connection, attempt)
                if outcome is None:
                    return
                self.interrupted_attempts.remove(attempt)
                self.settler.record_outcome(attempt, outcome)
                await self._go_on(outcome, backoff)
        finally:
            with suppress(asyncio.CancelledError):
                await connection.close()

    async def _send_one(self, connection: Connection, attempt: SendAttempt) -> Outcome | None:
        """The outcome, or None when the run ended before this message's turn came."""
        if not await self._acquire_quota(attempt.claim.message.sender):
            return None
        left = False
        try:
            if await self._wait_for_rate_limit():
                return None
            left = True  # or perhaps: it may be cut off
            outcome = await self._deliver(connection, attempt)
            left = isinstance(outcome, Accepted | Ambiguous)
            return outcome
        finally:
            if self._daily_quota is not None:
                self._daily_quota.release(self.run.now(), left=left)
                self._landed.set()

    async def _acquire_quota(self, sender: str) -> bool:
        """Take one of the day's messages; False where there is none, and none comes back from those on the wire."""
        while self._daily_quota is not None and not self._daily_quota.acquire(self.run.now()):
            if (opens := self._daily_quota.next_free_at()) is not None:
                self.stop(_enough(self._daily_quota.most, sender, opens))
            if self.queue.ended.is_set():
                return False
            self._landed.clear()
            await self._landed.wait()
        return True

    async def _wait_for_rate_limit(self) -> bool:
        """Wait for the next message's turn; whether the run ended meanwhile."""
        seconds = self._rate_limiter.reserve(self.run.now()) if self._rate_limiter else 0.0
        return seconds > 0 and await sleep_unless(seconds, self.run.context.sleep, self.queue.ended)

    async def _deliver(self, connection: Connection, attempt: SendAttempt) -> Outcome:
        self._in_flight.add(attempt)
        try:
            return await connection.deliver(attempt.claim.message, self._record_intent(attempt, self._rate_limiter))
        finally:
            self._in_flight.remove(attempt)

    def _record_intent(self, attempt: SendAttempt, rate_limiter: RateLimiter | None) -> CommitIntent:
        """What a lane calls before the point of no return."""

        def arm(handle: DraftRef | None = None, /) -> Awaitable[bool]:
            attempt.pending = self.run.committer.record_intent(attempt.claim, self.run.transport.attempt_timeout, handle)
            return attempt.pending.future

        async def arm_in_turn(handle: DraftRef | None = None, /) -> bool:
            assert rate_limiter is not None  # noqa: S101  for the type checker
            now = self.run.now()
            if (at := rate_limiter.confirm(now)) > now:
                await self.run.context.sleep((at - now).total_seconds())
            held = attempt in self._in_flight and await arm(handle)  # its lane may have given up meanwhile
            rate_limiter.late(at, self.run.now())
            return held

        return arm_in_turn if rate_limiter else arm

    async def _go_on(self, outcome: Outcome, backoff: Backoff) -> None:
        """Rest after a failure; end the road where it makes no sense to go on."""
        if error := self._circuit_breaker.record(outcome):
            self.stop(error)
            return
        match outcome:
            case NotSent(said, throttled=crowded, retry_after=wish):
                seconds = backoff.next_delay(crowded=crowded, wish=wish)
                if seconds is None:
                    hint = "run `distributor send` again when the server is well"
                    self.stop(ServiceUnavailable(f'no message went for two minutes: "{said}"', hint=hint))
                else:
                    await self._back_off(seconds, said)
            case Accepted():
                self._waited = timedelta()
                backoff.over()
            case _:
                backoff.over()


def _enough(most: int, sender: str, until: object) -> Error:
    message = f"{most} messages in 24 hours are all that this mailbox may send"
    return EarlyStop(message, where=sender, hint=f"run `distributor send` again after {until:%Y-%m-%d %H:%M} UTC")
