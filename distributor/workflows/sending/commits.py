"""Steps of many lanes -> one durable transaction a round, in one thread; each step's future tells whether its fencing held.

While a transaction is being written, the next round gathers: the more lanes, the more steps share one flush to disk. Once the
ledger failed, nothing is armed any more, so that nothing is sent that it does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from distributor.errors import ServiceUnavailable
from distributor.model.delivery import AttemptResult, AttemptUpdate, Claim, LeaseHolder, RecordIntent
from distributor.model.outcomes import DraftRef
from distributor.model.ports import Ledger

T = TypeVar("T")
SHORTEST_WAIT, LONGEST_WAIT = (
    0.001,
    0.01,
)  # seconds that a lane's note waits for the other lanes'; DATA's answer is awaited at the same time
SETTLEMENTS_WAIT = 0.005  # seconds that an answer waits for others
TRIES = 3  # how often a round of settlements is tried while the ledger is locked by another program


@dataclass(slots=True, eq=False)
class PendingCommit:
    """A step on its way into the ledger. `verdict` stays readable when whoever waited for `future` was cancelled."""

    step: AttemptUpdate
    future: asyncio.Future[bool]
    applied: bool | None = None
    tries: int = 0


class GroupCommitter:
    """The one door to the ledger while messages are sent. Used from one event loop."""

    def __init__(self, ledger: Ledger, owner: LeaseHolder, in_flight: Callable[[], int] = lambda: 1) -> None:
        self._ledger = ledger
        self._in_flight = in_flight  # how many messages are on their way: as many notes may be coming
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._waiting: list[PendingCommit] = []
        self._intents_wait = SHORTEST_WAIT
        self._intents = 0  # of those that wait
        self._writing = self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it rings; a timer of uvloop that has rung no longer knows
        self._idle = asyncio.Event()
        self._idle.set()
        self.failure: BaseException | None = None

    def record_intent(self, claim: Claim, lease: timedelta, handle: DraftRef | None = None) -> PendingCommit:
        """The durable note before the point of no return."""
        return self._enter(RecordIntent(claim, lease, handle))

    def settle(self, settle: AttemptResult) -> PendingCommit:
        """What became of an attempt."""
        return self._enter(settle)

    async def call(self, work: Callable[[], T]) -> T:
        """Any other work with the ledger, in its thread."""
        try:
            return await self._loop.run_in_executor(self._thread, work)
        except Exception as error:
            self.failure = self.failure or error
            raise

    async def drain(self) -> None:
        """Until every step so far is written, or failed."""
        self._draining = True
        self._next_round()
        await self._idle.wait()
        self._draining = False

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)

    def _enter(self, step: AttemptUpdate) -> PendingCommit:
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
        """Write when everybody who may come has come, or has been waited for."""
        if self._writing or not self._waiting:
            return
        if self._draining or self._intents >= max(1, self._in_flight()):
            self._write()
            return
        due = self._loop.time() + (self._intents_wait if self._intents else SETTLEMENTS_WAIT)
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
        self._intents_wait = min(max(SHORTEST_WAIT, seconds / 2), LONGEST_WAIT)  # on a slow disk, company is worth more
        error = done.exception()
        if error is None:
            for pending, verdict in zip(batch, done.result(), strict=True):
                pending.applied = verdict
                if not pending.future.done():
                    pending.future.set_result(verdict)
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
        """An answer of a server is worth a second try; the permission to send another message is not."""
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
        pending.future.exception()  # seen: the failure is kept and raised at the end of the run
