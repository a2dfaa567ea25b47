"""A message on its way, and everything that may become of it on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from distributor.errors import Error


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A frozen message on its way: envelope sender and recipient, Message-ID and the very bytes (CRLF line ends)."""

    delivery: str
    sender: str
    address: str
    message_id: str
    message: bytes
    attempt: int = 1  # of another than the first, something may lie at the service already
    draft: str | None = None  # of the draft that an earlier attempt was armed with, as far as one was


@dataclass(frozen=True, slots=True)
class DraftRef:
    """What a service calls a message that lies there ready to go, and the Message-ID that its reader will see."""

    id: str
    message_id: str  # with angle brackets


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took responsibility."""

    response: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server said "later" in so many words. `wait`: its own wish, if it named one; `service`: it spoke of itself, not the message."""

    response: str
    retry_after: timedelta | None = None
    service: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server said no to this message, for good. `content` when it refused what the message holds (size, type, policy)."""

    response: str
    content: bool = False


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Nothing clear came back after the point of no return."""

    response: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proved unsent, and not by a word about this message: a lost connection before the point of no return, or a job-level refusal.

    `stop` ends the run (sign-in, sender not allowed, quota); without it the lane tries again after a while.
    `crowded` asks the flow to run with one lane less; `wait` is the service's own wish.
    """

    response: str
    fatal: Error | None = None
    throttled: bool = False
    retry_after: timedelta | None = None


Outcome = Accepted | Deferred | Rejected | Ambiguous | NotSent
