"""What is due in the ledger -> letters on their way: recover, pack beside it, claim, carry, arm, settle, and report.

A letter's phase is in the ledger before it is on the wire. A lane does not wait for a settlement before its next letter,
but the run ends only when all are settled.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from distributor.core.deliveries import Claim, Owner
from distributor.core.outcomes import Accepted, Outcome, Unsent
from distributor.core.ports import Lane, Ledger, Transport
from distributor.core.states import REMAINING, State
from distributor.errors import Error, Unavailable
from distributor.flow.commit import Committer
from distributor.flow.feed import Feed
from distributor.flow.pace import Pace, Trouble
from distributor.flow.recover import recover
from distributor.flow.report import Doors, Packing, Pause, Report, Tally, Wanted
from distributor.flow.settler import Flight, Settler
from distributor.flow.stopper import Stopper, rest

SOON = timedelta(minutes=2)  # a "later" of a server that a run waits for by itself


async def send(  # noqa: PLR0913  the doors of a verb
    ledger: Ledger, transport: Transport, *, owner: Owner, doors: Doors, wanted: Wanted | None = None, stopper: Stopper | None = None
) -> Report:
    """Send everything that is wanted and due.

    Raises what the ledger raises; a service that refuses or cannot be reached is the report's `error`. Cancelling is like
    the second Ctrl-C.
    """
    run = _Run(ledger, transport, owner, doors, wanted or Wanted())
    stopper = stopper or Stopper()
    stopper.listen(run.pressed)
    try:
        with _brisk():
            await run.work()
        return await run.report(interrupted=stopper.presses > 0)
    finally:
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


class _Run:
    def __init__(self, ledger: Ledger, transport: Transport, owner: Owner, doors: Doors, wanted: Wanted) -> None:
        self.ledger, self.transport, self.owner, self.doors, self.wanted = ledger, transport, owner, doors, wanted
        self.desk = Committer(ledger, owner, lambda: self.carried)
        self.feed = Feed(self._claim, self._soon, transport.lanes, wanted.limit, packing=wanted.packing is not None)
        self.pace = Pace(transport.per_minute)
        self.tally = Tally(self._tell)
        self.settler = Settler(self.desk, self.feed, self.tally, doors.now)
        self.lanes: list[asyncio.Task[None]] = []
        self.torn: list[Flight] = []  # claimed, and the lane ended before the letter did
        self.error: Error | None = None  # why the run ends early
        self.crash: BaseException | None = None  # raised when everything is settled
        self.carried = 0  # letters in lanes
        self.waited = timedelta()
        self.began = doors.now()

    # --- the whole -------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Recover, then let lanes, feed, packing and renewal run side by side until nothing is due."""
        for result in self.wanted.unclear:
            self.tally.count(result)
        await self._recover()
        renewal = self._task(self._renew())
        helpers = [self._task(self.feed.run()), self._task(self._pack())]
        self.lanes = [self._task(self._lane()) for _ in range(self.transport.lanes)]
        try:
            await asyncio.wait(self.lanes)
        except asyncio.CancelledError:
            self.pressed(2)
            await asyncio.wait(self.lanes)
            raise
        finally:
            self.feed.end()
            await asyncio.wait(helpers)
            renewal.cancel()
            await asyncio.wait({renewal})
            await self._put_away()

    async def _recover(self) -> int:
        due, unclear = await self.desk.call(lambda: recover(self.ledger, self.doors.alive))
        for result in unclear:
            self.tally.count(result)
        return due

    def _task(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """A task whose failure ends the run."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)  # noqa: S101  for the type checker
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash = self.crash or error
            self.feed.end()

    async def _put_away(self) -> None:
        """Settle what was cut off on the wire, give back what was not begun."""
        await self.desk.drain()
        for flight in self.torn:
            if flight.armed:
                self.settler.settle(flight.claim, State.AMBIGUOUS, "interrupted while the letter was on the wire")
        await self.desk.drain()
        unused = self.feed.unused() + [flight.claim for flight in self.torn if not flight.armed]
        if unused:
            with suppress(Error):  # what cannot be given back now is freed by the next run
                await self.desk.call(lambda: self.ledger.release(unused, self.owner))

    async def report(self, *, interrupted: bool) -> Report:
        """Counts, once everything is settled. Raises what the ledger raised."""
        if failure := self.desk.failure or self.crash:
            raise failure
        counts = await self.desk.call(lambda: self.ledger.counts(self.wanted.scope))
        report = self.tally.report(sum(counts.get(state, 0) for state in REMAINING), self.error, interrupted=interrupted)
        if self.crash:
            raise self.crash
        return report

    def pressed(self, presses: int) -> None:
        """Ctrl-C: first claim no more, then cut."""
        self.feed.end()
        if presses > 1:
            for lane in self.lanes:
                lane.cancel()

    def stop(self, error: Error) -> None:
        """End the run early; letters on the wire finish."""
        self.error = self.error or error
        self.feed.end()

    # --- beside the lanes ------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        lease = self.wanted.lease
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            await self.desk.call(lambda: self.ledger.renew(self.owner, lease))

    async def _pack(self) -> None:
        if self.wanted.packing is None:
            return
        try:
            await asyncio.to_thread(self._pack_all, self.wanted.packing, asyncio.get_running_loop())
        except Error as error:
            self.stop(error)
        finally:
            self.feed.packing = False
            self.feed.stir()

    def _pack_all(self, packing: Packing, loop: asyncio.AbstractEventLoop) -> None:
        for batch in packing(self.feed.ended.is_set):
            loop.call_soon_threadsafe(self._packed, batch)

    def _packed(self, batch: object) -> None:
        self._tell(batch)
        self.feed.stir()

    async def _claim(self, room: int) -> list[Claim]:
        wanted, since = self.wanted, self.began
        return await self.desk.call(
            lambda: self.ledger.claim(self.owner, room, wanted.lease, wanted.scope, early=wanted.early, since=since)
        )

    async def _soon(self) -> bool:
        """Wait for a letter that is due soon; False when there is none worth waiting for."""
        if await self._recover():  # of a sender that died beside us
            return True
        due = await self.desk.call(lambda: self.ledger.next_due(self.wanted.scope))
        wait = timedelta.max if due is None else due - self.doors.now()
        if not timedelta(0) < wait <= SOON - self.waited:
            return False
        self.waited += wait
        await self._rest(wait.total_seconds(), 'a server said "later"')
        return not self.feed.ended.is_set()

    async def _rest(self, seconds: float, why: str) -> None:
        self._tell(Pause(seconds, why))
        await rest(seconds, self.doors.sleep, self.feed.ended)

    # --- one lane --------------------------------------------------------------------------------------------------

    async def _lane(self) -> None:
        lane, trouble = self.transport.lane(), Trouble()
        try:
            while claim := await self.feed.next():
                flight = Flight(claim)
                self.torn.append(flight)  # until an outcome says better
                outcome = await self._carry(lane, flight)
                if outcome is None:
                    return
                self.torn.remove(flight)
                self.settler.outcome(flight, outcome)
                await self._go_on(outcome, trouble)
        finally:
            with suppress(asyncio.CancelledError):
                await lane.close()

    async def _carry(self, lane: Lane, flight: Flight) -> Outcome | None:
        """The outcome, or None when the run ended before this letter's turn came."""
        seconds = self.pace.turn(flight.claim.parcel.sender, self.doors.now())
        if seconds and await rest(seconds, self.doors.sleep, self.feed.ended):
            return None

        def arm() -> Awaitable[bool]:
            flight.slip = self.desk.arm(flight.claim, self.transport.longest_wait)
            return flight.slip.future

        self.carried += 1
        try:
            return await lane.deliver(flight.claim.parcel, arm)
        finally:
            self.carried -= 1

    async def _go_on(self, outcome: Outcome, trouble: Trouble) -> None:
        """Rest after a failure; end the run where it makes no sense to go on."""
        if error := self.tally.wall(outcome):
            self.stop(error)
            return
        match outcome:
            case Unsent(said, crowded=crowded):
                seconds = trouble.rest(crowded=crowded)
                if seconds is None:
                    hint = "run `distributor send` again when the server is well"
                    self.stop(Unavailable(f'no letter went for two minutes: "{said}"', hint=hint))
                else:
                    await self._rest(seconds, said)
            case Accepted():
                self.waited = timedelta()
                trouble.over()
            case _:
                trouble.over()

    def _tell(self, news: object) -> None:
        try:
            self.doors.tell(news)
        except Exception as error:  # noqa: BLE001  a closed terminal must not cost a settlement
            self.crash = self.crash or error
            self.feed.end()
