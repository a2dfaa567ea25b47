"""A restored ledger is taken into use: one event tells of it, and what may have been sent since becomes ambiguous, an event each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection, bindparam, select

from distributor.ledger import transitions
from distributor.ledger.clock import Clock
from distributor.ledger.copy_guard import Guard
from distributor.ledger.engine import Database
from distributor.ledger.tables import delivery, event
from distributor.ledger.transaction import Note, Writing, words, writing
from distributor.model.audit_log import ADOPTION, unstamp
from distributor.model.high_water_mark import Adopted, End, Gap, Machine, Mark, Restored
from distributor.model.states import UNCERTAIN, State

SAID = "the ledger was restored; the message may have been sent meanwhile"
_PAGE = (
    select(delivery.c.id)
    .where(delivery.c.state.in_([state.value for state in UNCERTAIN]), delivery.c.id > bindparam("last"))
    .order_by(delivery.c.id)
    .limit(transitions.CHUNK)
)

_ADOPTIONS = select(event.c.seq, event.c.evidence).where(event.c.event == ADOPTION).order_by(event.c.seq.desc()).limit(1)
_FIRST_PLANNED = select(event.c.evidence).where(
    event.c.seq > bindparam("seq"), event.c.event == State.PLANNED.value, event.c.before.is_(None)
)


class Guarded:
    """The part of the ledger that is about having been restored: every write is compared with what this host remembers."""

    _database: Database
    _guard: Guard | None
    _by: str
    _clock: Clock
    _writing: Callable[[], AbstractContextManager[Writing]]

    @contextmanager
    def _guarded(self, transaction: AbstractContextManager[Writing]) -> Iterator[Writing]:
        """A writing transaction of a ledger that may not be an older copy."""
        with transaction as book:
            if self._guard is not None:
                book.here = self._guard.here
                self._guard.before(book, self._database)
            yield book
        if self._guard is not None:  # committed; nothing has left yet that depends on it
            self._guard.after(End(book.seq, book.hash, book.now), self._database)

    def restored(self) -> Restored | None:
        """What speaks against sending from here."""
        return None if self._guard is None else self._guard.restored(self._database)

    def gap(self) -> Gap | None:
        """What it may lack since it was taken into use, until somebody new is planned."""
        with self._database.reading() as connection:
            return gap(connection)

    def adopt(self, reason: str, *, nothing_sent: bool = False) -> Adopted:
        """Take the ledger into use."""
        assert self._guard is not None  # noqa: S101  a ledger that commands open has one
        guard = self._guard
        with writing(self._database, self._by, self._clock) as book:
            file = guard.name(book.connection)
            mark = file.read() if file is not None else None
            missing = max(0, mark.end.seq - book.seq) if isinstance(mark, Mark) else None
            found = adopt(book, guard.here, reason, nothing_sent=nothing_sent, missing=missing)
        guard.adopted(End(book.seq, book.hash, book.now), self._database)
        return found


def adopt(book: Writing, here: Machine, reason: str, *, nothing_sent: bool, missing: int | None = None) -> Adopted:
    """Write the event, and move what may have been sent since the ledger's last one."""
    since = book.last or book.now
    evidence: dict[str, object] = {"ended_with": book.seq, "host": here.host, "machine": here.id, "nothing_sent": nothing_sent}
    evidence |= {"since": since} if missing is None else {"since": since, "missing": missing}
    lacks = missing or not nothing_sent
    book.append([Note(None, ADOPTION, evidence=evidence, personal={"reason": words(reason)})])
    adoption, unclear = book.seq, Counter[State]()
    last = ""
    while not nothing_sent and (ids := list(book.connection.execute(_PAGE, {"last": last}).scalars())):
        last = ids[-1]
        rows = transitions.rows(book, ids)
        transitions.move(book, [_unclear(rows[id_], adoption, since) for id_ in ids])
        unclear.update(State(rows[id_]["state"]) for id_ in ids)
    return Adopted(unclear, Gap(unstamp(since), missing or None) if lacks else None)


def gap(connection: Connection) -> Gap | None:
    """What the last adoption may have left out; None where nothing, or once somebody new was planned after it."""
    found = connection.execute(_ADOPTIONS).first()
    told = json.loads(found.evidence) if found is not None else {}
    if found is None or "since" not in told or not (told.get("missing") or not told.get("nothing_sent")):
        return None
    for evidence in connection.execute(_FIRST_PLANNED, {"seq": found.seq}).scalars():
        if "replaces" not in json.loads(evidence):
            return None
    return Gap(unstamp(told["since"]), told.get("missing") or None)


def _unclear(row: transitions.Row, adoption: int, since: str) -> transitions.Change:
    before = State(row["state"])
    columns = {"lease_until": None, "not_before": None, "said": SAID}
    if before is State.PLANNED:
        columns["owner"] = None  # of a loan
    if before is not State.TRANSMITTING:
        columns["armed_at"] = since
    evidence = {"attempt": row["attempt"], ADOPTION: adoption, "since": since}
    return transitions.Change(row, State.AMBIGUOUS, columns, evidence, {"said": SAID}, adopted=True)
