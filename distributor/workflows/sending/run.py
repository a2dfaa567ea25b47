"""Sends what is due in the ledger: recovers expired leases, runs a sender for each mailbox beside packing, settles everything, reports.

The run ends only when every outcome is in the ledger. How one message is sent: the steps in `workflows/sending/__init__.py`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from distributor.errors import Error
from distributor.model.clocks import bounded_lease
from distributor.model.delivery import ALL_SENDERS, LeaseHolder, SenderFilter
from distributor.model.ports import Ledger, Transport
from distributor.model.states import REMAINING, State, Way
from distributor.workflows.sending.claims import SendLimit
from distributor.workflows.sending.commits import GroupCommitter
from distributor.workflows.sending.mailbox import MailboxSender, SenderContext
from distributor.workflows.sending.report import (
    DeliveryResult,
    OutcomeCounter,
    Packing,
    SendContext,
    SendOptions,
    SendReport,
    WaitNotice,
    held_back_by_clock,
)
from distributor.workflows.sending.shutdown import ShutdownRequest, sleep_unless
from distributor.workflows.tracking import TrackingContext, track

# --- recovery --------------------------------------------------------------------------------
# Recovers expired leases: a claim without a recorded intent is queued again, one with it becomes ambiguous.


UNCLEAR = "its sending process ended while the message was being sent"


def recover(ledger: Ledger, alive: Callable[[LeaseHolder], bool | None], way: Way | None = None) -> tuple[int, list[DeliveryResult]]:
    """How many messages are due again, and those that are ambiguous from now on, of one way. `alive`: None where it cannot be known."""
    freed = ledger.recover(alive)
    unclear = [delivery for delivery, state in freed if state is State.AMBIGUOUS]
    rows = [row for row in map(ledger.delivery, unclear) if row is not None and way in {None, row.way}]
    return len(freed) - len(unclear), [DeliveryResult(row.id, row.address, State.AMBIGUOUS, UNCLEAR) for row in rows]


async def send(  # noqa: PLR0913  what a use case needs
    ledger: Ledger,
    transport: Transport,
    *,
    owner: LeaseHolder,
    context: SendContext,
    options: SendOptions | None = None,
    shutdown: ShutdownRequest | None = None,
) -> SendReport:
    """Send every message that is due and selected by `options`.

    Raises what the ledger raises; a service that refuses or cannot be reached is the report's `error`. Cancelling acts like the second
    Ctrl-C.
    """
    run = SendRun(ledger, transport, owner, context, options or SendOptions())
    shutdown = shutdown or ShutdownRequest()
    shutdown.listen(run.on_shutdown)
    try:
        with _short_switch_interval():
            await run.work()
        return await run.report(interrupted=shutdown.requests > 0)
    finally:
        for diagnostic in await transport.finish(settled=run.committer.failure is None):
            run.tell(diagnostic)
        run.committer.close()


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Let the ledger's thread and the connections take turns ten times as often: a tenth more messages a second, measured."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, 0.0005))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def partition_senders(senders: Sequence[str]) -> list[SenderFilter]:
    """Which messages each mailbox sends: its own; the first also those of senders that are no longer configured."""
    if len(senders) < 2:  # noqa: PLR2004  one mailbox sends everything
        return [ALL_SENDERS]
    return [SenderFilter(without=frozenset(senders[1:])), *(SenderFilter(only=sender) for sender in senders[1:])]


class SendRun:
    """One run over the ledger, with a sender for each mailbox."""

    def __init__(self, ledger: Ledger, transport: Transport, owner: LeaseHolder, context: SendContext, options: SendOptions) -> None:
        self.ledger, self.transport, self.owner, self.context, self.options = ledger, transport, owner, context, options
        self.counter = OutcomeCounter(self.tell)
        self.committer = GroupCommitter(ledger, owner, lambda: sum(mailbox.in_flight for mailbox in self.mailboxes))
        self.error: Error | None = None  # why the run ends early
        self.crash: BaseException | None = None  # raised when everything is settled
        self._started: tuple[datetime, float] | None = None
        self._shutdown = asyncio.Event()
        shared = SenderContext(
            ledger=ledger,
            transport=transport,
            owner=owner,
            options=options,
            limit=SendLimit(options.limit),
            committer=self.committer,
            counter=self.counter,
            sleep=context.sleep,
            now=self.now,
            tell=self.tell,
            task=self.task,
            recover=self.recover,
        )
        self.mailboxes = [MailboxSender(shared, senders) for senders in partition_senders(options.senders)]

    # --- the run, from its start to its report ---------------------------------------------------------------------

    async def work(self) -> None:
        """Recover, then run senders, packing and lease renewal side by side until nothing is due."""
        for result in self.options.unclear:
            self.counter.count(result)
        last_event = await self.committer.call(self.ledger.position)
        await self.recover()
        locked = [await mailbox.acquire_lock() for mailbox in self.mailboxes]
        if all(locked):  # else the process that has the lock did this, and its requests count against the mailbox's limits
            await self._track(wait=False)  # messages of earlier runs that certainly did not leave are sent in this one
        renewal = self.task(self._renew())
        try:
            await self._run_senders(last_event)
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})
            await self._finalize()
        if self._may_track_own():
            await self._track(wait=True)

    async def _run_senders(self, last_event: int) -> None:
        for mailbox in self.mailboxes:
            mailbox.start(last_event)
        helpers = [*(self.task(mailbox.queue.run()) for mailbox in self.mailboxes), self.task(self._pack())]
        connections = [connection for mailbox in self.mailboxes for connection in mailbox.tasks]
        try:
            await asyncio.wait(connections)
        except asyncio.CancelledError:
            self.on_shutdown(2)
            await asyncio.wait(connections)
            raise
        finally:
            self._end_claims()
            await asyncio.wait(helpers)

    async def _finalize(self) -> None:
        """Settle interrupted attempts as ambiguous, release the claims that were not begun."""
        await self.committer.drain()
        unused = [claim for mailbox in self.mailboxes for claim in await mailbox.finalize()]
        await self.committer.drain()
        if unused:
            with suppress(Error):  # their leases expire, and the next run recovers them
                await self.committer.call(lambda: self.ledger.release(unused, self.owner))

    async def report(self, *, interrupted: bool) -> SendReport:
        """Counts, once everything is settled. Raises what the ledger raised."""
        if failure := self.committer.failure or self.crash:
            raise failure
        held = 0
        for revoked in await self.committer.call(self.ledger.taken_back):
            self.counter.count(DeliveryResult(revoked.delivery, revoked.address, revoked.after, revoked.reason))
            held += revoked.after is not State.WITHDRAWN
        if held:
            self.error = self.error or held_back_by_clock(held)
        counts = await self.committer.call(lambda: self.ledger.counts(self.options.scope))
        error = self.error or next((mailbox.error for mailbox in self.mailboxes if mailbox.error), None)
        report = self.counter.report(sum(counts.get(state, 0) for state in REMAINING), error, interrupted=interrupted)
        if self.crash:
            raise self.crash
        return report

    # --- what the senders of the run share -------------------------------------------------------------------------

    async def recover(self) -> int:
        """Recover expired leases; how many messages are due again."""
        due, unclear = await self.committer.call(lambda: recover(self.ledger, self.context.alive, self.options.scope.way))
        for result in unclear:
            self.counter.count(result)
        return due

    def now(self) -> datetime:
        """The ledger's time at the first call plus the monotonic time since: for rate limits and quotas.

        What is compared with times in the ledger takes the ledger's clock itself.
        """
        if self._started is None:
            self._started = self.ledger.now(), self.context.elapsed()
        at, since = self._started
        return at + timedelta(seconds=self.context.elapsed() - since)

    def task(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """A task whose failure ends the run."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)  # noqa: S101  for the type checker
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash = self.crash or error
            self._end_claims()

    def tell(self, news: object) -> None:
        """Report progress to the caller."""
        try:
            self.context.tell(news)
        except Exception as error:  # noqa: BLE001  a closed terminal must not cost a settlement
            self.crash = self.crash or error
            self._end_claims()

    # --- ending, and what runs beside the senders ------------------------------------------------------------------

    def on_shutdown(self, requests: int) -> None:
        """Ctrl-C: the first ends claiming, the second cancels messages in flight."""
        self._shutdown.set()
        self._end_claims()
        if requests > 1:
            for mailbox in self.mailboxes:
                mailbox.cancel()

    def _end_claims(self) -> None:
        for mailbox in self.mailboxes:
            mailbox.queue.end()

    async def _renew(self) -> None:
        lease = self.options.lease
        while True:
            await asyncio.sleep(bounded_lease(lease).total_seconds() / 3)
            await self.committer.call(lambda: self.ledger.renew(self.owner, lease))

    async def _pack(self) -> None:
        if self.options.packing is None:
            return
        try:
            await asyncio.to_thread(self._pack_all, self.options.packing, asyncio.get_running_loop())
        except Error as error:
            self.error = self.error or error
            self._end_claims()
        finally:
            for mailbox in self.mailboxes:
                mailbox.queue.packing = False
                mailbox.queue.notify()

    def _pack_all(self, packing: Packing, loop: asyncio.AbstractEventLoop) -> None:
        for batch in packing(lambda: all(mailbox.queue.ended.is_set() for mailbox in self.mailboxes)):
            loop.call_soon_threadsafe(self._packed, batch)

    def _packed(self, batch: object) -> None:
        self.tell(batch)
        for mailbox in self.mailboxes:
            mailbox.queue.notify()

    # --- ambiguous messages ----------------------------------------------------------------------------------------

    def _may_track_own(self) -> bool:
        """Whether this run made messages ambiguous and ended in a state in which to ask for them."""
        locked = any(mailbox.locked for mailbox in self.mailboxes)
        failed = self.committer.failure is not None or self.crash is not None
        return locked and bool(self.counter.unclear) and not self._shutdown.is_set() and not failed

    async def _track(self, *, wait: bool) -> None:
        """Ask the transport's tracker for ambiguous messages. `wait`: those of this run, which it can find only after a while."""
        tracker = self.transport.tracker()
        if tracker is None:
            return
        if wait:
            seconds = tracker.min_age.total_seconds()
            self.tell(WaitNotice(seconds, "looking for evidence of ambiguous messages"))
            if await sleep_unless(seconds, self.context.sleep, self._shutdown):
                return
        context = TrackingContext(
            self.ledger, self.context.alive, self.ledger.now, self.transport.attempt_timeout, self.committer.call, self.owner
        )
        found = await track(context, [tracker], self.options.scope, frozenset({State.AMBIGUOUS}))
        for moved in found.moved:
            if moved.after is not State.QUEUED or wait:
                self.counter.count(DeliveryResult(moved.delivery, moved.address, moved.after, moved.reason))
