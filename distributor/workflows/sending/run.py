"""What is due in the ledger -> letters on their way: recover, pack beside it, claim, carry, arm, settle, and report.

A letter's phase is in the ledger before it is on the wire. Each sender has a road of its own; the run ends only when all is settled.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from distributor.errors import Error
from distributor.model.clocks import bounded_lease
from distributor.model.delivery import EVERYBODY, Owner, Senders
from distributor.model.ports import Ledger, Transport
from distributor.model.states import REMAINING, State
from distributor.workflows.sending.claims import Budget
from distributor.workflows.sending.commits import Committer
from distributor.workflows.sending.mailbox import Road
from distributor.workflows.sending.recovery import recover
from distributor.workflows.sending.report import Doors, Packing, Pause, Report, Result, Tally, Wanted, jumped
from distributor.workflows.sending.shutdown import Stopper, rest
from distributor.workflows.tracking import Looking, look


async def send(  # noqa: PLR0913  the doors of a verb
    ledger: Ledger, transport: Transport, *, owner: Owner, doors: Doors, wanted: Wanted | None = None, stopper: Stopper | None = None
) -> Report:
    """Send everything that is wanted and due.

    Raises what the ledger raises; a service that refuses or cannot be reached is the report's `error`. Cancelling is like
    the second Ctrl-C.
    """
    run = Run(ledger, transport, owner, doors, wanted or Wanted())
    stopper = stopper or Stopper()
    stopper.listen(run.pressed)
    try:
        with _brisk():
            await run.work()
        return await run.report(interrupted=stopper.presses > 0)
    finally:
        for remark in await transport.finish(settled=run.desk.failure is None):
            run.tell(remark)
        run.desk.close()


@contextmanager
def _brisk() -> Iterator[None]:
    """Let the ledger's thread and the connections take turns ten times as often: a tenth more letters a second, measured."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, 0.0005))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def roads(senders: Sequence[str]) -> list[Senders]:
    """Whose letters each road carries: each sender its own, the first also those of mailboxes that are named no more."""
    if len(senders) < 2:  # noqa: PLR2004  one road carries everything
        return [EVERYBODY]
    return [Senders(without=frozenset(senders[1:])), *(Senders(only=sender) for sender in senders[1:])]


