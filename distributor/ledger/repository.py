"""The Ledger port on SQL: each method is one transaction of the module that knows its subject."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from distributor.ledger import (
    durability,
    extra_columns,
    generations,
    leases,
    mailboxes,
    message_verification,
    packing,
    passwords,
    planning,
    queries,
    resolution,
    sending,
    verification,
)
from distributor.ledger.adoption import Guarded
from distributor.ledger.certificate_queries import Watching
from distributor.ledger.clock import Clock
from distributor.ledger.copy_guard import Guard
from distributor.ledger.engine import Database
from distributor.ledger.locks import holds
from distributor.ledger.mailbox_cleanup import Left
from distributor.ledger.transaction import Writing, writing
from distributor.model.audit_log import stamp, unstamp
from distributor.model.certificates import Locator
from distributor.model.clocks import TOLERANCE
from distributor.model.delivery import (
    EVERYBODY,
    Arm,
    Attempt,
    Claim,
    Delivery,
    Draft,
    Envelope,
    Known,
    Owner,
    Packed,
    Scope,
    Senders,
    Sighting,
    Sought,
    Step,
    Taken,
    ToPack,
    UnderWay,
)
from distributor.model.events import Event, Record
from distributor.model.export_comparison import Beside
from distributor.model.issues import Issue, Remark
from distributor.model.outcomes import Parcel
from distributor.model.ports import Now
from distributor.model.proof import Proof
from distributor.model.revoking import Struck
from distributor.model.states import State


class SqlLedger(Guarded, Left, Watching):
    """A ledger in SQLite or PostgreSQL; safe to call from several threads."""

    def __init__(self, database: Database, *, by: str, now: Now | None, guard: Guard | None = None) -> None:
        self._database, self._by, self._clock, self._guard = database, by, Clock(database, now), guard
        self._holds = holds(database)
        self._taken_back: dict[str, Struck] = {}

    def _writing(self) -> AbstractContextManager[Writing]:
        return self._guarded(writing(self._database, self._by, self._clock))

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
            at, now = queries.end(connection)[1], unstamp(self._clock.read(connection))
        return unstamp(at) if at and unstamp(at) > now + TOLERANCE else None

    def under_way(self, scope: Scope) -> list[UnderWay]:
        """What senders hold."""
        with self._database.reading() as connection:
            return leases.under_way(connection, scope)

    # plan
    def begin_plan(self, plan: str, inputs: Mapping[str, object]) -> None:
        """Record a plan."""
        with self._writing() as book:
            planning.begin(book, plan, inputs)

    def plan_inputs(self, plan: str) -> Mapping[str, object] | None:
        """What a plan was made from."""
        with self._database.reading() as connection:
            return queries.plan_inputs(connection, plan)

    def plan(self, plan: str, drafts: Sequence[Draft]) -> list[Delivery | Known | Taken]:
        """Record drafts as planned, or say what is known of them."""
        with self._writing() as book:
            found = planning.record(book, plan, drafts)
            new = queries.by_ids(book.connection, [entry for entry in found if isinstance(entry, str)])
        return [new[entry] if isinstance(entry, str) else entry for entry in found]

    def keep_columns(self, used: Callable[[], Collection[str]]) -> int:
        """Forget columns that no letter names."""
        with self._database.reading() as connection:
            if not extra_columns.superfluous(connection, used):
                return 0
        with self._writing() as book:
            changes = extra_columns.superfluous(book.connection, used)
            extra_columns.forget(book, changes)
        return len(changes)

    def regenerate(self, delivery: str, reason: str, draft: Draft | None = None, place: tuple[str, Locator] | None = None) -> Delivery:
        """Plan the next generation of a delivery."""
        with self._writing() as book:
            new = generations.regenerate(book, delivery, reason, draft, place)
            return queries.by_ids(book.connection, [new])[new]

    # pack
    def take(self, owner: Owner, limit: int, lease: timedelta, scope: Scope) -> list[ToPack]:
        """Lend planned deliveries."""
        with self._writing() as book:
            lent = packing.take(book, owner, limit, lease, scope)
        self._taken_back |= {struck.delivery: struck for struck in book.taken_back}
        return lent

    def taken_back(self) -> list[Struck]:
        """What was withdrawn or held back meanwhile."""
        told, self._taken_back = self._taken_back, {}
        return list(told.values())

    def store(self, packed: Sequence[Packed], owner: Owner) -> list[bool]:  # noqa: ARG002  whoever freezes first has frozen it
        """Freeze letters."""
        with self._writing() as book:
            return packing.store(book, packed)

    # send
    def claim(  # noqa: PLR0913  the port's own arguments
        self,
        owner: Owner,
        limit: int,
        lease: timedelta,
        scope: Scope,
        *,
        early: bool = False,
        since: int | None = None,
        senders: Senders = EVERYBODY,
    ) -> list[Claim]:
        """Claim due letters."""
        with self._writing() as book:
            self._database.refuse_moved(book.connection)
            claims = sending.claim(book, owner, limit, lease, scope, early=early, since=since, senders=senders)
        self._taken_back |= {struck.delivery: struck for struck in book.taken_back}
        return claims

    def write(self, steps: Sequence[Step], owner: Owner) -> list[bool]:
        """Apply steps in one durable transaction."""
        arms = any(isinstance(step, Arm) for step in steps)
        with self._writing() as book:
            if arms:
                self._holds.still(book.connection)
            verdicts = sending.write(book, steps, owner)
            if arms:
                self._database.refuse_moved(book.connection)  # as late as it can be asked
            return verdicts

    def release(self, claims: Sequence[Claim], owner: Owner) -> None:
        """Give claims back."""
        if claims:
            with self._writing() as book:
                sending.release(book, claims, owner)

    def renew(self, owner: Owner, lease: timedelta) -> None:
        """A sign of life."""
        with self._writing() as book:
            leases.renew(book, owner, lease)

    def recover(self, alive: Callable[[Owner], bool | None]) -> list[tuple[str, State]]:
        """Free what the dead and the silent held."""
        with self._database.reading() as connection:
            holders = leases.holders(connection)
            misdated = leases.misdated(connection, self._clock.read(connection))
        if not holders and not misdated:
            return []
        runs = {owner.id: alive(owner) for owner in holders}
        dead, living = (frozenset(id_ for id_, verdict in runs.items() if verdict is wanted) for wanted in (False, True))
        with self._writing() as book:
            return leases.recover(book, dead, living)

    # mailboxes
    def hold(self, road: str) -> bool:
        """Take a road for this process."""
        return self._holds.take(road)

    def armed(self, since: datetime, senders: Senders) -> list[datetime]:
        """When letters were on their way."""
        with self._database.reading() as connection:
            return [unstamp(at) for at in mailboxes.armed(connection, stamp(since), self._clock.read(connection), senders)]

    def next_due(self, scope: Scope, senders: Senders = EVERYBODY) -> datetime | None:
        """When the next deferred delivery is due."""
        with self._database.reading() as connection:
            found = queries.next_due(connection, scope, senders)
        return None if found is None else unstamp(found)

    def any_left(self, scope: Scope, senders: Senders, *, early: bool = False) -> bool:
        """Whether a letter is due, or may be given back."""
        with self._database.reading() as connection:
            return mailboxes.any_left(connection, scope, senders, None if early else self._clock.read(connection))

    def due(self, scope: Scope, *, early: bool = False) -> dict[str, int]:
        """How many letters wait, by sender."""
        with self._database.reading() as connection:
            return mailboxes.due(connection, scope, None if early else self._clock.read(connection))

    # know
    def counts(self, scope: Scope) -> dict[State, int]:
        """Deliveries by state."""
        with self._database.reading() as connection:
            return queries.counts(connection, scope)

    def deliveries(self, scope: Scope) -> Iterator[Delivery]:
        """Deliveries, oldest first."""
        return queries.deliveries(self._database, scope)

    def rows(self, scope: Scope) -> Iterator[tuple[Any, ...]]:
        """Deliveries as plain rows."""
        return queries.rows(self._database, scope)

    def delivery(self, delivery: str) -> Delivery | None:
        """One delivery."""
        with self._database.reading() as connection:
            return queries.by_ids(connection, [delivery]).get(delivery)

    def letters(self, scope: Scope) -> Iterator[Parcel]:
        """Frozen letters that wait."""
        return queries.letters(self._database, scope, stamp(self.now()))

    def locator(self, delivery: str) -> tuple[str, Locator]:
        """Plan and locator, for a next generation: both are as the events tell."""
        with self._database.reading() as connection:
            message_verification.refuse_changed_origin(connection, delivery)
            return queries.locator(connection, delivery)

    def history(self, address: str) -> Iterator[Event]:
        """What happened to a person's deliveries."""
        return queries.history(self._database, address)

    def records(self) -> Iterator[Record]:
        """Every event with its links."""
        return verification.records(self._database)

    def prove(self, beside: Beside | None = None) -> Proof:
        """What is wrong, and how far the chain goes."""
        return verification.prove(self._database, beside)

    def verify(self) -> list[Issue | str]:
        """What is wrong."""
        return [*self.prove().findings]

    def check(self) -> list[Remark]:
        """What the database server keeps; a file has nothing to be asked."""
        if self._database.sqlite:
            return []
        with self._database.reading() as connection:
            return list(durability.remarks(connection))

    # settle by hand
    def ambiguous(self, scope: Scope) -> list[Attempt]:
        """Ambiguous deliveries with their last attempt."""
        with self._database.reading() as connection:
            return resolution.ambiguous(connection, scope)

    def resolve(self, delivery: str, state: State, evidence: Mapping[str, object]) -> None:
        """Settle an ambiguous delivery."""
        with self._writing() as book:
            resolution.resolve(book, delivery, state, evidence)

    def sought(self, states: frozenset[State], scope: Scope) -> list[Sought]:
        """Letters that somebody may know more of."""
        with self._database.reading() as connection:
            return resolution.sought(connection, states, scope)

    def observe(self, sightings: Sequence[Sighting]) -> list[State | None]:
        """Move what the evidence allows to be moved."""
        if not sightings:
            return []
        with self._writing() as book:
            return resolution.observe(book, sightings)

    def withdraw(self, delivery: str, reason: str) -> None:
        """Take a delivery back."""
        with self._writing() as book:
            resolution.withdraw(book, delivery, reason)

    # passwords
    def envelopes(self, address: str) -> list[Envelope]:
        """Passwords of a person."""
        with self._database.reading() as connection:
            return passwords.envelopes(connection, address)

    def hand_over(self, delivery: str, reason: str, channel: str) -> bytes:
        """Hand a password over, once."""
        with self._writing() as book:
            return passwords.hand_over(book, delivery, reason, channel)

    def expire(self) -> int:
        """End passwords whose time is over, and destroy those that ended long enough ago; also what a killed process left of others."""
        self._database.tidy()
        with self._database.reading() as connection:
            if not passwords.overdue(connection, self._clock.read(connection)):
                return 0
        with self._writing() as book:
            return passwords.expire(book)

    def close(self) -> None:
        """Close the connection."""
        self._holds.close()
        self._database.close()
        if self._guard is not None:
            self._guard.close()
