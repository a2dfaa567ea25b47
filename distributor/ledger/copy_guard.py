"""What stands between a ledger and sending from an older copy of it: its end is compared with this host's mark before each write.

A sending command stops (`strict`). Any other goes on, and leaves the mark as it is: a plan made in a restored ledger does not hide that it
was restored. On a server several hosts send, so the host that sent last does not count there.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, bindparam, case, func, select

from distributor.errors import InvalidInput
from distributor.ledger.engine import Database
from distributor.ledger.high_water_marks import MarkFile
from distributor.ledger.identity import ledger_identity
from distributor.ledger.tables import event, head
from distributor.ledger.transaction import WriteTransaction
from distributor.model.audit_log import ADOPTION
from distributor.model.high_water_mark import (
    ChainEnd,
    HighWaterMark,
    Machine,
    RestoredLedger,
    UnreadableMark,
    changed_identity,
    forked_copy,
    older_copy,
    unreadable_mark,
    used_elsewhere,
)
from distributor.model.states import State

_HEAD = select(head.c.seq, head.c.hash, head.c.at).where(head.c.id == 1)
_HASH = select(event.c.hash).where(event.c.seq == bindparam("seq"))
_SENDERS = (
    select(event.c.seq, event.c.hash, event.c.at, event.c.evidence)
    .where(event.c.seq > bindparam("seq"), event.c.event.in_([State.CLAIMED.value, ADOPTION]))
    .order_by(event.c.seq.desc())
    .limit(1)
)
_TOLD = case((func.json_valid(event.c.evidence) == 1, event.c.evidence), else_="{}")
_MACHINE, _HOST = (func.json_extract(_TOLD, f"$.{name}") for name in ("machine", "host"))
_PLANNERS = (  # SQLite's words: on a server it does not matter who planned. Events without a machine, of older programs, do not count
    select(func.max(event.c.seq).label("seq"), event.c.hash, event.c.at, _MACHINE.label("machine"), _HOST.label("host"))
    .where(event.c.seq > bindparam("seq"), event.c.event == State.PLANNED.value, event.c.before.is_(None), _HOST.is_not(None))
    .group_by(_MACHINE, _HOST)
    .order_by(func.max(event.c.seq).desc())
)
_NO_PLACE = "STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set, so it cannot be remembered what was sent"


class CopyGuard:
    """For one open ledger. `place`: the folder of marks, None where there is none; `here`: this machine."""

    def __init__(self, place: Path | None, here: Machine, *, strict: bool = False) -> None:
        self.here, self.strict = here, strict
        self._place = place
        self._file: MarkFile | None = None
        self._off = False  # nothing is remembered: this ledger is not the one that the mark is of
        self._known: tuple[int, str] | None = None  # the end that was compared last, or written by us
        self._seen: HighWaterMark | UnreadableMark | None = None  # the mark it was compared with

    def restored(self, database: Database) -> RestoredLedger | None:
        """What speaks against sending from this ledger."""
        with database.reading() as connection:
            file = self.name(connection)
        mark = file.read() if file is not None else None  # before the end is read, since others may be writing
        with database.reading() as connection:
            row, fault = connection.execute(_HEAD).one(), ledger_identity(connection).fault
            end = ChainEnd(row.seq, row.hash, row.at)
            if fault is not None:
                return changed_identity(end, fault)
            return find_restored(connection, end, mark, None if not database.sqlite else self.here)

    def check(self, database: Database) -> None:
        """Raise InvalidInput where nothing may be sent from here, or what is sent could not be remembered."""
        if self._place is None:
            raise InvalidInput(_NO_PLACE, where=database.where, hint="set one of them to a folder on a local disk (see docs/restore.md)")
        if (found := self.restored(database)) is not None:
            raise InvalidInput(f"nothing was sent: {found.message}", where=database.where, hint=found.hint)
        with database.reading() as connection:
            row, file = connection.execute(_HEAD).one(), self.name(connection)
        assert file is not None  # noqa: S101  marks have a place
        file.advance(HighWaterMark(ChainEnd(row.seq, row.hash, row.at), database.where))

    def before(self, tx: WriteTransaction, database: Database) -> None:
        """Compare the ledger's end with the mark, as a writing transaction begins. Raises InvalidInput where it is strict."""
        if self._off:
            return
        file = self.name(tx.connection)
        if file is None:
            self._off = True
            return
        mark = file.read()
        if self._known == (tx.seq, tx.hash) and mark == self._seen:
            return
        here = self.here if database.sqlite and self._known is None else None
        found = find_restored(tx.connection, ChainEnd(tx.seq, tx.hash, tx.last), mark, here)
        if found is not None and self.strict:
            raise InvalidInput(f"nothing more is sent: {found.message}", where=database.where, hint=found.hint)
        self._off = found is not None
        self._known, self._seen = (tx.seq, tx.hash), mark

    def after(self, end: ChainEnd, database: Database) -> None:
        """Remember the end that was committed. Raises InvalidInput where it is strict and that fails."""
        if self._off or self._file is None or (isinstance(self._seen, HighWaterMark) and self._seen.end.seq >= end.seq):
            return
        mark = HighWaterMark(end, database.where)
        with suppress(*(() if self.strict else (InvalidInput,))):
            self._file.advance(mark)
            self._known, self._seen = (end.seq, end.hash), mark

    def adopted(self, end: ChainEnd, database: Database) -> None:
        """From now on this ledger is the one. Raises InvalidInput."""
        if self._file is None:
            raise InvalidInput(_NO_PLACE, where=database.where, hint="set one of them to a folder on a local disk (see docs/restore.md)")
        self._file.replace(HighWaterMark(end, database.where))
        self._off = False

    def close(self) -> None:
        """Flush the mark to disk."""
        if self._file is not None:
            self._file.close()

    def name(self, connection: Connection) -> MarkFile | None:
        """The file of this ledger's mark; None where marks have no place."""
        if self._file is None and self._place is not None:
            self._file = MarkFile(self._place, ledger_identity(connection).name)
        return self._file


