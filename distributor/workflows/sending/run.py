"""What is due in the ledger -> messages on their way: recover, pack beside it, claim, carry, arm, settle, and report.

A message's phase is in the ledger before it is on the wire. Each sender has a road of its own; the run ends only when all is settled.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from distributor.errors import Error
from distributor.model.clocks import bounded_lease
from distributor.model.delivery import ALL_SENDERS, LeaseHolder, SenderFilter
from distributor.model.ports import Ledger, Transport
from distributor.model.states import REMAINING, State
from distributor.workflows.sending.claims import SendLimit
from distributor.workflows.sending.commits import GroupCommitter
from distributor.workflows.sending.mailbox import MailboxSender
from distributor.workflows.sending.recovery import recover
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


async def send(  # noqa: PLR0913  the doors of a verb
    ledger: Ledger,
    transport: Transport,
    *,
    owner: LeaseHolder,
    context: SendContext,
    options: SendOptions | None = None,
    shutdown: ShutdownRequest | None = None,
) -> SendReport:
    """Send everything that is wanted and due.

    Raises what the ledger raises; a service that refuses or cannot be reached is the report's `error`. Cancelling is like
    the second Ctrl-C.
    """
    run = SendRun(ledger, transport, owner, context, options or SendOptions())
    shutdown = shutdown or ShutdownRequest()
    shutdown.listen(run.pressed)
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
    """Whose messages each road carries: each sender its own, the first also those of mailboxes that are named no more."""
    if len(senders) < 2:  # noqa: PLR2004  one road carries everything
        return [ALL_SENDERS]
    return [SenderFilter(without=frozenset(senders[1:])), *(SenderFilter(only=sender) for sender in senders[1:])]


class SendRun:
    """One run over the ledger: what its roads share."""

    def __init__(self, ledger: Ledger, transport: Transport, owner: LeaseHolder, context: SendContext, options: SendOptions) -> None:
        self.ledger, self.transport, self.owner, self.context, self.options = ledger, transport, owner, context, options
        self.first = next(iter(options.senders), None)
        self.counter = OutcomeCounter(self.tell)
        self.committer = GroupCommitter(ledger, owner, lambda: sum(mailbox.in_flight for mailbox in self.mailboxes))
        self.began = 0  # the ledger's last event before the run
        self._started: tuple[datetime, float] | None = None
        budget = SendLimit(options.limit)
        self.mailboxes = [MailboxSender(self, senders, budget) for senders in partition_senders(options.senders)]
        self.error: Error | None = None  # why the run ends early
        self.crash: BaseException | None = None  # raised when everything is settled
        self._pressed = asyncio.Event()

    # --- the whole -------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Recover, then let roads, packing and renewal run side by side until nothing is due."""
        for result in self.options.unclear:
            self.counter.count(result)
        self.began = await self.committer.call(self.ledger.position)
        await self.recover()
        if all(
            [await mailbox.acquire_lock() for mailbox in self.mailboxes]
        ):  # else whoever drives a mailbox has looked, and its requests are counted
            await self._reconcile_before()
        renewal = self.task(self._renew())
        try:
            await self._drive()
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})
            await self._finalize()
        await self._reconcile_after()

    async def _drive(self) -> None:
        for mailbox in self.mailboxes:
            mailbox.start()
        helpers = [*(self.task(mailbox.queue.run()) for mailbox in self.mailboxes), self.task(self._pack())]
        connections = [connection for mailbox in self.mailboxes for connection in mailbox.tasks]
        try:
            await asyncio.wait(connections)
        except asyncio.CancelledError:
            self.pressed(2)
            await asyncio.wait(connections)
            raise
        finally:
            self._end()
            await asyncio.wait(helpers)

    def _end(self) -> None:
        """No more claims, on any road."""
        for mailbox in self.mailboxes:
            mailbox.queue.end()

    async def recover(self) -> int:
        """Free what the dead and the silent held; how many messages are due again."""
        due, unclear = await self.committer.call(lambda: recover(self.ledger, self.context.alive))
        for result in unclear:
            self.counter.count(result)
        return due

    def now(self) -> datetime:
        """The ledger's time when the run first asked, carried on by a clock that is never set: for a mailbox's own pace and day.

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
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash = self.crash or error
            self._end()

    async def _finalize(self) -> None:
        """Settle what was cut off on the wire, give back what was not begun."""
        await self.committer.drain()
        unused = [claim for mailbox in self.mailboxes for claim in await mailbox.finalize()]
        await self.committer.drain()
        if unused:
            with suppress(Error):  # what cannot be given back now is freed by the next run
                await self.committer.call(lambda: self.ledger.release(unused, self.owner))

    async def report(self, *, interrupted: bool) -> SendReport:
        """Counts, once everything is settled. Raises what the ledger raised."""
        if failure := self.committer.failure or self.crash:
            raise failure
        held = 0
        for struck in await self.committer.call(self.ledger.taken_back):
            self.counter.count(DeliveryResult(struck.delivery, struck.address, struck.after, struck.said))
            held += struck.after is not State.WITHDRAWN
        if held:
            self.error = self.error or held_back_by_clock(held)
        counts = await self.committer.call(lambda: self.ledger.counts(self.options.scope))
        error = self.error or next((mailbox.error for mailbox in self.mailboxes if mailbox.error), None)
        report = self.counter.report(sum(counts.get(state, 0) for state in REMAINING), error, interrupted=interrupted)
        if self.crash:
            raise self.crash
        return report

    def pressed(self, requests: int) -> None:
        """Ctrl-C: first claim no more, then cut."""
        self._pressed.set()
        self._end()
        if requests > 1:
            for mailbox in self.mailboxes:
                mailbox.cancel()

    # --- beside the roads ------------------------------------------------------------------------------------------

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
            self._end()
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

    def tell(self, news: object) -> None:
        """Pass news on to whoever watches."""
        try:
            self.context.tell(news)
        except Exception as error:  # noqa: BLE001  a closed terminal must not cost a settlement
            self.crash = self.crash or error
            self._end()

    # --- messages whose fate is unclear -----------------------------------------------------------------------------

    async def _reconcile_before(self) -> None:
        """Earlier runs' unclear messages: those that certainly did not leave go with this run."""
        await self._look(wait=False)

    async def _reconcile_after(self) -> None:
        """Those of this run, once there is sense in it."""
        ours = any(mailbox.locked for mailbox in self.mailboxes)
        if ours and self.counter.unclear and not self._pressed.is_set() and self.committer.failure is None and self.crash is None:
            await self._look(wait=True)

    async def _look(self, *, wait: bool) -> None:
        tracker = self.transport.tracker()
        if tracker is None:
            return
        if wait:
            seconds = tracker.min_age.total_seconds()
            self.tell(WaitNotice(seconds, "messages whose fate is unclear are looked for"))
            if await sleep_unless(seconds, self.context.sleep, self._pressed):
                return
        looking = TrackingContext(
            self.ledger, self.context.alive, self.ledger.now, self.transport.attempt_timeout, self.committer.call, self.owner
        )
        found = await track(looking, [tracker], self.options.scope, frozenset({State.AMBIGUOUS}))
        for moved in found.moved:
            if moved.after is not State.QUEUED or wait:
                self.counter.count(DeliveryResult(moved.delivery, moved.address, moved.after, moved.said))
