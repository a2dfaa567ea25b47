"""A writing transaction: it has the ledger's clock, who writes, and the end of the chain of events, to which each new event is added."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, literal_column, select, update

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.tables import event, head
from distributor.model import audit_log
from distributor.model.audit_log import ORIGIN, Link, digest, format_timestamp, parse_timestamp
from distributor.model.clocks import SECOND_SIGN, Passed, has_passed
from distributor.model.people import escape_unsafe

if TYPE_CHECKING:
    from distributor.model.certificates import RevokedDelivery
    from distributor.model.high_water_mark import Machine
    from distributor.model.ports import Now

# --- the clock -----------------------------------------------------------------------------------------------------
# Leases, waiting times, quotas and expiry are written and compared by this clock and by no other. On a server it is the server's own, since
# the clocks of its clients differ; in a file it is that of the machine. `event.at` is its time too; the order is that of `event.seq` alone.


STALE = 60.0  # seconds after which the server is asked again
_FORM: ColumnElement[str] = literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'""")  # that of `stamp`
SERVER = func.to_char(func.timezone("UTC", func.clock_timestamp()), _FORM)


class Clock:
    """The clock of one ledger. `given` replaces the database's own, so that a test can move it."""

    def __init__(self, database: Database, given: Now | None) -> None:
        self._database = database
        self._given = given if given is not None or not database.sqlite else _of_this_machine
        self._server_time: tuple[datetime, float] | None = None  # the server's time, and when it was read by a clock that is never set

    @property
    def is_servers(self) -> bool:
        """Whether the time is the database server's."""
        return self._given is None

    def read(self, connection: Connection) -> str:
        """Now, as a stamp, within a transaction."""
        if self._given is not None:
            return format_timestamp(self._given())
        return self.from_server(str(connection.execute(select(SERVER)).scalar_one()))

    def from_server(self, at: str) -> str:
        """The server's time, as a writing transaction read it with its first query."""
        self._server_time = parse_timestamp(at), time.monotonic()
        return at

    def now(self) -> datetime:
        """Now. The server's time is extrapolated from when it was read last, so that it is hardly ever queried."""
        if self._given is not None:
            return self._given()
        if self._server_time is None or time.monotonic() - self._server_time[1] > STALE:
            with self._database.reading() as connection:
                return parse_timestamp(self.read(connection))
        at, since = self._server_time
        return at + timedelta(seconds=time.monotonic() - since)


def _of_this_machine() -> datetime:
    return datetime.now(UTC)


# --- writing -------------------------------------------------------------------------------------------------------

NAMED = "ledger"  # in the evidence of the first event
LONGEST_SAID = 2000  # characters kept of a server's reply or a person's reason; a hostile reply may have a megabyte
_SALT = 16  # bytes
_HEAD = select(head.c.seq, head.c.at, head.c.hash).where(head.c.id == 1).with_for_update()  # on PostgreSQL this orders all writers
_LOCKED = _HEAD.subquery()
FROZEN = "30s"  # how long a writer may be silent in its transaction before the server ends it: all others wait for the head
_PATIENCE = func.set_config("idle_in_transaction_session_timeout", FROZEN, literal_column("true"))
_HEAD_AND_TIME = select(
    _LOCKED, SERVER, _PATIENCE
)  # in this order: a time that was read before the lock would be as old as the wait for it
_MOVE_HEAD = (
    update(head)
    .where(head.c.id == 1, head.c.seq == bindparam("was"))
    .values(seq=bindparam("is"), at=bindparam("now"), hash=bindparam("ends"))
)
_INSERT = insert(event)
_SIGN = select(event.c.at).where(event.c.delivery.is_(None), event.c.event == "clock-gap").order_by(event.c.seq.desc()).limit(1)
_EARLIER = select(event.c.at).where(event.c.at <= bindparam("until")).order_by(event.c.seq.desc()).limit(1)


