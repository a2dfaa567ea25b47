"""The states of a delivery and of a password, and the allowed transitions. The database's constraints are generated from them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

ID_PREFIX = "d-"  # of every delivery's id


class State(StrEnum):
    """The state of a delivery."""

    PLANNED = "planned"  # recorded, nothing made yet
    QUEUED = "queued"  # the message is stored in the outbox
    CLAIMED = "claimed"  # a sender has leased it; nothing irrevocable has happened
    TRANSMITTING = "transmitting"  # the intent is recorded: the message may have been sent
    DEFERRED = "deferred"  # the server asked to try later
    ACCEPTED = "accepted"  # the server accepted responsibility
    REJECTED = "rejected"  # the server refused for good
    AMBIGUOUS = "ambiguous"  # transmitting, without a clear response
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

# Further transitions of a ledger restored from a backup, only after an event `adopted`: deliveries that may have been sent after the
# backup become ambiguous, and those that turn out unsent and were never packed here are planned again.
ADOPTED: Mapping[State, frozenset[State]] = {
    _S.PLANNED: frozenset({_S.AMBIGUOUS}),
    _S.QUEUED: frozenset({_S.AMBIGUOUS}),
    _S.DEFERRED: frozenset({_S.AMBIGUOUS}),
    _S.CLAIMED: frozenset({_S.AMBIGUOUS}),
    _S.AMBIGUOUS: frozenset({_S.PLANNED}),
}
UNCERTAIN = (_S.PLANNED, _S.QUEUED, _S.DEFERRED, _S.CLAIMED, _S.TRANSMITTING)  # may have been sent after a backup

REMAINING = frozenset({_S.PLANNED, _S.QUEUED, _S.DEFERRED})  # the next `send` goes on with them
OBSERVED = frozenset({_S.AMBIGUOUS, _S.ACCEPTED, _S.DELIVERED})  # trackers may change these
RECEIVED = frozenset({_S.ACCEPTED, _S.DELIVERED, _S.INSTALLED})  # a server has the message: its password may be handed over


def allowed(before: State | None, after: State, *, adopted: bool = False) -> bool:
    """Whether a delivery may go from `before` (None: it does not exist yet) to `after`; `adopted`: because a ledger was restored."""
    return after in EDGES[before] or (adopted and before is not None and after in ADOPTED.get(before, ()))


class Way(StrEnum):
    """How a package reaches its person."""

    MAIL = "mail"  # an attachment, with a password for the person
    INTUNE = "intune"  # imported into Intune, which installs it on enrolled devices


class PasswordState(StrEnum):
    """The state of a password."""

    HELD = "held"  # its package is not accepted yet
    READY = "ready"
    HANDED_OVER = "handed-over"
    EXPIRED = "expired"  # its time is over; the sealed bytes stay for some days, in case the clock was wrong
    DESTROYED = "destroyed"  # some days after it expired, or by a resend, a withdrawal or an incident; the sealed bytes are gone


class RequestState(StrEnum):
    """Where a request stands."""

    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
