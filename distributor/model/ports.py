"""The doors of the house: Protocols, nothing else. Adapters implement them, flows are given them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from distributor.model.certificates import Locator, SourceMaterial
from distributor.model.cleanup import CleanupStore
from distributor.model.csv_table import FurtherColumns
from distributor.model.delivery import (
    ALL_SENDERS,
    AttemptUpdate,
    Claim,
    Delivery,
    DeliveryFilter,
    DeliveryRequest,
    ExistingDelivery,
    LastAttempt,
    LeaseHolder,
    PackedMessage,
    PackingTask,
    SealedPassword,
    SenderFilter,
    Taken,
    TrackedMessage,
    TrackingEvent,
)
from distributor.model.events import AuditRecord, Event
from distributor.model.export_comparison import ExportComparison
from distributor.model.high_water_mark import Adoptable
from distributor.model.issues import Diagnostic, Issue, WorkerFailure
from distributor.model.ledger_times import LedgerTimes
from distributor.model.mailboxes import MailboxQueries
from distributor.model.outcomes import DraftRef, OutboundMessage, Outcome
from distributor.model.people import Person
from distributor.model.proof import VerificationReport
from distributor.model.publishing import Publications
from distributor.model.revoking import Revocations
from distributor.model.secret import Secret
from distributor.model.states import State

Job = TypeVar("Job")
Result = TypeVar("Result", covariant=True)  # noqa: PLC0105  the shorter name says it
Value = TypeVar("Value")
Now = Callable[[], datetime]  # aware UTC


class Spool(Protocol[Value]):
    """A list that grows at its end and is read from its beginning, perhaps from a file. It takes no secrets."""

    def append(self, value: Value, /) -> object:
        """Add a value."""
        ...

    def __iter__(self) -> Iterator[Value]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Value: ...


NewSpool = Callable[[], Spool[Any]]


# --- who and with what ---------------------------------------------------------------------------------------------


class Roster(Protocol):
    """A list of people."""

    def people(self) -> Iterator[Person | Issue]:
        """Every person, or what is wrong with the row, in the order of the list. Raises InvalidInput when it cannot be read as a whole."""
        ...


class Source(Protocol):
    """Where certificates with keys are found."""

    def finds(self, people: Mapping[str, Person]) -> Iterator[SourceMaterial | Issue]:
        """Everything that may hold credentials: what the people's rows name (RosterRow), then the rest. `people`: by `Address.key`."""
        ...

    def fetch(self, locator: Locator, person: Person | None) -> SourceMaterial | Issue:
        """The same material again, or an Issue when it is gone or its bytes changed."""
        ...


class WorkerPool(Protocol[Job, Result]):
    """Reused child processes with time and memory bounds; one of them dying costs its job only."""

    def map(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result | WorkerFailure]]:
        """Each job with its result, in the order of the jobs; reads ahead a few jobs only, so that memory stays flat."""
        ...


# --- the message's road ---------------------------------------------------------------------------------------------


class CommitIntent(Protocol):
    """The durable note before the point of no return. True: it holds."""

    def __call__(self, handle: DraftRef | None = None, /) -> Awaitable[bool]:
        """`handle`: where the message lies at a service, if it lies there already."""
        ...


class Connection(Protocol):
    """One kept connection, used by one message at a time."""

    async def deliver(self, message: OutboundMessage, arm: CommitIntent) -> Outcome:
        """Carry the message; connects when needed.

        Awaits `arm()` exactly once before the point of no return and goes on only if it says True (False: the claim was lost; the message
        is abandoned as NotSent). Never raises for what a server does. On cancellation the connection is closed, CancelledError goes on.
        """
        ...

    async def close(self) -> None:
        """Say goodbye; never raises."""
        ...


