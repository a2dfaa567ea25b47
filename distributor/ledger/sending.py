"""Frozen messages -> claimed, armed, settled; each step names owner and attempt, so that no process overwrites another's work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, LargeBinary, RowMapping, Select, or_, select, true, type_coerce
from sqlalchemy.types import NullType

from distributor.ledger import eligibility, leases, mailbox_cleanup, transitions
from distributor.ledger.message_verification import verify_messages
from distributor.ledger.queries import of_senders, wait_is_over, was_ahead, within
from distributor.ledger.tables import delivery, event, handover, outbox, person
from distributor.ledger.transaction import WriteTransaction, sanitize
from distributor.model.attempts import AttemptResult, AttemptUpdate, Claim, OutboundMessage, RecordIntent
from distributor.model.audit_log import format_timestamp
from distributor.model.clocks import LONGEST_DELAY, bounded_lease
from distributor.model.delivery import ALL_SENDERS, DeliveryFilter, LeaseHolder, SenderFilter
from distributor.model.states import State, allowed


def _as_it_lies(column: Column[Any]) -> ColumnElement[Any]:
    """A column of bytes whatever is in it: somebody may have made a text of them."""
    return type_coerce(column, NullType()) if isinstance(column.type, LargeBinary) else column


_DUE = (
    select(
        delivery,
        outbox.c.sender,
        outbox.c.address,
        outbox.c.message_id.label("outbox_message_id"),
        _as_it_lies(outbox.c.message).label("message"),
        person.c.key.label("person_key"),
        person.c.address.label("person_address"),
        *(_as_it_lies(column).label(f"handover_{column.name}") for column in handover.columns),
    )
    .join(outbox, outbox.c.delivery == delivery.c.id)
    .join(person, person.c.id == delivery.c.person)
    .outerjoin(handover, handover.c.delivery == delivery.c.id)
    .order_by(delivery.c.id)
)
_FREE: dict[str, object] = {"owner": None, "lease_until": None, "armed_at": None}
_ENDS = frozenset({State.ACCEPTED, State.DEFERRED, State.REJECTED, State.AMBIGUOUS, State.QUEUED})


def claim(  # noqa: PLR0913  the port's own arguments
    tx: WriteTransaction,
    holder: LeaseHolder,
    limit: int,
    lease: timedelta,
    scope: DeliveryFilter,
    *,
    early: bool,
    since: int | None = None,
    senders: SenderFilter = ALL_SENDERS,
) -> list[Claim]:
    """Claim messages that are due, oldest first. Raises InvalidInput where one differs from its events.

    What must not be sent any more is withdrawn instead: a certificate that was revoked, has expired or is another person's too.
    """
    found = _eligible(tx, limit, of_senders(within(_DUE, scope), senders), _put_off(tx, early=early, since=since))
    if not found:
        return []
    leases.ensure_holder(tx, holder)
    until = format_timestamp(tx.moment + bounded_lease(lease))
    changes = [_claim(tx, dict(row), holder, until) for row in found]
    moved = transitions.apply_transitions(tx, changes)
    requests = mailbox_cleanup.handles(tx.connection, [row["id"] for row in found if row["attempt"]])
    return [
        Claim(new["id"], new["attempt"], new["deferrals"], _outbound_message(row, requests)) for new, row in zip(moved, found, strict=True)
    ]


def _put_off(tx: WriteTransaction, *, early: bool, since: int | None) -> ColumnElement[bool]:
    """Which messages that were put off are wanted: those whose time has come, or `early` all that were so before event `since`."""
    if not early:
        return wait_is_over(tx.now)
    if since is None:
        return true()
    again = select(event.c.seq).where(event.c.delivery == delivery.c.id, event.c.seq > since, event.c.event == State.DEFERRED.value)
    return or_(wait_is_over(tx.now), ~again.exists())


def _eligible(tx: WriteTransaction, limit: int, asked: Select[Any], put_off: ColumnElement[bool]) -> list[RowMapping]:
    """Messages that are due, agree with their events, and may be sent."""
    while True:
        found = [*_due(tx, State.QUEUED, limit, asked), *_due(tx, State.DEFERRED, limit, asked.where(put_off))]
        found = sorted(found, key=lambda row: str(row["id"]))[:limit]
        verify_messages(tx, found)
        good = eligibility.keep_eligible(tx, found)
        if good or not found:
            found = [row for row in found if row["id"] in good]
            eligibility.refuse_not_yet_valid(tx, found)
            return found
        if eligibility.has_held_back(tx):
            asked = asked.where(eligibility.not_expired(tx.now))


def _due(tx: WriteTransaction, state: State, limit: int, asked: Select[Any]) -> Sequence[RowMapping]:
    return tx.connection.execute(asked.where(delivery.c.state == state.value).limit(limit)).mappings().all()


def _claim(tx: WriteTransaction, row: transitions.Row, holder: LeaseHolder, until: str) -> transitions.Transition:
    attempt = row["attempt"] + 1
    evidence: dict[str, object] = {
        "attempt": attempt,
        "owner": holder.id,
        "host": holder.host,
        "pid": holder.pid,
        "started": leases.started(holder),
    }
    if holder.machine:
        evidence["machine"] = holder.machine
    if was_ahead(row["not_before"], tx.now, LONGEST_DELAY):
        evidence["clock"] = f"it was deferred until {row['not_before']} while a clock was ahead"
    columns = {"attempt": attempt, "owner": holder.id, "lease_until": until, "armed_at": None, "not_before": None}
    return transitions.Transition(row, State.CLAIMED, columns, evidence)


def _outbound_message(row: RowMapping, requests: Mapping[str, str]) -> OutboundMessage:
    envelope = row["sender"], row["address"], row["message_id"], row["message"]
    return OutboundMessage(row["id"], *envelope, row["attempt"] + 1, requests.get(row["id"]))


def write(tx: WriteTransaction, updates: Sequence[AttemptUpdate], holder: LeaseHolder) -> list[bool]:
    """Apply the steps whose claim still holds."""
    rows = transitions.rows(tx, [update.claim.id for update in updates])
    changes: list[transitions.Transition] = []
    verdicts: list[bool] = []
    for update in updates:
        change = _step(tx, rows.get(update.claim.id), update, holder)
        verdicts.append(change is not None)
        if change is not None:
            changes.append(change)
            rows[update.claim.id] = {**change.row, **change.columns, "state": change.after.value}
    transitions.apply_transitions(tx, changes)
    return verdicts


def _step(tx: WriteTransaction, row: transitions.Row | None, update: AttemptUpdate, holder: LeaseHolder) -> transitions.Transition | None:
    if row is None or not leases.holds(holder, update.claim, row):
        return None
    match update:
        case RecordIntent():
            return _arm(tx, row, update)
        case AttemptResult():
            return _settle(tx, row, update)


def _arm(tx: WriteTransaction, row: transitions.Row, update: RecordIntent) -> transitions.Transition | None:
    if row["state"] != State.CLAIMED or leases.has_expired(row["lease_until"], tx.now):
        return None
    columns: dict[str, object] = {"lease_until": format_timestamp(tx.moment + bounded_lease(update.lease)), "armed_at": tx.now}
    evidence: dict[str, object] = {"attempt": row["attempt"], "owner": row["owner"]}
    if update.handle is not None:
        columns["message_id"] = evidence["message_id"] = sanitize(update.handle.message_id)
        evidence["handle"] = sanitize(update.handle.id)
    return transitions.Transition(row, State.TRANSMITTING, columns, evidence)


def _settle(tx: WriteTransaction, row: transitions.Row, update: AttemptResult) -> transitions.Transition | None:
    before = State(row["state"])
    late = before is State.AMBIGUOUS and update.state is State.ACCEPTED  # a 250 that came after all, of the same attempt
    on_time = before in leases.ON_THE_WAY and update.state in _ENDS and allowed(before, update.state)
    if not (late or on_time):
        return None
    response = sanitize(update.response)
    wait = update.wait if update.state is State.DEFERRED else None
    until = None if wait is None else format_timestamp(tx.moment + min(wait, LONGEST_DELAY))
    columns = {**_left(row, update.state), "said": response, "not_before": until}
    evidence: dict[str, object] = {"attempt": row["attempt"], "owner": row["owner"]}
    if until is not None:
        evidence["not_before"] = until
    if late:
        evidence["late"] = True
    return transitions.Transition(row, update.state, columns, evidence, {"said": response} if response else {})


def _left(row: transitions.Row, after: State) -> dict[str, object]:
    """What remains of the claim: all of it while ambiguous, since its owner may still bring the answer."""
    if after is State.AMBIGUOUS:
        return {"lease_until": None}
    return {**_FREE, "deferrals": row["deferrals"] + (after is State.DEFERRED)}


def release(tx: WriteTransaction, claims: Sequence[Claim], holder: LeaseHolder) -> None:
    """Give claims back that still hold."""
    rows = transitions.rows(tx, [claim.id for claim in claims])
    changes: list[transitions.Transition] = []
    for given in claims:
        row: dict[str, Any] | None = rows.get(given.id)
        if row and leases.holds(holder, given, row) and row["state"] == State.CLAIMED:
            changes.append(
                transitions.Transition(row, State.QUEUED, _FREE, {"attempt": given.attempt, "owner": holder.id, "why": "given back"})
            )
    transitions.apply_transitions(tx, changes)
