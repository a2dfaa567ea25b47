"""Asks trackers about messages, and changes their states in the ledger with the evidence.

A message that certainly did not leave is queued again, but not while the attempt's sender may still be alive.
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
BATCH = 100  # tracking events in one transaction


class Call(Protocol):
    """Runs work with the ledger outside the event loop's thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """The work's result."""
        ...


@dataclass(frozen=True, slots=True)
class TrackingContext:
    """What tracking needs. `me`: a lease holder whose own attempts are known to be over."""

    ledger: Ledger
    alive: Alive
    now: Now
    attempt_timeout: timedelta
    call: Call
    me: LeaseHolder | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """A delivery whose state was changed by evidence."""

    delivery: str
    address: str
    before: State
    after: State
    said: str


@dataclass(frozen=True, slots=True)
class TrackingReport:
    """The result: how many tracking events were read, what they changed, and which trackers failed."""

    read: int
    moved: tuple[StateChange, ...]
    errors: tuple[Error, ...] = ()


async def track(context: TrackingContext, trackers: Sequence[Tracker], scope: DeliveryFilter, states: frozenset[State]) -> TrackingReport:
    """Ask every tracker about the messages in these states; one that fails does not stop the others.

    Trackers that also clean mailboxes get the ledger for that.
    """
    for tracker in trackers:
        if isinstance(tracker, MailboxCleaner):
            tracker.attach_ledger(context.ledger)
    tracked = {message.delivery: message for message in await context.call(lambda: context.ledger.sought(states, scope))}
    moved: list[StateChange] = []
    errors: list[Error] = []
    read = 0
    for tracker in trackers:
        now = context.now()
        old_enough = [message for message in tracked.values() if message.since + tracker.min_age <= now]
        try:
            async for batch in _batches(tracker, old_enough):
                read += len(batch)
                moved += await _observe(context, batch, tracked)
        except Error as error:
            errors.append(error)
    return TrackingReport(read, tuple(moved), tuple(errors))


async def _batches(tracker: Tracker, messages: Sequence[TrackedMessage]) -> AsyncIterator[list[TrackingEvent]]:
    """Tracking events in batches; those before a failure are not lost."""
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


async def _observe(context: TrackingContext, batch: Sequence[TrackingEvent], tracked: dict[str, TrackedMessage]) -> list[StateChange]:
    allowed = await _allowed(context, batch)
    if not allowed:
        return []
    befores = await context.call(lambda: context.ledger.observe(allowed))
    return [
        StateChange(event.delivery, tracked[event.delivery].address, before, event.state, event.response)
        for event, before in zip(allowed, befores, strict=True)
        if before is not None
    ]


async def _allowed(context: TrackingContext, batch: Sequence[TrackingEvent]) -> list[TrackingEvent]:
    """All but those that would queue a message again while its last sender may still send it."""
    if all(event.state is not State.QUEUED for event in batch):
        return list(batch)
    attempts = {attempt.delivery.id: attempt for attempt in await context.call(lambda: context.ledger.ambiguous(DeliveryFilter()))}
    now = context.now()

    def is_free(event: TrackingEvent) -> bool:
        attempt = attempts.get(event.delivery)
        if event.state is not State.QUEUED or attempt is None:
            return True
        if context.me is not None and attempt.holder is not None and attempt.holder.id == context.me.id:
            return True
        free_at, _ = retry_allowed_at(attempt, context.alive, now, context.attempt_timeout)
        return free_at is not None and free_at <= now

    return [event for event in batch if is_free(event)]
