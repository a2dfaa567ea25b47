"""Group commit: writes the ledger updates of all connections, one durable transaction at a time, in one thread.

While a transaction is being written, the next one gathers: the more connections, the more updates share one flush to disk. Once the
ledger failed, no intent is recorded any more, so that nothing is sent that the ledger does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from distributor.errors import ServiceUnavailable
from distributor.model.attempts import AttemptResult, AttemptUpdate, Claim, DraftRef, RecordIntent
from distributor.model.delivery import LeaseHolder
from distributor.model.ports import Ledger

T = TypeVar("T")
MIN_INTENT_WAIT, MAX_INTENT_WAIT = 0.001, 0.01  # seconds that an intent waits for others; DATA's answer is awaited at the same time
RESULT_WAIT = 0.005  # seconds that a result waits for others
TRIES = 3  # to write a result while another program locks the ledger


@dataclass(slots=True, eq=False)
class PendingCommit:
    """An update that is not durable yet. `applied` (False: the lease was lost) stays readable when the waiter of `future` was cancelled."""

    step: AttemptUpdate
    future: asyncio.Future[bool]
    applied: bool | None = None
    tries: int = 0


class GroupCommitter:
    """All access to the ledger while messages are sent. Used from one event loop."""

    def __init__(self, ledger: Ledger, owner: LeaseHolder, in_flight: Callable[[], int] = lambda: 1) -> None:
        self._ledger = ledger
        self._in_flight = in_flight  # how many messages are in flight: at most so many intents can come
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._waiting: list[PendingCommit] = []
        self._intent_wait = MIN_INTENT_WAIT
        self._intents = 0  # among the waiting
        self._writing = self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it fires; uvloop's timers forget it once they fired
        self._idle = asyncio.Event()
        self._idle.set()
        self.failure: BaseException | None = None

    def record_intent(self, claim: Claim, lease: timedelta, draft: DraftRef | None = None) -> PendingCommit:
        """Record that the message is about to leave: step (4) of sending a message. `lease`: how long the attempt may take."""
        return self._add(RecordIntent(claim, lease, draft))

    def settle(self, result: AttemptResult) -> PendingCommit:
        """Record the result of an attempt."""
        return self._add(result)

    async def call(self, work: Callable[[], T]) -> T:
        """Do any other work with the ledger in its thread."""
        try:
            return await self._loop.run_in_executor(self._thread, work)
        except Exception as error:
            self.failure = self.failure or error
            raise

    async def drain(self) -> None:
        """Wait until every update so far is written, or failed."""
        self._draining = True
        self._next_round()
        await self._idle.wait()
        self._draining = False

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)

    def _add(self, step: AttemptUpdate) -> PendingCommit:
        pending = PendingCommit(step, self._loop.create_future())
        if self.failure is not None:
            _fail(pending, self.failure)
            return pending
        self._waiting.append(pending)
        self._intents += isinstance(step, RecordIntent)
        self._idle.clear()
        self._next_round()
        return pending

    def _next_round(self) -> None:
        """Write at once when every possible intent is here, else after a short wait for more."""
        if self._writing or not self._waiting:
            return
        if self._draining or self._intents >= max(1, self._in_flight()):
            self._write()
            return
        due = self._loop.time() + (self._intent_wait if self._intents else RESULT_WAIT)
        if self._timer is None or self._due > due:
            self._stop_timer()
            self._timer, self._due = self._loop.call_at(due, self._write), due

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self) -> None:
        self._stop_timer()
        if self._writing or not self._waiting:
            return
        batch, self._waiting, self._intents = self._waiting, [], 0
        self._writing = True
        steps = [pending.step for pending in batch]
        job = self._loop.run_in_executor(self._thread, self._ledger.write, steps, self._owner)
        began = self._loop.time()
        job.add_done_callback(lambda done: self._written(batch, done, self._loop.time() - began))

    def _written(self, batch: list[PendingCommit], done: asyncio.Future[list[bool]], seconds: float) -> None:
        self._writing = False
        self._intent_wait = min(max(MIN_INTENT_WAIT, seconds / 2), MAX_INTENT_WAIT)  # on a slow disk, larger groups pay more
        error = done.exception()
        if error is None:
            for pending, applied in zip(batch, done.result(), strict=True):
                pending.applied = applied
                if not pending.future.done():
                    pending.future.set_result(applied)
        else:
            self._failed(batch, error)
        if self.failure is not None:
            self._refuse_intents(self.failure)
        if self._waiting:
            self._next_round()
        else:
            self._idle.set()

    def _refuse_intents(self, failure: BaseException) -> None:
        for pending in self._waiting:
            if isinstance(pending.step, RecordIntent):
                _fail(pending, failure)
        self._waiting = [pending for pending in self._waiting if not isinstance(pending.step, RecordIntent)]
        self._intents = 0

    def _failed(self, batch: list[PendingCommit], error: BaseException) -> None:
        """A result is written again, for the server's answer must not be lost; an intent is not, for nothing was sent."""
        again = isinstance(error, ServiceUnavailable)
        for pending in batch:
            pending.tries += 1
            if again and isinstance(pending.step, AttemptResult) and pending.tries < TRIES:
                self._waiting.append(pending)
            else:
                self.failure = self.failure or error
                _fail(pending, error)


def _fail(pending: PendingCommit, error: BaseException) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)
        pending.future.exception()  # marks it as retrieved; the failure is raised at the end of the run
