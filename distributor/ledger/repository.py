"""The Ledger port on SQL: each method is one transaction of the module that knows its subject.

What each promises is said once, in `model/ports.py` and the protocols it is made of.
"""

# ruff: noqa: D102  as above

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from distributor.ledger import queries
from distributor.ledger.channel_repository import SqlPasswordChannels
from distributor.ledger.checkpoint_repository import SqlCheckpoints
from distributor.ledger.copy_repository import SqlCopies
from distributor.ledger.engine import Database
from distributor.ledger.high_water_marks import CopyGuard
from distributor.ledger.lazy import late
from distributor.ledger.locks import mailbox_locks
from distributor.ledger.reminder_repository import SqlReminders
from distributor.ledger.request_repository import SqlRequests
from distributor.ledger.transaction import Clock, WriteTransaction, write_transaction
from distributor.ledger.way_repository import SqlWays
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.clocks import TOLERANCE
from distributor.model.delivery import ALL_SENDERS
from distributor.model.high_water_mark import ChainEnd

if TYPE_CHECKING:
    from distributor.ledger import (
        certificate_owners,
        certificates,
        leases,
        lookup,
        mailbox_cleanup,
        message_verification,
        opening,
        packing,
        passwords,
        planning,
        resolution,
        sending,
    )
    from distributor.model.attempts import (
        AttemptUpdate,
        Claim,
        LastAttempt,
        OutboundMessage,
        PackedMessage,
        PackingTask,
        TrackedMessage,
        TrackingEvent,
    )
    from distributor.model.audit_log import Event
    from distributor.model.certificates import CertificateHolder, CertificateInUse, Locator, RevokedDelivery
    from distributor.model.delivery import (
        Delivery,
        DeliveryFilter,
        DeliveryRequest,
        ExistingDelivery,
        LeaseHolder,
        SealedPassword,
        SenderFilter,
        Taken,
        UnderWay,
    )
    from distributor.model.issues import Diagnostic
    from distributor.model.mailbox_cleanup import CleanupEvent, CleanupItem
    from distributor.model.ports import Now
    from distributor.model.states import State
else:  # a command that reads needs two or three of them
    certificate_owners, certificates, leases = late("certificate_owners certificates leases")
    lookup, mailbox_cleanup, message_verification, opening = late("lookup mailbox_cleanup message_verification opening")
    packing, passwords, planning, resolution, sending = late("packing passwords planning resolution sending")


