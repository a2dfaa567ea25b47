"""Messages on their way: how one is made, claimed and attempted, with what result, and what trackers look up afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from distributor.errors import Error
from distributor.model.certificates import Locator, SourceMaterial
from distributor.model.delivery import Delivery, LeaseHolder
from distributor.model.people import Person
from distributor.model.states import State, Way


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
    """The server asked to try later. `retry_after`: its own figure, if any; `service`: the reason is the server, not the message.

    `hint`: what to do when it says so to one message after the other.
    """

    response: str
    retry_after: timedelta | None = None
    service: bool = False
    hint: str = "run `distributor send` again later"


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


@dataclass(frozen=True, slots=True)
class PackingTask:
    """A planned delivery with everything that its message needs, except the private key."""

    id: str
    plan: str
    generation: int
    person: Person
    language: str
    certificate_sha256: str
    certificate_serial: str
    certificate_issuer: str
    certificate_subject: str
    not_before: datetime
    not_after: datetime
    locator: Locator
    leaf: bytes = b""  # as planned; where it is known, the file is opened for its key only
    chain: tuple[bytes, ...] = ()
    sender: str | None = None  # of the person's last message; once it is chosen, of this one
    way: Way = Way.MAIL
    series: str = ""  # as in DeliveryRequest
    renews: datetime | None = None  # the end of the certificate that this one renews


@dataclass(frozen=True, slots=True)
class PackingJob:
    """The job of a child process: make one message."""

    task: PackingTask
    material: SourceMaterial
    now: datetime  # the message's Date


@dataclass(frozen=True, slots=True)
class PackedMessage:
    """A message, made once for its generation. For Intune it has the import's JSON as its body, and no sealed password or sender."""

    id: str
    message_id: str
    message: bytes
    package_sha256: str
    profile: str
    sender: str
    sealed: bytes | None  # the password, encrypted with age; None where nobody is to type it
    channel: str
    expires: timedelta | None  # counted from the moment it becomes ready


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that one lease holder may send. `attempt` is the fencing number, from 1."""

    id: str
    attempt: int
    attempts_deferred: int  # how often a server said "later" so far
    message: OutboundMessage


@dataclass(frozen=True, slots=True)
class RecordIntent:
    """The write-ahead record of an attempt, before the point of no return: claimed -> transmitting, if the claim is still valid."""

    claim: Claim
    lease: timedelta
    handle: DraftRef | None = None  # the message's draft at the service


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt. `state` is one of accepted, deferred, rejected, ambiguous, queued; `wait`: for how long it is deferred."""

    claim: Claim
    state: State
    response: str
    wait: timedelta | None = None


AttemptUpdate = RecordIntent | AttemptResult


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The last attempt of an ambiguous delivery, for `resolve`. `restored`: it is ambiguous because the ledger was restored."""

    delivery: Delivery
    holder: LeaseHolder | None
    armed_at: datetime | None
    restored: bool = False
    replaced: bool = False  # by a later generation, which is not taken back


@dataclass(frozen=True, slots=True)
class TrackedMessage:
    """A message to look up with trackers: Sent Items, a message trace."""

    delivery: str
    message_id: str  # the one its reader sees, with angle brackets
    sender: str | None
    address: str
    state: State
    since: datetime  # the last attempt
    draft: str | None = None  # id of the draft of an ambiguous message's last attempt, where it had one
    until: datetime | None = None  # an ambiguous message may have been sent between `since` and then


@dataclass(frozen=True, slots=True)
class TrackingEvent:
    """A tracker's evidence about a message. `state`: the state that it proves; queued means that the message was certainly not sent."""

    delivery: str
    state: State
    response: str
    evidence: Mapping[str, object]  # `kind`, and details for an auditor; never addresses
