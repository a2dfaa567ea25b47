"""Leases: when one is in force and whose it is; what expired or whose process ended is queued again, or ambiguous after the intent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, insert, or_, select, update

from distributor.ledger import transitions
from distributor.ledger.queries import latest_plausible, was_ahead, within
from distributor.ledger.tables import delivery, event, owner, person
from distributor.ledger.transaction import NewEvent, WriteTransaction
from distributor.model.attempts import Claim
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.clocks import LONGEST_LEASE, bounded_lease
from distributor.model.delivery import DeliveryFilter, LeaseHolder, UnderWay
from distributor.model.states import State

ON_THE_WAY = (State.CLAIMED.value, State.TRANSMITTING.value)
_IS_HELD = and_(delivery.c.state.in_((State.PLANNED.value, *ON_THE_WAY)), delivery.c.owner.is_not(None))  # by a packer or a sender
_HOLDERS = (
    select(owner.c.id, owner.c.host, owner.c.pid, owner.c.started)
    .where(owner.c.id.in_(select(delivery.c.owner).where(_IS_HELD)))
    .order_by(owner.c.id)
)
_OF = select(delivery).where(_IS_HELD).order_by(delivery.c.id)
_UNDER_WAY = (
    select(
        delivery.c.state,
        func.count(),
        *(owner.c[name] for name in ("id", "host", "pid", "started")),
        func.min(delivery.c.updated_at),
        func.max(delivery.c.lease_until),
        func.min(delivery.c.id),
    )
    .join(owner, owner.c.id == delivery.c.owner)
    .join(person, person.c.id == delivery.c.person)
    .where(delivery.c.state.in_(ON_THE_WAY))
    .group_by(delivery.c.state, owner.c.id, owner.c.host, owner.c.pid, owner.c.started)
    .order_by(func.min(delivery.c.updated_at))
)
_PACKERS = (
    select(func.count(), *(owner.c[name] for name in ("id", "host", "pid", "started")))
    .select_from(delivery)
    .join(owner, owner.c.id == delivery.c.owner)
    .join(person, person.c.id == delivery.c.person)
    .where(delivery.c.state == State.PLANNED.value)
    .group_by(owner.c.id, owner.c.host, owner.c.pid, owner.c.started)
)
_BY = (
    select(event.c.by)
    .where(event.c.delivery == bindparam("id"), event.c.event == State.CLAIMED.value)
    .order_by(event.c.seq.desc())
    .limit(1)
)
LEASE_EXPIRED, AHEAD = "its sending process stopped responding", "its lease was written while a clock was ahead"
_ARMED_AT = select(delivery.c.id, delivery.c.armed_at).where(delivery.c.state == State.AMBIGUOUS.value).order_by(delivery.c.id)
_BEGAN = update(delivery).where(delivery.c.id == bindparam("b_id")).values(armed_at=bindparam("now"))
_RETURN = update(delivery).where(delivery.c.id == bindparam("b_id")).values(owner=None, lease_until=None)
_RENEW = (
    update(delivery)
    .where(delivery.c.owner == bindparam("who"), delivery.c.state.in_((State.PLANNED.value, State.CLAIMED.value)))
    .values(lease_until=bindparam("until"))
)


def is_over(now: str) -> ColumnElement[bool]:
    """The condition that no lease on the delivery is in force."""
    column = delivery.c.lease_until
    return or_(column.is_(None), column <= now, column > latest_plausible(now, LONGEST_LEASE))


def has_expired(until: str | None, now: str) -> bool:
    """Whether a lease ended; one without an end has not."""
    return until is not None and until <= now


def holds(holder: LeaseHolder, claim: Claim, row: transitions.Row) -> bool:
    """Whether a delivery's last claim is this one (fencing)."""
    return bool(row["owner"] == holder.id and row["attempt"] == claim.attempt)


def renew(tx: WriteTransaction, holder: LeaseHolder, lease: timedelta) -> None:
    """Extend every lease of an owner: deliveries being packed, and claims before their point of no return."""
    tx.connection.execute(_RENEW, {"who": holder.id, "until": format_timestamp(tx.moment + bounded_lease(lease))})


def holders(connection: Connection) -> list[LeaseHolder]:
    """The owners of all leases."""
    return [holder_from_row(*row) for row in connection.execute(_HOLDERS)]


