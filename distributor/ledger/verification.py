"""The whole ledger -> everything that is wrong with it, and its events as records for an auditor. `verify` is the way in.

Rows are read a page at a time, so that memory stays flat and no writer waits long.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain as joined
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Select, Table, bindparam, or_, select

from distributor.ledger import engine, projection
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.planning import storable
from distributor.ledger.projection import EVENT_COLUMNS, PERSON_CHANGED, shown
from distributor.ledger.queries import PAGE, to_event
from distributor.ledger.request_verification import verify_requests
from distributor.ledger.schema_verification import verify_schema
from distributor.ledger.tables import authority, certificate, delivery, event, handover, head, outbox, owner, person, plan, publication
from distributor.ledger.transaction import ledger_identity
from distributor.model.audit_log import ORIGIN, AuditRecord, ChainObserver, ChainVerifier, Link, VerificationReport, format_timestamp
from distributor.model.states import State
from distributor.pki import spki

MOST = 1000  # findings; a chain cut in two would give one for each event after the cut
LAST = "\U0010ffff"  # sorts behind every identifier
_LINKS = select(*EVENT_COLUMNS).where(event.c.seq > bindparam("last")).order_by(event.c.seq).limit(PAGE)


def records(database: Database) -> Iterator[AuditRecord]:
    """Every event with its links, oldest first."""
    prev = ORIGIN
    for row in engine.paged(database, _LINKS, PAGE, {"last": 0}):
        *columns, salt, commitment, hash_ = row
        personal = columns[-1]
        names: tuple[str, ...] | None = ()
        if commitment:
            names = None if personal is None else tuple(json.loads(personal))
        yield AuditRecord(to_event(columns), names, salt, commitment, prev, hash_)
        prev = hash_


def verify(database: Database, observers: Sequence[ChainObserver] = ()) -> VerificationReport:
    """Everything that is wrong, also by observers of the chain (an earlier export, checkpoints), and how far the chain goes.

    Each step relies on those before: a row is compared only with events that step (0) found good.
    """
    chain, claims, rows = _Chain(database, observers), _Claims(), _Rows(database)
    notes: list[str] = []
    found = joined(
        chain.faults(claims),  # (0) each event with its hash and the one before, the last with the head, all with the observers
        _of_name(database),  # (1) the ledger's name with the first event
        rows.faults(chain.doubtful),  # (2) each delivery, its password and its message with its events
        claims.faults(database),  # (3) the processes that sent with the events of their claims
        _of_people(database, chain.doubtful),  # (4) people and where their certificates are public with the events of their deliveries
        verify_requests(database, chain.doubtful),  # (5) requests for another copy, and accounts, with their events
        _of_certificates(database),  # (6) certificates with their own bytes, whose hash the events have
        verify_schema(database, notes.append),  # (7) tables, indexes and triggers with those that the migrations make
        _of_file(database),  # (8) the file by SQLite's own checks
    )
    findings = tuple(finding for finding, _ in zip(found, range(MOST), strict=False))
    walk = chain.walk
    return VerificationReport(findings, walk.seq, walk.at, walk.hash, chain.erased, walk.back, rows.compared, tuple(notes))


# --- (0) the chain and its end ---------------------------------------------------------------------------------------


class _Chain:
    """Every link, in order, and the head that must name the last."""

    def __init__(self, database: Database, observers: Sequence[ChainObserver]) -> None:
        self.walk = ChainVerifier()
        self._observers = observers
        self.erased = 0
        self.doubtful: set[str] = set()  # deliveries with an event that does not hold: their rows cannot be compared with events
        self._database = database

    def faults(self, claims: _Claims) -> Iterator[str]:
        """What is wrong with them; `claims` is told each."""
        while True:
            with snapshot(self._database) as connection:
                page = engine.all_rows(connection, _LINKS, {"last": self.walk.seq})
                ends = connection.execute(select(head.c.seq, head.c.hash, head.c.at)).one_or_none()
            for link in map(Link._make, page):
                if found := self.walk.verify_link(link):
                    if link.delivery is not None:
                        self.doubtful.add(link.delivery)
                    yield from found
                self.erased += link.personal is None and bool(link.commitment)
                for observer in self._observers:
                    yield from observer.step(link)
                claims.step(link)
            if len(page) < PAGE:
                yield from self._end(ends)
                return

    def _end(self, ends: Any) -> Iterator[str]:  # noqa: ANN401  the row of the head, if there is one
        yield from self.walk.end()
        for observer in self._observers:
            yield from observer.end(self.walk.seq)
        if ends is None:
            yield f"event {self.walk.seq}: is the last one, but the record of the last event is missing"
        elif (ends.seq, ends.hash) != (self.walk.seq, self.walk.hash):
            yield f"event {self.walk.seq}: is the last one, but the record of the last event says event {ends.seq} or another hash"
        elif ends.at != self.walk.at:
            yield f"event {self.walk.seq}: is dated {self.walk.at[:40]}, but the record of the last event says {ends.at[:40]}"


# --- (1) its name ----------------------------------------------------------------------------------------------------


def _of_name(database: Database) -> Iterator[str]:
    with database.reading() as connection:
        ends = connection.execute(select(head.c.id)).first()
        found = ledger_identity(connection) if ends is not None else None  # without it the chain's end was reported as missing
    if found is not None and found.fault is not None:
        yield f"ledger: {found.fault}"


# --- (2) deliveries --------------------------------------------------------------------------------------------------


DELIVERIES_PAGE = 200  # a message has about 14 KB
_ROWS = (
    select(*projection.ROW_COLUMNS)
    .select_from(delivery)
    .join(plan, plan.c.id == delivery.c.plan, isouter=True)
    .join(person, person.c.id == delivery.c.person, isouter=True)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate, isouter=True)
    .join(handover, handover.c.delivery == delivery.c.id, isouter=True)
    .join(outbox, outbox.c.delivery == delivery.c.id, isouter=True)
    .where(delivery.c.id > bindparam("last"))
    .order_by(delivery.c.id)
    .limit(DELIVERIES_PAGE)
)
_STEPS = (
    select(*EVENT_COLUMNS)
    .where(event.c.delivery > bindparam("last"), event.c.delivery <= bindparam("until"))
    .order_by(event.c.delivery, event.c.seq)
)


class _Rows:
    """All deliveries, oldest first."""

    def __init__(self, database: Database) -> None:
        self.compared = 0
        self._database = database

    def faults(self, doubtful: set[str]) -> Iterator[str]:
        """Where one differs from its events; those in `doubtful` are not compared."""
        last = ""
        while True:
            with snapshot(self._database) as connection:
                rows = [dict(zip(projection.ROW_NAMES, row, strict=True)) for row in engine.all_rows(connection, _ROWS, {"last": last})]
                until = rows[-1]["delivery_id"] if len(rows) == DELIVERIES_PAGE else LAST
                steps = map(Link._make, engine.all_rows(connection, _STEPS, {"last": last, "until": until}))
            yield from self._page({row["delivery_id"]: row for row in rows}, steps, doubtful)
            if until == LAST:
                return
            last = until

    def _page(self, rows: dict[str, dict[str, Any]], steps: Iterator[Link], doubtful: set[str]) -> Iterator[str]:
        for id_, theirs in groupby(steps, key=attrgetter("delivery")):
            row = rows.pop(id_, None)
            if row is None:
                yield f"delivery {id_}: has events but is missing"
            elif id_ not in doubtful:
                self.compared += 1
                yield from (f"delivery {id_}: {fault.words}" for fault in projection.differences(row, projection.project(theirs)))
        yield from (f"delivery {id_}: has no events" for id_ in rows)


# --- (3) processes that sent -----------------------------------------------------------------------------------------


_PROCESS = ("host", "pid", "started")
_OWNERS = select(owner.c.id, *(owner.c[name] for name in _PROCESS))


class _Claims:
    """What the events of claims record of their processes; older programs recorded less. One that only packed is in no event."""

    def __init__(self) -> None:
        self._recorded: dict[str, dict[str, object]] = {}

    def step(self, link: Link) -> None:
        """Read one event."""
        if link.event == State.CLAIMED:
            try:
                evidence = json.loads(link.evidence)
            except (ValueError, RecursionError):  # the chain's own check has found it
                return
            if isinstance(evidence, dict) and isinstance(evidence.get("owner"), str):
                recorded = self._recorded.setdefault(evidence["owner"], {})
                for name in _PROCESS:
                    if name in evidence:
                        recorded.setdefault(name, evidence[name])

    def faults(self, database: Database) -> Iterator[str]:
        """One line for each column that differs from what the claims recorded."""
        with snapshot(database) as connection:
            rows = {id_: dict(zip(_PROCESS, row, strict=True)) for id_, *row in engine.all_rows(connection, _OWNERS, {})}
        for id_, recorded in self._recorded.items():
            row = rows.get(id_)
            if row is None:
                yield f"owner {id_}: has claims but is missing"
                continue
            for name, wanted in recorded.items():
                if row[name] != wanted:
                    yield f"owner {id_}: {name} is {shown(row[name])}, but its claims say {shown(wanted)}"


# --- (4) people, and where their certificates are public -------------------------------------------------------------


PEOPLE_PAGE = 500
_PUBLISHED, _UNPUBLISHED = "published", "unpublished"
_PEOPLE = select(person).where(person.c.id > bindparam("last")).order_by(person.c.id).limit(PEOPLE_PAGE)
_OF_PEOPLE = (
    select(delivery.c.person, *EVENT_COLUMNS)
    .join(event, event.c.delivery == delivery.c.id)
    .where(delivery.c.person > bindparam("last"), delivery.c.person <= bindparam("until"))
    .where(or_(*(event.c.event == name for name in ("planned", PERSON_CHANGED, _PUBLISHED, _UNPUBLISHED))))
    .order_by(delivery.c.person, event.c.seq)
)
_KEYS = select(person.c.id, person.c.key)
_PUBLIC = (
    select(publication.c.person, publication.c.certificate, publication.c.place, publication.c.at)
    .where(publication.c.person > bindparam("last"), publication.c.person <= bindparam("until"))
    .order_by(publication.c.person)
)


def _of_people(database: Database, doubtful: set[str]) -> Iterator[str]:
    """Every person and publication that differs from the events; none with a delivery in `doubtful`, whose events do not verify."""
    last = ""
    while True:
        with snapshot(database) as connection:
            rows = [dict(zip(person.c.keys(), row, strict=True)) for row in engine.all_rows(connection, _PEOPLE, {"last": last})]
            until = rows[-1]["id"] if len(rows) == PEOPLE_PAGE else LAST
            page = {"last": last, "until": until}
            events = _by_person(engine.all_rows(connection, _OF_PEOPLE, page))
            public = _by_person(engine.all_rows(connection, _PUBLIC, page))
        for row in rows:
            links = [Link(*columns) for columns in events.get(row["id"], ())]
            if not links and not _was_parted(database, row):
                yield f"person {row['id']}: has no delivery and no event"
            if not any(link.delivery in doubtful for link in links):
                yield from (f"person {row['id']}: {fault.words}" for fault in projection.person_faults(row, links))
                yield from _publication_faults(links, public.get(row["id"], ()))
        if until == LAST:
            return
        last = until


def _by_person(rows: Sequence[Any]) -> dict[str, list[Any]]:
    return {who: [row[1:] for row in theirs] for who, theirs in groupby(rows, key=itemgetter(0))}


def _was_parted(database: Database, row: Mapping[str, Any]) -> bool:
    """Whether a migration gave all their deliveries to another person, whom the address's key had joined with them (see `s0004_key`)."""
    with snapshot(database) as connection:
        others = engine.all_rows(connection, _KEYS, {})
    alike = row["key"].casefold()
    return any(key.casefold() == alike and id_ == _parted_id(row["id"], key) for id_, key in others)


