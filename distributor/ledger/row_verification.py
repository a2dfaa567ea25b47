"""Every delivery beside its events -> where a row, a password or a message is not what the events tell; a page of them in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, select

from distributor.ledger import engine, projection
from distributor.ledger.engine import Database, snapshot
from distributor.ledger.projection import EVENT_COLUMNS, project
from distributor.ledger.tables import certificate, delivery, event, handover, outbox, person, plan
from distributor.model.audit_log import Link

DELIVERIES_PAGE = 200  # deliveries; a message has about 14 KB
LAST = "\U0010ffff"  # sorts behind every identifier
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


class RowVerifier:
    """All deliveries, oldest first; those with doubtful events are not compared."""

    def __init__(self, database: Database, doubtful: set[str]) -> None:
        self.deliveries = 0
        self._database, self._doubtful = database, doubtful

    def findings(self) -> Iterator[str]:
        """One line each."""
        last = ""
        while True:
            with snapshot(self._database) as connection:
                rows = [dict(zip(projection.ROW_NAMES, row, strict=True)) for row in engine.all_rows(connection, _ROWS, {"last": last})]
                until = rows[-1]["delivery_id"] if len(rows) == DELIVERIES_PAGE else LAST
                updates = _steps(connection, last, until)
            yield from self._page({row["delivery_id"]: row for row in rows}, updates)
            if until == LAST:
                return
            last = until

    def _page(self, rows: dict[str, dict[str, Any]], updates: Iterator[Link]) -> Iterator[str]:
        for id_, theirs in groupby(updates, key=attrgetter("delivery")):
            row = rows.pop(id_, None)
            if row is None:
                yield f"delivery {id_}: has events but is gone"
            elif id_ not in self._doubtful:
                self.deliveries += 1
                yield from (f"delivery {id_}: {fault.words}" for fault in projection.differences(row, project(theirs)))
        yield from (f"delivery {id_}: has no events" for id_ in rows)


def _steps(connection: Connection, last: str, until: str) -> Iterator[Link]:
    return map(Link._make, engine.all_rows(connection, _STEPS, {"last": last, "until": until}))
