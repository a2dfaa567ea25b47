"""What became of a message on the wire -> its settlement in the ledger, and the count of it once that is durable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from distributor.model.delivery import AttemptResult, Claim
from distributor.model.outcomes import Accepted, Ambiguous, Deferred, NotSent, Outcome, Rejected
from distributor.model.states import State
from distributor.workflows.sending.claims import ClaimQueue
from distributor.workflows.sending.commits import GroupCommitter, PendingCommit
from distributor.workflows.sending.limits import retry_delay
from distributor.workflows.sending.report import DeliveryResult, OutcomeCounter


@dataclass(slots=True, eq=False)
class SendAttempt:
    """A message on its way."""

    claim: Claim
    pending: PendingCommit | None = None  # the ARM, once asked for

    @property
    def intent_recorded(self) -> bool:
        """Whether the note before the point of no return is durable."""
        return self.pending is not None and bool(self.pending.applied)


@dataclass(frozen=True, slots=True)
class Settler:
    """Writes outcomes down; nobody waits for it, but the run ends only when all are written."""

    committer: GroupCommitter
    queue: ClaimQueue
    counter: OutcomeCounter

    def record_outcome(self, attempt: SendAttempt, outcome: Outcome) -> None:
        """Settle a message by what the transport says."""
        claim = attempt.claim
        match outcome:
            case Accepted(said):
                self.settle(claim, State.ACCEPTED, said)
            case Deferred(said, wait):
                self.settle(claim, State.DEFERRED, said, wait or retry_delay(claim.attempts_deferred))
            case Rejected(said):
                self.settle(claim, State.REJECTED, said)
            case Ambiguous(said):
                self.settle(claim, State.AMBIGUOUS, said)
            case NotSent() if attempt.pending is not None and not attempt.intent_recorded:
                self.queue.complete(again=False)  # not ours any more: whoever holds it tells what becomes of it
            case NotSent(said):
                self.settle(claim, State.QUEUED, said)

    def settle(self, claim: Claim, state: State, said: str, wait: timedelta | None = None) -> None:
        """Write a state down; it is counted when it is durable."""
        pending = self.committer.settle(AttemptResult(claim, state, said, wait))
        pending.future.add_done_callback(lambda done: self._settled(claim, state, said, done))

    def _settled(self, claim: Claim, state: State, said: str, done: asyncio.Future[bool]) -> None:
        self.queue.complete(again=state is State.QUEUED)
        if done.exception() is not None:
            self.queue.end()
            return
        if not done.result():
            state = State.AMBIGUOUS  # the claim ran out meanwhile: that is what the ledger calls it
        self.counter.count(DeliveryResult(claim.id, claim.message.address, state, said))
