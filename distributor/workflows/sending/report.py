"""What a sending run is given, what it tells on its way, and what it comes to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from distributor.errors import Error, Unavailable, Unusable
from distributor.model.delivery import Owner, Scope
from distributor.model.outcomes import Accepted, Ambiguous, Deferred, Outcome, Rejected, Unsent
from distributor.model.states import State
from distributor.workflows.sending.shutdown import Sleep

BUSY_STOP = 5  # letters in a row that were answered "the service is not available"
SILENT_STOP = 5  # letters in a row that were not answered at all after their end
ALIKE_STOP = 3  # letters in a row that were refused for the same reason in what they hold

_COUNTED = (State.ACCEPTED, State.REJECTED, State.AMBIGUOUS, State.WITHDRAWN)

Tell = Callable[[object], None]  # Result, Pause, and every batch that `packing` yields
Packing = Callable[[Callable[[], bool]], Iterator[object]]  # given "stop now?"; yields after each batch it stored


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a letter in this run, durable in the ledger. Not `final`: the run may take it up again."""

    id: str
    address: str
    state: State
    said: str
    final: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    """The run, or a part of it, waits; without a number of seconds until somebody else is done."""

    seconds: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Report:
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
class Doors:
    """What a run needs of the world."""

    alive: Callable[[Owner], bool | None]
    sleep: Sleep = asyncio.sleep
    elapsed: Callable[[], float] = time.monotonic  # seconds, by a clock that is never set
    tell: Tell = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run is to do. `early`: deferred letters before their time too; `unclear`: what a look before the run found ambiguous."""

    scope: Scope = field(default_factory=Scope)
    limit: int | None = None
    early: bool = False
    lease: timedelta = timedelta(seconds=60)
    packing: Packing | None = None
    unclear: Sequence[Result] = ()
    senders: Sequence[str] = ()  # mailboxes that send side by side, the first also what no other does; empty: one for all


def jumped(held: int) -> Unusable:
    """The end of a run that held deliveries back because of the clock."""
    return Unusable(
        f"{held} held back: the certificate has expired by the clock, which jumped by days since the ledger's last event",
        hint="if the clock is wrong, correct it; if it is right, run `distributor send` in 6 hours again, or take them back: "
        "distributor withdraw DELIVERY --reason TEXT",
    )


class WhileMoreRemains(Unavailable):
    """A reason to stop that is none when nothing was left to send."""


@dataclass(slots=True)
class Tally:
    """Counts what became of letters."""

    tell: Tell
    counts: dict[State, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    unsettled: dict[str, Result] = field(default_factory=dict)  # deferred, or given back: not final while the run goes on
    unclear: set[str] = field(default_factory=set)  # ambiguous so far

    def count(self, result: Result) -> None:
        """One letter more, or the same one again."""
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
            self.tell(Result(result.id, result.address, result.state, result.said, final=False))

    def report(self, remaining: int, error: Error | None, *, interrupted: bool) -> Report:
        """The end."""
        for result in self.unsettled.values():
            self.tell(result)
        deferred = sum(result.state is State.DEFERRED for result in self.unsettled.values())
        done = self.counts
        if isinstance(error, WhileMoreRemains) and not remaining:
            error = None
        counts = done[State.ACCEPTED], deferred, done[State.REJECTED], done[State.AMBIGUOUS], remaining
        return Report(*counts, withdrawn=done[State.WITHDRAWN], error=error, interrupted=interrupted)


@dataclass(slots=True)
class Walls:
    """Notices where every letter of a road meets the same wall."""

    _streak: tuple[str, int] = ("", 0)

    def met(self, outcome: Outcome) -> Error | None:
        """Why to go no further, after one more outcome."""
        match outcome:
            case Unsent(stop=stop):
                return stop
            case Deferred(said, service=True) if self._again("service") >= BUSY_STOP:
                return Unavailable(f'the service is not available: "{said}"', hint="run `distributor send` again later")
            case Ambiguous(said) if self._again("silent") >= SILENT_STOP:
                hint = "look into the server's log, settle them with `distributor resolve`, then run `distributor send` again"
                return WhileMoreRemains(f'{SILENT_STOP} letters in a row got no answer: "{said}"', hint=hint)
            case Rejected(said, content=True) if self._again(" ".join(said.split()[:2])) >= ALIKE_STOP:
                hint = "correct what the server names, then run `distributor send` again; rejected letters need `distributor resend`"
                return WhileMoreRemains(f'{ALIKE_STOP} letters in a row were refused alike: "{said}"', hint=hint)
            case Accepted() | Deferred(service=False) | Rejected(content=False):
                self._streak = ("", 0)
        return None

    def _again(self, what: str) -> int:
        self._streak = (what, self._streak[1] + 1 if self._streak[0] == what else 1)
        return self._streak[1]
