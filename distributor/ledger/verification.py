"""The chain of events -> records for an auditor; and what is wrong with it, with the rows it explains, its guards, or the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain as joined
from typing import Any

from sqlalchemy import bindparam, select

from distributor.ledger import certificate_verification, engine, leases, people, row_verification, schema_verification, transaction
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.queries import PAGE, to_event
from distributor.ledger.tables import event, head
from distributor.model.audit_log import ORIGIN, AuditRecord, ChainVerifier, ExportComparison, Link, VerificationReport

MOST = 1000  # findings; a chain cut in two would give one for each event after the cut
_LINKS = select(*(event.c[name] for name in Link._fields)).where(event.c.seq > bindparam("last")).order_by(event.c.seq).limit(PAGE)


def records(database: Database) -> Iterator[AuditRecord]:
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


def _record(row: Any, prev: str) -> AuditRecord:  # noqa: ANN401  a row of the event table
    names: tuple[str, ...] | None = ()
    if row.commitment:
        names = None if row.personal is None else tuple(json.loads(row.personal))
    return AuditRecord(to_event(row[:9]), names, row.salt, row.commitment, prev, row.hash)


def verify(database: Database, beside: ExportComparison | None = None) -> VerificationReport:
    """Everything that is wrong, also beside an earlier export, and how far the chain goes."""
    chain = _Chain(database, beside)
    explained = row_verification.RowVerifier(database, chain.doubtful)
    of_people = people.verify_people(database, chain.doubtful)
    rows = (
        _of_name(database),
        explained.findings(),
        chain.claimed.faults(database),
        of_people,
        certificate_verification.verify_certificates(database),
    )
    notes: list[str] = []
    found = joined(chain.faults(), *rows, schema_verification.verify_schema(database, notes.append), _of_file(database))
    findings = tuple(finding for finding, _ in zip(found, range(MOST), strict=False))
    walk = chain.walk
    return VerificationReport(findings, walk.seq, walk.at, walk.hash, chain.erased, walk.back, explained.deliveries, tuple(notes))


class _Chain:
    """Every link, in order, and the head that must name the last."""

    def __init__(self, database: Database, beside: ExportComparison | None) -> None:
        self.walk = ChainVerifier()
        self._beside = beside
        self.erased = 0
        self.doubtful: set[str] = set()  # deliveries with an event that does not hold: their rows cannot be compared with events
        self.claimed = leases.ClaimEvents()
        self._database = database

    def faults(self) -> Iterator[str]:
        """What is wrong with them."""
        while True:
            with snapshot(self._database) as connection:
                page = engine.all_rows(connection, _LINKS, {"last": self.walk.seq})
                ends = connection.execute(select(head.c.seq, head.c.hash, head.c.at)).one_or_none()
            for row in page:
                yield from self._step(Link(*row))
            if len(page) < PAGE:
                yield from self._end(ends)
                return

    def _step(self, link: Link) -> Iterator[str]:
        self.erased += link.personal is None and bool(link.commitment)
        for fault in self.walk.verify_link(link):
            if link.delivery is not None:
                self.doubtful.add(link.delivery)
            yield fault
        self.claimed.step(link)
        if self._beside:
            yield from self._beside.step(link)

    def _end(self, ends: Any) -> Iterator[str]:  # noqa: ANN401  the row of the head, if there is one
        yield from self.walk.end()
        if self._beside:
            yield from self._beside.end(self.walk.seq)
        if ends is None:
            yield f"event {self.walk.seq}: is the last one, but the ledger's own note of its end is gone"
        elif (ends.seq, ends.hash) != (self.walk.seq, self.walk.hash):
            yield f"event {self.walk.seq}: is the last one, but the ledger ended with event {ends.seq}, or with another hash"
        elif ends.at != self.walk.at:
            yield f"event {self.walk.seq}: is of {self.walk.at[:40]}, but the ledger's own note of its end says {ends.at[:40]}"


def _of_name(database: Database) -> Iterator[str]:
    with database.reading() as connection:
        ends = connection.execute(select(head.c.id)).first()
        found = transaction.ledger_identity(connection) if ends is not None else None  # without it the chain's end was reported as missing
    if found is not None and found.fault is not None:
        yield f"ledger: {found.fault}"


def _of_file(database: Database) -> list[str]:
    if not database.sqlite:
        return []
    with database.reading() as connection:
        faults = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
        strays = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
    damage = [f"database: {fault}" for fault in faults if fault != "ok"]
    return damage + [f'database: a row of "{table}" refers to nothing' for table in strays]
