"""What happened, durably: the only place that knows SQL. Opened lazily, because its libraries are heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from distributor.core.ports import Ledger, Now
    from distributor.core.restored import Machine


def open_ledger(url: str, *, by: str, now: Now | None = None, create: bool = False) -> Ledger:
    """The ledger at a database URL; `by` is who writes ("root@host"), `create` makes it where there is none.

    Its times are the database server's, or for a file those of this machine; `now` replaces that clock. An older schema is upgraded. Raises
    Unusable when it is no ledger, empty, damaged or newer, Unavailable when it is locked or cannot be reached.
    """
    from distributor.ledger.ledger import SqlLedger  # noqa: PLC0415  SQLAlchemy takes 0.2 s to import
    from distributor.ledger.opening import open_database  # noqa: PLC0415

    return SqlLedger(open_database(url, create=create), by=by, now=now)


def open_guarded(  # noqa: PLR0913  as open_ledger, and what this host remembers
    url: str, *, by: str, now: Now | None, marks: Path | None, here: Machine, sends: bool
) -> Ledger:
    """The ledger, each of whose writes is compared with what this host remembers of it in the folder `marks`.

    Raises as `open_ledger` does; where messages are to be sent from it (`sends`), also Unusable for one that was restored or moved.
    """
    from distributor.ledger.guarding import Guard  # noqa: PLC0415  as above
    from distributor.ledger.ledger import SqlLedger  # noqa: PLC0415  as above
    from distributor.ledger.opening import open_database  # noqa: PLC0415  as above

    database = open_database(url, create=False)
    guard = Guard(marks, here, strict=sends)
    try:
        if sends:
            guard.check(database)
    except BaseException:
        guard.close()
        database.close()
        raise
    return SqlLedger(database, by=by, now=now, guard=guard)
