"""A small file outside the workspace that remembers the last event seen of a ledger, so that a restored backup is recognised.

It is written after the ledger's commit and before a message leaves: never ahead of the ledger, never behind what may have left. A write
is in the kernel's hands at once, so a killed process loses nothing; power loss may cost the last second, since it is flushed once a second.
Two records take turns, each with a checksum: one that power loss tore leaves the other.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, case, func, select

from distributor.errors import InvalidInput
from distributor.ledger.engine import Database
from distributor.ledger.tables import event, head
from distributor.ledger.transaction import WriteTransaction, ledger_identity
from distributor.model.audit_log import ADOPTION, COPIED, ORIGIN
from distributor.model.high_water_mark import (
    ChainEnd,
    HighWaterMark,
    Machine,
    RestoredLedger,
    UnreadableMark,
    changed_identity,
    copied_ledger,
    forked_copy,
    older_copy,
    unreadable_mark,
    used_elsewhere,
)
from distributor.model.states import State

RECORD = 1024  # bytes of each of the two records
LONGEST_PLACE = 600  # bytes kept of where the ledger lay
FLUSH = 1.0  # seconds between two flushes to disk
_SUM = 65  # bytes: SHA-256 in hex and a line end
_HINT = "set STATE_DIRECTORY or XDG_STATE_HOME to a writable folder on a local disk (see docs/restore.md#where-the-record-is-kept)"


def folder(environment: Mapping[str, str]) -> Path | None:
    """Where marks lie: systemd's state folder, else the user's; None where there is neither."""
    if given := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111  Path.home() raises where there is none
    base = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117  relative ones are to be ignored (XDG Base Directory Specification)
        base = str(Path(home) / ".local" / "state")
    return Path(base) / "distributor" if os.path.isabs(base) else None  # noqa: PTH117  as above


def of_place(folder: Path, place: str) -> tuple[Path, HighWaterMark] | None:
    """The mark of a ledger that lay in a place and had events, the newest of several; None where there is none that can be read."""
    found = []
    for path in folder.glob("*.mark"):
        with suppress(OSError):
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                data = file.read(2 * RECORD)
            records = [parsed for start in (0, RECORD) if (parsed := _parsed(data[start : start + RECORD], None))]
            if records and (mark := max(records, key=lambda one: one[0])[1]).end.seq and _lies_at(mark, place):
                found.append((path, mark))
    return max(found, key=lambda one: one[1].end.at, default=None)


def _lies_at(mark: HighWaterMark, place: str) -> bool:
    return mark.place in {_kept(place), _kept(os.path.realpath(place))} or os.path.realpath(mark.place) == os.path.realpath(place)


def _kept(place: str) -> str:
    return place.encode(errors="replace")[-LONGEST_PLACE:].decode(errors="ignore")


class _Found(NamedTuple):
    """The newest record, its number, and where the next one goes."""

    mark: HighWaterMark | UnreadableMark
    number: int
    slot: int


class MarkFile:
    """The mark of one ledger. Used by one thread at a time; processes take turns."""

    def __init__(self, place: Path, ledger: str) -> None:
        name = ledger if ledger.isascii() and ledger.isalnum() else sha256(ledger.encode(errors="replace")).hexdigest()
        self.path = place / f"{name}.mark"  # what a database says is no path
        self._ledger = ledger
        self._descriptor: int | None = None
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._flushed = 0.0
        self._dirty = False

    def read(self) -> HighWaterMark | UnreadableMark | None:
        """What is remembered; None where nothing is."""
        self._after_fork()
        try:
            with self._lock:
                return self._newest(self._opened()).mark
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return UnreadableMark(str(self.path), (error.strerror or "cannot be opened").lower())

    def advance(self, mark: HighWaterMark) -> None:
        """Remember an event, unless a later one is known: another process was faster. Raises InvalidInput where that cannot be done."""
        with self._translated(), self._locked(mark) as descriptor:
            found = self._newest(descriptor)
            if isinstance(found.mark, UnreadableMark):
                raise InvalidInput(
                    f"cannot read this machine's record of the ledger ({found.mark.reason})", where=str(self.path), hint=_HINT
                )
            if found.mark.end.seq < mark.end.seq:
                self._write(descriptor, _record(mark, self._ledger, found.number + 1), found.slot * RECORD)

    def replace(self, mark: HighWaterMark) -> None:
        """Remember an event whatever was known. Raises InvalidInput."""
        with self._translated(), self._locked(mark) as descriptor:
            number = self._newest(descriptor).number
            os.ftruncate(descriptor, 2 * RECORD)
            self._write(descriptor, _record(mark, self._ledger, number + 1) + _record(mark, self._ledger, number + 2), 0)
            os.fsync(descriptor)

    def close(self) -> None:
        """Flush it to disk and let go of it."""
        if self._descriptor is not None and self._pid == os.getpid():
            with suppress(OSError):
                if self._dirty:
                    os.fsync(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None

    # --- the file --------------------------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        if self._pid != os.getpid():  # a lock of the parent's descriptor would be shared
            self._descriptor, self._pid, self._lock = None, os.getpid(), threading.Lock()

    def _opened(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_BINARY", 0))
        return self._descriptor

    def _newest(self, descriptor: int) -> _Found:
        data = os.pread(descriptor, 2 * RECORD + 1, 0)
        if len(data) != 2 * RECORD:
            return _Found(UnreadableMark(str(self.path), f"it has {len(data)} bytes, not {2 * RECORD}"), 0, 0)
        found = [(*parsed, slot) for slot in (0, 1) if (parsed := _parsed(data[slot * RECORD : (slot + 1) * RECORD], self._ledger))]
        if not found:
            return _Found(UnreadableMark(str(self.path), "wrong checksum"), 0, 0)
        number, mark, slot = max(found, key=lambda one: one[0])
        return _Found(mark, number, 1 - slot)

    def _write(self, descriptor: int, data: bytes, offset: int) -> None:
        os.pwrite(descriptor, data, offset)  # within a page, so that it is there as a whole or not at all while the kernel lives
        self._dirty = True
        if time.monotonic() - self._flushed >= FLUSH:
            os.fsync(descriptor)
            self._flushed, self._dirty = time.monotonic(), False

    @contextmanager
    def _locked(self, first: HighWaterMark) -> Iterator[int]:
        """The file, made with its first mark where there is none, and nobody else's meanwhile: no other thread's, no other process's."""
        self._after_fork()
        with self._lock:
            try:
                descriptor = self._opened()
            except (FileNotFoundError, NotADirectoryError):
                self._make(first)
                descriptor = self._opened()
            _lock(descriptor, held=True)
            try:
                yield descriptor
            finally:
                _lock(descriptor, held=False)

    def _make(self, mark: HighWaterMark) -> None:
        """The file appears when it is whole: half of one would be taken for a damaged one."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.stem}.{secrets.token_hex(8)}.part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, _record(mark, self._ledger, 1) + _record(mark, self._ledger, 2))
            os.fsync(descriptor)
            try:
                os.link(partial, self.path)
            except FileExistsError:
                pass  # another process was faster
            except OSError:  # a file system without hard links
                os.replace(partial, self.path)  # noqa: PTH105  beside os.link
        finally:
            os.close(descriptor)
            partial.unlink(missing_ok=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"cannot record what was sent on this machine ({(error.strerror or 'input or output failed').lower()})"
            raise InvalidInput(message, where=str(self.path), hint=_HINT) from error


def _lock(descriptor: int, *, held: bool) -> None:
    try:
        import fcntl  # noqa: PLC0415  Windows has none; there, nothing keeps processes apart
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX if held else fcntl.LOCK_UN)


def _record(mark: HighWaterMark, ledger: str, number: int) -> bytes:
    place = _kept(mark.place)
    values = {"number": number, "ledger": ledger, "seq": mark.end.seq, "hash": mark.end.hash, "at": mark.end.at, "place": place}
    text = json.dumps(values, ensure_ascii=False).encode().ljust(RECORD - _SUM)
    if len(text) > RECORD - _SUM:  # a place full of quotes
        text = json.dumps({**values, "place": ""}).encode().ljust(RECORD - _SUM)
    return text + sha256(text).hexdigest().encode() + b"\n"


def _parsed(record: bytes, ledger: str | None) -> tuple[int, HighWaterMark] | None:
    text, digest = record[:-_SUM], record[-_SUM:-1]
    if sha256(text).hexdigest().encode() != digest:
        return None
    try:
        values: dict[str, Any] = json.loads(text)
        mark = HighWaterMark(ChainEnd(int(values["seq"]), str(values["hash"]), str(values["at"])), str(values["place"]))
        return (int(values["number"]), mark) if ledger in {None, values["ledger"]} else None
    except (ValueError, KeyError, TypeError):
        return None


# --- copy guard --------------------------------------------------------------------------------
#
# What stands between a ledger and sending from an older copy of it: its end is compared with this host's mark before each write.
#
# A sending command stops (`strict`). Any other goes on, and leaves the mark as it is: a plan made in a restored ledger does not hide
# that it was restored. On a server several hosts send, so the host that sent last does not count there. What was copied to a database that
# is used instead takes no writes at all but an adoption: they would be missing there.


_HEAD = select(head.c.seq, head.c.hash, head.c.at).where(head.c.id == 1)
_HASH = select(event.c.hash).where(event.c.seq == bindparam("seq"))
_COPIED = select(event.c.evidence).where(event.c.seq == bindparam("seq"), event.c.event == COPIED)
_SENDERS = (
    select(event.c.seq, event.c.hash, event.c.at, event.c.evidence)
    .where(event.c.seq > bindparam("seq"), event.c.event.in_([State.CLAIMED.value, ADOPTION, COPIED]))
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
_NO_PLACE = "STATE_DIRECTORY, XDG_STATE_HOME and HOME are not set: no place on this machine to record what was sent"


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
            row, fault = connection.execute(_HEAD).one_or_none(), ledger_identity(connection).fault
            end = ChainEnd(0, ORIGIN, "") if row is None else ChainEnd(row.seq, str(row.hash), str(row.at))
            if fault is not None:
                return changed_identity(end, fault)
            return find_restored(connection, end, mark, None if not database.sqlite else self.here)

    def check(self, database: Database) -> None:
        """Raise InvalidInput where nothing may be sent from here, or what is sent could not be remembered."""
        if self._place is None:
            raise InvalidInput(_NO_PLACE, where=database.where, hint=_HINT)
        if (found := self.restored(database)) is not None:
            raise InvalidInput(f"nothing was sent: {found.message}", where=database.where, hint=found.hint)
        with database.reading() as connection:
            row, file = connection.execute(_HEAD).one(), self.name(connection)
        assert file is not None  # noqa: S101  marks have a place
        file.advance(HighWaterMark(ChainEnd(row.seq, row.hash, row.at), database.where))

    def before(self, tx: WriteTransaction, database: Database) -> None:
        """Compare the ledger's end with the mark, as a writing transaction begins. Raises InvalidInput where it is strict or was copied."""
        end = ChainEnd(tx.seq, tx.hash, tx.last)
        if self._known != (tx.seq, tx.hash) and (found := find_copied(tx.connection, end)) is not None:
            what = "sending stopped" if self.strict else "nothing was written"
            raise InvalidInput(f"{what}: {found.message}", where=database.where, hint=found.hint)
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
        found = find_restored(tx.connection, end, mark, here)
        if found is not None and self.strict:
            raise InvalidInput(f"sending stopped: {found.message}", where=database.where, hint=found.hint)
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
            raise InvalidInput(_NO_PLACE, where=database.where, hint=_HINT)
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
    if (copied := find_copied(connection, end)) is not None:
        return copied
    if isinstance(mark, UnreadableMark):
        return unreadable_mark(end, mark)
    if mark is not None and end.seq < mark.end.seq:
        return older_copy(end, mark)
    if mark is not None and mark.end.seq and connection.execute(_HASH, {"seq": mark.end.seq}).scalar_one_or_none() != mark.end.hash:
        return forked_copy(end, mark)
    return None if here is None else _other_machine(connection, end, mark, here)


def find_copied(connection: Connection, end: ChainEnd) -> RestoredLedger | None:
    """Whether the ledger's last event is that of a copy, and a database of the other kind is used instead of this one."""
    found = connection.execute(_COPIED, {"seq": end.seq}).scalar_one_or_none()
    if found is None:
        return None
    evidence = json.loads(found)
    if evidence.get("in_use") == connection.dialect.name:
        return None
    return copied_ledger(end, str(evidence.get("to")), str(evidence.get("from")), analysis=bool(evidence.get("analysis")))


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
