"""The chain of events -> records for an auditor, and what is wrong with it, the states it explains, or the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, bindparam, select

from distributor.core.chain import ORIGIN, Link, Walk
from distributor.core.events import Record
from distributor.ledger.database import Database
from distributor.ledger.reading import PAGE, to_event
from distributor.ledger.tables import delivery, event, head

MOST = 1000  # findings; a chain cut in two would tell one for each event after the cut
_LINKS = select(*(event.c[name] for name in Link._fields)).where(event.c.seq > bindparam("last")).order_by(event.c.seq).limit(PAGE)


def records(database: Database) -> Iterator[Record]:
    """Every event with its links, oldest first."""
    last, prev = 0, ORIGIN
    while True:
        with database.reading() as connection:
            page = connection.execute(_LINKS, {"last": last}).all()
        for row in page:
            yield _record(row, prev)
            prev = row.hash
        if len(page) < PAGE:
            return
        last = page[-1].seq


def _record(row: Any, prev: str) -> Record:  # noqa: ANN401  a row of the event table
    names: tuple[str, ...] | None = ()
    if row.commitment:
        names = None if row.personal is None else tuple(json.loads(row.personal))
    return Record(to_event(row[:9]), names, row.salt, row.commitment, prev, row.hash)


def verify(database: Database) -> list[str]:
    """Everything that is wrong; empty when all is well."""
    walk = Walk()
    findings: list[str] = []
    while len(findings) < MOST:
        with database.reading() as connection:
            page = connection.execute(_LINKS, {"last": walk.seq}).all()
            for row in page:
                findings += walk.step(Link(*row))
            if len(page) < PAGE:
                findings += _against_states(connection, walk)
                break
    if database.sqlite:
        findings += _file(database)
    return findings[:MOST]


def _against_states(connection: Connection, walk: Walk) -> Iterator[str]:
    """In the transaction that read the last event: does it explain the head and every state."""
    at_head = connection.execute(select(head.c.seq, head.c.hash)).one_or_none()
    if at_head is None or tuple(at_head) != (walk.seq, walk.hash):
        ended = at_head.seq if at_head else "none"
        yield f"event {walk.seq}: is the last one, but the ledger ended with event {ended}, or with another hash"
    told = dict(walk.states)
    for id_, state in connection.execute(select(delivery.c.id, delivery.c.state).order_by(delivery.c.id)):
        last = told.pop(id_, None)
        if last is None:
            yield f"delivery {id_}: has no events"
        elif last != state:
            yield f'delivery {id_}: is "{state}", but its last event says "{last}"'
    yield from (f"delivery {id_}: has events but is gone" for id_ in told)


def _file(database: Database) -> list[str]:
    with database.reading() as connection:
        faults = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
        strays = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
    damage = [f"database: {fault}" for fault in faults if fault != "ok"]
    return damage + [f'database: a row of "{table}" refers to nothing' for table in strays]
