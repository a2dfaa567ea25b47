"""A transport that answers from a script, a clock that only sleeping moves, and a run over a real ledger with both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from distributor.model.delivery import Owner, Scope, Sighting, Sought
from distributor.model.issues import Remark
from distributor.model.outcomes import Accepted, Handle, Outcome, Parcel, Unsent
from distributor.model.ports import ArmCall, Ledger, Tracker
from distributor.workflows.sending.report import Doors, Report, Result, Wanted
from distributor.workflows.sending.run import send
from distributor.workflows.sending.shutdown import Stopper
from tests.workflows import messages as letters

Answer = Outcome | Callable[[Parcel], Awaitable[Outcome]]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 5, 1, 12, tzinfo=UTC)
        self.passed = 0.0  # seconds; setting the clock changes nothing here
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.time

    def elapsed(self) -> float:
        return self.passed

    def pass_by(self, **time: float) -> None:
        """Let real time pass."""
        self.time += timedelta(**time)
        self.passed += timedelta(**time).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 1))
        self.passed += seconds
        self.time += timedelta(seconds=seconds)
        await asyncio.sleep(0)


@dataclass
class Script:
    """A transport that answers from a list, or accepts; each lane carries one letter at a time."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)  # by local part of the address; "" for any
    lanes: int = 1
    per_minute: float | None = None
    daily: int | None = None
    longest_wait: timedelta = timedelta(minutes=10)
    knows: Tracker | None = None
    left_over: list[Remark] = field(default_factory=list)
    lanes_of: list[str | None] = field(default_factory=list)
    sent: list[Parcel] = field(default_factory=list)
    handle: Handle | None = None  # where letters lie before they go
    before: Callable[[Parcel], Awaitable[None]] | None = None  # awaited before ARM

    def lane(self, sender: str | None = None) -> ScriptLane:
        self.lanes_of.append(sender)
        return ScriptLane(self)

    def tracker(self) -> Tracker | None:
        return self.knows

    async def finish(self, *, settled: bool = True) -> list[Remark]:
        return self.left_over if settled else []

    async def check(self) -> list[Remark]:
        return []


@dataclass
class ScriptLane:
    road: Script

    async def deliver(self, parcel: Parcel, arm: ArmCall) -> Outcome:
        await asyncio.sleep(0)
        if self.road.before:
            await self.road.before(parcel)
        mine = self.road.answers.get(parcel.address.partition("@")[0]) or self.road.answers.get("") or []
        answer = mine.pop(0) if mine else Accepted("250 2.0.0 ok")
        if isinstance(answer, Unsent):
            return answer
        if not await arm(self.road.handle):
            return Unsent("another sender holds this letter")
        self.road.sent.append(parcel)
        return answer if isinstance(answer, Outcome) else await answer(parcel)

    async def close(self) -> None:
        pass


@dataclass
class House:
    """A ledger, a clock, and what a run told."""

    ledger: Ledger
    clock: Clock
    told: list[object] = field(default_factory=list)
    alive: Callable[[Owner], bool | None] = lambda _: None

    async def send(self, road: Script, *, stopper: Stopper | None = None, **wanted: object) -> Report:
        doors = Doors(alive=self.alive, sleep=self.clock.sleep, elapsed=self.clock.elapsed, tell=self.told.append)
        return await send(self.ledger, road, owner=letters.me(), doors=doors, wanted=Wanted(**wanted), stopper=stopper)

    def run(self, road: Script, **wanted: object) -> Report:
        return asyncio.run(self.send(road, **wanted))

    def states(self) -> dict[str, str]:
        return {each.address.partition("@")[0]: each.state.value for each in self.ledger.deliveries(Scope())}

    def results(self) -> list[Result]:
        return [news for news in self.told if isinstance(news, Result) and news.final]


@dataclass
class Knowing:
    """A tracker that knows some letters, by local part of the address."""

    knows: dict[str, Sighting | Exception] = field(default_factory=dict)
    earliest: timedelta = timedelta(seconds=60)
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    async def look(self, sought: Sequence[Sought]) -> AsyncIterator[Sighting]:
        for letter in sought:
            name = letter.address.partition("@")[0]
            self.asked.append(name)
            known = self.knows.get(name)
            if isinstance(known, Exception):
                raise known
            if known is not None:
                yield Sighting(letter.delivery, known.state, known.said, known.evidence)

    async def close(self) -> None:
        self.closed = True
