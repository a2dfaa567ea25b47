"""A message to be sent, and the possible outcomes of an attempt to send it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from distributor.errors import Error


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A stored message: envelope sender and recipient, Message-ID, and its bytes (CRLF line ends)."""

    delivery: str
    sender: str
    address: str
    message_id: str
    message: bytes
    attempt: int = 1  # after the first one, the service may have a draft already
    draft: str | None = None  # id of the draft that an earlier attempt recorded


@dataclass(frozen=True, slots=True)
class DraftRef:
    """A draft at the service: its id there, and the Message-ID that the recipient will see."""

    id: str
    message_id: str  # with angle brackets


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server has accepted responsibility for the message."""

    response: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server asked to try later. `retry_after`: its own figure, if any; `service`: the reason is the server, not the message."""

    response: str
    retry_after: timedelta | None = None
    service: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server refused the message for good. `content`: because of what is in it (size, type, policy)."""

    response: str
    content: bool = False


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """There was no clear response after the point of no return, so the message may have been sent."""

    response: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly not sent, for a reason that is not this message: a connection lost before the point of no return, or a refusal of all.

    `fatal` ends the run (sign-in, sender not allowed, quota); without it the connection is tried again after a while.
    `throttled` asks for one connection less; `retry_after` is the service's own figure.
    """

    response: str
    fatal: Error | None = None
    throttled: bool = False
    retry_after: timedelta | None = None


Outcome = Accepted | Deferred | Rejected | Ambiguous | NotSent
