"""What a sending run is given (context, options), what it reports, and when it stops early (circuit breaker)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.attempts import Accepted, Ambiguous, Deferred, NotSent, Outcome, Rejected
from distributor.model.delivery import DeliveryFilter, LeaseHolder
from distributor.model.states import State
from distributor.workflows.sending.shutdown import Sleep

MAX_UNAVAILABLE = 5  # messages in a row that were answered "the service is not available"
MAX_UNANSWERED = 5  # messages in a row without an answer after the end of data
MAX_IDENTICAL_REJECTIONS = 3  # messages in a row whose content was refused for the same reason

_COUNTED = (State.ACCEPTED, State.REJECTED, State.AMBIGUOUS, State.WITHDRAWN)

Tell = Callable[[object], None]  # DeliveryResult, WaitNotice, and every batch that `packing` yields
Packing = Callable[[Callable[[], bool]], Iterator[object]]  # given "stop now?"; yields after each batch it stored


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """A message's state after this run's attempt, durable in the ledger. Not `final`: the run may try again."""

    id: str
    address: str
    state: State
    response: str
    final: bool = True


@dataclass(frozen=True, slots=True)
class WaitNotice:
    """The run, or one mailbox, waits; without `seconds`: until another process is done."""

    seconds: float | None
    why: str


@dataclass(frozen=True, slots=True)
class SendReport:
    """The result of a run. `error` is why it ended early (the command's exit code is the error's)."""

    accepted: int
    deferred: int
    rejected: int
    ambiguous: int
    remaining: int  # planned, queued and deferred, of the whole scope
    error: Error | None = None
    interrupted: bool = False
    withdrawn: int = 0  # before sending: the certificate expired or was revoked meanwhile, or is another person's too

    def followed_by(self, later: SendReport) -> SendReport:
        """Both runs as one: what is deferred and remains is what the later run left."""
        counts = {name: getattr(self, name) + getattr(later, name) for name in ("accepted", "rejected", "ambiguous", "withdrawn")}
        return replace(later, **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendContext:
    """Clock, sleep, liveness check and progress callback of a run."""

    alive: Callable[[LeaseHolder], bool | None]
    sleep: Sleep = asyncio.sleep
    elapsed: Callable[[], float] = time.monotonic  # seconds, by a clock that is never set
    tell: Tell = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """What to send. `early`: deferred messages before their time too; `unclear`: messages found ambiguous just before the run."""

    scope: DeliveryFilter = field(default_factory=DeliveryFilter)
    limit: int | None = None
    early: bool = False
    lease: timedelta = timedelta(seconds=60)
    packing: Packing | None = None
    unclear: Sequence[DeliveryResult] = ()
    senders: Sequence[str] = ()  # mailboxes that send side by side, the first also what no other sends; empty: one for all


def held_back_by_clock(held: int) -> InvalidInput:
    """The error of a run that held deliveries back because of the clock."""
    return InvalidInput(
        f"{held} held back: their certificates have expired by this machine's clock, which is days ahead of the ledger's last event",
        hint="correct the clock if it is wrong; else run `distributor send` again in 6 hours, or withdraw them: "
        "`distributor withdraw DELIVERY --reason TEXT`",
    )


class EarlyStop(ServiceUnavailable):
    """A stop that is no error when nothing was left to send."""


@dataclass(slots=True)
class OutcomeCounter:
    """Counts messages by their state and reports each change."""

    tell: Tell
    counts: dict[State, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    unsettled: dict[str, DeliveryResult] = field(default_factory=dict)  # deferred or queued again: not final while the run goes on
    unclear: set[str] = field(default_factory=set)  # ambiguous so far

    def count(self, result: DeliveryResult) -> None:
        """Count one result; a message may be counted again with another state."""
        if result.id in self.unclear:  # a tracker found evidence
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
            self.tell(DeliveryResult(result.id, result.address, result.state, result.response, final=False))

    def report(self, remaining: int, error: Error | None, *, interrupted: bool) -> SendReport:
        """Report the results that are final now, and sum up."""
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
    """Stops a mailbox when messages in a row fail for the same reason."""

    _streak: tuple[str, int] = ("", 0)  # reason, and how often in a row

    def record(self, outcome: Outcome) -> Error | None:
        """Record one more outcome; why to stop, if there is a reason."""
        match outcome:
            case NotSent(fatal=error):
                return error
            case Deferred(response, service=True, hint=hint) if self._count("unavailable") >= MAX_UNAVAILABLE:
                return ServiceUnavailable(f'the service is not available: "{response}"', hint=hint)
            case Ambiguous(response) if self._count("unanswered") >= MAX_UNANSWERED:
                hint = "check the server's log, settle them with `distributor resolve`, then run `distributor send` again"
                return EarlyStop(f'{MAX_UNANSWERED} messages in a row got no response: "{response}"', hint=hint)
            case Rejected(response, content=True) if self._count(" ".join(response.split()[:2])) >= MAX_IDENTICAL_REJECTIONS:
                hint = "fix what the server reports, then run `distributor send` again; rejected messages need `distributor resend`"
                return EarlyStop(f'{MAX_IDENTICAL_REJECTIONS} messages in a row were rejected for the same reason: "{response}"', hint=hint)
            case Accepted() | Deferred(service=False) | Rejected(content=False):
                self._streak = ("", 0)
        return None

    def _count(self, reason: str) -> int:
        self._streak = (reason, self._streak[1] + 1 if self._streak[0] == reason else 1)
        return self._streak[1]
