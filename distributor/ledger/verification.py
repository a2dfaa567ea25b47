"""The whole ledger -> everything that is wrong with it, and its events as records for an auditor. `verify` is the way in.

Rows are read a page at a time, so that memory stays flat and no writer waits long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain as joined
from itertools import islice, pairwise
from typing import Any

from sqlalchemy import bindparam, func, select

from distributor.ledger import checkpoints, engine
from distributor.ledger.certificate_verification import verify_authorities, verify_certificates
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.people_verification import verify_people
from distributor.ledger.projection import EVENT_COLUMNS, shown
from distributor.ledger.queries import PAGE, to_event
from distributor.ledger.request_verification import verify_requests
from distributor.ledger.row_verification import LAST, ComparedRows, compare_rows, prove_others
from distributor.ledger.schema_verification import verify_schema
from distributor.ledger.side_by_side import Checks, Result, checks
from distributor.ledger.tables import delivery, event, head, owner
from distributor.ledger.transaction import ledger_identity
from distributor.model.audit_log import (
    MOST_FINDINGS,
    ORIGIN,
    AuditRecord,
    ChainObserver,
    ChainVerifier,
    Link,
    SeenEvent,
    VerificationReport,
)
from distributor.model.chain_proof import ChainProof, join, verifier
from distributor.model.checkpoints import CheckpointComparison, Tree
from distributor.model.states import State

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


def links(database: Database) -> Iterator[Link]:
    """Every event as it is hashed, oldest first."""
    return map(Link._make, engine.paged(database, _LINKS, PAGE, {"last": 0}))


def verify(database: Database, observers: Sequence[ChainObserver] = ()) -> VerificationReport:
    """Everything that is wrong, also by observers of the chain (an earlier export, checkpoints), and how far the chain goes.

    Each step relies on those before: a row is compared only with events that step (0) found good. Side by side, all begin at once, the
    longest first, and what was compared with others is compared again.
    """
    notes: list[str] = []
    with snapshot(database) as connection:
        events = connection.execute(select(func.max(event.c.seq))).scalar_one() or 0
    with checks(database, events) as run:
        file, doubtful, claims, rows = run.start(_of_file), set[str](), _Claims(), ComparedRows(ChainProof(events))
        compared = _Rows(database, doubtful, run, events)
        sizes = {min(size, events) for one in observers if isinstance(one, CheckpointComparison) for size in one.sizes}
        trees = run.start(checkpoints.trees, sorted(sizes))
        chain = _Chain(database, observers, doubtful, lambda: join(compared.proofs(), events), trees)
        asked = _trusting(doubtful, lambda: [run.start(verify_requests, doubtful)])
        certificates = _of_certificates(run)
        schema = verify_schema(database, notes.append)
        if run.parts > 1:
            schema = iter(list(schema))  # while the others work
        found = joined(
            chain.faults(claims),  # (0) each event with its hash and the one before, the last with the head; observers
            _of_name(database),  # (1) the ledger's name with the first event
            _differences(compared.results, rows),  # (2) each delivery, its password and its message with its events
            claims.faults(database),  # (3) the processes that sent with the events of their claims
            _of_people(database, doubtful, rows),  # (4) people, and where their certificates are public, with the same events
            _later(lambda: joined.from_iterable(asked())),  # (5) requests for another copy, and accounts, with their events
            _later(*certificates),  # (6) certificates with their own bytes, whose hash the events have
            schema,  # (7) tables, indexes and triggers with those that the migrations make
            _later(file),  # (8) the file by SQLite's own checks
            _later(lambda: _of_events(database, looked_up=chain.proved and not rows.findings)),
        )
        findings = tuple(islice(found, MOST_FINDINGS))
    walk = chain.walk
    return VerificationReport(findings, walk.seq, walk.at, walk.hash, chain.erased, walk.back, rows.compared, tuple(notes))


def _later(*checks_: Callable[[], Iterable[str]]) -> Iterator[str]:
    """The findings of checks, each asked for when those before it have been looked at."""
    for check in checks_:
        yield from check()


def _trusting(doubtful: set[str], begin: Callable[[], list[Callable[[], Result]]]) -> Callable[[], Iterator[Result]]:
    """Begin checks that trust every event but those of `doubtful`, and again when results are asked for where some became so."""
    begun, known = begin(), len(doubtful)
    return lambda: (wait() for wait in (begun if len(doubtful) == known else begin()))


# --- (0) the chain and its end ---------------------------------------------------------------------------------------


_SEEN = (
    select(*(event.c[name] for name in SeenEvent._fields))
    .where(event.c.seq > bindparam("last"), event.c.seq <= bindparam("until"))
    .order_by(event.c.seq)
    .limit(PAGE)
)
_PROVED = select(event.c.hash, event.c.at).where(event.c.seq == bindparam("seq"))
_STATE = (
    select(event.c.after)
    .where(event.c.delivery == bindparam("delivery"), event.c.seq <= bindparam("until"), event.c.after.is_not(None))
    .order_by(event.c.seq.desc())
    .limit(1)
)


class _Chain:
    """Every link, in order, and the head that must name the last."""

    def __init__(
        self,
        database: Database,
        observers: Sequence[ChainObserver],
        doubtful: set[str],
        proof: Callable[[], ChainProof | None],
        trees: Callable[[], list[Tree]],
    ) -> None:
        """`doubtful` is filled with the deliveries that have an event that does not hold: their rows cannot be compared with events.

        `proof`: of the events that were there at the beginning; `trees`: of these events, for the checkpoints.
        """
        self.walk = ChainVerifier()
        self.erased = 0
        self.proved = False  # whether each event was, with the rows
        self._database, self._observers, self._doubtful, self._proof, self._trees = database, observers, doubtful, proof, trees

    def faults(self, claims: _Claims) -> Iterator[str]:
        """What is wrong with them; `claims` is told each."""
        if (proof := self._proof()) is not None and proof.until:
            self.proved = True
            self._go_on(proof, claims)
            yield from self._observed()
        while True:
            with snapshot(self._database) as connection:
                page = engine.all_rows(connection, _LINKS, {"last": self.walk.seq})
                ends = connection.execute(select(head.c.seq, head.c.hash, head.c.at)).one_or_none()
            for link in map(Link._make, page):
                if found := self.walk.verify_link(link):
                    if link.delivery is not None:
                        self._doubtful.add(link.delivery)
                    yield from found
                self.erased += link.personal is None and bool(link.commitment)
                for observer in self._observers:
                    yield from observer.step(link)
                claims.step(link)
            if len(page) < PAGE:
                yield from self._end(ends)
                return

    def _go_on(self, proof: ChainProof, claims: _Claims) -> None:
        """Let the walk go on behind the events that were proved."""
        until = proof.until

        def state_of(delivery: str) -> str | None:
            with self._database.reading() as connection:
                return connection.execute(_STATE, {"delivery": delivery, "until": until}).scalar_one_or_none()

        with self._database.reading() as connection:
            hash_, at = connection.execute(_PROVED, {"seq": until}).one()
        self.walk, self.erased = verifier(proof, hash_, at, state_of), len(proof.erased)
        for evidence in sorted(proof.claims, key=proof.claims.__getitem__):
            claims.read(evidence)

    def _observed(self) -> Iterator[str]:
        """What the observers find in the events that were proved."""
        others = list[ChainObserver]()
        for observer in self._observers:
            if isinstance(observer, CheckpointComparison):
                yield from observer.resume(self._trees())
            else:
                others.append(observer)
        pages = engine.pages(self._database, _SEEN, PAGE, {"last": 0, "until": self.walk.seq})
        while waiting := [observer for observer in others if observer.waits]:
            page = next(pages, ())
            for seen in map(SeenEvent._make, page):
                for observer in waiting:
                    yield from observer.step(seen)
            if not page:
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


# --- (2) deliveries, and (4) people ----------------------------------------------------------------------------------


class _Rows:
    """The comparison of the deliveries with their events, which also proves the events; it begins at once."""

    def __init__(self, database: Database, doubtful: set[str], run: Checks, events: int) -> None:
        self._borders = [*_borders(database, run.parts), LAST]
        self._database, self._doubtful, self._run = database, doubtful, run
        self._begun, self._others = self._begin(events), run.start(prove_others, events)

    def _begin(self, events: int) -> list[Callable[[], ComparedRows]]:
        return [self._run.start(compare_rows, *ends, self._doubtful, events) for ends in pairwise(self._borders)]

    def proofs(self) -> Iterator[ChainProof]:
        """What was proved of the events, part by part."""
        yield from (wait().proof for wait in self._begun)
        yield self._others()

    def results(self) -> Iterator[ComparedRows]:
        """Compared again where other deliveries became doubtful than those that the proofs found so."""
        found = set[str | None]().union(*(wait().proof.doubtful for wait in self._begun))
        return (wait() for wait in (self._begun if found == self._doubtful else self._begin(0)))


def _differences(compared: Callable[[], Iterator[ComparedRows]], all_: ComparedRows) -> Iterator[str]:
    """Where a delivery differs from its events; `all_` becomes what all of them are."""
    for found in compared():
        all_.compared += found.compared
        all_.findings += found.findings
        all_.people |= found.people
        yield from found.findings


def _borders(database: Database, parts: int) -> list[str]:
    """Ids that divide the deliveries into parts of one size; the first is before all of them."""
    with snapshot(database) as connection:
        number = connection.execute(select(func.count()).select_from(delivery)).scalar_one() if parts > 1 else 0
        asked = select(delivery.c.id).where(delivery.c.id >= bindparam("last")).order_by(delivery.c.id).limit(1).offset(number // parts)
        found = [""]
        while number and len(found) < parts:
            found.append(connection.execute(asked, {"last": found[-1]}).scalar_one())
    return list(dict.fromkeys(found))


def _of_people(database: Database, doubtful: set[str], rows: ComparedRows) -> Iterator[str]:
    yield from verify_people(database, doubtful, rows.people)  # when the rows have been compared


# --- (3) processes that sent -----------------------------------------------------------------------------------------


_PROCESS = ("host", "pid", "started")
_OWNERS = select(owner.c.id, *(owner.c[name] for name in _PROCESS))


class _Claims:
    """What the events of claims record of their processes; older programs recorded less. One that only packed is in no event."""

    def __init__(self) -> None:
        self._recorded: dict[str, dict[str, object]] = {}
        self._last = ""

    def step(self, link: Link) -> None:
        """Read one event."""
        if link.event == State.CLAIMED:
            self.read(link.evidence)

    def read(self, text: str) -> None:
        """Read the evidence of a claim; most have that of the one before."""
        if text == self._last:
            return
        self._last = text
        try:
            evidence = json.loads(text)
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


# --- (6) certificates ------------------------------------------------------------------------------------------------


def _of_certificates(run: Checks) -> list[Callable[[], list[str]]]:
    borders = ["", *(f"{256 * part // run.parts:02x}" for part in range(1, run.parts)), LAST]
    leaves = [run.start(verify_certificates, after, until) for after, until in pairwise(borders)]
    return [*leaves, run.start(verify_authorities, "", LAST)]


# --- (8) the file ----------------------------------------------------------------------------------------------------


_STRAYS = (
    'SELECT broken."table" FROM sqlite_master AS known, pragma_foreign_key_check(known.name) AS broken '
    "WHERE known.type = 'table' AND (known.name = 'event') = ?"
)


def _of_file(database: Database) -> list[str]:
    if not database.sqlite:
        return []
    with database.reading() as connection:
        faults = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
    return [f"database: {fault}" for fault in faults if fault != "ok"] + _strays(database, of_events=False)


def _of_events(database: Database, *, looked_up: bool) -> list[str]:
    """`looked_up`: whether every event's delivery was."""
    return [] if looked_up or not database.sqlite else _strays(database, of_events=True)


def _strays(database: Database, *, of_events: bool) -> list[str]:
    """Rows of `event`, or of all other tables, that refer to missing ones."""
    with database.reading() as connection:
        strays = [row[0] for row in connection.exec_driver_sql(_STRAYS, (of_events,))]
    return [f'database: a row of "{table}" refers to a missing row' for table in strays]