class Transport(Protocol):
    """A road for messages."""

    max_connections: int  # how many connections side by side, for each sender
    per_minute: float | None  # pace of one sender, messages a minute; None: as fast as it goes
    daily: int | None  # most messages of one sender in 24 hours; None: no limit is known
    attempt_timeout: timedelta  # after this long without a word, an attempt of another process is over

    def connection(self, sender: str | None = None) -> Connection:
        """A lane, not yet connected, for the messages of one sender, or of all."""
        ...

    def tracker(self) -> Tracker | None:
        """What can tell afterwards whether a message left; None: nobody here."""
        ...

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Close what was kept open, and clear up after a run whose outcomes are all written down; what remains is told."""
        ...

    async def check(self) -> list[Diagnostic]:
        """What `doctor` says of it: connects, signs in, sends nothing."""
        ...


class Tracker(Protocol):
    """Somebody who knows what became of messages."""

    min_age: timedelta  # how long after its attempt a message can be looked for with sense

    def track(self, sought: Sequence[TrackedMessage]) -> AsyncIterator[TrackingEvent]:
        """What is known of these messages; nothing of those it knows nothing of. Raises ServiceUnavailable."""
        ...

    async def close(self) -> None:
        """Close what was kept open."""
        ...


# --- the ledger ----------------------------------------------------------------------------------------------------


class Ledger(Adoptable, FurtherColumns, CleanupStore, Publications, Revocations, MailboxQueries, LedgerTimes, Protocol):
    """What happened, durably. Every method is one transaction unless it iterates; safe to call from several threads.

    `by` (who is writing) is given when the ledger is opened, and the clock where it is not the database's own. A step of
    `model.states.EDGES` that is not allowed raises. Raises ServiceUnavailable when it stays locked, InvalidInput when it is damaged, full or read-only.
    """

    # plan
    def begin_plan(self, plan: str, inputs: Mapping[str, object]) -> None:
        """Record a plan and what it was made from (JSON: absolute paths, never secrets)."""
        ...

    def plan_inputs(self, plan: str) -> Mapping[str, object] | None:
        """What a plan was made from; None when there is no such plan."""
        ...

    def plan(self, plan: str, drafts: Sequence[DeliveryRequest]) -> list[Delivery | ExistingDelivery | Taken]:
        """Record drafts as planned; Known where the pair is there already (unless withdrawn), Taken where another person has it."""
        ...

    def regenerate(
        self, delivery: str, reason: str, draft: DeliveryRequest | None = None, place: tuple[str, Locator] | None = None
    ) -> Delivery:
        """A new generation of a delivery, planned: the old password is destroyed, an unsent old message withdrawn.

        `draft` replaces locator and certificate; `place` only where the same certificate is found now: a plan and a locator.
        """
        ...

    # pack
    def lease(self, owner: LeaseHolder, limit: int, lease: timedelta, scope: DeliveryFilter) -> list[PackingTask]:
        """Planned deliveries to pack, lent to `owner` for `lease`; another owner gets others."""
        ...

    def enqueue(self, packed: Sequence[PackedMessage], owner: LeaseHolder) -> list[bool]:
        """Freeze messages: planned -> queued, message into the outbox, password held; False where it was frozen or withdrawn meanwhile."""
        ...

    # send
    def claim(  # noqa: PLR0913
        self,
        owner: LeaseHolder,
        limit: int,
        lease: timedelta,
        scope: DeliveryFilter,
        *,
        early: bool = False,
        since: int | None = None,
        senders: SenderFilter = ALL_SENDERS,
    ) -> list[Claim]:
        """Messages that are due, oldest first. `early`: deferred ones before their time too, but none put off after event `since`."""
        ...

    def write(self, steps: Sequence[AttemptUpdate], owner: LeaseHolder) -> list[bool]:
        """Apply steps in one durable transaction; False where the fencing (owner, attempt, lease) did not hold."""
        ...

    def release(self, claims: Sequence[Claim], owner: LeaseHolder) -> None:
        """Give claims back unsent: claimed -> queued."""
        ...

    def renew(self, owner: LeaseHolder, lease: timedelta) -> None:
        """A sign of life for every claim of `owner` that is not armed."""
        ...

    def recover(self, alive: Callable[[LeaseHolder], bool | None]) -> list[tuple[str, State]]:
        """Free what dead or silent owners held: claimed -> queued, transmitting -> ambiguous. `alive` says None when it cannot know."""
        ...

    # know
    def counts(self, scope: DeliveryFilter) -> dict[State, int]:
        """Deliveries by state."""
        ...

    def deliveries(self, scope: DeliveryFilter) -> Iterator[Delivery]:
        """Deliveries, oldest first; streams."""
        ...

    def rows(self, scope: DeliveryFilter) -> Iterator[tuple[Any, ...]]:
        """The same as plain rows in the order of Delivery's fields, times as UTC text: half the cost, for listings of everything."""
        ...

    def delivery(self, delivery: str) -> Delivery | None:
        """One delivery by its id."""
        ...

    def messages(self, scope: DeliveryFilter) -> Iterator[OutboundMessage]:
        """Frozen messages of queued and deferred deliveries; streams."""
        ...

    def locator(self, delivery: str) -> tuple[str, Locator]:
        """Plan and locator of a delivery that is to have a next generation; raises InvalidInput where it is not as its events tell."""
        ...

    def history(self, address: str) -> Iterator[Event]:
        """Everything that happened to that person's deliveries."""
        ...

    def records(self) -> Iterator[AuditRecord]:
        """Every event with its links, oldest first; streams."""
        ...

    def prove(self, beside: ExportComparison | None = None) -> VerificationReport:
        """What is wrong with the chain (also beside an earlier export), with rows or the database; and how far the chain goes."""
        ...

    def verify(self) -> list[Issue | str]:
        """The findings of `prove`; empty when all is well."""
        ...

    # settle by hand
    def ambiguous(self, scope: DeliveryFilter) -> list[LastAttempt]:
        """Ambiguous deliveries with their last attempt."""
        ...

    def resolve(self, delivery: str, state: State, evidence: Mapping[str, object]) -> None:
        """From ambiguous to accepted or queued (the same bytes) by a person's word or by evidence."""
        ...

    def sought(self, states: frozenset[State], scope: DeliveryFilter) -> list[TrackedMessage]:
        """Messages in these states, for those who may know more of them; oldest first."""
        ...

    def observe(self, sightings: Sequence[TrackingEvent]) -> list[State | None]:
        """Move what the evidence allows to be moved: from which state; None where it changed nothing."""
        ...

    def withdraw(self, delivery: str, reason: str) -> None:
        """Take a delivery back; its message leaves the outbox, its password is destroyed. Raises RequestDenied where its state forbids it."""
        ...

    # passwords
    def envelopes(self, address: str) -> list[SealedPassword]:
        """Passwords of a person, newest generation first."""
        ...

    def hand_over(self, delivery: str, reason: str, channel: str) -> bytes:
        """From ready to handed-over with an event `revealed`, durable before the sealed bytes are returned. Raises RequestDenied if not ready."""
        ...

    def expire(self) -> int:
        """End passwords whose time is over; how many. Those that ended long ago are destroyed, once time has really passed."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class Vault(Protocol):
    """Opens what was sealed; sealing needs public keys only."""

    def open(self, sealed: bytes, delivery: str) -> Secret:
        """The password. Raises InvalidInput when the identity is missing or another one, or the password is another delivery's."""
        ...


class Checker(Protocol):
    """Who knows whether a chain is in order."""

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:
        """Let what will be needed be fetched meanwhile; does not wait."""
        ...

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> list[Issue]:
        """Everything against the chain, or nothing."""
        ...