def _parted_id(who: str, key: str) -> str:
    return f"p-{sha256(f'{who} {key}'.encode()).hexdigest()[:26].upper()}"


def _publication_faults(links: Sequence[Link], public: Sequence[Any]) -> Iterator[str]:
    wanted: dict[tuple[str, str], str] = {}
    for link in links:
        if link.event in {_PUBLISHED, _UNPUBLISHED}:
            evidence = json.loads(link.evidence)
            where = evidence.get("certificate_sha256", ""), evidence.get("place", "")
            if link.event == _PUBLISHED:
                wanted[where] = link.at
            else:
                wanted.pop(where, None)
    found = {(sha, place): at for sha, place, at in public}
    for sha, place in sorted(found.keys() | wanted.keys()):
        at, since = found.get((sha, place)), wanted.get((sha, place))
        if at != since:
            yield f'publication of {sha} at "{place[:80]}": {_since(at)}, but the audit log says {_since(since)}'


def _since(at: str | None) -> str:
    return "none" if at is None else f'since "{at}"'


# --- (6) certificates ------------------------------------------------------------------------------------------------
# Issuer, serial and end stand in the events themselves.


CERTIFICATES_PAGE = 500  # one has about 1.5 KB
_FIELDS = ("subject", "not_before", "key_sha256")


