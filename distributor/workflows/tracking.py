"""Asks trackers about messages, and changes their states in the ledger with the evidence.

A message that certainly did not leave is queued again, but not while the attempt's sender may still be alive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from distributor.errors import Error, RequestDenied
from distributor.model.attempts import LastAttempt, TrackedMessage, TrackingEvent
from distributor.model.delivery import Delivery, DeliveryFilter, LeaseHolder
from distributor.model.mailbox_cleanup import MailboxCleaner
from distributor.model.ports import Ledger, Now, Tracker
from distributor.model.states import State

# --- resolution --------------------------------------------------------------------------------
# Lists ambiguous deliveries with their evidence, and settles them by a person's decision.
#
# A message is not sent again while its last sender may still be alive: the end of data could still go out.


Alive = Callable[[LeaseHolder], bool | None]


@dataclass(frozen=True, slots=True)
class AmbiguousDelivery:
    """One ambiguous delivery. `retry_allowed_at`: when its message may be sent again; None: not while its sender runs."""

    delivery: Delivery
    armed_at: datetime | None
    evidence: str
    retry_allowed_at: datetime | None


def ambiguous_deliveries(
    ledger: Ledger, scope: DeliveryFilter, *, alive: Alive, now: datetime, attempt_timeout: timedelta
) -> Iterator[AmbiguousDelivery]:
    """Every ambiguous delivery, oldest first."""
    for attempt in ledger.ambiguous(scope):
        free_at, why = retry_allowed_at(attempt, alive, now, attempt_timeout)
        yield AmbiguousDelivery(
            attempt.delivery, attempt.armed_at, f"{attempt.delivery.response or 'no response was recorded'}; {why}", free_at
        )


def accept(ledger: Ledger, delivery: str, reason: str) -> None:
    """Settle as accepted, because a person knows that the server has the message."""
    ledger.resolve(delivery, State.ACCEPTED, {"kind": "person", "reason": reason})


def send_again(  # noqa: PLR0913  what a use case needs
    ledger: Ledger, delivery: str, reason: str, *, alive: Alive, now: datetime, attempt_timeout: timedelta
) -> None:
    """Queue the same bytes again, because a person knows that the server does not have the message.

    Raises RequestDenied while its last sender may still be alive, with the time to wait.
    """
    for attempt in ledger.ambiguous(DeliveryFilter()):
        if attempt.delivery.id == delivery:
            free_at, why = retry_allowed_at(attempt, alive, now, attempt_timeout)
            if free_at is None:
                raise RequestDenied(why, where=delivery, hint="wait for that `distributor send` to finish, then run the command again")
            if free_at > now:
                hint = f"run the command again after {free_at:%Y-%m-%d %H:%M:%S} UTC, in {_span(free_at - now)}"
                raise RequestDenied(why, where=delivery, hint=hint)
    ledger.resolve(delivery, State.QUEUED, {"kind": "person", "reason": reason})


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of a decision about all of a restored ledger. `left`: what was not settled, and why."""

    settled: int
    waiting: int
    left: tuple[tuple[Delivery, RequestDenied], ...]


def settle_restored(  # noqa: PLR0913  what a use case needs
    ledger: Ledger, reason: str, *, accepted: bool, alive: Alive, now: datetime, attempt_timeout: timedelta
) -> Settled:
    """Settle everything that became ambiguous because the ledger was restored; what may not be settled so is left as it is."""
    settled = waiting = 0
    left: list[tuple[Delivery, RequestDenied]] = []
    for attempt in ledger.ambiguous(DeliveryFilter()):
        if not attempt.restored:
            continue
        delivery = attempt.delivery
        free_at, _ = retry_allowed_at(attempt, alive, now, attempt_timeout)
        if not accepted and not attempt.replaced and (free_at is None or free_at > now):
            waiting += 1
            continue
        try:
            _settle_one(ledger, attempt, reason, accepted=accepted)
        except RequestDenied as error:
            left.append((delivery, error))
        else:
            settled += 1
    return Settled(settled, waiting, tuple(left))


def _settle_one(ledger: Ledger, attempt: LastAttempt, reason: str, *, accepted: bool) -> None:
    """Raises RequestDenied where the delivery may not be settled so."""
    id_ = attempt.delivery.id
    if accepted and attempt.replaced:  # "all of them arrived" hardly means both generations of one person
        hint = f"run `distributor withdraw {id_} --reason TEXT`, or, if this one arrived too, `distributor resolve {id_} --accepted`"
        raise RequestDenied("a later generation replaced it", where=id_, hint=hint)
    ledger.resolve(id_, State.ACCEPTED if accepted else State.QUEUED, {"kind": "person", "reason": reason})


def retry_allowed_at(attempt: LastAttempt, alive: Alive, now: datetime, attempt_timeout: timedelta) -> tuple[datetime | None, str]:
    """When the message may be sent again (None: not while its sender runs), and why."""
    since = attempt.armed_at or attempt.delivery.updated_at
    match alive(attempt.holder) if attempt.holder else None:
        case True if attempt.holder is not None:
            return None, f"its sending process is still running (process {attempt.holder.pid})"
        case False:
            return min(since, now), "its sending process has ended"
        case _ if since + attempt_timeout > now:
            return since + attempt_timeout, "its sending process ran on another machine and may still be waiting for a response"
        case _:
            return since + attempt_timeout, "its sending process can no longer be waiting"


def _span(wait: timedelta) -> str:
    seconds = max(1, round(wait.total_seconds()))
    return f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"  # noqa: PLR2004  two minutes


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
    reason: str
    remedy: str = ""  # what a person does about it


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
