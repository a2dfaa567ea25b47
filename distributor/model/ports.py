"""The ports: protocols that adapters and the ledger implement and that workflows depend on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

from distributor.model.attempts import (
    AttemptUpdate,
    Claim,
    DraftRef,
    LastAttempt,
    OutboundMessage,
    Outcome,
    PackedMessage,
    PackingTask,
    TrackedMessage,
    TrackingEvent,
)
from distributor.model.attention import AttentionQueries
from distributor.model.audit_log import AuditRecord, ChainObserver, Event, Link, VerificationReport
from distributor.model.audit_report import AuditReports
from distributor.model.certificates import Locator, Publications, Revocations, SourceMaterial
from distributor.model.channels import PasswordChannels
from distributor.model.checkpoints import Checkpoints, VerifierKey
from distributor.model.csv_table import FurtherColumns
from distributor.model.delivery import (
    ALL_SENDERS,
    Delivery,
    DeliveryFilter,
    DeliveryRequest,
    ExistingDelivery,
    LeaseHolder,
    SealedPassword,
    SenderFilter,
    ServedBy,
    Taken,
)
from distributor.model.high_water_mark import Adoptable
from distributor.model.issues import CheckedChain, Diagnostic, Issue, WorkerFailure
from distributor.model.ledger_queries import LedgerTimes, MailboxQueries
from distributor.model.mailbox_cleanup import CleanupStore
from distributor.model.metrics import FigureQueries
from distributor.model.people import Person
from distributor.model.reminders import Reminders
from distributor.model.requests import RequestLedger
from distributor.model.resealing import SealedPasswords
from distributor.model.secret import Secret
from distributor.model.states import State, Way

Job = TypeVar("Job")
Result = TypeVar("Result", covariant=True)  # noqa: PLC0105  the shorter name says it
Value = TypeVar("Value")
Now = Callable[[], datetime]  # aware UTC


class Spool(Protocol[Value]):
    """An append-only list, perhaps in a file. It takes no secrets."""

    def append(self, value: Value, /) -> object:
        """Add a value."""
        ...

    def __iter__(self) -> Iterator[Value]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Value: ...


NewSpool = Callable[[], Spool[Any]]


# --- people and certificates ---------------------------------------------------------------------------------------


class Roster(Protocol):
    """A list of people."""

    def people(self) -> Iterator[Person | Issue]:
        """Every person, or an Issue about the row, in the order of the list. Raises InvalidInput when the list cannot be read at all."""
        ...


class Source(Protocol):
    """Finds certificates with keys."""

    def finds(self, people: Mapping[str, Person]) -> Iterator[SourceMaterial | Issue]:
        """Everything that may contain identities: files that roster rows name, then the rest. `people`: by `Address.key`."""
        ...

    def fetch(self, locator: Locator, person: Person | None) -> SourceMaterial | Issue:
        """The same material again, or an Issue when it is missing or has changed."""
        ...


class WorkerPool(Protocol[Job, Result]):
    """Reused child processes with limits of time and memory; when one dies, only its job fails."""

    def map(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result | WorkerFailure]]:
        """Each job with its result, in the order of the jobs; reads only a few jobs ahead, so that memory stays bounded."""
        ...


# --- sending and tracking -------------------------------------------------------------------------------------------


class CommitIntent(Protocol):
    """Commits the record of an attempt before the point of no return; False where the claim was lost."""

    def __call__(self, handle: DraftRef | None = None, /) -> Awaitable[bool]:
        """`handle`: the message's draft at the service, where it has one."""
        ...


