"""The states of a delivery and of a password, and every step allowed between them. The database's constraints are made from them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a delivery is."""

    PLANNED = "planned"  # recorded, nothing made yet
    QUEUED = "queued"  # the message is frozen in the outbox
    CLAIMED = "claimed"  # one sender holds it; nothing irrevocable has happened
    TRANSMITTING = "transmitting"  # armed: the message may be on its way
    DEFERRED = "deferred"  # the server said "later" in so many words
    ACCEPTED = "accepted"  # the server took responsibility
    REJECTED = "rejected"  # the server said no, for good
    AMBIGUOUS = "ambiguous"  # armed, and no clear answer
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    INSTALLED = "installed"
    WITHDRAWN = "withdrawn"


_S = State
EDGES: Mapping[State | None, frozenset[State]] = {
    None: frozenset({_S.PLANNED}),
    _S.PLANNED: frozenset({_S.QUEUED, _S.WITHDRAWN}),
    _S.QUEUED: frozenset({_S.CLAIMED, _S.WITHDRAWN}),
    _S.DEFERRED: frozenset({_S.CLAIMED, _S.WITHDRAWN}),
    _S.CLAIMED: frozenset({_S.QUEUED, _S.DEFERRED, _S.REJECTED, _S.TRANSMITTING}),
    _S.TRANSMITTING: frozenset({_S.ACCEPTED, _S.DEFERRED, _S.REJECTED, _S.AMBIGUOUS, _S.QUEUED}),
    _S.AMBIGUOUS: frozenset({_S.ACCEPTED, _S.DELIVERED, _S.BOUNCED, _S.QUEUED, _S.WITHDRAWN}),
    _S.ACCEPTED: frozenset({_S.DELIVERED, _S.BOUNCED, _S.INSTALLED}),
    _S.DELIVERED: frozenset({_S.BOUNCED, _S.INSTALLED}),
    _S.REJECTED: frozenset({_S.WITHDRAWN}),
    _S.BOUNCED: frozenset({_S.WITHDRAWN}),
    _S.INSTALLED: frozenset(),
    _S.WITHDRAWN: frozenset(),
}

# A ledger that was restored from a backup is taken into use: what may have been sent after the backup is unclear, and what turns out
# unsent and was never packed here is planned again. Only with an event `adopted` before it.
ADOPTED: Mapping[State, frozenset[State]] = {
    _S.PLANNED: frozenset({_S.AMBIGUOUS}),
    _S.QUEUED: frozenset({_S.AMBIGUOUS}),
    _S.DEFERRED: frozenset({_S.AMBIGUOUS}),
    _S.CLAIMED: frozenset({_S.AMBIGUOUS}),
    _S.AMBIGUOUS: frozenset({_S.PLANNED}),
}
UNCERTAIN = (_S.PLANNED, _S.QUEUED, _S.DEFERRED, _S.CLAIMED, _S.TRANSMITTING)  # may have been sent after a backup

REMAINING = frozenset({_S.PLANNED, _S.QUEUED, _S.DEFERRED})  # go on by themselves
NEED_A_PERSON = frozenset({_S.REJECTED, _S.BOUNCED, _S.AMBIGUOUS})
OBSERVED = frozenset({_S.AMBIGUOUS, _S.ACCEPTED, _S.DELIVERED})  # evidence that comes later may move these
RECEIVED = frozenset({_S.ACCEPTED, _S.DELIVERED, _S.INSTALLED})  # a server has the message: its password may be handed over


def allowed(before: State | None, after: State, *, adopted: bool = False) -> bool:
    """Whether a delivery may go from `before` (None: it does not exist yet) to `after`; `adopted`: because a ledger was restored."""
    return after in EDGES[before] or (adopted and before is not None and after in ADOPTED.get(before, ()))


class PasswordState(StrEnum):
    """Where a password is."""

    HELD = "held"  # its package is not accepted yet
    READY = "ready"
    HANDED_OVER = "handed-over"
    EXPIRED = "expired"  # its time is over; the sealed bytes stay for some days, in case the clock was wrong
    DESTROYED = "destroyed"  # some days after it expired, or by a resend, a withdrawal or an incident; the sealed bytes are gone
