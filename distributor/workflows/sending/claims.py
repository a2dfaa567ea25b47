"""Claims due messages in small batches, ahead of need, and hands them to free connections one at a time.

The queue ends when nothing is due, nothing is being packed, and no message in flight could be queued again; or when it is stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from distributor.model.attempts import Accepted, Ambiguous, AttemptResult, Claim, Deferred, NotSent, Outcome, Rejected
from distributor.model.states import State
from distributor.workflows.sending.commits import GroupCommitter, PendingCommit
from distributor.workflows.sending.limits import retry_delay
from distributor.workflows.sending.report import DeliveryResult, OutcomeCounter

_QUICK = 0.3  # seconds; a batch that is used up sooner was too small
_LARGEST = 64  # messages in one batch, unless there are many connections

Fetch = Callable[[int], Awaitable[list[Claim]]]
Wait = Callable[[], Awaitable[bool]]  # waits for a deferred message that is due soon; False when there is none


@dataclass
class SendLimit:
    """How many messages the mailboxes of a run may still claim together; None: no bound."""

    left: int | None

    def acquire(self, count: int) -> int:
        """Take up to `count`; what is not claimed after all must be released."""
        granted = count if self.left is None else min(count, self.left)
        self.release(-granted)
        return granted

    def release(self, messages: int) -> None:
        """Give back what was not claimed, or not tried."""
        if self.left is not None:
            self.left += messages


@dataclass
class ClaimQueue:
    """Claims for the connections of one mailbox."""

    fetch: Fetch
    wait: Wait
    connections: int
    limit: SendLimit
    packing: bool = False

    def __post_init__(self) -> None:
        self.ready: deque[Claim] = deque()
        self.ended = asyncio.Event()
        self.in_flight = 0
        self._available, self._low_water, self._notified = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._notices = 0
        self._size, self._fetched = 2 * self.connections, 0.0

    async def next(self) -> Claim | None:
        """The next claim to send, or None at the end."""
        while not self.ended.is_set():
            if self.ready:
                self.in_flight += 1
                claim = self.ready.popleft()
                if len(self.ready) < self.connections:
                    self._low_water.set()
                return claim
            self._available.clear()
            self._low_water.set()
            await self._available.wait()
        return None

    def complete(self, *, again: bool) -> None:
        """A claim from `next` is settled; `again`: it was queued again and counts as not tried."""
        self.in_flight -= 1
        if again:
            self.limit.release(1)
        if again or not self.in_flight:
            self.notify()

    def notify(self) -> None:
        """Ask the ledger again: something was packed, or queued again."""
        self._notices += 1
        self._notified.set()

    def end(self) -> None:
        """No more claims."""
        self.ended.set()
        for event in (self._available, self._low_water, self._notified):
            event.set()

    def unused(self) -> list[Claim]:
        """Claims that `next` never returned."""
        left = list(self.ready)
        self.ready.clear()
        return left

    async def run(self) -> None:
        """Fetch whenever the ready claims run low, until the end."""
        try:
            while not self.ended.is_set():
                await self._low_water.wait()
                if not self.ended.is_set():
                    await self._fill()
        finally:
            self.end()

    async def _fill(self) -> None:
        notices, pending = self._notices, self.packing or self.in_flight > 0 or bool(self.ready)
        count = self.limit.acquire(self._batch_size())
        claims = await self.fetch(count) if count else []
        self.limit.release(count - len(claims))
        if claims:
            self.ready.extend(claims)
            if len(self.ready) >= self.connections:
                self._low_water.clear()
            self._available.set()
        elif pending or notices != self._notices:
            while notices == self._notices and not self.ended.is_set():
                self._notified.clear()
                await self._notified.wait()
        elif not count or not await self.wait():
            self.end()

    def _batch_size(self) -> int:
        """Twice the last one when that was used up quickly, else half of it."""
        now = time.monotonic()
        quick = now - self._fetched < _QUICK
        self._size = min(2 * self._size, max(_LARGEST, 8 * self.connections)) if quick else max(self._size // 2, 2 * self.connections)
        self._fetched = now
        return self._size


# --- settlement --------------------------------------------------------------------------------
# Writes the outcome of each attempt to the ledger, and counts it once it is durable.


@dataclass(slots=True, eq=False)
class SendAttempt:
    """One attempt to send a claimed message."""

    claim: Claim
    pending: PendingCommit | None = None  # the record of the intent, once asked for

    @property
    def intent_recorded(self) -> bool:
        """Whether the intent is durable: from then on the message may have left."""
        return self.pending is not None and bool(self.pending.applied)


@dataclass(frozen=True, slots=True)
class Settler:
    """Settles attempts. Connections do not wait for it; the run ends only when everything is settled."""

    committer: GroupCommitter
    queue: ClaimQueue
    counter: OutcomeCounter

    def record_outcome(self, attempt: SendAttempt, outcome: Outcome) -> None:
        """Settle an attempt by the transport's outcome: step (7) of sending a message."""
        claim = attempt.claim
        match outcome:
            case Accepted(response):
                self.settle(claim, State.ACCEPTED, response)
            case Deferred(response, wait):
                self.settle(claim, State.DEFERRED, response, wait or retry_delay(claim.attempts_deferred))
            case Rejected(response):
                self.settle(claim, State.REJECTED, response)
            case Ambiguous(response):
                self.settle(claim, State.AMBIGUOUS, response)
            case NotSent() if attempt.pending is not None and not attempt.intent_recorded:
                self.queue.complete(again=False)  # the lease was lost: its new holder settles the message
            case NotSent(response):
                self.settle(claim, State.QUEUED, response)

    def settle(self, claim: Claim, state: State, response: str, wait: timedelta | None = None) -> None:
        """Write a state; it is counted once it is durable."""
        pending = self.committer.settle(AttemptResult(claim, state, response, wait))
        pending.future.add_done_callback(lambda done: self._settled(claim, state, response, done))

    def _settled(self, claim: Claim, state: State, response: str, done: asyncio.Future[bool]) -> None:
        self.queue.complete(again=state is State.QUEUED)
        if done.exception() is not None:
            self.queue.end()
            return
        if not done.result():
            state = State.AMBIGUOUS  # the lease expired after the intent, and recovery made it ambiguous
        self.counter.count(DeliveryResult(claim.id, claim.message.address, state, response))
