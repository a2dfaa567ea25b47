"""Who needs a reminder, and the events of those that were written: a few queries for each page of deliveries."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, exists, or_, select, text

from distributor.errors import RequestDenied
from distributor.ledger import certificate_owners, engine, queries, transitions
from distributor.ledger.engine import Database
from distributor.ledger.message_verification import refuse_changed_people
from distributor.ledger.person_projection import NOT_ERASED
from distributor.ledger.tables import IS_REMINDER, certificate, delivery, event, handover, person
from distributor.ledger.transaction import Clock, NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import REMINDED, REMINDER_REFUSED, format_timestamp, parse_timestamp
from distributor.model.reminders import UNCONFIRMED_AFTER, Reminder, ReminderDetails, ReminderKind
from distributor.model.states import RECEIVED, PasswordState, State, Way

Usages = Callable[[bytes], Collection[str]]
CHANNEL = "reveal"  # passwords that people collect; letters and messages are sent to them
_RECEIVED = frozenset(state.value for state in RECEIVED)
_UNCONFIRMED = frozenset({State.ACCEPTED.value, State.DELIVERED.value})
_GONE = frozenset({State.WITHDRAWN.value, State.REJECTED.value, State.BOUNCED.value})
_NONE: frozenset[str] = frozenset()
_IS_READY = and_(handover.c.state == PasswordState.READY.value, handover.c.channel == CHANNEL)


class _Candidate(NamedTuple):
    id: str
    person: str
    address: str
    name: str
    language: str
    certificate: str
    serial: str
    not_after: str
    generation: int
    state: str
    updated_at: str
    password: str | None
    channel: str | None
    expires_at: str | None
    lasts: int | None
    has_others: bool  # whether the person has other deliveries
    has_reminders: bool


_other, _reminder_event = delivery.alias("other"), event.alias("reminder")
_HAS_OTHERS = exists().where(_other.c.person == delivery.c.person, _other.c.id != delivery.c.id)
_HAS_REMINDERS = exists().where(text("reminder." + IS_REMINDER.text), _reminder_event.c.delivery == delivery.c.id)
_CANDIDATES = (
    select(
        delivery.c.id,
        delivery.c.person,
        *(person.c[name] for name in ("address", "name")),
        delivery.c.language,
        delivery.c.certificate,
        *(certificate.c[name] for name in ("serial", "not_after")),
        *(delivery.c[name] for name in ("generation", "state", "updated_at")),
        *(handover.c[name] for name in ("state", "channel", "expires_at", "lasts")),
        _HAS_OTHERS,
        _HAS_REMINDERS,
    )
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .outerjoin(handover, handover.c.delivery == delivery.c.id)
    .where(
        delivery.c.id > bindparam("last"),
        NOT_ERASED,
        delivery.c.way == Way.MAIL.value,
        delivery.c.series == "",
        # "not in", so that SQLite reads in the order of ids; by the index of states it would sort all of them for each page
        delivery.c.state.not_in([bindparam(f"state_{state}", state.value) for state in State if state not in RECEIVED]),
        or_(
            certificate.c.not_after <= bindparam("until"),
            _IS_READY,
            and_(delivery.c.state != State.INSTALLED.value, delivery.c.updated_at <= bindparam("unconfirmed")),
        ),
    )
    .order_by(delivery.c.id)
    .limit(queries.PAGE)
)


class _Sibling(NamedTuple):
    """A delivery of the same person."""

    person: str
    id: str
    certificate: str
    generation: int
    state: str
    not_after: str


@cache
def _siblings(size: int) -> Select[Any]:
    columns = [delivery.c[name] for name in ("person", "id", "certificate", "generation", "state")]
    asked = select(*columns, certificate.c.not_after).join(certificate, certificate.c.sha256 == delivery.c.certificate)
    return asked.where(engine.one_of(delivery.c.person, size), delivery.c.way == Way.MAIL.value)


@cache
def _written(size: int) -> Select[Any]:
    columns = [event.c[name] for name in ("delivery", "seq", "event", "at", "evidence")]
    return select(*columns).where(IS_REMINDER, engine.one_of(event.c.delivery, size))


@cache
def _leaves(size: int) -> Select[Any]:
    return select(certificate.c.sha256, certificate.c.der).where(engine.one_of(certificate.c.sha256, size))


class _Page:
    """Some candidates, with the other deliveries of their people and the reminders that were written before."""

    def __init__(self, connection: Connection, rows: Sequence[_Candidate], revoked: Mapping[str, str], usages: Usages) -> None:
        self._connection, self._revoked, self._usages = connection, revoked, usages
        self._siblings: dict[str, list[_Sibling]] = {}
        for found in map(_Sibling._make, engine.rows_of(connection, _siblings, sorted({row.person for row in rows if row.has_others}))):
            self._siblings.setdefault(found.person, []).append(found)
        others = {one.id for theirs in self._siblings.values() for one in theirs}
        self._written = _kept(connection, sorted(others | {row.id for row in rows if row.has_reminders}))

    def reminders(self, rows: Sequence[_Candidate], now: str, until: str, unconfirmed: str) -> Iterator[Reminder]:
        """The reminders that these candidates may need."""
        usable = [row for row in rows if row.certificate not in self._revoked]
        ending = [row for row in usable if row.not_after <= until and not self._has_later(row, _RECEIVED)]
        replaced = self._replaced(ending)
        expiring = {row.id for row in ending if row.id not in replaced}
        for row in usable:
            if row.id in expiring:
                yield self._reminder(row, ReminderKind.EXPIRING, [row.id, *(one.id for one in self._generations(row))])
            if row.not_after <= now or row.state not in _UNCONFIRMED:
                continue
            waits = _waits(row, now)
            if waits:
                yield self._reminder(row, ReminderKind.UNCOLLECTED, [row.id])
            if row.updated_at <= unconfirmed and not self._has_later(row):
                yield self._reminder(row, ReminderKind.UNCONFIRMED, [row.id], waits=waits)

    def _has_later(self, row: _Candidate, states: Collection[str] | None = None) -> bool:
        """Whether there is a later generation in one of these states, or under way."""
        if not row.has_others:
            return False
        later = (one for one in self._generations(row) if one.generation > row.generation)
        return any(one.state in states if states is not None else one.state not in _GONE for one in later)

    def _generations(self, row: _Candidate) -> list[_Sibling]:
        """The other deliveries of its certificate."""
        return [one for one in self._siblings.get(row.person, ()) if one.certificate == row.certificate and one.id != row.id]

    def _replaced(self, ending: Sequence[_Candidate]) -> frozenset[str]:
        """The deliveries whose person has certificates for the same purposes that are valid longer."""
        longer = {row: found for row in ending if (found := self._longer(row))}
        wanted = sorted({sha256 for row, found in longer.items() for sha256 in (row.certificate, *found)})
        leaves = dict(engine.rows_of(self._connection, _leaves, wanted))
        uses = {sha256: frozenset(self._usages(leaves[sha256])) for sha256 in wanted}
        return frozenset(
            row.id for row, found in longer.items() if uses[row.certificate] <= frozenset().union(*(uses[sha256] for sha256 in found))
        )

    def _longer(self, row: _Candidate) -> frozenset[str]:
        return frozenset(
            one.certificate
            for one in self._siblings.get(row.person, ())
            if one.not_after > row.not_after
            and one.certificate != row.certificate
            and one.state not in _GONE
            and one.certificate not in self._revoked
        )

    def _reminder(self, row: _Candidate, kind: ReminderKind, deliveries: Sequence[str], *, waits: bool = False) -> Reminder:
        known = (row.has_others or row.has_reminders) and self._written
        written = [found for id_ in deliveries for found in self._written.get(id_, ()) if found.kind == kind] if known else []
        expires = None if row.expires_at is None else parse_timestamp(row.expires_at)
        since = parse_timestamp(row.updated_at)
        if kind is ReminderKind.UNCOLLECTED and expires is not None and row.lasts is not None:
            since = expires - timedelta(seconds=row.lasts)
        return Reminder(
            kind=kind,
            delivery=row.id,
            address=row.address,
            name=row.name,
            language=row.language,
            certificate=row.certificate,
            serial=row.serial,
            not_after=parse_timestamp(row.not_after),
            since=since,
            expires_at=expires,
            steps=frozenset(found.step for found in written) if written else _NONE,
            last=max(parse_timestamp(found.at) for found in written) if written else None,
            waits=waits,
        )


def _waits(row: _Candidate, now: str) -> bool:
    """Whether its password is still to be collected."""
    return row.password == PasswordState.READY and row.channel == CHANNEL and (row.expires_at is None or row.expires_at > now)


class _Written(NamedTuple):
    kind: str
    step: str
    at: str


def _kept(connection: Connection, deliveries: Sequence[str]) -> dict[str, list[_Written]]:
    """The reminders of these deliveries that were not refused."""
    found: dict[tuple[str, str], _Written] = {}
    for id_, _, name, at, evidence in sorted(engine.rows_of(connection, _written, deliveries), key=lambda row: row[1]):
        if name == REMINDED:
            told = json.loads(evidence)
            found[id_, evidence] = _Written(told["kind"], told["step"], at)
        else:
            found.pop((id_, evidence), None)  # both name the message
    by_delivery: dict[str, list[_Written]] = {}
    for (id_, _), written in found.items():
        by_delivery.setdefault(id_, []).append(written)
    return by_delivery


# --- the port --------------------------------------------------------------------------------------------------------

_OTHERS = select(delivery.c.id).where(delivery.c.person == bindparam("person"), delivery.c.certificate == bindparam("certificate"))
_PASSWORD = select(handover.c.state).where(handover.c.delivery == bindparam("id"))


@cache
def _columns(size: int) -> Select[Any]:
    asked = select(delivery.c.id, person.c.columns).join(person, person.c.id == delivery.c.person)
    return asked.where(engine.one_of(delivery.c.id, size))


def record(tx: WriteTransaction, reminder: Reminder, evidence: Mapping[str, object]) -> None:
    """Record that a reminder is about to be sent. Raises RequestDenied where it was written, or is not needed any more."""
    refuse_changed_people(tx, [reminder.delivery])
    row = transitions.row(tx, reminder.delivery)
    wanted = {"person": row["person"], "certificate": row["certificate"]}
    theirs = [reminder.delivery]
    if reminder.kind is ReminderKind.EXPIRING:
        theirs = list(tx.connection.execute(_OTHERS, wanted).scalars())
    written = {(one.kind, one.step) for found in _kept(tx.connection, theirs).values() for one in found}
    if (reminder.kind, evidence["step"]) in written:
        raise RequestDenied("this reminder was sent meanwhile", where=reminder.address, hint="run `distributor remind` again")
    if not _is_needed(tx, reminder, row["state"]):
        raise RequestDenied("this reminder is not needed any more", where=reminder.address, hint="run `distributor remind` again")
    tx.append([NewEvent(reminder.delivery, REMINDED, evidence=evidence, personal={"address": reminder.address})])


def _is_needed(tx: WriteTransaction, reminder: Reminder, state: str) -> bool:
    if reminder.kind is ReminderKind.EXPIRING:
        return state in _RECEIVED
    password = tx.connection.execute(_PASSWORD, {"id": reminder.delivery}).scalar_one_or_none()
    return state in _UNCONFIRMED and (reminder.kind is ReminderKind.UNCONFIRMED or password == PasswordState.READY)


def reminders(database: Database, clock: Clock, expiring_until: datetime, usages: Usages) -> Iterator[Reminder]:
    """Who needs a reminder; reads page by page, each in a transaction of its own."""
    moment = clock.now()
    now, until, unconfirmed = map(format_timestamp, (moment, expiring_until, moment - UNCONFIRMED_AFTER))
    with database.reading() as connection:
        revoked = certificate_owners.every(connection)
    last, number = "", queries.PAGE
    while number == queries.PAGE:
        with database.reading() as connection:
            values = {"last": last, "until": until, "unconfirmed": unconfirmed}
            rows = [_Candidate._make(row) for row in engine.all_rows(connection, _CANDIDATES, values)]
            found = list(_Page(connection, rows, revoked, usages).reminders(rows, now, until, unconfirmed))
        yield from found
        last, number = rows[-1].id if rows else "", len(rows)


def details(connection: Connection, deliveries: Sequence[str]) -> dict[str, ReminderDetails]:
    """What the messages of these deliveries need besides."""
    senders = queries.senders_of(connection, deliveries)
    rows = engine.rows_of(connection, _columns, deliveries)
    return {id_: ReminderDetails(senders.get(id_), json.loads(columns) if columns else {}) for id_, columns in rows}


def refuse(tx: WriteTransaction, reminder: Reminder, evidence: Mapping[str, object], said: str) -> None:
    """Note that a reminder was certainly not sent, so that its step is due again."""
    tx.append([NewEvent(reminder.delivery, REMINDER_REFUSED, evidence=evidence, personal={"said": sanitize(said)})])