class Run:
    """One run over the ledger: what its roads share."""

    def __init__(self, ledger: Ledger, transport: Transport, owner: Owner, doors: Doors, wanted: Wanted) -> None:
        self.ledger, self.transport, self.owner, self.doors, self.wanted = ledger, transport, owner, doors, wanted
        self.first = next(iter(wanted.senders), None)
        self.tally = Tally(self.tell)
        self.desk = Committer(ledger, owner, lambda: sum(road.carried for road in self.roads))
        self.began = 0  # the ledger's last event before the run
        self._started: tuple[datetime, float] | None = None
        budget = Budget(wanted.limit)
        self.roads = [Road(self, senders, budget) for senders in roads(wanted.senders)]
        self.error: Error | None = None  # why the run ends early
        self.crash: BaseException | None = None  # raised when everything is settled
        self._pressed = asyncio.Event()

    # --- the whole -------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Recover, then let roads, packing and renewal run side by side until nothing is due."""
        for result in self.wanted.unclear:
            self.tally.count(result)
        self.began = await self.desk.call(self.ledger.position)
        await self.recover()
        if all([await road.take() for road in self.roads]):  # else whoever drives a mailbox has looked, and its requests are counted
            await self._look_back()
        renewal = self.task(self._renew())
        try:
            await self._drive()
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})
            await self._put_away()
        await self._look_again()

    async def _drive(self) -> None:
        for road in self.roads:
            road.open()
        helpers = [*(self.task(road.feed.run()) for road in self.roads), self.task(self._pack())]
        lanes = [lane for road in self.roads for lane in road.lanes]
        try:
            await asyncio.wait(lanes)
        except asyncio.CancelledError:
            self.pressed(2)
            await asyncio.wait(lanes)
            raise
        finally:
            self._end()
            await asyncio.wait(helpers)

    def _end(self) -> None:
        """No more claims, on any road."""
        for road in self.roads:
            road.feed.end()

    async def recover(self) -> int:
        """Free what the dead and the silent held; how many letters are due again."""
        due, unclear = await self.desk.call(lambda: recover(self.ledger, self.doors.alive))
        for result in unclear:
            self.tally.count(result)
        return due

    def now(self) -> datetime:
        """The ledger's time when the run first asked, carried on by a clock that is never set: for a mailbox's own pace and day.

        What is compared with times in the ledger takes the ledger's clock itself.
        """
        if self._started is None:
            self._started = self.ledger.now(), self.doors.elapsed()
        at, since = self._started
        return at + timedelta(seconds=self.doors.elapsed() - since)

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

    async def _put_away(self) -> None:
        """Settle what was cut off on the wire, give back what was not begun."""
        await self.desk.drain()
        unused = [claim for road in self.roads for claim in await road.put_away()]
        await self.desk.drain()
        if unused:
            with suppress(Error):  # what cannot be given back now is freed by the next run
                await self.desk.call(lambda: self.ledger.release(unused, self.owner))

    async def report(self, *, interrupted: bool) -> Report:
        """Counts, once everything is settled. Raises what the ledger raised."""
        if failure := self.desk.failure or self.crash:
            raise failure
        held = 0
        for struck in await self.desk.call(self.ledger.taken_back):
            self.tally.count(Result(struck.delivery, struck.address, struck.after, struck.said))
            held += struck.after is not State.WITHDRAWN
        if held:
            self.error = self.error or jumped(held)
        counts = await self.desk.call(lambda: self.ledger.counts(self.wanted.scope))
        error = self.error or next((road.error for road in self.roads if road.error), None)
        report = self.tally.report(sum(counts.get(state, 0) for state in REMAINING), error, interrupted=interrupted)
        if self.crash:
            raise self.crash
        return report

    def pressed(self, presses: int) -> None:
        """Ctrl-C: first claim no more, then cut."""
        self._pressed.set()
        self._end()
        if presses > 1:
            for road in self.roads:
                road.cut()

    # --- beside the roads ------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        lease = self.wanted.lease
        while True:
            await asyncio.sleep(bounded_lease(lease).total_seconds() / 3)
            await self.desk.call(lambda: self.ledger.renew(self.owner, lease))

    async def _pack(self) -> None:
        if self.wanted.packing is None:
            return
        try:
            await asyncio.to_thread(self._pack_all, self.wanted.packing, asyncio.get_running_loop())
        except Error as error:
            self.error = self.error or error
            self._end()
        finally:
            for road in self.roads:
                road.feed.packing = False
                road.feed.stir()

    def _pack_all(self, packing: Packing, loop: asyncio.AbstractEventLoop) -> None:
        for batch in packing(lambda: all(road.feed.ended.is_set() for road in self.roads)):
            loop.call_soon_threadsafe(self._packed, batch)

    def _packed(self, batch: object) -> None:
        self.tell(batch)
        for road in self.roads:
            road.feed.stir()

    def tell(self, news: object) -> None:
        """Pass news on to whoever watches."""
        try:
            self.doors.tell(news)
        except Exception as error:  # noqa: BLE001  a closed terminal must not cost a settlement
            self.crash = self.crash or error
            self._end()

    # --- letters whose fate is unclear -----------------------------------------------------------------------------

    async def _look_back(self) -> None:
        """Earlier runs' unclear letters: those that certainly did not leave go with this run."""
        await self._look(wait=False)

    async def _look_again(self) -> None:
        """Those of this run, once there is sense in it."""
        ours = any(road.ours for road in self.roads)
        if ours and self.tally.unclear and not self._pressed.is_set() and self.desk.failure is None and self.crash is None:
            await self._look(wait=True)

    async def _look(self, *, wait: bool) -> None:
        tracker = self.transport.tracker()
        if tracker is None:
            return
        if wait:
            seconds = tracker.earliest.total_seconds()
            self.tell(Pause(seconds, "letters whose fate is unclear are looked for"))
            if await rest(seconds, self.doors.sleep, self._pressed):
                return
        looking = Looking(self.ledger, self.doors.alive, self.ledger.now, self.transport.longest_wait, self.desk.call, self.owner)
        found = await look(looking, [tracker], self.wanted.scope, frozenset({State.AMBIGUOUS}))
        for moved in found.moved:
            if moved.after is not State.QUEUED or wait:
                self.tally.count(Result(moved.delivery, moved.address, moved.after, moved.said))
