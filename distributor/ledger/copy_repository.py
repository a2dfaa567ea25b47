"""The part of the Ledger port about copies of a ledger: recognised, taken into use, made. Promises are in `model/high_water_mark.py`."""

# ruff: noqa: D102  as above

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from distributor.ledger.engine import Database
from distributor.ledger.high_water_marks import CopyGuard
from distributor.ledger.lazy import late
from distributor.ledger.transaction import Clock, write_transaction
from distributor.model.high_water_mark import ChainEnd, HighWaterMark

if TYPE_CHECKING:
    from distributor.ledger import adoption, copying
    from distributor.model.delivery import LeaseHolder
    from distributor.model.high_water_mark import AdoptionResult, CopyProgress, EventGap, LedgerCopy, RestoredLedger
    from distributor.model.states import State
else:
    adoption, copying = late("adoption copying")


class SqlCopies:
    """`model.high_water_mark.Adoptable` on SQL."""

    _database: Database
    _by: str
    _clock: Clock
    _guard: CopyGuard | None

    if TYPE_CHECKING:

        def recover(self, alive: Callable[[LeaseHolder], bool | None]) -> list[tuple[str, State]]: ...

    def restored(self) -> RestoredLedger | None:
        return None if self._guard is None else self._guard.restored(self._database)

    def gap(self) -> EventGap | None:
        with self._database.reading() as connection:
            return adoption.gap(connection)

    def adopt(self, reason: str, *, nothing_sent: bool = False) -> AdoptionResult:
        guard = self._guarded()
        with write_transaction(self._database, self._by, self._clock) as tx:
            file = guard.name(tx.connection)
            mark = file.read() if file is not None else None
            missing = max(0, mark.end.seq - tx.seq) if isinstance(mark, HighWaterMark) else None
            found = adoption.adopt(tx, guard.here, reason, nothing_sent=nothing_sent, missing=missing)
        guard.adopted(ChainEnd(tx.seq, tx.hash, tx.now), self._database)
        return found

    def check_copy(self, url: str) -> None:
        copying.check_target(self._database, url)
        with self._database.reading() as connection:
            copying.may_repeat(connection, self._guarded(), self._database, url)

    def copy_to(
        self, url: str, alive: Callable[[LeaseHolder], bool | None], progress: CopyProgress, *, analysis: bool = False
    ) -> LedgerCopy:
        guard = self._guarded()
        with self._database.reading() as connection:
            again = copying.may_repeat(connection, guard, self._database, url)
        if not again:
            self.recover(alive)
        with copying.target(self._database, url) as target, write_transaction(self._database, self._by, self._clock) as tx:
            again = copying.may_repeat(tx.connection, guard, self._database, url)
            if not again:
                copying.record(tx, guard.here, self._database, target, analysis=analysis)
            rows = copying.fill(tx, self._database, target, progress)
            target.finish()  # (0) whole and on disk, or ready to be committed; (1) this ledger says so; (2) the target appears
        end = ChainEnd(tx.seq, tx.hash, tx.now if not again else tx.last)
        guard.after(end, self._database)
        return copying.LedgerCopy(self._database.where, target.where, rows, end)

    def _guarded(self) -> CopyGuard:
        assert self._guard is not None  # noqa: S101  a ledger that commands open has one
        return self._guard