class Connection(Protocol):
    """A kept connection, used by one message at a time."""

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Send the message; connects when needed.

        Awaits `record_intent()` exactly once before the point of no return and goes on only if it returns True (False: the claim was
        lost; the result is NotSent). Never raises for a server's errors. Cancelled, it closes the connection.
        """
        ...

    async def close(self) -> None:
        """Close the connection; never raises."""
        ...


class Transport(Protocol):
    """Sends messages: by SMTP, by Microsoft Graph, or into a folder."""

    max_connections: int  # parallel connections for each sender
    per_minute: float | None  # rate limit of one sender, messages a minute; None: no limit
    daily: int | None  # quota of one sender in 24 hours; None: no limit is known
    attempt_timeout: timedelta  # after this time, an attempt of a process that may still run counts as over

    def connection(self, sender: str | None = None) -> Connection:
        """A connection, not open yet, for the messages of one sender, or of all."""
        ...

    def tracker(self) -> Tracker | None:
        """The tracker that can tell later whether a message was sent; None where the service offers none."""
        ...

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Close open connections and clean up after a run; `settled`: all outcomes are recorded. Reports what could not be cleaned up."""
        ...

    async def check(self) -> list[Diagnostic]:
        """`doctor`'s checks: connects, signs in, sends nothing."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Looks up whether messages were sent or delivered: in Sent Items, in a message trace."""

    min_age: timedelta  # how long after its attempt a message can be found

    def track(self, sought: Sequence[TrackedMessage]) -> AsyncIterator[TrackingEvent]:
        """The evidence about these messages; none about unknown ones. Raises ServiceUnavailable."""
        ...

    async def close(self) -> None:
        """Close open connections."""
        ...


# --- the ledger ----------------------------------------------------------------------------------------------------


