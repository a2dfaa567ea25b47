"""What a sending run is given, what it tells on its way, and what it comes to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.delivery import DeliveryFilter, LeaseHolder
from distributor.model.outcomes import Accepted, Ambiguous, Deferred, NotSent, Outcome, Rejected
from distributor.model.states import State
from distributor.workflows.sending.shutdown import Sleep

MAX_UNAVAILABLE = 5  # messages in a row that were answered "the service is not available"
MAX_UNANSWERED = 5  # messages in a row that were not answered at all after their end
MAX_IDENTICAL_REJECTIONS = 3  # messages in a row that were refused for the same reason in what they hold

_COUNTED = (State.ACCEPTED, State.REJECTED, State.AMBIGUOUS, State.WITHDRAWN)

Tell = Callable[[object], None]  # Result, Pause, and every batch that `packing` yields
Packing = Callable[[Callable[[], bool]], Iterator[object]]  # given "stop now?"; yields after each batch it stored


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What became of a message in this run, durable in the ledger. Not `final`: the run may take it up again."""

    id: str
    address: str
    state: State
    said: str
    final: bool = True


@dataclass(frozen=True, slots=True)
class WaitNotice:
    """The run, or a part of it, waits; without a number of seconds until somebody else is done."""

    seconds: float | None
    why: str


@dataclass(frozen=True, slots=True)
class SendReport:
    """What a run came to. `error` is why it ended early (the command's exit code is the error's)."""

    accepted: int
    deferred: int
    rejected: int
    ambiguous: int
    remaining: int  # planned, queued and deferred, of the whole scope
    error: Error | None = None
    interrupted: bool = False
    withdrawn: int = 0  # what must not leave any more: its certificate expired or was revoked meanwhile, or is another person's too


@dataclass(frozen=True, slots=True, kw_only=True)
class SendContext:
    """What a run needs of the world."""

    alive: Callable[[LeaseHolder], bool | None]
    sleep: Sleep = asyncio.sleep
    elapsed: Callable[[], float] = time.monotonic  # seconds, by a clock that is never set
    tell: Tell = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """What a run is to do. `early`: deferred messages before their time too; `unclear`: what a look before the run found ambiguous."""

    scope: DeliveryFilter = field(default_factory=DeliveryFilter)
    limit: int | None = None
    early: bool = False
    lease: timedelta = timedelta(seconds=60)
    packing: Packing | None = None
    unclear: Sequence[DeliveryResult] = ()
    senders: Sequence[str] = ()  # mailboxes that send side by side, the first also what no other does; empty: one for all


def held_back_by_clock(held: int) -> InvalidInput:
    """The end of a run that held deliveries back because of the clock."""
    return InvalidInput(
        f"{held} held back: the certificate has expired by the clock, which jumped by days since the ledger's last event",
        hint="if the clock is wrong, correct it; if it is right, run `distributor send` in 6 hours again, or take them back: "
        "distributor withdraw DELIVERY --reason TEXT",
    )


class EarlyStop(ServiceUnavailable):
    """A reason to stop that is none when nothing was left to send."""


@dataclass(slots=True)
class OutcomeCounter:
    """Counts what became of messages."""

    tell: Tell
    counts: dict[State, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    unsettled: dict[str, DeliveryResult] = field(default_factory=dict)  # deferred, or given back: not final while the run goes on
    unclear: set[str] = field(default_factory=set)  # ambiguous so far

    def count(self, result: DeliveryResult) -> None:
        """One message more, or the same one again."""
        if result.id in self.unclear:  # evidence came
            self.unclear.remove(result.id)
            self.counts[State.AMBIGUOUS] -= 1
        if result.state in self.counts:
            self.counts[result.state] += 1
            self.unsettled.pop(result.id, None)
            self.tell(result)
            if result.state is State.AMBIGUOUS:
                self.unclear.add(result.id)
        else:
            self.unsettled[result.id] = result
            self.tell(DeliveryResult(result.id, result.address, result.state, result.said, final=False))

    def report(self, remaining: int, error: Error | None, *, interrupted: bool) -> SendReport:
        """The end."""
        for result in self.unsettled.values():
            self.tell(result)
        deferred = sum(result.state is State.DEFERRED for result in self.unsettled.values())
        done = self.counts
        if isinstance(error, EarlyStop) and not remaining:
            error = None
        counts = done[State.ACCEPTED], deferred, done[State.REJECTED], done[State.AMBIGUOUS], remaining
        return SendReport(*counts, withdrawn=done[State.WITHDRAWN], error=error, interrupted=interrupted)


@dataclass(slots=True)
class CircuitBreaker:
    """Notices where every message of a road meets the same wall."""

    _streak: tuple[str, int] = ("", 0)

    def record(self, outcome: Outcome) -> Error | None:
        """Why to go no further, after one more outcome."""
        match outcome:
            case NotSent(fatal=stop):
                return stop
            case Deferred(said, service=True) if self._again("service") >= MAX_UNAVAILABLE:
                return ServiceUnavailable(f'the service is not available: "{said}"', hint="run `distributor send` again later")
            case Ambiguous(said) if self._again("silent") >= MAX_UNANSWERED:
                hint = "look into the server's log, settle them with `distributor resolve`, then run `distributor send` again"
                return EarlyStop(f'{MAX_UNANSWERED} messages in a row got no answer: "{said}"', hint=hint)
            case Rejected(said, content=True) if self._again(" ".join(said.split()[:2])) >= MAX_IDENTICAL_REJECTIONS:
                hint = "correct what the server names, then run `distributor send` again; rejected messages need `distributor resend`"
                return EarlyStop(f'{MAX_IDENTICAL_REJECTIONS} messages in a row were refused alike: "{said}"', hint=hint)
            case Accepted() | Deferred(service=False) | Rejected(content=False):
                self._streak = ("", 0)
        return None

    def _again(self, what: str) -> int:
        self._streak = (what, self._streak[1] + 1 if self._streak[0] == what else 1)
        return self._streak[1]
