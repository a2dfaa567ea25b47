"""The doors of the house: Protocols and the values that pass through them. Adapters implement them, flows are given them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from distributor.core.credentials import Facts, Locator, Material
from distributor.core.findings import Issue
from distributor.core.people import Person
from distributor.core.secret import Secret
from distributor.core.states import PasswordState, State
from distributor.errors import Error

Job = TypeVar("Job")
Result = TypeVar("Result", covariant=True)  # noqa: PLC0105  the shorter name says it
Now = Callable[[], datetime]  # aware UTC


# --- who and with what ---------------------------------------------------------------------------------------------


class Roster(Protocol):
    """A list of people."""

    def people(self) -> Iterator[Person | Issue]:
        """Every person, or what is wrong with the row, in the order of the list. Raises Unusable when it cannot be read as a whole."""
        ...


class Source(Protocol):
    """Where certificates with keys are found."""

    def finds(self, people: Mapping[str, Person]) -> Iterator[Material | Issue]:
        """Everything that may hold credentials: what the people's rows name (RowHint), then the rest. `people`: by `Address.key`."""
        ...

    def fetch(self, locator: Locator, person: Person | None) -> Material | Issue:
        """The same material again, or an Issue when it is gone or its bytes changed."""
        ...


# --- work in child processes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failed:
    """A job whose child process did not come back: `reason` is "time", "memory" or "crash"."""

    reason: str


class Pool(Protocol[Job, Result]):
    """Reused child processes with time and memory bounds; one of them dying costs its job only."""

    def map(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result | Failed]]:
        """Each job with its result, in the order of the jobs; reads ahead a few jobs only, so that memory stays flat."""
        ...


# --- the letter's road ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parcel:
    """A frozen letter on its way: envelope sender and recipient, Message-ID and the very bytes (CRLF line ends)."""

    delivery: str
    sender: str
    address: str
    message_id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took responsibility."""

    said: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server said "later" in so many words. `wait`: its own wish, if it named one; `service`: it spoke of itself, not of the letter."""

    said: str
    wait: timedelta | None = None
    service: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server said no to this letter, for good. `content` when it refused what the letter holds (size, type, policy)."""

    said: str
    content: bool = False


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Nothing clear came back after the point of no return."""

    said: str


@dataclass(frozen=True, slots=True)
class Unsent:
    """Proved unsent, and not by a word about this letter: a lost connection before the point of no return, or a job-level refusal.

    `stop` ends the run (sign-in, sender not allowed, quota); without it the lane tries again after a while.
    `crowded` asks the flow to run with one lane less.
    """

    said: str
    stop: Error | None = None
    crowded: bool = False


Outcome = Accepted | Deferred | Rejected | Ambiguous | Unsent


class Lane(Protocol):
    """One kept connection, used by one letter at a time."""

    async def deliver(self, parcel: Parcel, arm: Callable[[], Awaitable[bool]]) -> Outcome:
        """Carry the letter; connects when needed.

        Awaits `arm()` exactly once before the point of no return and goes on only if it says True (False: the claim was lost; the
        letter is abandoned as Unsent). Never raises for what a server does. On cancellation the connection is closed and
        CancelledError goes on.
        """
        ...

    async def close(self) -> None:
        """Say goodbye; never raises."""
        ...


