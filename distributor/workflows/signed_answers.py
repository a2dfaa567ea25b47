"""Decides whether a signed answer proves that a certificate is installed, and records the proof.

The outer header is not signed: what counts is the very certificate that was delivered, and that the signed content names the delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from distributor.model.attempts import TrackingEvent
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.mailboxes import ReceivedMail
from distributor.model.notices import SignedAnswer
from distributor.model.people import key_of
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workflows.tracking import StateChange

SIGNED_ANSWER = "signed-answer"  # `kind` of the evidence
CLOCK_BEHIND = timedelta(minutes=5)  # how far a phone's clock may be behind when it signs
CLOCK_AHEAD = timedelta(hours=1)  # how far ahead
SAID = "confirmed by a signed answer"


def record(ledger: Ledger, answer: SignedAnswer, mail: ReceivedMail) -> Sequence[StateChange] | str | None:
    """What the answer changed, nothing where it was recorded before; or why it is left alone.

    None while its message is being sent: it can be recorded once the attempt has ended.
    """
    found = _delivery(ledger, answer)
    if isinstance(found, str):
        return found
    events = list(ledger.history(key_of(found.address)))
    theirs = [event for event in events if event.delivery == found.id]
    known = {event.evidence.get("signature_sha256") for event in theirs if event.evidence.get("kind") == SIGNED_ANSWER}
    if answer.signature in known:
        return ()
    sent = min((event.at for event in theirs if event.event == State.TRANSMITTING), default=min(event.at for event in theirs))
    reason = _too_early_or_late(answer.signed_at, sent, mail.received_at or ledger.now())
    if reason or known:
        return reason or "another signed answer has confirmed it before"
    if found.state is State.TRANSMITTING:
        return None
    steps = _steps(found.state)
    if not steps:
        return f"the delivery is {found.state}"
    observed = [TrackingEvent(found.id, state, SAID, _evidence(answer, mail)) for state in steps]
    befores = ledger.observe(observed)
    return [
        StateChange(found.id, found.address, before, step.state, step.response)
        for step, before in zip(observed, befores, strict=True)
        if before is not None
    ]


def _delivery(ledger: Ledger, answer: SignedAnswer) -> Delivery | str:
    """The delivery that the answer is signed for, or why there is none."""
    if not answer.valid:
        return f"the signature is not valid: {answer.reason}"
    if len(answer.named) != 1:
        return "the signed text names several deliveries" if answer.named else "the signed text names no delivery"
    found = ledger.delivery(answer.named[0])
    if found is None:
        return "the signed text names no delivery of this ledger"
    return _mismatch(ledger, answer, found) or found


def _mismatch(ledger: Ledger, answer: SignedAnswer, found: Delivery) -> str:
    """Why the answer is not the one to this delivery; empty where it is."""
    if not answer.sender or answer.sender != key_of(found.address):
        return f"{found.id} was sent to another address"
    if answer.certificate != found.certificate_sha256:
        return f"signed with another certificate than the one of {found.id}"
    if any(_replaces(other, found) for other in ledger.deliveries(DeliveryFilter(addresses=frozenset({answer.sender})))):
        return f"a later copy replaced {found.id}"
    return ""


def _replaces(other: Delivery, found: Delivery) -> bool:
    return other.line == found.line and other.generation > found.generation and other.state is not State.WITHDRAWN


def _too_early_or_late(signed_at: datetime | None, sent: datetime, received: datetime) -> str:
    if signed_at is None:
        return "the signature has no time"
    if signed_at < sent - CLOCK_BEHIND:
        return f"signed {signed_at:%Y-%m-%d %H:%M} UTC, before the message was sent"
    if signed_at > received + CLOCK_AHEAD:
        return f"signed {signed_at:%Y-%m-%d %H:%M} UTC, after it was received"
    return ""


def _steps(state: State) -> tuple[State, ...]:
    """The states that the answer proves. One of an ambiguous message proves first that it arrived."""
    match state:
        case State.AMBIGUOUS:
            return State.DELIVERED, State.INSTALLED
        case State.ACCEPTED | State.DELIVERED | State.INSTALLED:
            return (State.INSTALLED,)
        case _:
            return ()


def _evidence(answer: SignedAnswer, mail: ReceivedMail) -> dict[str, object]:
    return {
        "kind": SIGNED_ANSWER,
        "proved": True,
        "certificate_sha256": answer.certificate,
        "signature_sha256": answer.signature,
        "signed_at": answer.signed_at and f"{answer.signed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "mail_sha256": sha256(mail.raw).hexdigest(),
        "cms": answer.proof,
        "answer": answer.message_id,
    }