def _by_hash(table: Table, *fields: str) -> Select[Any]:
    asked = select(*(table.c[name] for name in ("sha256", "der", *fields))).where(table.c.sha256 > bindparam("last"))
    return asked.order_by(table.c.sha256).limit(CERTIFICATES_PAGE)


_LEAVES, _AUTHORITIES = _by_hash(certificate, *_FIELDS), _by_hash(authority)


def _of_certificates(database: Database) -> Iterator[str]:
    """Leaves that are other bytes than their hash says, or say something else of themselves than their row; then authorities."""
    for sha, der, *fields in engine.paged(database, _LEAVES, CERTIFICATES_PAGE, {"last": ""}):
        if not _is(der, sha):
            yield f"certificate {sha}: does not match its SHA-256"
            continue
        for name, found, wanted in zip(_FIELDS, fields, _says(der), strict=False):
            if found != wanted:
                yield f'certificate {sha}: {name} is "{str(found)[:80]}", but the certificate says "{str(wanted)[:80]}"'
    for sha, der in engine.paged(database, _AUTHORITIES, CERTIFICATES_PAGE, {"last": ""}):
        if not _is(der, sha):
            yield f"CA certificate {sha}: does not match its SHA-256"


def _is(der: object, sha: str) -> bool:
    return isinstance(der, bytes) and sha256(der).hexdigest() == sha


def _says(der: bytes) -> tuple[str | None, ...]:
    """What a certificate says, as its row has it; nothing where it cannot be read."""
    from distributor.pki.certificate import Certificate, load  # noqa: PLC0415  heavy, and only a look at the whole ledger needs it

    read = load(der)
    if not isinstance(read, Certificate):
        return ()
    return storable(read.subject_text), format_timestamp(read.not_before), spki.sha256_of(der)


# --- (8) the file ----------------------------------------------------------------------------------------------------


def _of_file(database: Database) -> Iterator[str]:
    if not database.sqlite:
        return
    with database.reading() as connection:
        faults = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
        strays = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
    yield from (f"database: {fault}" for fault in faults if fault != "ok")
    yield from (f'database: a row of "{table}" refers to a missing row' for table in strays)
