"""What happened, durably: the only place that knows SQL. Opened lazily, because its libraries are heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributor.core.ports import Ledger, Now


def open_ledger(url: str, *, by: str, now: Now | None = None, create: bool = False) -> Ledger:
    """The ledger at a database URL; `by` is who writes ("root@host"), `create` makes it where there is none.

    Its times are the database server's, or for a file those of this machine; `now` replaces that clock.

    An older schema is upgraded. Raises Unusable when it is no ledger, damaged or newer, Unavailable when it is locked or cannot be reached.
    """
    from distributor.ledger.ledger import SqlLedger  # noqa: PLC0415  SQLAlchemy takes 0.2 s to import
    from distributor.ledger.opening import open_database  # noqa: PLC0415

    return SqlLedger(open_database(url, create=create), by=by, now=now)