def packers(connection: Connection, holder: LeaseHolder, scope: DeliveryFilter, now: str) -> dict[LeaseHolder, int]:
    """How many planned deliveries each other owner has leased."""
    asked = within(_PACKERS.where(delivery.c.owner != holder.id, ~is_over(now)), scope)
    return {holder_from_row(*row): number for number, *row in connection.execute(asked)}


def recover(tx: WriteTransaction, dead: frozenset[str], living: frozenset[str] = frozenset()) -> list[tuple[str, State]]:
    """Release expired leases and those of `dead` owners; `living` ones keep a lease that only seems too long because the clock was set."""
    _correct(tx)
    rows = [dict(row) for row in tx.connection.execute(_OF).mappings()]
    overdue = [(row, _why(row["lease_until"], tx.now, dead=row["owner"] in dead, living=row["owner"] in living)) for row in rows]
    freed = [(row, why) for row, why in overdue if why]
    packing = [row for row, _ in freed if row["state"] == State.PLANNED]
    if packing:
        tx.connection.execute(_RETURN, [{"b_id": row["id"]} for row in packing])
    return [
        (row["id"], State(row["state"])) for row in release_expired(tx, [(row, why) for row, why in freed if row["state"] != State.PLANNED])
    ]


def _why(until: str | None, now: str, *, dead: bool, living: bool) -> str:
    if dead:
        return "its sending process ended"
    if has_expired(until, now):
        return LEASE_EXPIRED
    return AHEAD if not living and was_ahead(until, now, LONGEST_LEASE) else ""


def misdated(connection: Connection, now: str) -> list[str]:
    """Ambiguous deliveries whose attempt is dated in the future: waiting for the end of its time-out would never end."""
    rows = connection.execute(_ARMED_AT).all()
    return [id_ for id_, armed in rows if was_ahead(armed, now, LONGEST_LEASE)]


def _correct(tx: WriteTransaction) -> None:
    """Date such attempts now: they began before."""
    ids = misdated(tx.connection, tx.now)
    tx.many(_BEGAN, [{"b_id": id_, "now": tx.now} for id_ in ids])
    evidence = {"armed_at": tx.now, "why": "its time was written while a clock was ahead"}
    tx.append([NewEvent(id_, "clock-corrected", evidence=evidence) for id_ in ids])


def under_way(connection: Connection, scope: DeliveryFilter) -> list[UnderWay]:
    """Claims of senders, by state and sender, longest first."""
    found = []
    for state, number, holder, host, pid, started, since, until, one in connection.execute(within(_UNDER_WAY, scope)).all():
        by = connection.execute(_BY, {"id": one}).scalar_one_or_none() or ""
        ends = None if until is None else parse_timestamp(until)
        found.append(UnderWay(State(state), number, holder_from_row(holder, host, pid, started), by, parse_timestamp(since), ends))
    return found


def release_expired(tx: WriteTransaction, rows: Sequence[tuple[transitions.Row, str]]) -> list[transitions.Row]:
    """Move claimed to queued and transmitting to ambiguous."""
    return transitions.apply_transitions(tx, [_change(row, why) for row, why in rows])


def _change(row: transitions.Row, why: str) -> transitions.Transition:
    evidence = {"attempt": row["attempt"], "owner": row["owner"], "why": why}
    if row["state"] == State.CLAIMED:
        return transitions.Transition(row, State.QUEUED, {"owner": None, "lease_until": None}, evidence)
    return transitions.Transition(row, State.AMBIGUOUS, {"lease_until": None}, {**evidence, "armed_at": row["armed_at"]})


def ensure_holder(tx: WriteTransaction, holder: LeaseHolder) -> None:
    """Make an owner known, so that claims can name it."""
    if tx.connection.execute(select(owner.c.id).where(owner.c.id == holder.id)).first() is None:
        tx.connection.execute(insert(owner), {"id": holder.id, "host": holder.host, "pid": holder.pid, "started": started(holder)})


def started(holder: LeaseHolder) -> str | None:
    """When an owner's process started, as it is kept: clock ticks pass what a column of numbers holds."""
    return None if holder.started is None else str(holder.started)


def holder_from_row(id_: str, host: str, pid: int, started: str | None) -> LeaseHolder:
    """An owner from its row."""
    return LeaseHolder(id_, host, pid, None if started is None else int(started))
