"""Requests for another copy: asked within limits, decided by somebody else, and linked to the new generation; each step with its event."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from distributor.errors import RequestDenied, UsageError
from distributor.ledger import accounts, certificate_owners, eligibility, planning, transitions
from distributor.ledger.queries import was_ahead
from distributor.ledger.tables import certificate, delivery, person, request
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.requests import REQUEST_PREFIX, CopyRequest, RequestLimitReached, RequestLimits
from distributor.model.states import RequestState

REQUESTED, APPROVED, DENIED, PLANNED = "requested", "approved", "denied", "request-planned"  # events
POLICY = "policy"  # decided by it; a key of the evidence too
_DAY, _MONTH = timedelta(hours=24), 30  # the second in days, each from midnight UTC
_UNKNOWN = "another copy of this certificate cannot be requested"
_REQUESTS = (
    select(
        request.c.id,
        request.c.delivery,
        person.c.address,
        person.c.name,
        *(request.c[name] for name in ("state", "at", "reason", "by", "decided_at", "decided_by", "answer", "planned")),
    )
    .join(delivery, delivery.c.id == request.c.delivery)
    .join(person, person.c.id == delivery.c.person)
    .order_by(request.c.id)
)
_PENDING = (  # for the same person and certificate
    select(request.c.id)
    .join(delivery, delivery.c.id == request.c.delivery)
    .where(delivery.c.person == bindparam("person"), delivery.c.certificate == bindparam("certificate"))
    .where(request.c.state != RequestState.DENIED.value, request.c.planned.is_(None))
    .order_by(request.c.id)
    .limit(1)
)
_TIMES = (
    select(request.c.at)
    .join(delivery, delivery.c.id == request.c.delivery)
    .where(delivery.c.person == bindparam("person"), request.c.at >= bindparam("since"))
    .order_by(request.c.at)
)
_INSERT = insert(request)
_DECIDE = (
    update(request)
    .where(request.c.id == bindparam("b_id"), request.c.planned.is_(None))
    .values({name: bindparam(name) for name in ("state", "decided_at", "decided_by", "answer")})
)
_PLANNED = update(request).where(request.c.id == bindparam("b_id"), request.c.planned.is_(None)).values(planned=bindparam("new"))


def find(connection: Connection, states: Collection[RequestState], address: str | None) -> list[CopyRequest]:
    """Requests of these states and this person, oldest first; all where neither is named."""
    asked = _REQUESTS
    if states:
        asked = asked.where(request.c.state.in_(sorted(state.value for state in states)))
    if address is not None:
        asked = asked.where(person.c.key == address)
    return [_to_request(row) for row in connection.execute(asked)]


def unplanned(connection: Connection) -> list[CopyRequest]:
    """Approved requests without a new generation, oldest first."""
    asked = _REQUESTS.where(request.c.state == RequestState.APPROVED.value, request.c.planned.is_(None))
    return [_to_request(row) for row in connection.execute(asked)]


def _to_request(row: Sequence[Any]) -> CopyRequest:
    id_, delivery_id, address, name, state, at, reason, by, decided_at, decided_by, answer, planned_id = row
    decided = None if decided_at is None else parse_timestamp(decided_at)
    return CopyRequest(
        id_, delivery_id, address, name, RequestState(state), parse_timestamp(at), reason, by, decided, decided_by or "", answer, planned_id
    )


def _known(tx: WriteTransaction, request_id: str) -> CopyRequest:
    row = tx.connection.execute(_REQUESTS.where(request.c.id == request_id)).one_or_none()
    if row is None:
        raise UsageError("no such request", where=request_id, hint="`distributor requests` lists them")
    return _to_request(row)


# --- asking ----------------------------------------------------------------------------------------------------------


def ask(tx: WriteTransaction, delivery_id: str, reason: str, limits: RequestLimits, *, approve: bool) -> CopyRequest:
    """Record a request, or find the one that waits for the same certificate. Raises RequestDenied."""
    row = transitions.rows(tx, [delivery_id]).get(delivery_id)
    if row is None or not accounts.may_ask(tx, row["person"]):
        raise RequestDenied(_UNKNOWN, where=delivery_id)
    pair = {"person": row["person"], "certificate": row["certificate"]}
    waiting = tx.connection.execute(_PENDING, pair).scalar_one_or_none()
    if waiting is not None:
        return _known(tx, waiting)
    _refuse_unusable(tx, row)
    _refuse_beyond(tx, row, limits)
    new = planning.new_id(tx, REQUEST_PREFIX)
    words = sanitize(reason)
    columns: dict[str, object] = {"id": new, "delivery": delivery_id, "state": RequestState.OPEN.value, "at": tx.now, "by": tx.by}
    tx.connection.execute(_INSERT, {**columns, "reason": words, "answer": ""})
    tx.append([NewEvent(delivery_id, REQUESTED, evidence={"request": new}, personal={"reason": words})])
    if approve:
        _settle(tx, _known(tx, new), RequestState.APPROVED, "", by=POLICY)
    return _known(tx, new)


def _refuse_unusable(tx: WriteTransaction, row: transitions.Row) -> None:
    """Raise RequestDenied where no copy could be sent: the certificate expired, or its key must not be used any more."""
    why = certificate_owners.unusable(tx.connection, [row["certificate"]]).get(row["certificate"])
    ends = tx.connection.execute(select(certificate.c.not_after).where(certificate.c.sha256 == row["certificate"])).scalar_one()
    if why is None and ends <= tx.now:
        why = eligibility.expiry_message(ends)
    if why is not None:
        raise RequestDenied(why, where=row["id"], hint=certificate_owners.NEW_CERTIFICATE)


def _refuse_beyond(tx: WriteTransaction, row: transitions.Row, limits: RequestLimits) -> None:
    """Raise RequestDenied beyond the limits. The later time counts where both are reached."""
    midnight = tx.moment.replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - timedelta(days=_MONTH - 1)
    stamps = tx.connection.execute(_TIMES, {"person": row["person"], "since": format_timestamp(min(since, tx.moment - _DAY))}).scalars()
    times = [parse_timestamp(at) for at in stamps if not was_ahead(at, tx.now, timedelta(0))]
    month = [at for at in times if at >= since]
    if len(month) >= limits.monthly:
        free = _of_limit(month, limits.monthly) + timedelta(days=_MONTH)
        raise _beyond(row["id"], limits.monthly, f"{_MONTH} days", f"{free:%Y-%m-%d}", free)
    day = [at for at in times if at > tx.moment - _DAY]
    if len(day) >= limits.daily:
        last = _of_limit(day, limits.daily) + _DAY
        minute = last.replace(second=0, microsecond=0)
        free = minute if minute == last else minute + timedelta(minutes=1)
        raise _beyond(row["id"], limits.daily, "24 hours", f"{free:%Y-%m-%d %H:%M} UTC", free)


def _of_limit(times: Sequence[datetime], limit: int) -> datetime:
    """The request that must be out of the window before another one is accepted; with a limit of 0 the last."""
    return times[-limit] if limit else times[-1]


def _beyond(where: str, limit: int, span: str, day: str, again: datetime) -> RequestLimitReached:
    what = "1 request" if limit == 1 else f"{limit} requests"
    return RequestLimitReached(
        f"the limit of {what} in {span} is reached; another is accepted from {day}",
        where=where,
        hint="a helpdesk that is sure who asks can run `distributor resend`",
        again=again,
    )


# --- deciding --------------------------------------------------------------------------------------------------------


def decide(tx: WriteTransaction, request_id: str, reason: str, *, approve: bool) -> CopyRequest:
    """Approve or deny an open request, or deny one that is approved but not planned yet. Raises RequestDenied or UsageError."""
    found = _known(tx, request_id)
    revised = found.state is RequestState.APPROVED and found.planned is None and not approve
    if found.state is not RequestState.OPEN and not revised:
        when = "" if found.decided_at is None else f" on {found.decided_at:%Y-%m-%d} by {found.decided_by}"
        raise RequestDenied(f"the request was {found.state}{when}", where=request_id, hint="`distributor requests` lists open ones")
    if approve:
        row = transitions.row(tx, found.delivery)
        if accounts.is_same_person(tx, found.by, row["person"]):
            hint = "ask a second person to approve it"
            raise RequestDenied("the requester cannot approve the request", where=request_id, hint=hint)
        _refuse_unusable(tx, row)
    _settle(tx, found, RequestState.APPROVED if approve else RequestState.DENIED, sanitize(reason), by=tx.by)
    return _known(tx, request_id)


def _settle(tx: WriteTransaction, found: CopyRequest, state: RequestState, reason: str, *, by: str) -> None:
    columns = {"state": state.value, "decided_at": tx.now, "decided_by": by, "answer": reason if state is RequestState.DENIED else ""}
    tx.many(_DECIDE, [{"b_id": found.id, **columns}])
    evidence: dict[str, object] = {"request": found.id}
    if by == POLICY:
        evidence[POLICY] = "automatic"
    name = APPROVED if state is RequestState.APPROVED else DENIED
    tx.append([NewEvent(found.delivery, name, evidence=evidence, personal={"reason": reason} if reason else {})])


def planned(tx: WriteTransaction, request_id: str, delivery_id: str) -> None:
    """Record the new generation of an approved request. Raises RequestDenied where it is not one of the same certificate or not newer."""
    found = _known(tx, request_id)
    if found.state is not RequestState.APPROVED or found.planned is not None:
        what = found.state if found.planned is None else "planned already"
        raise RequestDenied(f"the request is {what}", where=request_id, hint="see `distributor requests`")
    old, new = transitions.row(tx, found.delivery), transitions.row(tx, delivery_id)
    same = (old["person"], old["certificate"]) == (new["person"], new["certificate"])
    if not same or new["generation"] <= old["generation"]:
        raise RequestDenied(f"{delivery_id} is no later generation of {old['id']}", where=request_id, hint="see `distributor status`")
    tx.many(_PLANNED, [{"b_id": request_id, "new": delivery_id}])
    tx.append([NewEvent(found.delivery, PLANNED, evidence={"request": request_id, "planned": delivery_id})])
