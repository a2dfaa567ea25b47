"""Messages that somebody may know more of -> what trackers found out, moved in the ledger with the evidence.

What a tracker says certainly did not leave is queued again, but not while the attempt's sender may still be alive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from distributor.errors import Error
from distributor.model.cleanup import MailboxCleaner
from distributor.model.delivery import DeliveryFilter, LeaseHolder, TrackedMessage, TrackingEvent
from distributor.model.ports import Ledger, Now, Tracker
from distributor.model.states import State
from distributor.workflows.resolution import Alive, retry_allowed_at

T = TypeVar("T")
BATCH = 100  # moves a transaction


class Call(Protocol):
    """How work with the ledger is done beside an event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """The work's result."""
        ...


@dataclass(frozen=True, slots=True)
class TrackingContext:
    """What looking needs of the world. `me`: an owner whose own attempts are known to be over."""

    ledger: Ledger
    alive: Alive
    now: Now
    attempt_timeout: timedelta
    call: Call
    me: LeaseHolder | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """A delivery that evidence moved."""

    delivery: str
    address: str
    before: State
    after: State
    said: str


@dataclass(frozen=True, slots=True)
class TrackingReport:
    """What looking came to: how many messages were sighted, what moved, and why somebody could not be asked."""

    read: int
    moved: tuple[StateChange, ...]
    errors: tuple[Error, ...] = ()


async def track(looking: TrackingContext, trackers: Sequence[Tracker], scope: DeliveryFilter, states: frozenset[State]) -> TrackingReport:
    """Ask every tracker about the messages in these states; one that cannot be asked does not silence the others.

    Those that can also be cleared of what messages left learn what the ledger knows of it.
    """
    for tracker in trackers:
        if isinstance(tracker, MailboxCleaner):
            tracker.attach_ledger(looking.ledger)
    tracked = {message.delivery: message for message in await looking.call(lambda: looking.ledger.sought(states, scope))}
    moved: list[StateChange] = []
    errors: list[Error] = []
    read = 0
    for tracker in trackers:
        now = looking.now()
        ripe = [message for message in tracked.values() if message.since + tracker.min_age <= now]
        try:
            async for batch in _batches(tracker, ripe):
                read += len(batch)
                moved += await _observe(looking, batch, tracked)
        except Error as error:
            errors.append(error)
    return TrackingReport(read, tuple(moved), tuple(errors))


async def _batches(tracker: Tracker, messages: Sequence[TrackedMessage]) -> AsyncIterator[list[TrackingEvent]]:
    """Sightings as they come, not too many at once; what came before a failure comes too."""
    batch: list[TrackingEvent] = []
    if not messages:
        return
    try:
        async for event in tracker.track(messages):
            batch.append(event)
            if len(batch) >= BATCH:
                yield batch
                batch = []
    except Error:
        yield batch
        raise
    yield batch


async def _observe(looking: TrackingContext, batch: Sequence[TrackingEvent], tracked: dict[str, TrackedMessage]) -> list[StateChange]:
    good = await _allowed(looking, batch)
    if not good:
        return []
    befores = await looking.call(lambda: looking.ledger.observe(good))
    return [
        StateChange(event.delivery, tracked[event.delivery].address, before, event.state, event.response)
        for event, before in zip(good, befores, strict=True)
        if before is not None
    ]


async def _allowed(looking: TrackingContext, batch: Sequence[TrackingEvent]) -> list[TrackingEvent]:
    """All but what would be sent again while its last sender may still send it."""
    if all(event.state is not State.QUEUED for event in batch):
        return list(batch)
    attempts = {attempt.delivery.id: attempt for attempt in await looking.call(lambda: looking.ledger.ambiguous(DeliveryFilter()))}
    now = looking.now()

    def is_free(event: TrackingEvent) -> bool:
        attempt = attempts.get(event.delivery)
        if event.state is not State.QUEUED or attempt is None:
            return True
        if looking.me is not None and attempt.holder is not None and attempt.holder.id == looking.me.id:
            return True
        free_at, _ = retry_allowed_at(attempt, looking.alive, now, looking.attempt_timeout)
        return free_at is not None and free_at <= now

    return [event for event in batch if is_free(event)]
