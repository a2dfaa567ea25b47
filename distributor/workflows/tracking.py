"""Letters that somebody may know more of -> what trackers found out, moved in the ledger with the evidence.

What a tracker says certainly did not leave is queued again, but not while the attempt's sender may still be alive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from distributor.errors import Error
from distributor.model.cleanup import Clears
from distributor.model.delivery import Owner, Scope, Sighting, Sought
from distributor.model.ports import Ledger, Now, Tracker
from distributor.model.states import State
from distributor.workflows.resolution import Alive, free

T = TypeVar("T")
BATCH = 100  # moves a transaction


class Call(Protocol):
    """How work with the ledger is done beside an event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """The work's result."""
        ...


@dataclass(frozen=True, slots=True)
class Looking:
    """What looking needs of the world. `me`: an owner whose own attempts are known to be over."""

    ledger: Ledger
    alive: Alive
    now: Now
    longest_wait: timedelta
    call: Call
    me: Owner | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """A delivery that evidence moved."""

    delivery: str
    address: str
    before: State
    after: State
    said: str


@dataclass(frozen=True, slots=True)
class Found:
    """What looking came to: how many letters were sighted, what moved, and why somebody could not be asked."""

    read: int
    moved: tuple[Moved, ...]
    errors: tuple[Error, ...] = ()


async def look(looking: Looking, trackers: Sequence[Tracker], scope: Scope, states: frozenset[State]) -> Found:
    """Ask every tracker about the letters in these states; one that cannot be asked does not silence the others.

    Those that can also be cleared of what letters left learn what the ledger knows of it.
    """
    for tracker in trackers:
        if isinstance(tracker, Clears):
            tracker.lend(looking.ledger)
    sought = {letter.delivery: letter for letter in await looking.call(lambda: looking.ledger.sought(states, scope))}
    moved: list[Moved] = []
    errors: list[Error] = []
    read = 0
    for tracker in trackers:
        now = looking.now()
        ripe = [letter for letter in sought.values() if letter.since + tracker.earliest <= now]
        try:
            async for batch in _batches(tracker, ripe):
                read += len(batch)
                moved += await _observe(looking, batch, sought)
        except Error as error:
            errors.append(error)
    return Found(read, tuple(moved), tuple(errors))


async def _batches(tracker: Tracker, letters: Sequence[Sought]) -> AsyncIterator[list[Sighting]]:
    """Sightings as they come, not too many at once; what came before a failure comes too."""
    batch: list[Sighting] = []
    if not letters:
        return
    try:
        async for sighting in tracker.look(letters):
            batch.append(sighting)
            if len(batch) >= BATCH:
                yield batch
                batch = []
    except Error:
        yield batch
        raise
    yield batch


async def _observe(looking: Looking, batch: Sequence[Sighting], sought: dict[str, Sought]) -> list[Moved]:
    good = await _allowed(looking, batch)
    if not good:
        return []
    befores = await looking.call(lambda: looking.ledger.observe(good))
    return [
        Moved(sighting.delivery, sought[sighting.delivery].address, before, sighting.state, sighting.said)
        for sighting, before in zip(good, befores, strict=True)
        if before is not None
    ]


async def _allowed(looking: Looking, batch: Sequence[Sighting]) -> list[Sighting]:
    """All but what would be sent again while its last sender may still send it."""
    if all(sighting.state is not State.QUEUED for sighting in batch):
        return list(batch)
    attempts = {attempt.delivery.id: attempt for attempt in await looking.call(lambda: looking.ledger.ambiguous(Scope()))}
    now = looking.now()

    def is_free(sighting: Sighting) -> bool:
        attempt = attempts.get(sighting.delivery)
        if sighting.state is not State.QUEUED or attempt is None:
            return True
        if looking.me is not None and attempt.owner is not None and attempt.owner.id == looking.me.id:
            return True
        free_at, _ = free(attempt, looking.alive, now, looking.longest_wait)
        return free_at is not None and free_at <= now

    return [sighting for sighting in batch if is_free(sighting)]
