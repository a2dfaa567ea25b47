"""Requests for another copy, accounts that people sign in with, sessions of the portal, incidents: values and methods of the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, Self

from distributor.errors import RequestDenied
from distributor.model.delivery import Delivery
from distributor.model.mailboxes import MailboxPositions, NoticeRecords
from distributor.model.states import RequestState, State

REQUEST_PREFIX = "r-"  # of every request's id
PORTAL_PREFIX = "portal:"  # of `by`, before the subject of an account that signed in


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """Somebody asked for another copy of a delivery's certificate: a new package with a new password, to the address on file."""

    id: str  # r-...
    delivery: str  # the delivery asked about
    address: str
    name: str
    state: RequestState
    at: datetime
    reason: str
    by: str  # who asked, as `by` of the event
    decided_at: datetime | None = None
    decided_by: str = ""
    answer: str = ""  # the reason of a denial
    planned: str | None = None  # the new generation, once there is one


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How many requests a person may make in 24 hours and in 30 days."""

    daily: int = 3
    monthly: int = 3


class RequestLimitReached(RequestDenied):
    """Somebody asked too often. `again`: from when another request is accepted."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None, again: datetime | None = None) -> None:
        super().__init__(message, where=where, hint=hint)
        self.again = again


class CopyRequests(Protocol):
    """The ledger's methods about requests. Each is one transaction with its event (`requested`, `approved`, `denied`)."""

    def ask(self, delivery: str, reason: str, *, limits: RequestLimits, approve: bool = False) -> CopyRequest:
        """Record a request; `approve`: by policy, at once. An open one for the same person and certificate is returned instead.

        Raises RequestLimitReached beyond the limits, with the day from which another is accepted, and RequestDenied.
        """
        ...

    def requests(self, states: Collection[RequestState] = (), address: str | None = None) -> list[CopyRequest]:
        """Requests, oldest first; of these states (all where none is given), of this person (Address.key)."""
        ...

    def decide(self, request: str, reason: str, *, approve: bool) -> CopyRequest:
        """Approve or deny an open request, or deny an approved one that has no new generation yet; whoever asked cannot approve.

        Raises RequestDenied, UsageError for an unknown id.
        """
        ...

    def unplanned(self) -> list[CopyRequest]:
        """Approved requests that have no new generation yet, oldest first."""
        ...

    def planned(self, request: str, delivery: str) -> None:
        """Record the new generation of an approved request."""
        ...


@dataclass(frozen=True, slots=True)
class SignInAccount:
    """An account of an OpenID provider. `subject` is Entra's `oid`, elsewhere `sub`."""

    issuer: str
    subject: str


class Accounts(Protocol):
    """Which account belongs to which person."""

    def person_of(self, account: SignInAccount) -> str | None:
        """The address of the person that an account is bound to."""
        ...

    def bind(self, account: SignInAccount, address: str, how: str) -> None:
        """Bind an account to the person with this address (Address.key), with an event `bound`; `how`: "email" or "oid".

        Raises RequestDenied where either is bound already, or nobody has this address.
        """
        ...

    def with_column(self, column: str, value: str) -> list[str]:
        """Addresses of people whose further roster column has this value, compared without case."""
        ...


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session of the portal. `token` is the SHA-256 of the cookie's value; `data` is JSON without secrets."""

    token: str
    created: datetime
    seen: datetime
    data: str


class Sessions(Protocol):
    """Where the portal's sessions are kept, so that several replicas share them; not part of the audit log."""

    def read_session(self, token: str) -> StoredSession | None:
        """A session by the hash of its token."""
        ...

    def write_session(self, session: StoredSession) -> None:
        """Insert or replace a session."""
        ...

    def touch_session(self, token: str, seen: datetime) -> None:
        """Note that a session is in use, unless it has been deleted meanwhile."""
        ...

    def end_sessions(self, tokens: Sequence[str] = (), *, before: datetime | None = None, idle_since: datetime | None = None) -> int:
        """Delete these sessions, those created before, and those not seen since; how many."""
        ...


@dataclass(frozen=True, slots=True)
class ExposedDelivery:
    """A delivery that an incident is about: what a CA needs to revoke the certificate, and who received what."""

    delivery: str
    state: State  # after the incident was recorded
    generation: int
    sha256: str
    serial: str
    issuer: str
    subject: str
    not_after: datetime
    accepted_at: datetime | None
    revealed_at: datetime | None
    withdrawn: bool  # by this incident: it had not left yet
    password_destroyed: bool  # by this incident
    record: str | None = None  # in Intune, which gives it to devices until the record is deleted


@dataclass(frozen=True, slots=True)
class ErasedPerson:
    """What erasing a person takes away: how many of each."""

    address: str
    deliveries: int
    events: int  # that lose their personal fields
    certificates: int
    passwords: int  # that were not handed over yet
    accounts: int  # of the portal
    compacted: bool = True  # whether the database was rewritten afterwards, so that nothing is left in unused space


class Erasures(Protocol):
    """People who are erased."""

    def erasable(self, address: str) -> ErasedPerson:
        """What `forget` would take away; raises as it does. `address`: an Address.key."""
        ...

    def forget(self, address: str, reason: str) -> ErasedPerson:
        """Erase a person, with an event `erased` for each delivery, in one transaction; then compact the database.

        Raises UsageError where there is nobody or the reason names the person, RequestDenied where a delivery is under way.
        """
        ...


class Incidents(Protocol):
    """A key may be in the wrong hands."""

    def incident(self, address: str, reason: str) -> list[ExposedDelivery]:
        """Destroy a person's passwords and withdraw what is not sent yet, in one transaction with an event `incident` for each delivery.

        What is being transmitted is reported with its state; nothing of the person is packaged or sent again before a new `plan`.
        Raises UsageError where the person has no deliveries.
        """
        ...


@dataclass(frozen=True, slots=True)
class DayCount:
    """How many deliveries entered a state on a day (UTC)."""

    day: date
    state: State
    count: int


class PortalQueries(Protocol):
    """What the portal asks besides; each within a few milliseconds at 100 000 deliveries."""

    def timeline(self, since: datetime) -> list[DayCount]:
        """Deliveries that entered `accepted`, `installed`, `bounced` or `rejected`, by day from that of `since`."""
        ...

    def confirm(self, delivery: str, evidence: Mapping[str, object]) -> None:
        """Accepted or delivered -> installed, because the person said so; the evidence says that it is not proved."""
        ...

    def search(self, text: str, limit: int) -> list[tuple[str, str]]:
        """Addresses and names of people one of which begins with a text, compared without case; in the order of addresses."""
        ...

    def newest(self, states: Collection[State], limit: int, before: str | None = None) -> list[Delivery]:
        """Deliveries in these states, newest first (by id), of those whose id is below `before`."""
        ...


class Exports(Protocol):
    """Exports are recorded, since they contain personal data."""

    def note_export(self, form: str) -> None:
        """Record that all events are exported, with an event `exported` that is the last one of them."""
        ...


class RequestLedger(
    CopyRequests, Accounts, Sessions, Incidents, Erasures, PortalQueries, MailboxPositions, NoticeRecords, Exports, Protocol
):
    """All of this module's protocols and those of mailboxes, as the ledger implements them."""

    def acting_as(self, by: str) -> Self:
        """The same open ledger, whose events name `by`: a person of the portal, for example."""
        ...