class Transport(Protocol):
    """A road for letters."""

    lanes: int  # how many connections side by side
    per_minute: float | None  # pace of one sender, letters a minute; None: as fast as it goes
    longest_wait: timedelta  # after this long without a word, an attempt of another process is over

    def lane(self) -> Lane:
        """A lane, not yet connected."""
        ...

    async def check(self) -> list[Remark]:
        """What `doctor` says of it: connects, signs in, sends nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Remark:
    """One line of `doctor`: `level` is "ok", "warning" or "error"."""

    area: str
    level: str
    message: str
    hint: str | None = None


# --- the ledger ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a claim: a process of a machine.

    `host` names machine, boot and process namespace; `started` is the process's start in clock ticks.
    """

    id: str
    host: str
    pid: int
    started: int | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A delivery to be planned."""

    person: Person
    language: str
    facts: Facts
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
class ToPack:
    """A planned delivery with all that its letter needs, but for key and password of the file."""

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


@dataclass(frozen=True, slots=True)
class Packed:
    """A letter made once and for all."""

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
    """A letter that one owner may send. `attempt` is the fencing number, from 1."""

    id: str
    attempt: int
    attempts_deferred: int  # how often a server said "later" so far
    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Arm:
    """The durable note before the point of no return: claimed -> transmitting, if the claim still holds."""

    claim: Claim
    lease: timedelta


@dataclass(frozen=True, slots=True)
class Settle:
    """What became of an attempt. `state` is one of accepted, deferred, rejected, ambiguous, queued."""

    claim: Claim
    state: State
    said: str
    not_before: datetime | None = None


Step = Arm | Settle


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history. `evidence` has its personal fields opened, or lacks them when the person was erased."""

    seq: int
    at: datetime
    delivery: str | None
    event: str
    before: State | None
    after: State | None
    by: str
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Record:
    """An event as the auditor gets it: the line of `audit export`, enough to check the chain without the ledger."""

    event: Event
    personal: tuple[str, ...] | None  # names in `evidence` that are committed, not hashed in clear; None: erased
    salt: str | None
    commitment: str
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last attempt of an ambiguous delivery, for `resolve`."""

    delivery: Delivery
    owner: Owner | None
    armed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed password that is ready."""

    delivery: str
    address: str
    certificate_sha256: str
    generation: int
    state: PasswordState
    sealed: bytes | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which deliveries a command means. Empty fields do not restrict."""

    plan: str | None = None
    address: str | None = None  # an Address.key
    states: frozenset[State] = field(default_factory=frozenset)


class Ledger(Protocol):
    """What happened, durably. Every method is one transaction unless it iterates; safe to call from several threads.

    `by` (who is writing) and the clock are given when the ledger is opened. A step of `core.states.EDGES` that is not allowed raises.
    Raises Unavailable when it stays locked, Unusable when it is damaged, full or read-only.
    """

    # plan
    def begin_plan(self, plan: str, inputs: Mapping[str, object]) -> None:
        """Record a plan and what it was made from (JSON: absolute paths, never secrets)."""
        ...

    def plan_inputs(self, plan: str) -> Mapping[str, object] | None:
        """What a plan was made from; None when there is no such plan."""
        ...

    def plan(self, plan: str, drafts: Sequence[Draft]) -> list[Delivery | Known]:
        """Record drafts as planned; a pair of person and certificate that is there already (unless withdrawn) comes back as Known."""
        ...

    def regenerate(self, delivery: str, reason: str, draft: Draft | None = None, place: tuple[str, Locator] | None = None) -> Delivery:
        """A new generation of a delivery, planned: the old password is destroyed, an unsent old letter withdrawn.

        `draft` replaces locator and certificate; `place` only where the same certificate is found now: a plan and a locator.
        """
        ...

    # pack
    def take(self, owner: Owner, limit: int, lease: timedelta, scope: Scope) -> list[ToPack]:
        """Planned deliveries to pack, lent to `owner` for `lease`; another owner gets others."""
        ...

    def store(self, packed: Sequence[Packed], owner: Owner) -> list[bool]:
        """Freeze letters: planned -> queued, letter into the outbox, password into the vault as held.

        False where it was frozen or withdrawn meanwhile.
        """
        ...

    # send
    def claim(  # noqa: PLR0913
        self, owner: Owner, limit: int, lease: timedelta, scope: Scope, *, early: bool = False, since: datetime | None = None
    ) -> list[Claim]:
        """Letters that are due, oldest first. `early`: deferred ones before their time too, but none that was put off after `since`."""
        ...

    def write(self, steps: Sequence[Step], owner: Owner) -> list[bool]:
        """Apply steps in one durable transaction; False where the fencing (owner, attempt, lease) did not hold."""
        ...

    def release(self, claims: Sequence[Claim], owner: Owner) -> None:
        """Give claims back unsent: claimed -> queued."""
        ...

    def renew(self, owner: Owner, lease: timedelta) -> None:
        """A sign of life for every claim of `owner` that is not armed."""
        ...

    def recover(self, alive: Callable[[Owner], bool | None]) -> list[tuple[str, State]]:
        """Free what dead or silent owners held: claimed -> queued, transmitting -> ambiguous. Idempotent.

        `alive` says None when it cannot know.
        """
        ...

    def next_due(self, scope: Scope) -> datetime | None:
        """When the next deferred delivery is due; None when none is."""
        ...

    # know
    def counts(self, scope: Scope) -> dict[State, int]:
        """Deliveries by state."""
        ...

    def deliveries(self, scope: Scope) -> Iterator[Delivery]:
        """Deliveries, oldest first; streams."""
        ...

    def rows(self, scope: Scope) -> Iterator[tuple[Any, ...]]:
        """The same as plain rows in the order of Delivery's fields, times as UTC text: half the cost, for listings of everything."""
        ...

    def delivery(self, delivery: str) -> Delivery | None:
        """One delivery by its id."""
        ...

    def letters(self, scope: Scope) -> Iterator[Parcel]:
        """Frozen letters of queued and deferred deliveries; streams."""
        ...

    def locator(self, delivery: str) -> tuple[str, Locator]:
        """Plan and locator of a delivery."""
        ...

    def history(self, address: str) -> Iterator[Event]:
        """Everything that happened to that person's deliveries."""
        ...

    def records(self) -> Iterator[Record]:
        """Every event with its links, oldest first; streams."""
        ...

    def verify(self) -> list[Issue | str]:
        """What is wrong with the chain, the states against their events, or the database itself; empty when all is well."""
        ...

    # settle by hand
    def ambiguous(self, scope: Scope) -> list[Attempt]:
        """Ambiguous deliveries with their last attempt."""
        ...

    def resolve(self, delivery: str, state: State, evidence: Mapping[str, object]) -> None:
        """From ambiguous to accepted or queued (the same bytes) by a person's word or by evidence."""
        ...

    def withdraw(self, delivery: str, reason: str) -> None:
        """Take a delivery back; its letter leaves the outbox, its password is destroyed. Raises Refused where its state forbids it."""
        ...

    # passwords
    def envelopes(self, address: str) -> list[Envelope]:
        """Passwords of a person, newest generation first."""
        ...

    def hand_over(self, delivery: str, reason: str, channel: str) -> bytes:
        """From ready to handed-over with an event `revealed`, durable before the sealed bytes are returned. Raises Refused if not ready."""
        ...

    def expire(self) -> int:
        """Destroy passwords whose time is over; how many."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """A pair of person and certificate that the ledger knows already."""

    draft: Draft
    delivery: str
    state: State
    since: datetime


class Vault(Protocol):
    """Opens what was sealed; sealing needs public keys only."""

    def open(self, sealed: bytes) -> Secret:
        """The password. Raises Unusable when the identity is missing or another one."""
        ...
