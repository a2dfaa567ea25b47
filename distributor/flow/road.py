"""One mailbox's letters -> lanes that carry them: claim, carry, arm, settle, at the mailbox's own pace and within its own day.

Roads of one run share the ledger's desk and the budget; one that is refused ends alone. A lane does not wait for a settlement
before its next letter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from distributor.core.deliveries import Claim, Senders
from distributor.core.outcomes import Accepted, Handle, Outcome, Unsent
from distributor.core.ports import Lane
from distributor.core.states import State
from distributor.errors import Error, Unavailable
from distributor.flow.feed import Budget, Feed
from distributor.flow.pace import DAY, Pace, Quota, Trouble
from distributor.flow.report import Pause, Walls, WhileMoreRemains
from distributor.flow.settler import Flight, Settler
from distributor.flow.stopper import rest

if TYPE_CHECKING:
    from distributor.flow.send import Run

SOON = timedelta(minutes=2)  # a "later" of a server that a run waits for by itself


class Road:
    """The lanes of one sender, or of all."""

    def __init__(self, run: Run, senders: Senders, budget: Budget) -> None:
        self.run, self.senders = run, senders
        self.feed = Feed(self._claim, self._soon, run.transport.lanes, budget, packing=run.wanted.packing is not None)
        self.settler = Settler(run.desk, self.feed, run.tally, run.doors.now)
        self.lanes: list[asyncio.Task[None]] = []
        self.torn: list[Flight] = []  # claimed, and the lane ended before the letter did
        self.carried = 0  # letters in lanes
        self.error: Error | None = None  # why the road ends early
        self._pace = Pace(run.transport.per_minute)
        self._walls = Walls()
        self._quota: Quota | None = None
        self._waited = timedelta()

    async def open(self) -> None:
        """Learn what the mailbox sent today, and let the lanes begin."""
        most = self.run.transport.daily
        if most is not None:
            since = self.run.doors.now() - DAY
            self._quota = Quota(most, deque(await self.run.desk.call(lambda: self.run.ledger.armed(since, self.senders))))
        self.lanes = [self.run.task(self._lane()) for _ in range(self.run.transport.lanes)]

    def stop(self, error: Error) -> None:
        """End the road early; letters on the wire finish."""
        self.error = self.error or error
        self.feed.end()

    def cut(self) -> None:
        """Let nothing finish."""
        for lane in self.lanes:
            lane.cancel()

    async def put_away(self) -> list[Claim]:
        """Settle what was cut off on the wire; what was claimed and not begun."""
        for flight in self.torn:
            if flight.armed:
                self.settler.settle(flight.claim, State.AMBIGUOUS, "interrupted while the letter was on the wire")
        return self.feed.unused() + [flight.claim for flight in self.torn if not flight.armed]

    # --- what the feed asks for ------------------------------------------------------------------------------------

    async def _claim(self, room: int) -> list[Claim]:
        run, wanted = self.run, self.run.wanted
        return await run.desk.call(
            lambda: run.ledger.claim(run.owner, room, wanted.lease, wanted.scope, early=wanted.early, since=run.began, senders=self.senders)
        )

    async def _soon(self) -> bool:
        """Wait for a letter that is due soon; False when there is none worth waiting for."""
        if await self.run.recover():  # of a sender that died beside us
            return True
        due = await self.run.desk.call(lambda: self.run.ledger.next_due(self.run.wanted.scope, self.senders))
        wait = timedelta.max if due is None else due - self.run.doors.now()
        if not timedelta(0) < wait <= SOON - self._waited:
            return False
        self._waited += wait
        await self._rest(wait.total_seconds(), 'a server said "later"')
        return not self.feed.ended.is_set()

    async def _rest(self, seconds: float, why: str) -> None:
        self.run.tell(Pause(seconds, why))
        await rest(seconds, self.run.doors.sleep, self.feed.ended)

    # --- one lane --------------------------------------------------------------------------------------------------

    async def _lane(self) -> None:
        lane, trouble = self.run.transport.lane(self.senders.only or self.run.first), Trouble()
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
        now = self.run.doors.now()
        if self._quota is not None and (until := self._quota.take(now)) is not None:
            self.stop(_enough(self._quota.most, flight.claim.parcel.sender, until))
            return None
        seconds = self._pace.turn(flight.claim.parcel.sender, now)
        if seconds and await rest(seconds, self.run.doors.sleep, self.feed.ended):
            return None

        def arm(handle: Handle | None = None, /) -> Awaitable[bool]:
            flight.slip = self.run.desk.arm(flight.claim, self.run.transport.longest_wait, handle)
            return flight.slip.future

        self.carried += 1
        try:
            return await lane.deliver(flight.claim.parcel, arm)
        finally:
            self.carried -= 1

    async def _go_on(self, outcome: Outcome, trouble: Trouble) -> None:
        """Rest after a failure; end the road where it makes no sense to go on."""
        if error := self._walls.met(outcome):
            self.stop(error)
            return
        match outcome:
            case Unsent(said, crowded=crowded, wait=wish):
                seconds = trouble.rest(crowded=crowded, wish=wish)
                if seconds is None:
                    hint = "run `distributor send` again when the server is well"
                    self.stop(Unavailable(f'no letter went for two minutes: "{said}"', hint=hint))
                else:
                    await self._rest(seconds, said)
            case Accepted():
                self._waited = timedelta()
                trouble.over()
            case _:
                trouble.over()


def _enough(most: int, sender: str, until: object) -> Error:
    message = f"{most} letters in 24 hours are all that this mailbox may send"
    return WhileMoreRemains(message, where=sender, hint=f"run `distributor send` again after {until:%Y-%m-%d %H:%M} UTC")
