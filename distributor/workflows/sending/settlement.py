"""What became of a letter on the wire -> its settlement in the ledger, and the count of it once that is durable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from distributor.model.delivery import Claim, Settle
from distributor.model.outcomes import Accepted, Ambiguous, Deferred, Outcome, Rejected, Unsent
from distributor.model.states import State
from distributor.workflows.sending.claims import Feed
from distributor.workflows.sending.commits import Committer, Slip
from distributor.workflows.sending.limits import later
from distributor.workflows.sending.report import Result, Tally


@dataclass(slots=True, eq=False)
class Flight:
    """A letter on its way."""

    claim: Claim
    slip: Slip | None = None  # the ARM, once asked for

    @property
    def armed(self) -> bool:
        """Whether the note before the point of no return is durable."""
        return self.slip is not None and bool(self.slip.verdict)


@dataclass(frozen=True, slots=True)
class Settler:
    """Writes outcomes down; nobody waits for it, but the run ends only when all are written."""

    desk: Committer
    feed: Feed
    tally: Tally

    def outcome(self, flight: Flight, outcome: Outcome) -> None:
        """Settle a letter by what the transport says."""
        claim = flight.claim
        match outcome:
            case Accepted(said):
                self.settle(claim, State.ACCEPTED, said)
            case Deferred(said, wait):
                self.settle(claim, State.DEFERRED, said, wait or later(claim.attempts_deferred))
            case Rejected(said):
                self.settle(claim, State.REJECTED, said)
            case Ambiguous(said):
                self.settle(claim, State.AMBIGUOUS, said)
            case Unsent() if flight.slip is not None and not flight.armed:
                self.feed.landed(again=False)  # not ours any more: whoever holds it tells what becomes of it
            case Unsent(said):
                self.settle(claim, State.QUEUED, said)

    def settle(self, claim: Claim, state: State, said: str, wait: timedelta | None = None) -> None:
        """Write a state down; it is counted when it is durable."""
        slip = self.desk.settle(Settle(claim, state, said, wait))
        slip.future.add_done_callback(lambda done: self._settled(claim, state, said, done))

    def _settled(self, claim: Claim, state: State, said: str, done: asyncio.Future[bool]) -> None:
        self.feed.landed(again=state is State.QUEUED)
        if done.exception() is not None:
            self.feed.end()
            return
        if not done.result():
            state = State.AMBIGUOUS  # the claim ran out meanwhile: that is what the ledger calls it
        self.tally.count(Result(claim.id, claim.parcel.address, state, said))