def sanitize(text: str) -> str:
    """Text from outside, fit for a line: bounded, without control characters."""
    text = text[:LONGEST_SAID]
    return text if text.isascii() and text.isprintable() else escape_unsafe(text)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be written. `personal` is only committed to in the chain."""

    delivery: str | None
    event: str
    before: str | None = None
    after: str | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)
    personal: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class WriteTransaction:
    """An open writing transaction. `now` is the ledger's clock; `last` is the time of the event before, wrong if the clock was."""

    connection: Connection
    by: str
    now: str
    last: str  # empty before the first event
    seq: int
    hash: str
    kept: int = 0  # the number of the last event in the row of the chain's end
    here: Machine | None = None  # recorded by events that a second copy of the ledger must not repeat
    taken_back: list[RevokedDelivery] = field(default_factory=list)  # withdrawn since they must not leave any more, or held back

    @property
    def moment(self) -> datetime:
        """Now, as a time."""
        return parse_timestamp(self.now)

    def time_has_passed(self) -> bool:
        """Whether the clock may be believed where what is over is to be destroyed or withdrawn.

        A jump is noted once, by an event; it counts when a later command finds the same.
        """
        sign = self.connection.execute(_SIGN).scalar_one_or_none()
        earlier = self.connection.execute(_EARLIER, {"until": format_timestamp(self.moment - SECOND_SIGN)}).scalar_one_or_none()
        known = [None if at is None else parse_timestamp(at) for at in (earlier, sign)]
        verdict = has_passed(self.moment, parse_timestamp(self.last) if self.last else self.moment, *known)
        if verdict is Passed.JUMPED:
            self.append([NewEvent(None, "clock-gap", evidence={"last_event": self.last})])
        return verdict is Passed.YES

    def all(self, statement: engine.Statement, values: Mapping[str, Any]) -> list[Any]:
        """The rows of a query that runs often."""
        return engine.all_rows(self.connection, statement, values)

    def many(self, statement: engine.Statement, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a statement for each row; how many it touched."""
        return engine.many(self.connection, statement, rows) if rows else 0

    def append(self, notes: Sequence[NewEvent]) -> None:
        """Add events to the chain."""
        if not notes:
            return
        if self.seq == 0:
            notes = [self._named(notes[0]), *notes[1:]]
        salts = os.urandom(_SALT * len(notes)).hex()
        links = [self._link(note, salts[2 * _SALT * i : 2 * _SALT * (i + 1)])._asdict() for i, note in enumerate(notes)]
        self.many(_INSERT, links)

    def move_head(self) -> None:
        """Record the last event as the chain's end."""
        if self.seq != self.kept:
            self.many(_MOVE_HEAD, [{"was": self.kept, "is": self.seq, "now": self.now, "ends": self.hash}])
            self.kept = self.seq

    def _named(self, first: NewEvent) -> NewEvent:
        """The first event with the ledger's name in it, so that the name cannot be changed."""
        name = str(self.connection.execute(select(head.c.ledger).where(head.c.id == 1)).scalar_one())
        return replace(first, evidence={**first.evidence, NAMED: name})

    def _link(self, note: NewEvent, salt: str) -> audit_log.Link:
        evidence = audit_log.canonical(note.evidence)
        personal = audit_log.canonical(note.personal) if note.personal else None
        commitment = audit_log.commit(salt, personal) if personal else ""
        self.seq += 1
        link = audit_log.Link(
            self.seq,
            self.now,
            note.delivery,
            note.event,
            note.before,
            note.after,
            self.by,
            evidence,
            personal,
            salt if personal else None,
            commitment,
            "",
        )
        self.hash = audit_log.digest(link, self.hash)
        return link._replace(hash=self.hash)


@contextmanager
def write_transaction(database: Database, by: str, clock: Clock) -> Iterator[WriteTransaction]:
    """One durable transaction; its events move the head of the chain with it."""
    with database.writing() as connection:
        if clock.is_servers:
            seq, last, ends, at, _ = engine.all_rows(connection, _HEAD_AND_TIME, {})[0]
            now = clock.from_server(at)
        else:
            seq, last, ends = engine.all_rows(connection, _HEAD, {})[0]
            now = clock.read(connection)
        tx = WriteTransaction(connection, by, now, last, seq, ends, seq)
        yield tx
        tx.move_head()


# --- which ledger this is ------------------------------------------------------------------------------------------
# The first event tells the name that the ledger was made with, which all copies share; who changes it breaks the chain. That of an earlier
# program tells none, and its own hash is the name.

LENGTH = 32  # hex digits of the first event's hash, where that is the name
_NAME = select(head.c.ledger).where(head.c.id == 1)
_FIRST = select(*(event.c[name] for name in Link._fields)).where(event.c.seq <= 2).order_by(event.c.seq)  # noqa: PLR2004  the second holds the first


class LedgerIdentity(NamedTuple):
    """A ledger's name, and what is wrong with it."""

    name: str
    fault: str | None


def ledger_identity(connection: Connection) -> LedgerIdentity:
    """The name by the chain; by the row beside its end while there is no event."""
    kept = connection.execute(_NAME).scalar_one_or_none()
    links = [Link(*row) for row in connection.execute(_FIRST)]
    if kept is None:
        return LedgerIdentity("", "the record of the last event is missing, so this ledger cannot be identified")
    if not links:
        return LedgerIdentity(kept, None)
    name = _told(links[0].evidence) or links[0].hash[:LENGTH]
    prev = ORIGIN
    for link in links:
        if digest(link, prev) != link.hash:
            return LedgerIdentity(name, f"event {link.seq} was modified, so this ledger cannot be identified")
        prev = link.hash
    return LedgerIdentity(name, None if name == kept else "its identifier does not match its first event")


def _told(evidence: str) -> str | None:
    try:
        found = json.loads(evidence).get(NAMED)
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) and found else None
