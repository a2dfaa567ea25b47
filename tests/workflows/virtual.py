"""Hours of sending in minutes: an event loop whose time passes only while nothing is to do, and a service that counts what it is sent."""

from __future__ import annotations

import asyncio
import random
import selectors
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from distributor.model.attempts import Accepted, NotSent, OutboundMessage, Outcome
from distributor.model.delivery import DeliveryFilter
from distributor.model.people import Address
from distributor.model.ports import CommitIntent, Ledger, Tracker
from distributor.workflows.packing import SenderBalance
from distributor.workflows.sending import claims
from distributor.workflows.sending.report import SendContext, SendOptions, SendReport
from distributor.workflows.sending.run import send
from tests.workflows import outbox

BEGAN = datetime(2026, 5, 4, 6, tzinfo=UTC)
MINUTE, DAY = 60.0, 86_400.0  # seconds
NEVER = 1e9


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time jumps to the next timer where neither a callback nor a thread has something to do."""

    def __init__(self) -> None:
        self.passed, self._threads = 0.0, 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.passed)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # noqa: ANN401
        self._threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._done)
        return future

    def _done(self, _future: object) -> None:
        self._threads -= 1

    def wait(self, seconds: float | None) -> float | None:
        """How long to wait in real time, where `seconds` are left until the next timer."""
        if self._threads or seconds is None or seconds <= 0:
            return None if self._threads and seconds != 0 else seconds
        self.passed += seconds
        return 0


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  the machine's best
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(self._loop.wait(timeout))


@dataclass
class Service:
    """Exchange Online as a sender meets it: so many messages a minute and a day for each mailbox, and faults by chance."""

    loop: VirtualLoop
    chance: random.Random
    per_minute: float | None = 30
    daily: int | None = None
    max_connections: int = 3
    attempt_timeout: timedelta = timedelta(minutes=10)
    throttled: float = 0.0  # how many of all requests are put off, though the limits are kept
    out: dict[str, tuple[float, float]] = field(default_factory=dict)  # from when to when a mailbox answers nothing
    sent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # by mailbox
    people: Counter[str] = field(default_factory=Counter)

    def connection(self, sender: str | None = None) -> _Connection:
        return _Connection(self, sender or outbox.SENDER)

    def tracker(self) -> Tracker | None:
        return None

    async def finish(self, *, settled: bool = True) -> list[Any]:  # noqa: ARG002  nothing is left to do
        return []

    async def check(self) -> list[Any]:
        return []

    def violations(self) -> int:
        """How many messages were one too many for their minute or day."""
        return sum(
            _too_many(times, MINUTE, int(self.per_minute or NEVER)) + _too_many(times, DAY, self.daily or int(NEVER))
            for times in self.sent.values()
        )


def _too_many(times: Sequence[float], seconds: float, most: int) -> int:
    times = sorted(times)
    return sum(n - bisect_left(times, at - seconds) >= most for n, at in enumerate(times))


@dataclass
class _Connection:
    service: Service
    sender: str

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        service = self.service
        await asyncio.sleep(service.chance.uniform(0.2, 0.8))
        begin, end = service.out.get(self.sender, (NEVER, NEVER))
        if begin <= service.loop.passed < end:
            return NotSent("the mailbox cannot be reached")
        if service.chance.random() < service.throttled:
            return NotSent("429 later", throttled=True, retry_after=timedelta(seconds=service.chance.uniform(1, 10)))
        if not await record_intent(None):
            return NotSent("another process has claimed this message")
        service.sent[self.sender].append(service.loop.passed)
        service.people[message.address] += 1
        await asyncio.sleep(service.chance.uniform(0.3, 1.5))
        return Accepted("202 accepted")

    async def close(self) -> None:
        pass


def freeze(ledger: Ledger, people: int, senders: Sequence[str]) -> None:
    """Messages for so many people, spread over the mailboxes as packing spreads them."""
    outbox.plan(ledger, people)
    balance, owner = SenderBalance(senders, {}), outbox.me()
    while taken := ledger.lease(owner, 200, timedelta(seconds=60), DeliveryFilter()):
        chosen = [(task, balance.choose(Address(task.person.address.local, task.person.address.domain), None)) for task in taken]
        ledger.enqueue([outbox.packed(task.id, str(task.person.address), 0, sender or outbox.SENDER) for task, sender in chosen], owner)


def run(loop: VirtualLoop, ledger: Ledger, service: Service, senders: Sequence[str], workers: int = 1) -> list[SendReport]:
    """Send everything that is due, by several workers beside each other."""
    context = SendContext(alive=lambda _: None, sleep=asyncio.sleep, elapsed=loop.time)
    options = SendOptions(senders=tuple(senders))

    async def work() -> list[SendReport]:
        runs = [send(ledger, service, owner=outbox.me(), context=context, options=options) for _ in range(workers)]
        return list(await asyncio.gather(*runs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "time", SimpleNamespace(monotonic=loop.time))
        return loop.run_until_complete(work())
