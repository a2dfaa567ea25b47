"""The values that the ledger takes and returns: requests, deliveries, packing tasks, claims, attempts, filters, and what cleanup needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

from distributor.errors import Error
from distributor.model.certificates import CertificateInfo, Locator, SourceMaterial
from distributor.model.issues import Diagnostic
from distributor.model.people import Person
from distributor.model.secret import Secret
from distributor.model.states import PasswordState, State

# --- a message to be sent, and the possible outcomes of an attempt to send it -----------------


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
class LeaseHolder:
    """The process that has a lease.

    `host` names machine, boot and PID namespace; `started` is the process's start in clock ticks. `machine` distinguishes machines with
    the same name.
    """

    id: str
    host: str
    pid: int
    started: int | None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """A delivery to be planned."""

    person: Person
    language: str
    facts: CertificateInfo
    leaf: bytes
    chain: tuple[bytes, ...]
    locator: Locator
    validated: bool = False  # the chain is the path to a trust anchor that was validated


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as in `status`."""

    id: str
    address: str
    name: str
    language: str
    generation: int
    state: State
    attempts: int
    message_id: str | None
    package_sha256: str | None
    profile: str | None
    response: str | None
    not_before: datetime | None
    updated_at: datetime
    plan: str
    certificate_sha256: str
    certificate_serial: str
    certificate_subject: str
    certificate_not_after: datetime
    password_channel: str | None
    password_state: PasswordState | None


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


@dataclass(frozen=True, slots=True)
class PackingJob:
    """The job of a child process: make one message."""

    task: PackingTask
    material: SourceMaterial
    now: datetime  # the message's Date


@dataclass(frozen=True, slots=True)
class PackedMessage:
    """A message, made once for its generation."""

    id: str
    message_id: str
    message: bytes
    package_sha256: str
    profile: str
    sender: str
    sealed: bytes  # the password, encrypted with age
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
class UnderWay:
    """Deliveries in one state that one process has claimed. `by`: its user, as in events; `until`: when its lease ends."""

    state: State
    number: int
    owner: LeaseHolder
    by: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class SealedPassword:
    """A password as the ledger keeps it: sealed, with its state."""

    delivery: str
    address: str
    certificate_sha256: str
    generation: int
    state: PasswordState
    sealed: bytes | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Selects deliveries. Empty fields do not restrict."""

    plan: str | None = None
    addresses: frozenset[str] = frozenset()  # each an Address.key
    ids: frozenset[str] = frozenset()
    states: frozenset[State] = frozenset()


@dataclass(frozen=True, slots=True)
class Account:
    """A mailbox that messages are sent from and its credentials; the user name defaults to the address."""

    address: str
    username: str | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True)
class SenderFilter:
    """Selects messages by their sender: those of one mailbox, or of all but some. Empty: of every mailbox."""

    only: str | None = None
    without: frozenset[str] = frozenset()


ALL_SENDERS = SenderFilter()


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


@dataclass(frozen=True, slots=True)
class Taken:
    """A request whose certificate or key is already planned or delivered for another person."""

    draft: DeliveryRequest
    delivery: str  # the other person's; empty for one of the same call
    address: str
    name: str
    state: State
    since: datetime
    same_certificate: bool  # else only the key is the same


@dataclass(frozen=True, slots=True)
class ExistingDelivery:
    """A request whose person and certificate the ledger has already."""

    request: DeliveryRequest
    delivery: str
    state: State
    since: datetime


# --- cleanup --------------------------------------------------------------------------------
# Copies in Sent Items and unsent drafts that messages leave in the sending mailbox: what the ledger keeps of them, and who removes them.
#
# Both contain keys. The ledger knows every message that may have left one, and records which are known to be gone.


class CleanupEvent(StrEnum):
    """The event that records the result; at most one of each kind for a delivery."""

    COPY_REMOVED = "copy-removed"
    COPY_NOT_FOUND = "copy-not-found"  # not found for long enough
    DRAFT_REMOVED = "draft-removed"
    DRAFT_NOT_FOUND = "draft-not-found"  # it is gone, or is no draft any more


@dataclass(frozen=True, slots=True)
class CleanupItem:
    """A message that may have left a copy or drafts. `first` and `last`: times of its attempts; `handles`: its drafts, by attempt."""

    delivery: str
    message_id: str  # the one its reader sees, with angle brackets
    sender: str | None
    response: str  # the last response; empty where none was kept
    first: datetime
    last: datetime
    handles: tuple[DraftRef, ...] = ()


class CleanupStore(Protocol):
    """The ledger's methods for cleaning mailboxes."""

    def copies(self) -> list[CleanupItem]:
        """Messages that were sent and whose copy is not known to be gone, oldest first."""
        ...

    def drafts(self) -> list[CleanupItem]:
        """Messages that will not be sent any more (withdrawn, rejected, replaced), with drafts that are not known to be gone."""
        ...

    def drafted(self, sender: str) -> bool:
        """Whether a message of this sender ever had a draft."""
        ...

    def note_cleared(self, deliveries: Sequence[str], mark: CleanupEvent) -> None:
        """Record the result, once for each delivery."""
        ...


@runtime_checkable
class MailboxCleaner(Protocol):
    """A tracker that can also remove copies and drafts from the mailboxes."""

    def attach_ledger(self, store: CleanupStore) -> None:
        """What the ledger knows, for the run whose transport this tracker came from: it clears while it sends, and when it finishes."""
        ...

    def has_work(self, store: CleanupStore) -> bool:
        """Whether there is anything to remove; asks no service."""
        ...

    async def clear(self, store: CleanupStore) -> list[Diagnostic]:
        """Remove now; reports what was removed and what remains. Never raises for a service's errors."""
        ...
