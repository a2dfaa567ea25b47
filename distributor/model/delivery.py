"""What the ledger keeps of a delivery, as it passes through the ledger's door: from draft to claim to settlement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from distributor.model.certificates import CertificateInfo, Locator, SourceMaterial
from distributor.model.outcomes import DraftRef, OutboundMessage
from distributor.model.people import Person
from distributor.model.secret import Secret
from distributor.model.states import PasswordState, State


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who holds a claim: a process of a machine.

    `host` names machine, boot and process namespace; `started` is the process's start in clock ticks. `machine` tells two machines of
    one name apart.
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


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as `status` shows it."""

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
    said: str | None
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
    """A planned delivery with all that its message needs, but for key and password of the file."""

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
    leaf: bytes = b""  # as it was planned; where it is known, the file is opened for its key only
    chain: tuple[bytes, ...] = ()
    sender: str | None = None  # of the person's last message


@dataclass(frozen=True, slots=True)
class PackingJob:
    """What a child needs to make one message."""

    task: PackingTask
    material: SourceMaterial
    now: datetime  # the message's Date


@dataclass(frozen=True, slots=True)
class PackedMessage:
    """A message made once and for all."""

    id: str
    message_id: str
    message: bytes
    package_sha256: str
    profile: str
    sender: str
    sealed: bytes  # the password as an age envelope
    channel: str
    expires: timedelta | None  # counted from the moment it becomes ready


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that one owner may send. `attempt` is the fencing number, from 1."""

    id: str
    attempt: int
    attempts_deferred: int  # how often a server said "later" so far
    message: OutboundMessage


@dataclass(frozen=True, slots=True)
class RecordIntent:
    """The durable note before the point of no return: claimed -> transmitting, if the claim still holds."""

    claim: Claim
    lease: timedelta
    handle: DraftRef | None = None  # where the message lies at a service already


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What became of an attempt. `state` is one of accepted, deferred, rejected, ambiguous, queued; `wait`: how long it is put off."""

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
    """Deliveries in one state that one sender holds. `by`: who runs it, as in events; `until`: when its lease ends."""

    state: State
    number: int
    owner: LeaseHolder
    by: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class SealedPassword:
    """A sealed password that is ready."""

    delivery: str
    address: str
    certificate_sha256: str
    generation: int
    state: PasswordState
    sealed: bytes | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries a command means. Empty fields do not restrict."""

    plan: str | None = None
    address: str | None = None  # an Address.key
    states: frozenset[State] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Account:
    """A mailbox that messages are sent from, and how it signs in; without a name it is the address."""

    address: str
    username: str | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True)
class SenderFilter:
    """Whose messages are meant: those of one mailbox, or all but those of some. Empty: everybody's."""

    only: str | None = None
    without: frozenset[str] = frozenset()


ALL_SENDERS = SenderFilter()


@dataclass(frozen=True, slots=True)
class TrackedMessage:
    """A message that somebody may know more of: a mailbox's Sent Items, a message trace, a report."""

    delivery: str
    message_id: str  # the one its reader sees, with angle brackets
    sender: str | None
    address: str
    state: State
    since: datetime  # the last attempt
    draft: str | None = None  # of the draft that an unclear message was last armed with, as far as one was
    until: datetime | None = None  # an unclear message may have left since `since` and until then


@dataclass(frozen=True, slots=True)
class TrackingEvent:
    """What was found out about a message. `state`: where it is by that; queued means it certainly did not leave."""

    delivery: str
    state: State
    response: str
    evidence: Mapping[str, object]  # `kind`, and what an auditor would ask for; never addresses


@dataclass(frozen=True, slots=True)
class Taken:
    """A draft whose certificate, or the key that it is about, is already delivered or planned to be for another person."""

    draft: DeliveryRequest
    delivery: str  # the other person's; empty for one of the same call
    address: str
    name: str
    state: State
    since: datetime
    same_certificate: bool  # else only the key is the same


@dataclass(frozen=True, slots=True)
class ExistingDelivery:
    """A pair of person and certificate that the ledger knows already."""

    request: DeliveryRequest
    delivery: str
    state: State
    since: datetime
