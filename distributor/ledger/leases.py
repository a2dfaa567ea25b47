"""What dead or silent owners held -> free again: before the point of no return it is queued, after it ambiguous."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, bindparam, select, update

from distributor.core.chain import stamp
from distributor.core.deliveries import Owner
from distributor.core.states import State
from distributor.ledger import book as door
from distributor.ledger.chain import Writing
from distributor.ledger.tables import delivery, owner

_HELD = (State.PLANNED.value, State.CLAIMED.value, State.TRANSMITTING.value)
_HOLDERS = (
    select(owner.c.id, owner.c.host, owner.c.pid, owner.c.started)
    .where(owner.c.id.in_(select(delivery.c.owner).where(delivery.c.state.in_(_HELD), delivery.c.owner.is_not(None))))
    .order_by(owner.c.id)
)
_OF = select(delivery).where(delivery.c.state.in_(_HELD), delivery.c.owner.is_not(None)).order_by(delivery.c.id)
_RETURN = update(delivery).where(delivery.c.id == bindparam("b_id")).values(owner=None, lease_until=None)
_RENEW = (
    update(delivery)
    .where(delivery.c.owner == bindparam("who"), delivery.c.state.in_((State.PLANNED.value, State.CLAIMED.value)))
    .values(lease_until=bindparam("until"))
)


def renew(book: Writing, who: Owner, lease: timedelta) -> None:
    """Extend every loan and unarmed claim of an owner."""
    book.connection.execute(_RENEW, {"who": who.id, "until": stamp(book.moment + lease)})


def holders(connection: Connection) -> list[Owner]:
    """Everyone who holds anything."""
    return [door.owner_of(*row) for row in connection.execute(_HOLDERS)]


def recover(book: Writing, dead: frozenset[str]) -> list[tuple[str, State]]:
    """Free what has an expired lease or belongs to the dead."""
    overdue = [(dict(row), _why(row["owner"], row["lease_until"], book.now, dead)) for row in book.connection.execute(_OF).mappings()]
    freed = [(row, why) for row, why in overdue if why]
    loans = [row for row, _ in freed if row["state"] == State.PLANNED]
    if loans:
        book.connection.execute(_RETURN, [{"b_id": row["id"]} for row in loans])
    return [(row["id"], State(row["state"])) for row in free(book, [(row, why) for row, why in freed if row["state"] != State.PLANNED])]


def _why(who: str, until: str | None, now: str, dead: frozenset[str]) -> str:
    if who in dead:
        return "its sender ended"
    return "lease" if until is not None and until <= now else ""


def free(book: Writing, rows: Sequence[tuple[door.Row, str]]) -> list[door.Row]:
    """Move claimed to queued and transmitting to ambiguous."""
    return door.move(book, [_change(row, why) for row, why in rows])


def _change(row: door.Row, why: str) -> door.Change:
    evidence = {"attempt": row["attempt"], "owner": row["owner"], "why": "its sender went silent" if why == "lease" else why}
    if row["state"] == State.CLAIMED:
        return door.Change(row, State.QUEUED, {"owner": None, "lease_until": None}, evidence)
    return door.Change(row, State.AMBIGUOUS, {"lease_until": None}, {**evidence, "armed_at": row["armed_at"]})
