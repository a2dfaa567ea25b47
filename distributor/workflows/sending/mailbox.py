"""One mailbox's letters -> lanes that carry them: claim, carry, arm, settle, at the mailbox's own pace and within its own day.

Roads of one run share the ledger's desk and the budget; one that is refused ends alone. A lane does not wait for a settlement
before its next letter. A mailbox with limits is driven by one process at a time: others that share the ledger wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from distributor.errors import Error, Unavailable
from distributor.model.delivery import Claim, Senders
from distributor.model.outcomes import Accepted, Ambiguous, Handle, Outcome, Unsent
from distributor.model.people import key_of
from distributor.model.ports import ArmCall, Lane
from distributor.model.states import State
from distributor.workflows.sending.claims import Budget, Feed
from distributor.workflows.sending.limits import DAY, Pace, Quota, Trouble
from distributor.workflows.sending.report import Pause, Walls, WhileMoreRemains
from distributor.workflows.sending.settlement import Flight, Settler
from distributor.workflows.sending.shutdown import rest

if TYPE_CHECKING:
    from distributor.workflows.sending.run import Run

SOON = timedelta(minutes=2)  # a "later" of a server that a run waits for by itself
KNOCK = 1.0  # seconds between two tries to take a mailbox that another process drives


class Road:
    """The lanes of one sender, or of all."""

    def __init__(self, run: Run, senders: Senders, budget: Budget) -> None:
        self.run, self.senders = run, senders
        self.feed = Feed(self._claim, self._soon, run.transport.lanes, budget, packing=run.wanted.packing is not None)
        self.settler = Settler(run.desk, self.feed, run.tally)
        self.lanes: list[asyncio.Task[None]] = []
        self.torn: list[Flight] = []  # claimed, and the lane ended before the letter did
        self._carried: set[Flight] = set()
        self.error: Error | None = None  # why the road ends early
        self.ours = run.transport.per_minute is None and run.transport.daily is None  # without limits, processes need not take turns
        self._opened, self._landed = asyncio.Event(), asyncio.Event()
        self._walls = Walls()
        self._pace: Pace | None = None
        self._quota: Quota | None = None
        self._waited = timedelta()

    @property
    def carried(self) -> int:
        """How many letters are in lanes."""
        return len(self._carried)

    async def take(self) -> bool:
        """Take the mailbox for this process; whether it is ours."""
        if not self.ours:  # the first mailbox is the one that letters of all others go by too, whatever its name
            self.ours = await self.run.desk.call(lambda: self.run.ledger.hold(key_of(self.senders.only or "")))
        return self.ours

    def open(self) -> None:
        """Let the lanes begin as soon as the mailbox is ours."""
        self.lanes = [self.run.task(self._open()), *(self.run.task(self._lane()) for _ in range(self.run.transport.lanes))]

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

    # --- before the first letter ----------------------------------------------------------------------------------

    async def _open(self) -> None:
        ready = False
        try:
            if await self._our_turn():
                await self._learn()
                ready = True
        finally:
            if not ready:
                self.feed.end()
            self._opened.set()

    async def _our_turn(self) -> bool:
        """Wait for a mailbox that another process drives; False when there is nothing left to wait for."""
        told = False
        while not await self.take():
            if not await self._waits():
                return False
            if not told:
                self.run.tell(Pause(None, f"another `distributor send` drives {self._name}; this one goes on after it"))
                told = True
            if await rest(KNOCK, self.run.doors.sleep, self.feed.ended):
                return False
        return True

    @property
    def _name(self) -> str:
        return self.senders.only or self.run.first or "this mailbox"

    async def _waits(self) -> bool:
        """Whether there are letters that this road could take: now, or if whoever drives it dies."""
        run, wanted = self.run, self.run.wanted
        if self.feed.budget.left == 0:
            return False
        return self.feed.packing or await run.desk.call(lambda: run.ledger.any_left(wanted.scope, self.senders, early=wanted.early))

    async def _learn(self) -> None:
        """What the mailbox sent in its last minute and its last day, by whomever."""
        rate, most = self.run.transport.per_minute, self.run.transport.daily
        if rate is None and most is None:
            return
        await self.run.desk.call(self.run.now)  # from here on no question to the database
        since = self.run.now() - max(DAY if most else timedelta(), Pace(rate).window if rate else timedelta())
        sent = await self.run.desk.call(lambda: self.run.ledger.armed(since, self.senders))
        self._pace = Pace(rate, sent) if rate else None
        self._quota = Quota(most, deque(sent)) if most else None

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
        wait = timedelta.max if due is None else due - await self.run.desk.call(self.run.ledger.now)
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
        await self._opened.wait()
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
        if not await self._has_room(flight.claim.parcel.sender):
            return None
        left = False
        try:
            if await self._too_late():
                return None
            left = True  # or perhaps: it may be cut off
            outcome = await self._deliver(lane, flight)
            left = isinstance(outcome, Accepted | Ambiguous)
            return outcome
        finally:
            if self._quota is not None:
                self._quota.landed(self.run.now(), left=left)
                self._landed.set()

    async def _has_room(self, sender: str) -> bool:
        """Take one of the day's letters; False where there is none, and none comes back from those on the wire."""
        while self._quota is not None and not self._quota.take(self.run.now()):
            if (opens := self._quota.opens()) is not None:
                self.stop(_enough(self._quota.most, sender, opens))
            if self.feed.ended.is_set():
                return False
            self._landed.clear()
            await self._landed.wait()
        return True

    async def _too_late(self) -> bool:
        """Wait for the next letter's turn; whether the run ended meanwhile."""
        seconds = self._pace.turn(self.run.now()) if self._pace else 0.0
        return seconds > 0 and await rest(seconds, self.run.doors.sleep, self.feed.ended)

    async def _deliver(self, lane: Lane, flight: Flight) -> Outcome:
        self._carried.add(flight)
        try:
            return await lane.deliver(flight.claim.parcel, self._arming(flight, self._pace))
        finally:
            self._carried.remove(flight)

    def _arming(self, flight: Flight, pace: Pace | None) -> ArmCall:
        """What a lane calls before the point of no return."""

        def arm(handle: Handle | None = None, /) -> Awaitable[bool]:
            flight.slip = self.run.desk.arm(flight.claim, self.run.transport.longest_wait, handle)
            return flight.slip.future

        async def arm_in_turn(handle: Handle | None = None, /) -> bool:
            assert pace is not None  # noqa: S101  for the type checker
            now = self.run.now()
            if (at := pace.arm(now)) > now:
                await self.run.doors.sleep((at - now).total_seconds())
            held = flight in self._carried and await arm(handle)  # its lane may have given up meanwhile
            pace.late(at, self.run.now())
            return held

        return arm_in_turn if pace else arm

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
