"""A transport with scripted answers, a clock that only sleeping moves, and a run over a real ledger with both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from distributor.model.attempts import Accepted, DraftRef, NotSent, OutboundMessage, Outcome, TrackedMessage, TrackingEvent
from distributor.model.delivery import DeliveryFilter, LeaseHolder
from distributor.model.issues import Diagnostic
from distributor.model.ports import CommitIntent, Ledger, Tracker
from distributor.workflows.sending.report import DeliveryResult, SendContext, SendOptions, SendReport
from distributor.workflows.sending.run import send
from distributor.workflows.sending.shutdown import ShutdownRequest
from tests.workflows import outbox

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
class ScriptedTransport:
    """A transport that answers from a list, or accepts; each connection carries one message at a time."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)  # by local part of the address; "" for any
    max_connections: int = 1
    per_minute: float | None = None
    daily: int | None = None
    attempt_timeout: timedelta = timedelta(minutes=10)
    knows: Tracker | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    senders: list[str | None] = field(default_factory=list)
    sent: list[OutboundMessage] = field(default_factory=list)
    draft_ref: DraftRef | None = None  # where messages lie before they go
    before_intent: Callable[[OutboundMessage], Awaitable[None]] | None = None  # awaited before the intent is recorded

    def connection(self, sender: str | None = None) -> ScriptedConnection:
        self.senders.append(sender)
        return ScriptedConnection(self)

    def tracker(self) -> Tracker | None:
        return self.knows

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        return self.diagnostics if settled else []

    async def check(self) -> list[Diagnostic]:
        return []


@dataclass
class ScriptedConnection:
    transport: ScriptedTransport

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        await asyncio.sleep(0)
        if self.transport.before_intent:
            await self.transport.before_intent(message)
        mine = self.transport.answers.get(message.address.partition("@")[0]) or self.transport.answers.get("") or []
        answer = mine.pop(0) if mine else Accepted("250 2.0.0 ok")
        if isinstance(answer, NotSent):
            return answer
        if not await record_intent(self.transport.draft_ref):
            return NotSent("another process has claimed this message")
        self.transport.sent.append(message)
        return answer if isinstance(answer, Outcome) else await answer(message)

    async def close(self) -> None:
        pass


@dataclass
class SendHarness:
    """A ledger, a clock, and the progress that a run reported."""

    ledger: Ledger
    clock: Clock
    progress: list[object] = field(default_factory=list)
    alive: Callable[[LeaseHolder], bool | None] = lambda _: None

    async def send(self, transport: ScriptedTransport, *, shutdown: ShutdownRequest | None = None, **options: object) -> SendReport:
        context = SendContext(alive=self.alive, sleep=self.clock.sleep, elapsed=self.clock.elapsed, tell=self.progress.append)
        return await send(self.ledger, transport, owner=outbox.me(), context=context, options=SendOptions(**options), shutdown=shutdown)

    def run(self, transport: ScriptedTransport, **options: object) -> SendReport:
        return asyncio.run(self.send(transport, **options))

    def states(self) -> dict[str, str]:
        return {each.address.partition("@")[0]: each.state.value for each in self.ledger.deliveries(DeliveryFilter())}

    def results(self) -> list[DeliveryResult]:
        return [event for event in self.progress if isinstance(event, DeliveryResult) and event.final]


@dataclass
class ScriptedTracker:
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
