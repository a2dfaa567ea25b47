"""The one clock of a ledger: leases, waiting times, quotas and expiry are written and compared by it, and by no other.

On a server it is the server's own, since the clocks of its clients differ; in a file it is that of the machine. `event.at` is its time
too, but says nothing of order: that is what `event.seq` is for.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, literal_column, or_, select

from distributor.ledger.engine import Database
from distributor.ledger.tables import delivery
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.clocks import LONGEST_DELAY, LONGEST_LEASE, TOLERANCE, is_implausible
from distributor.model.ports import Now

STALE = 60.0  # seconds after which the server is asked again
_FORM: ColumnElement[str] = literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'""")  # that of `stamp`
SERVER = func.to_char(func.timezone("UTC", func.clock_timestamp()), _FORM)


class Clock:
    """The clock of one ledger. `given` replaces the database's own, so that a test can move it."""

    def __init__(self, database: Database, given: Now | None) -> None:
        self._database = database
        self._given = given if given is not None or not database.sqlite else _of_this_machine
        self._server_time: tuple[datetime, float] | None = None  # the server's time, and when it was read by a clock that is never set

    @property
    def is_servers(self) -> bool:
        """Whether the time is the database server's."""
        return self._given is None

    def read(self, connection: Connection) -> str:
        """Now, as a stamp, within a transaction."""
        if self._given is not None:
            return format_timestamp(self._given())
        return self.from_server(str(connection.execute(select(SERVER)).scalar_one()))

    def from_server(self, at: str) -> str:
        """The server's time, as a writing transaction read it with its first query."""
        self._server_time = parse_timestamp(at), time.monotonic()
        return at

    def now(self) -> datetime:
        """Now. The server's time is extrapolated from when it was read last, so that it is hardly ever queried."""
        if self._given is not None:
            return self._given()
        if self._server_time is None or time.monotonic() - self._server_time[1] > STALE:
            with self._database.reading() as connection:
                return parse_timestamp(self.read(connection))
        at, since = self._server_time
        return at + timedelta(seconds=time.monotonic() - since)


def _of_this_machine() -> datetime:
    return datetime.now(UTC)


# --- times that may be wrong ---------------------------------------------------------------------------------------


def due(now: str) -> ColumnElement[bool]:
    """A message that was put off may be sent."""
    column = delivery.c.not_before
    return or_(column.is_(None), column <= now, column > _latest(now, LONGEST_DELAY))


def free(now: str) -> ColumnElement[bool]:
    """The condition that no lease on the delivery is in force."""
    column = delivery.c.lease_until
    return or_(column.is_(None), column <= now, column > _latest(now, LONGEST_LEASE))


def was_ahead(until: str | None, now: str, longest: timedelta) -> bool:
    """Whether a time in a row was written by a clock that was ahead."""
    return until is not None and is_implausible(parse_timestamp(until), parse_timestamp(now), longest)


def _latest(now: str, longest: timedelta) -> str:
    return format_timestamp(parse_timestamp(now) + longest + TOLERANCE)
