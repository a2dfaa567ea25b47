"""What the ledger takes and returns about deliveries: requests, deliveries, passwords, filters, and who holds a lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from distributor.model.states import Way

if TYPE_CHECKING:
    from distributor.model.certificates import CertificateInfo, Locator
    from distributor.model.people import Person
    from distributor.model.secret import Secret
    from distributor.model.states import PasswordState, State


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
    way: Way = Way.MAIL
    series: str = ""  # of an old key for old mail: which one of how many, oldest first, as "2/4"


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
    way: Way = Way.MAIL
    series: str = ""  # as in DeliveryRequest
    predecessor: str | None = None  # SHA-256 of the certificate that this one renews

    @property
    def line(self) -> tuple[str, Way]:
        """The certificate and its way: of a person's deliveries in one line, a later generation replaces an earlier one."""
        return self.certificate_sha256, self.way


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
    way: Way | None = None
    renewals: bool = False  # only certificates that renew another one


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
class ServedBy:
    """A way by which a person has, or is to get, a certificate; and when anything happened to it last."""

    way: Way
    since: datetime


@dataclass(frozen=True, slots=True)
class ExistingDelivery:
    """A request whose person and certificate the ledger has already."""

    request: DeliveryRequest
    delivery: str
    state: State
    since: datetime
