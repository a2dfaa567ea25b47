"""Writes the outcome of each attempt to the ledger, and counts it once it is durable."""

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
    """One attempt to send a claimed message."""

    claim: Claim
    pending: PendingCommit | None = None  # the record of the intent, once asked for

    @property
    def intent_recorded(self) -> bool:
        """Whether the intent is durable: from then on the message may have left."""
        return self.pending is not None and bool(self.pending.applied)


@dataclass(frozen=True, slots=True)
class Settler:
    """Settles attempts. Connections do not wait for it; the run ends only when everything is settled."""

    committer: GroupCommitter
    queue: ClaimQueue
    counter: OutcomeCounter

    def record_outcome(self, attempt: SendAttempt, outcome: Outcome) -> None:
        """Settle an attempt by the transport's outcome: step (7) of sending a message."""
        claim = attempt.claim
        match outcome:
            case Accepted(response):
                self.settle(claim, State.ACCEPTED, response)
            case Deferred(response, wait):
                self.settle(claim, State.DEFERRED, response, wait or retry_delay(claim.attempts_deferred))
            case Rejected(response):
                self.settle(claim, State.REJECTED, response)
            case Ambiguous(response):
                self.settle(claim, State.AMBIGUOUS, response)
            case NotSent() if attempt.pending is not None and not attempt.intent_recorded:
                self.queue.complete(again=False)  # the lease was lost: its new holder settles the message
            case NotSent(response):
                self.settle(claim, State.QUEUED, response)

    def settle(self, claim: Claim, state: State, response: str, wait: timedelta | None = None) -> None:
        """Write a state; it is counted once it is durable."""
        pending = self.committer.settle(AttemptResult(claim, state, response, wait))
        pending.future.add_done_callback(lambda done: self._settled(claim, state, response, done))

    def _settled(self, claim: Claim, state: State, response: str, done: asyncio.Future[bool]) -> None:
        self.queue.complete(again=state is State.QUEUED)
        if done.exception() is not None:
            self.queue.end()
            return
        if not done.result():
            state = State.AMBIGUOUS  # the lease expired after the intent, and recovery made it ambiguous
        self.counter.count(DeliveryResult(claim.id, claim.message.address, state, response))