def find_restored(
    connection: Connection, end: ChainEnd, mark: HighWaterMark | UnreadableMark | None, here: Machine | None
) -> RestoredLedger | None:
    """A ledger's end beside the mark; `here` is None where it does not matter which machine sent last."""
    if isinstance(mark, UnreadableMark):
        return unreadable_mark(end, mark)
    if mark is not None and end.seq < mark.end.seq:
        return older_copy(end, mark)
    if mark is not None and mark.end.seq and connection.execute(_HASH, {"seq": mark.end.seq}).scalar_one_or_none() != mark.end.hash:
        return forked_copy(end, mark)
    return None if here is None else _other_machine(connection, end, mark, here)


def _other_machine(connection: Connection, end: ChainEnd, mark: HighWaterMark | None, here: Machine) -> RestoredLedger | None:
    """Whether another machine sent last, or planned since then what it may send too, and this one has not seen it.

    That this machine planned as well takes nothing away: only who sends or adopts has been asked.
    """
    seen = mark.end.seq if mark else 0
    row = connection.execute(_SENDERS, {"seq": seen}).one_or_none()
    if row is not None:
        seen, evidence = row.seq, json.loads(row.evidence)
        machine = Machine(str(evidence.get("machine", "")), str(evidence.get("host", "")))
        if not machine.is_same(here):
            return used_elsewhere(end, ChainEnd(row.seq, row.hash, row.at), machine)
    for planner in connection.execute(_PLANNERS, {"seq": seen}):
        machine = Machine(str(planner.machine or ""), str(planner.host))
        if not machine.is_same(here):
            return used_elsewhere(end, ChainEnd(planner.seq, planner.hash, planner.at), machine, "plan")
    return None
