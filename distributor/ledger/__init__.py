"""What happened, durably: the only place that knows SQL. Opened lazily, because its libraries are heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributor.errors import InvalidInput, NoLedger

if TYPE_CHECKING:
    from pathlib import Path

    from distributor.model.high_water_mark import Machine
    from distributor.model.ports import Ledger, Now


def open_ledger(url: str, *, by: str, now: Now | None = None, create: bool = False) -> Ledger:
    """The ledger at a database URL; `by` is who writes ("root@host"), `create` makes it where there is none.

    Its times are the database server's, or for a file those of this machine; `now` replaces that clock. An older schema is upgraded. Raises
    InvalidInput when it is no ledger, empty, damaged or newer, ServiceUnavailable when it is locked or cannot be reached.
    """
    from distributor.ledger.opening import open_database  # noqa: PLC0415
    from distributor.ledger.repository import SqlLedger  # noqa: PLC0415  SQLAlchemy takes 0.2 s to import

    return SqlLedger(open_database(url, create=create), by=by, now=now)


def refuse_lost(marks: Path | None, place: str) -> None:
    """Raise InvalidInput where this host knows of a ledger that lay in a place in which there is none: a new one would hide that."""
    from distributor.ledger.high_water_marks import of_place  # noqa: PLC0415  as above
    from distributor.model.high_water_mark import missing_ledger  # noqa: PLC0415  rarely needed

    if marks is not None and (found := of_place(marks, place)) is not None:
        path, mark = found
        message, hint = missing_ledger(mark, str(path))
        raise InvalidInput(message, where=place, hint=hint)


def open_guarded(  # noqa: PLR0913  as open_ledger, and what this host remembers
    url: str, *, by: str, now: Now | None, marks: Path | None, here: Machine, sends: bool
) -> Ledger:
    """The ledger, each of whose writes is compared with what this host remembers of it in the folder `marks`.

    Raises as `open_ledger` does; where messages are to be sent from it (`sends`), also InvalidInput for one that was restored or moved.
    """
    from distributor.ledger.high_water_marks import CopyGuard  # noqa: PLC0415  as above
    from distributor.ledger.opening import open_database  # noqa: PLC0415  as above
    from distributor.ledger.repository import SqlLedger  # noqa: PLC0415  as above

    try:
        database = open_database(url, create=False)
    except NoLedger as error:
        refuse_lost(marks, error.where or "")
        raise
    guard = CopyGuard(marks, here, strict=sends)
    try:
        if sends:
            guard.check(database)
    except BaseException:
        guard.close()
        database.close()
        raise
    return SqlLedger(database, by=by, now=now, guard=guard)
