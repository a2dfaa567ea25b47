"""People with their deliveries and events, for the audit report: three queries for each page of people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Select, bindparam, select

from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.tables import certificate, delivery, event, person
from distributor.model.audit_log import Event, parse_timestamp
from distributor.model.audit_report import DeliveryRecord, PersonRecord
from distributor.model.states import State

PAGE = 500  # people
_PEOPLE = (
    select(*(person.c[name] for name in ("key", "id", "address", "name")))
    .where(person.c.key > bindparam("last"))
    .order_by(person.c.key)
    .limit(PAGE)
)
_STATES = {state.value: state for state in State}
_BARE = frozenset({State.CLAIMED.value, State.TRANSMITTING.value})  # their evidence is about processes


@cache
def _deliveries(size: int) -> Select[Any]:
    columns = [delivery.c[name] for name in ("person", "id", "generation")]
    asked = select(*columns, *(certificate.c[name] for name in ("sha256", "serial", "not_after")))
    return asked.join(certificate, certificate.c.sha256 == delivery.c.certificate).where(engine.one_of(delivery.c.person, size))


@cache
def _events(size: int) -> Select[Any]:
    names = ("delivery", "seq", "at", "event", "before", "after", "by", "evidence", "personal", "commitment")
    return select(*(event.c[name] for name in names)).where(engine.one_of(event.c.delivery, size))


def people(database: Database, last: int) -> Iterator[PersonRecord]:
    """Everybody with deliveries, in the order of addresses, as of event number `last`."""
    key, number = "", PAGE
    while number == PAGE:
        with database.reading() as connection:
            page = engine.all_rows(connection, _PEOPLE, {"last": key})
            theirs = _grouped(engine.rows_of(connection, _deliveries, [row[1] for row in page]))
            ids = [row[1] for rows in theirs.values() for row in rows]
            events = _grouped(engine.rows_of(connection, _events, ids))
        for _, id_, address, name in page:
            records = [_record(row, events.get(row[1], ()), last) for row in theirs.get(id_, ())]
            known = tuple(record for record in records if record.events)
            if known:
                erased = any(_is_erased(row) for record in known for row in events[record.id])
                yield PersonRecord(None if erased else address, "" if erased else name, known)
        key, number = page[-1][0] if page else "", len(page)


def _grouped(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Rows by their first column, ordered by their second: deliveries by id, events by number."""
    ordered = sorted(rows, key=itemgetter(0, 1))
    return {key: list(found) for key, found in groupby(ordered, key=itemgetter(0))}


def _record(row: Sequence[Any], events: Sequence[Any], last: int) -> DeliveryRecord:
    _, id_, generation, sha256, serial, not_after = row
    return DeliveryRecord(
        id_, generation, sha256, serial, parse_timestamp(not_after), tuple(_event(each) for each in events if each[1] <= last)
    )


def _event(row: Sequence[Any]) -> Event:
    delivery_id, seq, at, name, before, after, by, evidence, personal, _ = row
    told = {} if name in _BARE else json.loads(evidence) | (json.loads(personal) if personal else {})
    return Event(seq, parse_timestamp(at), delivery_id, name, before and _STATES[before], after and _STATES[after], by, told)


def _is_erased(row: Sequence[Any]) -> bool:
    """Whether the event is the plan of somebody whose personal data was erased."""
    return row[3] == State.PLANNED.value and row[8] is None and bool(row[9])
