"""A transport that answers from a script, a clock that only sleeping moves, and a run over a real ledger with both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from distributor.model.delivery import (
    Accepted,
    DeliveryFilter,
    DraftRef,
    LeaseHolder,
    NotSent,
    OutboundMessage,
    Outcome,
    TrackedMessage,
    TrackingEvent,
)
from distributor.model.issues import Diagnostic
from distributor.model.ports import CommitIntent, Ledger, Tracker
from distributor.workflows.sending.report import DeliveryResult, SendContext, SendOptions, SendReport
from distributor.workflows.sending.run import send
from distributor.workflows.sending.shutdown import ShutdownRequest
from tests.workflows import messages as letters

Answer = Outcome | Callable[[OutboundMessage], Awaitable[Outcome]]


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
    """A transport that answers from a list, or accepts; each lane carries one message at a time."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)  # by local part of the address; "" for any
    max_connections: int = 1
    per_minute: float | None = None
    daily: int | None = None
    attempt_timeout: timedelta = timedelta(minutes=10)
    knows: Tracker | None = None
    left_over: list[Diagnostic] = field(default_factory=list)
    lanes_of: list[str | None] = field(default_factory=list)
    sent: list[OutboundMessage] = field(default_factory=list)
    handle: DraftRef | None = None  # where messages lie before they go
    before: Callable[[OutboundMessage], Awaitable[None]] | None = None  # awaited before ARM

    def connection(self, sender: str | None = None) -> ScriptLane:
        self.lanes_of.append(sender)
        return ScriptLane(self)

    def tracker(self) -> Tracker | None:
        return self.knows

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        return self.left_over if settled else []

    async def check(self) -> list[Diagnostic]:
        return []


@dataclass
class ScriptLane:
    road: Script

    async def deliver(self, message: OutboundMessage, arm: CommitIntent) -> Outcome:
        await asyncio.sleep(0)
        if self.road.before:
            await self.road.before(message)
        mine = self.road.answers.get(message.address.partition("@")[0]) or self.road.answers.get("") or []
        answer = mine.pop(0) if mine else Accepted("250 2.0.0 ok")
        if isinstance(answer, NotSent):
            return answer
        if not await arm(self.road.handle):
            return NotSent("another process has claimed this message")
        self.road.sent.append(message)
        return answer if isinstance(answer, Outcome) else await answer(message)

    async def close(self) -> None:
        pass


@dataclass
class House:
    """A ledger, a clock, and what a run told."""

    ledger: Ledger
    clock: Clock
    told: list[object] = field(default_factory=list)
    alive: Callable[[LeaseHolder], bool | None] = lambda _: None

    async def send(self, road: Script, *, shutdown: ShutdownRequest | None = None, **wanted: object) -> SendReport:
        doors = SendContext(alive=self.alive, sleep=self.clock.sleep, elapsed=self.clock.elapsed, tell=self.told.append)
        return await send(self.ledger, road, owner=letters.me(), context=doors, options=SendOptions(**wanted), shutdown=shutdown)

    def run(self, road: Script, **wanted: object) -> SendReport:
        return asyncio.run(self.send(road, **wanted))

    def states(self) -> dict[str, str]:
        return {each.address.partition("@")[0]: each.state.value for each in self.ledger.deliveries(DeliveryFilter())}

    def results(self) -> list[DeliveryResult]:
        return [news for news in self.told if isinstance(news, DeliveryResult) and news.final]


@dataclass
class Knowing:
    """A tracker that knows some messages, by local part of the address."""

    knows: dict[str, TrackingEvent | Exception] = field(default_factory=dict)
    min_age: timedelta = timedelta(seconds=60)
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    async def track(self, sought: Sequence[TrackedMessage]) -> AsyncIterator[TrackingEvent]:
        for message in sought:
            name = message.address.partition("@")[0]
            self.asked.append(name)
            known = self.knows.get(name)
            if isinstance(known, Exception):
                raise known
            if known is not None:
                yield TrackingEvent(message.delivery, known.state, known.response, known.evidence)

    async def close(self) -> None:
        self.closed = True
