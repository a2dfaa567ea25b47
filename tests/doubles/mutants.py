# ruff: noqa: SLF001, ANN401  a mutant changes what nobody else may touch
"""Ways in which the program could be wrong. Each breaks one promise; the kill matrix has to notice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from distributor.adapters.transports.graph import mailbox
from distributor.adapters.transports.smtp import session as _session
from distributor.adapters.transports.smtp import transport as smtp
from distributor.adapters.transports.smtp.replies import Reply
from distributor.ledger import certificate_owners, high_water_marks, leases, packing, sending, sqlite, transaction, transitions
from distributor.ledger.transitions import Transition
from distributor.model.attempts import Accepted, Ambiguous, AttemptUpdate, NotSent, OutboundMessage, Outcome, RecordIntent
from distributor.model.delivery import LeaseHolder
from distributor.model.states import PasswordState, State
from distributor.pki import package


def requeue_what_was_armed() -> None:
    """What job queues do: an expired lease makes the job due again, sent or not."""
    real = leases._change

    def requeued(row: Any, why: str) -> Transition:
        change = real(row, why)
        return replace(change, after=State.QUEUED, columns={"owner": None, "lease_until": None, "armed_at": None})

    leases._change = requeued


def arm_after_the_dot() -> None:
    """The note that the message may be on its way comes when it is."""

    async def rest(self: Any, session: Any, message: OutboundMessage, arm: Callable[[], Awaitable[bool]]) -> Outcome:
        settings = self._transport.settings
        await session.say(b"DATA", timeout=settings.data_timeout)
        outcome = await self._end_data(session, message)
        return outcome if await arm() else NotSent("too late")

    smtp.SmtpConnection._transmit = rest


def settle_before_the_reply() -> None:
    """The message counts as accepted once it is written."""

    async def finish(self: Any, body: bytes, *, timeout: float) -> Reply:  # noqa: ARG001, ASYNC109
        self._client.protocol.write(body)
        await asyncio.sleep(0)
        self.abort_soon = True
        return Reply(250, "2.0.0 surely")

    _session.Session.finish = finish


def no_fencing() -> None:
    """Whoever comes writes, whatever became of its claim."""

    def step(_: Any, row: Any, wanted: AttemptUpdate, who: LeaseHolder) -> Transition:
        if isinstance(wanted, RecordIntent):
            return Transition(row, State.TRANSMITTING, {"owner": who.id, "lease_until": "9"})
        return Transition(row, wanted.state, {"said": wanted.response, "owner": None, "lease_until": None})

    sending._step = step
    transitions.allowed = lambda *_, **__: True


def password_ready_before_acceptance() -> None:
    """The password may be handed over as soon as it exists."""
    real = packing._password
    packing._password = lambda message: {**real(message), "state": PasswordState.READY.value}


def lost_answer_means_unsent() -> None:
    """What mail servers do (RFC 5321 4.2.5): no answer, so it is tried again."""
    real = smtp.SmtpConnection._end_data

    async def dot(self: Any, session: Any, message: OutboundMessage) -> Outcome:
        outcome = await real(self, session, message)
        return NotSent(outcome.response) if isinstance(outcome, Ambiguous) else outcome

    smtp.SmtpConnection._end_data = dot


def nobody_recovers() -> None:
    """What a dead sender held stays held."""
    leases.recover = lambda *_: []


def time_stands_still() -> None:
    """No time lies before the last event's, as if that one's clock were a second one: leases are written and compared by it."""
    real = transaction.Clock.read

    def read(self: Any, connection: Any) -> str:
        (last,) = connection.exec_driver_sql("SELECT at FROM head").one()
        return max(real(self, connection), last)

    transaction.Clock.read = read


def refused_means_accepted() -> None:
    """Any answer after the final dot counts as a yes."""
    real = smtp.SmtpConnection._end_data

    async def dot(self: Any, session: Any, message: OutboundMessage) -> Outcome:
        outcome = await real(self, session, message)
        return outcome if isinstance(outcome, Ambiguous) else Accepted(outcome.response)

    smtp.SmtpConnection._end_data = dot


def anybody_gets_any_key() -> None:
    """What is packed is not compared with the addresses in the certificate."""
    package.check_package = lambda *_, **__: None


def one_certificate_for_two() -> None:
    """What somebody has already may go to somebody else."""
    certificate_owners.find_other_owners = lambda _, drafts: [None] * len(drafts)
    certificate_owners.other_owners = lambda *_: {}


def mark_ignored() -> None:
    """What this host remembers of a ledger does not matter."""
    high_water_marks.find_restored = lambda *_: None


def move_ignored() -> None:
    """The open file is the ledger, wherever it lies by now."""
    sqlite.refuse_moved = lambda *_: None


# --- over Graph ----------------------------------------------------------------------------------------------------


def arm_after_the_post() -> None:
    """The note that the message may be on its way comes when it is."""
    real = mailbox.DraftSender._send

    async def send(self: Any, draft: Any, message: OutboundMessage, arm: Any) -> Outcome:
        async def at_once(_handle: object = None) -> bool:
            return True

        outcome = await real(self, draft, message, at_once)
        return outcome if await arm(draft) else NotSent("too late")

    mailbox.DraftSender._send = send


def no_answer_means_unsent() -> None:
    """A lost answer to `send` is tried again, as an HTTP library does it."""
    real = mailbox.classify_response

    def judged(*args: Any, **named: Any) -> Outcome:
        outcome = real(*args, **named)
        return NotSent(outcome.response) if isinstance(outcome, Ambiguous) else outcome

    mailbox.classify_response = judged
    mailbox.DraftSender._look = mailbox.DraftSender._create


def nobody_looks_for_drafts() -> None:
    """Every attempt makes a draft of its own, whatever lies there already."""
    mailbox.DraftSender._look = mailbox.DraftSender._create
