"""The Ledger port on SQL: each method is one transaction of the module that knows its subject."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from distributor.ledger import (
    certificate_owners,
    certificates,
    eligibility,
    leases,
    message_verification,
    opening,
    packing,
    passwords,
    planning,
    queries,
    resolution,
    sending,
    verification,
)
from distributor.ledger.adoption import AdoptableLedger
from distributor.ledger.engine import Database
from distributor.ledger.high_water_marks import CopyGuard
from distributor.ledger.locks import mailbox_locks
from distributor.ledger.mailbox_cleanup import CleanupQueries
from distributor.ledger.transaction import Clock, WriteTransaction, write_transaction
from distributor.model.audit_log import AuditRecord, Event, ExportComparison, VerificationReport, format_timestamp, parse_timestamp
from distributor.model.certificates import CertificateHolder, CertificateInUse, Locator, RevokedDelivery
from distributor.model.clocks import TOLERANCE
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
    OutboundMessage,
    PackedMessage,
    PackingTask,
    RecordIntent,
    SealedPassword,
    SenderFilter,
    Taken,
    TrackedMessage,
    TrackingEvent,
    UnderWay,
)
from distributor.model.issues import Diagnostic, Issue
from distributor.model.ports import Now
from distributor.model.states import State

# --- certificate queries --------------------------------------------------------------------------------
# The part of the Ledger port about certificates that people have: where they are published, and whether they are revoked.


class CertificateQueries:
    """Methods of `SqlLedger`, which opens the transactions."""

    _database: Database
    _writing: Callable[[], AbstractContextManager[WriteTransaction]]

    # directories
    def holders(self) -> Iterator[CertificateHolder]:
        """Everybody who received a certificate."""
        return certificates.holders(self._database)

    def note_published(self, delivery: str, place: str, entry: str) -> None:
        """A certificate is public somewhere."""
        with self._writing() as tx:
            certificates.note_published(tx, delivery, place, entry)

    def note_unpublished(self, delivery: str, place: str, entry: str, *, found: bool = False) -> None:
        """It is no longer public there."""
        with self._writing() as tx:
            certificates.note_unpublished(tx, delivery, place, entry, found=found)

    # revocation
    def issued(self, now: datetime) -> Iterator[CertificateInUse]:
        """Every certificate in use."""
        return certificates.issued(self._database, now)

    def revoke(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record a revocation on the deliveries of a certificate."""
        with self._writing() as tx:
            return certificates.revoke(tx, certificate, reason)

    def reinstate(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record on the deliveries of a certificate that its hold is over."""
        with self._writing() as tx:
            return certificates.reinstate(tx, certificate, reason)

    def revoked(self, certificates: Sequence[str]) -> Mapping[str, str]:
        """Which of them are revoked."""
        with self._database.reading() as connection:
            return certificate_owners.revoked(connection, certificates)


class SqlLedger(AdoptableLedger, CleanupQueries, CertificateQueries):
    """A ledger in SQLite or PostgreSQL; safe to call from several threads."""

    def __init__(self, database: Database, *, by: str, now: Now | None, guard: CopyGuard | None = None) -> None:
        self._database, self._by, self._clock, self._guard = database, by, Clock(database, now), guard
        self._mailbox_locks = mailbox_locks(database)
        self._taken_back: dict[str, RevokedDelivery] = {}

    def _writing(self) -> AbstractContextManager[WriteTransaction]:
        return self._guarded(write_transaction(self._database, self._by, self._clock))

    # time
    def now(self) -> datetime:
        """The ledger's clock."""
        return self._clock.now()

    def position(self) -> int:
        """The number of the last event."""
        with self._database.reading() as connection:
            return queries.end(connection)[0]

    def ahead(self) -> datetime | None:
        """When the last event was written, if that lies in the future."""
        with self._database.reading() as connection:
            at, now = queries.end(connection)[1], parse_timestamp(self._clock.read(connection))
        return parse_timestamp(at) if at and parse_timestamp(at) > now + TOLERANCE else None

    def under_way(self, scope: DeliveryFilter) -> list[UnderWay]:
        """What senders hold."""
        with self._database.reading() as connection:
            return leases.under_way(connection, scope)

    # plan
    def begin_plan(self, plan: str, inputs: Mapping[str, object]) -> None:
        """Record a plan."""
        with self._writing() as tx:
            planning.begin(tx, plan, inputs)

    def plan_inputs(self, plan: str) -> Mapping[str, object] | None:
        """What a plan was made from."""
        with self._database.reading() as connection:
            return queries.plan_inputs(connection, plan)

    def plan(self, plan: str, requests: Sequence[DeliveryRequest]) -> list[Delivery | ExistingDelivery | Taken]:
        """Record drafts as planned, or say what is known of them."""
        with self._writing() as tx:
            found = planning.record(tx, plan, requests)
            new = queries.by_ids(tx.connection, [entry for entry in found if isinstance(entry, str)])
        return [new[entry] if isinstance(entry, str) else entry for entry in found]

    def keep_columns(self, used: Callable[[], Collection[str]]) -> int:
        """Forget columns that no message names."""
        with self._database.reading() as connection:
            if not planning.unused_columns(connection, used):
                return 0
        with self._writing() as tx:
            changes = planning.unused_columns(tx.connection, used)
            planning.erase_columns(tx, changes)
        return len(changes)

    def regenerate(
        self, delivery: str, reason: str, request: DeliveryRequest | None = None, place: tuple[str, Locator] | None = None
    ) -> Delivery:
        """Plan the next generation of a delivery."""
        with self._writing() as tx:
            new = eligibility.regenerate(tx, delivery, reason, request, place)
            return queries.by_ids(tx.connection, [new])[new]

    # pack
    def lease(self, owner: LeaseHolder, limit: int, lease: timedelta, scope: DeliveryFilter) -> list[PackingTask]:
        """Lease planned deliveries to a packer."""
        with self._writing() as tx:
            tasks = packing.lease(tx, owner, limit, lease, scope)
        self._taken_back |= {struck.delivery: struck for struck in tx.taken_back}
        return tasks

    def taken_back(self) -> list[RevokedDelivery]:
        """What was withdrawn or held back meanwhile."""
        found, self._taken_back = self._taken_back, {}
        return list(found.values())

    def enqueue(self, packed: Sequence[PackedMessage], owner: LeaseHolder) -> list[bool]:  # noqa: ARG002  whoever freezes first has frozen it
        """Freeze messages."""
        with self._writing() as tx:
            return packing.enqueue(tx, packed)

    # send
    def claim(  # noqa: PLR0913  the port's own arguments
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
        """Claim due messages."""
        with self._writing() as tx:
            self._database.refuse_moved(tx.connection)
            claims = sending.claim(tx, owner, limit, lease, scope, early=early, since=since, senders=senders)
        self._taken_back |= {struck.delivery: struck for struck in tx.taken_back}
        return claims

    def write(self, updates: Sequence[AttemptUpdate], owner: LeaseHolder) -> list[bool]:
        """Apply steps in one durable transaction."""
        arms = any(isinstance(update, RecordIntent) for update in updates)
        with self._writing() as tx:
            if arms:
                self._mailbox_locks.verify_held(tx.connection)
            verdicts = sending.write(tx, updates, owner)
            if arms:
                self._database.refuse_moved(tx.connection)  # as late as it can be asked
            return verdicts

    def release(self, claims: Sequence[Claim], owner: LeaseHolder) -> None:
        """Give claims back."""
        if claims:
            with self._writing() as tx:
                sending.release(tx, claims, owner)

    def renew(self, owner: LeaseHolder, lease: timedelta) -> None:
        """Extend the leases of an owner."""
        with self._writing() as tx:
            leases.renew(tx, owner, lease)

    def recover(self, alive: Callable[[LeaseHolder], bool | None]) -> list[tuple[str, State]]:
        """Release expired leases and those of ended processes."""
        with self._database.reading() as connection:
            holders = leases.holders(connection)
            misdated = leases.misdated(connection, self._clock.read(connection))
        if not holders and not misdated:
            return []
        runs = {owner.id: alive(owner) for owner in holders}
        dead, living = (frozenset(id_ for id_, verdict in runs.items() if verdict is wanted) for wanted in (False, True))
        with self._writing() as tx:
            return leases.recover(tx, dead, living)

    # mailboxes
    def lock_mailbox(self, mailbox: str) -> bool:
        """Lock a mailbox for this process."""
        return self._mailbox_locks.take(mailbox)

    def sent_times(self, since: datetime, senders: SenderFilter) -> list[datetime]:
        """When messages were sent or may have been."""
        with self._database.reading() as connection:
            return [
                parse_timestamp(at) for at in queries.sent_times(connection, format_timestamp(since), self._clock.read(connection), senders)
            ]

    def next_due(self, scope: DeliveryFilter, senders: SenderFilter = ALL_SENDERS) -> datetime | None:
        """When the next deferred delivery is due."""
        with self._database.reading() as connection:
            found = queries.next_due(connection, scope, senders)
        return None if found is None else parse_timestamp(found)

    def has_pending(self, scope: DeliveryFilter, senders: SenderFilter, *, early: bool = False) -> bool:
        """Whether a message is due, or may be given back."""
        with self._database.reading() as connection:
            return queries.has_pending(connection, scope, senders, None if early else self._clock.read(connection))

    def due(self, scope: DeliveryFilter, *, early: bool = False) -> dict[str, int]:
        """How many messages wait, by sender."""
        with self._database.reading() as connection:
            return queries.due_by_sender(connection, scope, None if early else self._clock.read(connection))

    # know
    def counts(self, scope: DeliveryFilter) -> dict[State, int]:
        """Deliveries by state."""
        with self._database.reading() as connection:
            return queries.counts(connection, scope)

    def deliveries(self, scope: DeliveryFilter) -> Iterator[Delivery]:
        """Deliveries, oldest first."""
        return queries.deliveries(self._database, scope)

    def rows(self, scope: DeliveryFilter) -> Iterator[tuple[Any, ...]]:
        """Deliveries as plain rows."""
        return queries.rows(self._database, scope)

    def delivery(self, delivery: str) -> Delivery | None:
        """One delivery."""
        with self._database.reading() as connection:
            return queries.by_ids(connection, [delivery]).get(delivery)

    def messages(self, scope: DeliveryFilter) -> Iterator[OutboundMessage]:
        """Frozen messages that wait."""
        return queries.messages(self._database, scope, format_timestamp(self.now()))

    def locator(self, delivery: str) -> tuple[str, Locator]:
        """Plan and locator, for a next generation, verified against the events."""
        with self._database.reading() as connection:
            message_verification.refuse_changed_origin(connection, delivery)
            return queries.locator(connection, delivery)

    def history(self, address: str) -> Iterator[Event]:
        """What happened to a person's deliveries."""
        return queries.history(self._database, address)

    def records(self) -> Iterator[AuditRecord]:
        """Every event with its links."""
        return verification.records(self._database)

    def prove(self, beside: ExportComparison | None = None) -> VerificationReport:
        """Verify the ledger."""
        return verification.verify(self._database, beside)

    def verify(self) -> list[Issue | str]:
        """What is wrong."""
        return [*self.prove().findings]

    def check(self) -> list[Diagnostic]:
        """What `doctor` says of the database server's durability; nothing of a file."""
        if self._database.sqlite:
            return []
        with self._database.reading() as connection:
            return list(opening.durability(connection))

    # settle by hand
    def ambiguous(self, scope: DeliveryFilter) -> list[LastAttempt]:
        """Ambiguous deliveries with their last attempt."""
        with self._database.reading() as connection:
            return resolution.ambiguous(connection, scope)

    def resolve(self, delivery: str, state: State, evidence: Mapping[str, object]) -> None:
        """Settle an ambiguous delivery."""
        with self._writing() as tx:
            resolution.resolve(tx, delivery, state, evidence)

    def sought(self, states: frozenset[State], scope: DeliveryFilter) -> list[TrackedMessage]:
        """Messages whose outcome a tracker may know."""
        with self._database.reading() as connection:
            return resolution.sought(connection, states, scope)

    def observe(self, sightings: Sequence[TrackingEvent]) -> list[State | None]:
        """Move what the evidence allows to be moved."""
        if not sightings:
            return []
        with self._writing() as tx:
            return resolution.observe(tx, sightings)

    def withdraw(self, delivery: str, reason: str) -> None:
        """Take a delivery back."""
        with self._writing() as tx:
            resolution.withdraw(tx, delivery, reason)

    # passwords
    def envelopes(self, address: str) -> list[SealedPassword]:
        """Passwords of a person."""
        with self._database.reading() as connection:
            return passwords.envelopes(connection, address)

    def hand_over(self, delivery: str, reason: str, channel: str) -> bytes:
        """Hand a password over, once."""
        with self._writing() as tx:
            return passwords.hand_over(tx, delivery, reason, channel)

    def expire(self) -> int:
        """End passwords whose time is over, and destroy those that ended long enough ago; also what a killed process left of others."""
        self._database.tidy()
        with self._database.reading() as connection:
            if not passwords.overdue(connection, self._clock.read(connection)):
                return 0
        with self._writing() as tx:
            return passwords.expire(tx)

    def close(self) -> None:
        """Close the connection."""
        self._mailbox_locks.close()
        self._database.close()
        if self._guard is not None:
            self._guard.close()
