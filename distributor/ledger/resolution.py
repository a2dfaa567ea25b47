"""A person's word, or evidence found later -> an ambiguous delivery settled, or a delivery taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, func, select, update

from distributor.errors import RequestDenied
from distributor.ledger import certificate_owners, eligibility, leases, mailbox_cleanup, transitions
from distributor.ledger.queries import DELIVERIES, HAS_NEWER_COPY, senders_of, to_delivery, within
from distributor.ledger.tables import certificate, delivery, event, handover, outbox, owner, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.attempts import LastAttempt, TrackedMessage, TrackingEvent
from distributor.model.audit_log import ADOPTION, PROVED, parse_timestamp
from distributor.model.delivery import DeliveryFilter
from distributor.model.states import EDGES, OBSERVED, PasswordState, State, allowed

PERSONAL = frozenset({"reason", "said", "address", "name", "answer"})  # free text and Message-IDs often hold names and addresses
WHOLE = frozenset({"cms"})  # base64 of a bounded size, which a cut would spoil
_UNCLEAR = (  # the event by which a delivery became ambiguous
    select(event.c.evidence)
    .where(event.c.delivery == bindparam("id"), event.c.event == State.AMBIGUOUS.value)
    .order_by(event.c.seq.desc())
    .limit(1)
)
_last_unclear, _newer = event.alias("last_unclear"), event.alias("newer")
_LAST_UNCLEAR = (
    select(func.max(_newer.c.seq)).where(_newer.c.delivery == delivery.c.id, _newer.c.event == State.AMBIGUOUS.value).scalar_subquery()
)
_AMBIGUOUS = (
    DELIVERIES.add_columns(
        owner.c.id, owner.c.host, owner.c.pid, owner.c.started, delivery.c.armed_at, _last_unclear.c.evidence, HAS_NEWER_COPY
    )
    .outerjoin(owner, owner.c.id == delivery.c.owner)
    .outerjoin(_last_unclear, _last_unclear.c.seq == _LAST_UNCLEAR)
    .where(delivery.c.state == State.AMBIGUOUS.value)
    .order_by(delivery.c.id)
)
_IS_REPLACED = select(delivery.c.id).where(delivery.c.id == bindparam("id"), HAS_NEWER_COPY)


def ambiguous(connection: Connection, scope: DeliveryFilter) -> list[LastAttempt]:
    """Every ambiguous delivery with who tried last, and since when its outcome is unknown."""
    found = []
    for row in connection.execute(within(_AMBIGUOUS, scope)):
        id_, host, pid, started, armed, evidence, replaced = row[-7:]
        who = None if id_ is None else leases.holder_from_row(id_, host, pid, started)
        restored = evidence is not None and ADOPTION in json.loads(evidence)
        found.append(LastAttempt(to_delivery(row[:-7]), who, None if armed is None else parse_timestamp(armed), restored, bool(replaced)))
    return found


def resolve(tx: WriteTransaction, delivery_id: str, state: State, evidence: Mapping[str, object]) -> None:
    """Settle an ambiguous delivery."""
    row = transitions.row(tx, delivery_id)
    if row["state"] != State.AMBIGUOUS:
        raise RequestDenied(
            f"the delivery is {row['state']}, not ambiguous",
            where=delivery_id,
            hint="run `distributor resolve` to list ambiguous deliveries",
        )
    adoption = None
    if state is State.QUEUED:
        _refuse_useless(tx, row)
        adoption = _never_packed(tx, delivery_id)
        state = state if adoption is None else State.PLANNED
    clean = {key: sanitize(value) if isinstance(value, str) else value for key, value in evidence.items()}
    public = {"attempt": row["attempt"], **{k: v for k, v in clean.items() if k not in PERSONAL}}
    if adoption is not None:
        public[ADOPTION] = adoption
    personal = {k: v for k, v in clean.items() if k in PERSONAL}
    said = str(personal.setdefault("said", f"settled by hand: {clean['reason']}" if clean.get("reason") else ""))
    columns = {**transitions.RELEASED, "said": said}
    transitions.apply_transitions(tx, [transitions.Transition(row, state, columns, public, personal, adopted=adoption is not None)])


def _never_packed(tx: WriteTransaction, delivery_id: str) -> int | None:
    """The event by which a restored ledger was taken into use that has no message of this delivery; None where it has one."""
    if tx.connection.execute(select(outbox.c.delivery).where(outbox.c.delivery == delivery_id)).first() is not None:
        return None
    evidence = tx.connection.execute(_UNCLEAR, {"id": delivery_id}).scalar_one_or_none()
    found = json.loads(evidence).get(ADOPTION) if evidence else None
    return found if isinstance(found, int) else None


def _refuse_useless(tx: WriteTransaction, row: transitions.Row) -> None:
    """A message whose password is gone would reach a person who can never open it, a revoked certificate one who must not use it."""
    hint = f"withdraw the delivery: `distributor withdraw {row['id']} --reason TEXT`"
    if (why := _over(tx, row)) is not None:
        raise RequestDenied(f"the message is not sent again: {why}", where=row["id"], hint=f"{hint}; then have a new certificate issued")
    if _is_replaced(tx, row["id"]):
        raise RequestDenied(
            "the message was replaced and its password destroyed, so the recipient could not open it", where=row["id"], hint=hint
        )


def _over(tx: WriteTransaction, row: transitions.Row) -> str | None:
    """When and why its certificate must not be used any more: revoked, expired, or an incident was recorded."""
    reason = certificate_owners.unusable(tx.connection, [row["certificate"]]).get(row["certificate"])
    ends = tx.connection.execute(select(certificate.c.not_after).where(certificate.c.sha256 == row["certificate"])).scalar_one()
    return eligibility.expiry_message(ends) if reason is None and ends <= tx.now and not row["series"] else reason


def _is_replaced(tx: WriteTransaction, delivery_id: str) -> bool:
    state = tx.connection.execute(select(handover.c.state).where(handover.c.delivery == delivery_id)).scalar_one_or_none()
    return state == PasswordState.DESTROYED or tx.connection.execute(_IS_REPLACED, {"id": delivery_id}).first() is not None


_SOUGHT = (
    select(
        delivery.c.id,
        delivery.c.message_id,
        person.c.address,
        delivery.c.state,
        delivery.c.armed_at,
        delivery.c.updated_at,
    )
    .join(person, person.c.id == delivery.c.person)
    .where(delivery.c.message_id.is_not(None))
    .order_by(delivery.c.id)
)


def sought(connection: Connection, states: frozenset[State], scope: DeliveryFilter) -> list[TrackedMessage]:
    """Messages whose outcome a tracker may know."""
    found = connection.execute(within(_SOUGHT, replace(scope, states=states))).all()
    senders = senders_of(connection, [row.id for row in found])
    requests = mailbox_cleanup.handles(connection, [row.id for row in found if row.state == State.AMBIGUOUS])
    return [
        TrackedMessage(
            id_,
            message_id,
            senders.get(id_),
            address,
            State(state),
            parse_timestamp(armed or updated),
            requests.get(id_),
            parse_timestamp(updated) if state == State.AMBIGUOUS else None,
        )
        for id_, message_id, address, state, armed, updated in found
    ]


def observe(tx: WriteTransaction, events: Sequence[TrackingEvent]) -> list[State | None]:
    """Move deliveries by evidence, as far as their states allow; what is there already stays as it is.

    Proof of what a person only said is added as an event `proved`.
    """
    rows = transitions.rows(tx, [sighting.delivery for sighting in events])
    verdicts: list[State | None] = []
    for sighting in events:
        row = rows.get(sighting.delivery)
        moves = row is not None and _moves(tx, row, sighting.state)
        proves = row is not None and _proves(tx, row, sighting)
        verdicts.append(State(row["state"]) if row is not None and (moves or proves) else None)
        if row is not None and moves:
            (rows[sighting.delivery],) = transitions.apply_transitions(tx, [_observed(row, sighting)])
        elif row is not None and proves:
            _add_proof(tx, row, sighting)
    return verdicts


def _moves(tx: WriteTransaction, row: transitions.Row, after: State) -> bool:
    before = State(row["state"])
    if after is State.QUEUED:  # only what is ambiguous goes again, and only to somebody who can open it
        return before is State.AMBIGUOUS and not _is_replaced(tx, row["id"])
    return before in OBSERVED and allowed(before, after)


def _observed(row: transitions.Row, sighting: TrackingEvent) -> transitions.Transition:
    public, personal = _evidence(row, sighting)
    columns = {"owner": None, "lease_until": None, "not_before": None, "said": personal["said"]}
    return transitions.Transition(row, sighting.state, columns, public, personal)


def _evidence(row: transitions.Row, sighting: TrackingEvent) -> tuple[dict[str, object], dict[str, object]]:
    """What the event records in clear, and under its commitment."""
    found = {key: sanitize(value) if isinstance(value, str) and key not in WHOLE else value for key, value in sighting.evidence.items()}
    personal = {key: value for key, value in found.items() if key in PERSONAL}
    public = {"attempt": row["attempt"], **{key: value for key, value in found.items() if key not in PERSONAL}}
    return public, {**personal, "said": sanitize(sighting.response)}


_PROOF = (
    select(event.c.seq).where(event.c.delivery == bindparam("id"), event.c.evidence.contains('"proved":true', autoescape=True)).limit(1)
)
_SAY = update(delivery).where(delivery.c.id == bindparam("b_id")).values(said=bindparam("said"))


def _proves(tx: WriteTransaction, row: transitions.Row, sighting: TrackingEvent) -> bool:
    """Whether this is the first proof of what a person said: that the certificate is installed."""
    said = row["state"] == sighting.state == State.INSTALLED and sighting.evidence.get("proved") is True
    return said and tx.connection.execute(_PROOF, {"id": row["id"]}).first() is None


def _add_proof(tx: WriteTransaction, row: transitions.Row, sighting: TrackingEvent) -> None:
    public, personal = _evidence(row, sighting)
    tx.append([NewEvent(row["id"], PROVED, evidence=public, personal=personal)])
    tx.many(_SAY, [{"b_id": row["id"], "said": personal["said"]}])


def withdraw(tx: WriteTransaction, delivery_id: str, reason: str) -> None:
    """Take a delivery back, unless its message may have left with a certificate that is good and that nothing replaced."""
    row = transitions.row(tx, delivery_id)
    state = State(row["state"])
    unclear = state is State.AMBIGUOUS and not _is_replaced(tx, delivery_id) and _over(tx, row) is None
    if unclear or State.WITHDRAWN not in EDGES[state]:
        hint = _NOT_BACK.get(state, "run `distributor history ADDRESS` to see what happened")
        already = state is State.WITHDRAWN
        message = "the delivery is already withdrawn" if already else f"the delivery is {state} and cannot be withdrawn"
        raise RequestDenied(message, where=delivery_id, hint=hint)
    transitions.apply_transitions(tx, [transitions.withdrawal(row, sanitize(reason), {})])


_NOT_BACK = {
    State.CLAIMED: "wait for `distributor send` to finish",
    State.TRANSMITTING: "wait for `distributor send` to finish",
    State.AMBIGUOUS: "the message may have been sent: settle it with `distributor resolve` first",
}