class SqlLedger(SqlCopies, SqlRequests, SqlPasswordChannels, SqlReminders, SqlCheckpoints, SqlWays):
    """A ledger in SQLite or PostgreSQL; safe to call from several threads."""

    def __init__(self, database: Database, *, by: str, now: Now | None, guard: CopyGuard | None = None) -> None:
        self._database, self._by, self._clock, self._guard = database, by, Clock(database, now), guard
        self._mailbox_locks = mailbox_locks(database)
        self._taken_back: dict[str, RevokedDelivery] = {}

    @contextmanager
    def _writing(self) -> Iterator[WriteTransaction]:
        """A writing transaction of a ledger that may not be an older copy."""
        with write_transaction(self._database, self._by, self._clock) as tx:
            if self._guard is not None:
                tx.here = self._guard.here
                self._guard.before(tx, self._database)
            yield tx
        if self._guard is not None:  # committed; nothing has left yet that depends on it
            self._guard.after(ChainEnd(tx.seq, tx.hash, tx.now), self._database)

    # time
    def now(self) -> datetime:
        return self._clock.now()

    def position(self) -> int:
        with self._database.reading() as connection:
            return queries.end(connection)[0]

    def ahead(self) -> datetime | None:
        with self._database.reading() as connection:
            at, now = queries.end(connection)[1], parse_timestamp(self._clock.read(connection))
        try:
            moment = parse_timestamp(at) if at else now
        except ValueError:  # somebody edited it; verification says so
            return None
        return moment if moment > now + TOLERANCE else None

    def under_way(self, scope: DeliveryFilter) -> list[UnderWay]:
        with self._database.reading() as connection:
            return leases.under_way(connection, scope)

    # plan
    def begin_plan(self, plan: str, inputs: Mapping[str, object]) -> None:
        with self._writing() as tx:
            planning.begin(tx, plan, inputs)

    def plan_inputs(self, plan: str) -> Mapping[str, object] | None:
        with self._database.reading() as connection:
            return queries.plan_inputs(connection, plan)

    def plan(self, plan: str, requests: Sequence[DeliveryRequest]) -> list[Delivery | ExistingDelivery | Taken]:
        with self._writing() as tx:
            found = planning.record(tx, plan, requests)
            new = queries.by_ids(tx.connection, [entry for entry in found if isinstance(entry, str)])
        return [new[entry] if isinstance(entry, str) else entry for entry in found]

    def keep_columns(self, used: Callable[[], Collection[str]]) -> int:
        with self._database.reading() as connection:
            if not planning.unused_columns(connection, used):
                return 0
        with self._writing() as tx:
            changes = planning.unused_columns(tx.connection, used)
            planning.erase_columns(tx, changes)
        return len(changes)

    # pack
    def lease(
        self, owner: LeaseHolder, limit: int, lease: timedelta, scope: DeliveryFilter, dead: frozenset[str] = frozenset()
    ) -> list[PackingTask]:
        with self._writing() as tx:
            tasks = packing.lease(tx, owner, limit, lease, scope, dead)
        self._taken_back |= {struck.delivery: struck for struck in tx.taken_back}
        return tasks

    def taken_back(self) -> list[RevokedDelivery]:
        found, self._taken_back = self._taken_back, {}
        return list(found.values())

    def packers(self, owner: LeaseHolder, scope: DeliveryFilter) -> dict[LeaseHolder, int]:
        with self._database.reading() as connection:
            return leases.packers(connection, owner, scope, self._clock.read(connection))

    def enqueue(self, packed: Sequence[PackedMessage], owner: LeaseHolder) -> list[bool]:  # noqa: ARG002  whoever freezes first has frozen it
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
        with self._writing() as tx:
            self._database.refuse_moved(tx.connection)
            claims = sending.claim(tx, owner, limit, lease, scope, early=early, since=since, senders=senders)
        self._taken_back |= {struck.delivery: struck for struck in tx.taken_back}
        return claims

    def write(self, updates: Sequence[AttemptUpdate], owner: LeaseHolder) -> list[bool]:
        from distributor.model.attempts import RecordIntent  # noqa: PLC0415  a command that reads needs none

        arms = any(isinstance(update, RecordIntent) for update in updates)
        with self._writing() as tx:
            if arms:
                self._mailbox_locks.verify_held(tx.connection)
            verdicts = sending.write(tx, updates, owner)
            if arms:
                self._database.refuse_moved(tx.connection)  # as late as it can be asked
            return verdicts

    def release(self, claims: Sequence[Claim], owner: LeaseHolder) -> None:
        if claims:
            with self._writing() as tx:
                sending.release(tx, claims, owner)

    def renew(self, owner: LeaseHolder, lease: timedelta) -> None:
        with self._writing() as tx:
            leases.renew(tx, owner, lease)

    def recover(self, alive: Callable[[LeaseHolder], bool | None]) -> list[tuple[str, State]]:
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
        return self._mailbox_locks.take(mailbox)

    def sent_times(self, since: datetime, senders: SenderFilter) -> list[datetime]:
        with self._database.reading() as connection:
            return [
                parse_timestamp(at) for at in queries.sent_times(connection, format_timestamp(since), self._clock.read(connection), senders)
            ]

    def next_due(self, scope: DeliveryFilter, senders: SenderFilter = ALL_SENDERS) -> datetime | None:
        with self._database.reading() as connection:
            found = queries.next_due(connection, scope, senders)
        return None if found is None else parse_timestamp(found)

    def has_pending(self, scope: DeliveryFilter, senders: SenderFilter, *, early: bool = False) -> bool:
        with self._database.reading() as connection:
            return queries.has_pending(connection, scope, senders, None if early else self._clock.read(connection))

    def due(self, scope: DeliveryFilter, *, early: bool = False) -> dict[str, int]:
        with self._database.reading() as connection:
            return queries.due_by_sender(connection, scope, None if early else self._clock.read(connection))

    # know
    def counts(self, scope: DeliveryFilter) -> dict[State, int]:
        with self._database.reading() as connection:
            return queries.counts(connection, scope)

    def deliveries(self, scope: DeliveryFilter) -> Iterator[Delivery]:
        return queries.deliveries(self._database, scope)

    def rows(self, scope: DeliveryFilter) -> Iterator[tuple[Any, ...]]:
        return queries.rows(self._database, scope)

    def find(self, address: str | None, prefix: str | None) -> list[Delivery]:
        with self._database.reading() as connection:
            return lookup.find(connection, address, prefix)

    def neighbours(self, text: str) -> list[str]:
        with self._database.reading() as connection:
            return lookup.neighbours(connection, text)

    def completions(self, beginning: str) -> list[str]:
        with self._database.reading() as connection:
            return lookup.completions(connection, beginning)

    def delivery(self, delivery: str) -> Delivery | None:
        with self._database.reading() as connection:
            return queries.by_ids(connection, [delivery]).get(delivery)

    def messages(self, scope: DeliveryFilter) -> Iterator[OutboundMessage]:
        return queries.messages(self._database, scope, format_timestamp(self.now()))

    def locator(self, delivery: str) -> tuple[str, Locator]:
        with self._database.reading() as connection:
            message_verification.refuse_changed_origin(connection, delivery)
            return lookup.locator(connection, delivery)

    def history(self, address: str) -> Iterator[Event]:
        return queries.history(self._database, address)

    def check(self) -> list[Diagnostic]:
        if self._database.sqlite:
            return []
        with self._database.reading() as connection:
            return list(opening.durability(connection))

    # settle by hand
    def ambiguous(self, scope: DeliveryFilter) -> list[LastAttempt]:
        with self._database.reading() as connection:
            return resolution.ambiguous(connection, scope)

    def resolve(self, delivery: str, state: State, evidence: Mapping[str, object]) -> None:
        with self._writing() as tx:
            resolution.resolve(tx, delivery, state, evidence)

    def sought(self, states: frozenset[State], scope: DeliveryFilter) -> list[TrackedMessage]:
        with self._database.reading() as connection:
            return resolution.sought(connection, states, scope)

    def observe(self, sightings: Sequence[TrackingEvent]) -> list[State | None]:
        if not sightings:
            return []
        with self._writing() as tx:
            return resolution.observe(tx, sightings)

    def withdraw(self, delivery: str, reason: str) -> None:
        with self._writing() as tx:
            resolution.withdraw(tx, delivery, reason)

    # directories
    def holders(self) -> Iterator[CertificateHolder]:
        return certificates.holders(self._database)

    def note_published(self, delivery: str, place: str, entry: str) -> None:
        with self._writing() as tx:
            certificates.note_published(tx, delivery, place, entry)

    def note_unpublished(self, delivery: str, place: str, entry: str, *, found: bool = False) -> None:
        with self._writing() as tx:
            certificates.note_unpublished(tx, delivery, place, entry, found=found)

    # revocation
    def issued(self, now: datetime) -> Iterator[CertificateInUse]:
        return certificates.issued(self._database, now)

    def revoke(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        with self._writing() as tx:
            return certificates.revoke(tx, certificate, reason)

    def reinstate(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        with self._writing() as tx:
            return certificates.reinstate(tx, certificate, reason)

    def revoked(self, certificates: Sequence[str], leaves: Mapping[str, bytes] | None = None) -> Mapping[str, str]:
        with self._database.reading() as connection:
            return certificate_owners.unusable(connection, certificates, leaves)

    # copies and drafts in mailboxes
    def copies(self) -> list[CleanupItem]:
        return mailbox_cleanup.copies(self._database)

    def drafts(self) -> list[CleanupItem]:
        return mailbox_cleanup.drafts(self._database, self._clock)

    def drafted(self, sender: str) -> bool:
        with self._database.reading() as connection:
            return mailbox_cleanup.drafted(connection, sender)

    def note_cleared(self, deliveries: Sequence[str], mark: CleanupEvent) -> None:
        with self._writing() as tx:
            mailbox_cleanup.note(tx, deliveries, mark)

    # passwords
    def envelopes(self, address: str) -> list[SealedPassword]:
        with self._database.reading() as connection:
            return passwords.envelopes(connection, address)

    def hand_over(self, delivery: str, reason: str, channel: str) -> bytes:
        with self._writing() as tx:
            return passwords.hand_over(tx, delivery, reason, channel)

    def expire(self) -> int:
        self._database.tidy()
        with self._database.reading() as connection:
            if not passwords.overdue(connection, self._clock.read(connection)):
                return 0
        with self._writing() as tx:
            return passwords.expire(tx)

    def close(self) -> None:
        self._mailbox_locks.close()
        self._database.close()
        if self._guard is not None:
            self._guard.close()
