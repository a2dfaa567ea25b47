"""Which ledger this is, as its chain tells: all copies share it, and who changes it breaks the chain.

The first event tells the name that the ledger was made with; one of an earlier program does not, and its own hash is the name.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from sqlalchemy import Connection, select

from distributor.ledger.tables import event, head
from distributor.model.audit_log import ORIGIN, Link, digest

NAMED = "ledger"  # in the evidence of the first event
LENGTH = 32  # hex digits of the first event's hash, where that is the name
_NAME = select(head.c.ledger).where(head.c.id == 1)
_FIRST = select(*(event.c[name] for name in Link._fields)).where(event.c.seq <= 2).order_by(event.c.seq)  # noqa: PLR2004  the second holds the first


class LedgerIdentity(NamedTuple):
    """A ledger's name, and what is wrong with it."""

    name: str
    fault: str | None


def ledger_identity(connection: Connection) -> LedgerIdentity:
    """The name by the chain; by the row beside its end while there is no event."""
    kept = str(connection.execute(_NAME).scalar_one())
    links = [Link(*row) for row in connection.execute(_FIRST)]
    if not links:
        return LedgerIdentity(kept, None)
    name = _told(links[0].evidence) or links[0].hash[:LENGTH]
    prev = ORIGIN
    for link in links:
        if digest(link, prev) != link.hash:
            return LedgerIdentity(name, f"event {link.seq} was changed, so it is not known which ledger this is")
        prev = link.hash
    return LedgerIdentity(name, None if name == kept else "the name that it is remembered by is not the one that its first event tells")


def _told(evidence: str) -> str | None:
    try:
        found = json.loads(evidence).get(NAMED)
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) and found else None