class Ledger(  # all that one class implements
    Adoptable,
    FurtherColumns,
    CleanupStore,
    Publications,
    Revocations,
    RequestLedger,
    MailboxQueries,
    FigureQueries,
    LedgerTimes,
    PasswordChannels,
    SealedPasswords,
    Reminders,
    AuditReports,
    AttentionQueries,
    Checkpoints,
    Protocol,
):
    """The durable record of deliveries. Every method is one transaction unless it iterates; may be called from several threads.

    `by` (who is writing) is given when the ledger is opened, and the clock where it is not the database's own. A transition that
    `model.states.EDGES` does not allow raises. Raises ServiceUnavailable when the database stays locked, InvalidInput when it is
    damaged, full or read-only.
    """

    # plan
    def begin_plan(self, plan: str, inputs: Mapping[str, object]) -> None:
        """Record a plan and its inputs (JSON: absolute paths, never secrets)."""
        ...

    def plan_inputs(self, plan: str) -> Mapping[str, object] | None:
        """The inputs of a plan; None when there is no such plan."""
        ...

    def plan(self, plan: str, drafts: Sequence[DeliveryRequest]) -> list[Delivery | ExistingDelivery | Taken]:
        """Record requests as planned; ExistingDelivery for a known pair (unless withdrawn), Taken for another person's certificate."""
        ...

    def served_otherwise(self, people: Sequence[str], way: Way) -> Mapping[str, ServedBy]:
        """Those of the people (Address.key) who have, or are to get, certificates only by another way than this one."""
        ...

    def old_certificates(self, people: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """By Address.key, the SHA-256 of the old certificates whose keys these people have, or are to get, for old mail."""
        ...

    def regenerate(
        self,
        delivery: str,
        reason: str,
        draft: DeliveryRequest | None = None,
        place: tuple[str, Locator] | None = None,
        asked: str | None = None,
    ) -> Delivery:
        """A new generation of a delivery, planned: the old password is destroyed, an unsent old message withdrawn.

        `draft` replaces locator and certificate; `place` only where the same certificate is found now: a plan and a locator.
        `asked`: the request that it fulfils; raises RequestDenied, and nothing has changed, where that is not approved any more or planned.
        """
        ...

    # pack
    def lease(
        self, owner: LeaseHolder, limit: int, lease: timedelta, scope: DeliveryFilter, dead: frozenset[str] = frozenset()
    ) -> list[PackingTask]:
        """Planned deliveries to pack, leased to `owner`; another owner gets others. `dead`: owners by id whose leases are over."""
        ...

    def packers(self, owner: LeaseHolder, scope: DeliveryFilter) -> dict[LeaseHolder, int]:
        """How many planned deliveries each other owner has leased."""
        ...

    def enqueue(self, packed: Sequence[PackedMessage], owner: LeaseHolder) -> list[bool]:
        """Store messages: planned -> queued, with sealed passwords; False where one was stored or withdrawn meanwhile."""
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
        """Messages that are due, oldest first. `early`: deferred ones before their time too, but none deferred after event `since`."""
        ...

    def write(self, steps: Sequence[AttemptUpdate], owner: LeaseHolder) -> list[bool]:
        """Apply updates in one durable transaction; False where owner, attempt or lease do not match (fencing)."""
        ...

    def release(self, claims: Sequence[Claim], owner: LeaseHolder) -> None:
        """Release claims unsent: claimed -> queued."""
        ...

    def renew(self, owner: LeaseHolder, lease: timedelta) -> None:
        """Renew the lease of every claim of `owner` that is not being transmitted."""
        ...

    def recover(self, alive: Callable[[LeaseHolder], bool | None]) -> list[tuple[str, State]]:
        """Release claims of dead owners and expired leases: claimed -> queued, transmitting -> ambiguous. `alive`: None if unknown."""
        ...

    # read
    def counts(self, scope: DeliveryFilter) -> dict[State, int]:
        """Deliveries by state."""
        ...

    def deliveries(self, scope: DeliveryFilter) -> Iterator[Delivery]:
        """Deliveries, oldest first; streams."""
        ...

    def rows(self, scope: DeliveryFilter) -> Iterator[tuple[Any, ...]]:
        """The same as tuples in the order of Delivery's fields, times as UTC text, at half the cost."""
        ...

    def delivery(self, delivery: str) -> Delivery | None:
        """One delivery by its id."""
        ...

    def find(self, address: str | None, prefix: str | None) -> list[Delivery]:
        """Deliveries of an address (Address.key), or whose id or whose certificate's SHA-256 or serial number begins with `prefix`."""
        ...

    def neighbours(self, text: str) -> list[str]:
        """A few addresses, or ids for what begins as one, just before and after a text in the alphabet."""
        ...

    def completions(self, beginning: str) -> list[str]:
        """Addresses and ids that begin so, at most a few hundred."""
        ...

    def messages(self, scope: DeliveryFilter) -> Iterator[OutboundMessage]:
        """Stored messages of queued and deferred deliveries; streams."""
        ...

    def locator(self, delivery: str) -> tuple[str, Locator]:
        """Plan and locator of a delivery, for its next generation. Raises InvalidInput where its row does not match its events."""
        ...

    def history(self, address: str) -> Iterator[Event]:
        """All events of that person's deliveries."""
        ...

    def records(self) -> Iterator[AuditRecord]:
        """Every event with its hashes, oldest first; streams."""
        ...

    def links(self) -> Iterator[Link]:
        """Every event as it is hashed, oldest first."""
        ...

    def prove(self, observers: Sequence[ChainObserver] = (), keys: Sequence[VerifierKey] = ()) -> VerificationReport:
        """Verify the chain (also with observers of its events), the rows, the database and the checkpoints, signed with `keys`."""
        ...

    def verify(self) -> list[Issue | str]:
        """The findings of `prove`; empty when all is well."""
        ...

    # resolve
    def ambiguous(self, scope: DeliveryFilter) -> list[LastAttempt]:
        """Ambiguous deliveries with their last attempt."""
        ...

    def resolve(self, delivery: str, state: State, evidence: Mapping[str, object]) -> None:
        """From ambiguous to accepted or queued (the same bytes) by a person's decision or by evidence."""
        ...

    def sought(self, states: frozenset[State], scope: DeliveryFilter) -> list[TrackedMessage]:
        """Messages in these states, for trackers; oldest first."""
        ...

    def observe(self, sightings: Sequence[TrackingEvent]) -> list[State | None]:
        """Apply the evidence of trackers: the state before each change; None where nothing changed."""
        ...

    def withdraw(self, delivery: str, reason: str) -> None:
        """Withdraw a delivery: its message and its password are destroyed. Raises RequestDenied where its state does not allow it."""
        ...

    # passwords
    def envelopes(self, address: str) -> list[SealedPassword]:
        """Passwords of a person, newest generation first."""
        ...

    def hand_over(self, delivery: str, reason: str, channel: str) -> bytes:
        """From ready to handed-over, with an event `revealed` that is durable before the sealed bytes return. Raises RequestDenied."""
        ...

    def expire(self) -> int:
        """Expire passwords whose time is over; how many. Those that expired days ago are destroyed, once time has really passed."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class Vault(Protocol):
    """Opens sealed passwords."""

    def open(self, sealed: bytes, delivery: str) -> Secret:
        """The password. Raises InvalidInput where it was sealed for another identity or another delivery."""
        ...


class Checker(Protocol):
    """Checks certificates and their chains."""

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:
        """Start downloads that `check` will need; does not wait."""
        ...

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> CheckedChain:
        """The issues of a certificate and its chain, and the path that was validated."""
        ...
