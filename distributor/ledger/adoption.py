"""A restored ledger is taken into use: one event records it, and what may have been sent since becomes ambiguous, an event each."""

from __future__ import annotations

import json
from collections import Counter

from sqlalchemy import Connection, bindparam, select

from distributor.ledger import engine, transitions
from distributor.ledger.tables import delivery, event
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import ADOPTION, parse_timestamp
from distributor.model.high_water_mark import AdoptionResult, EventGap, Machine
from distributor.model.states import UNCERTAIN, State

SAID = "the ledger was restored; the message may have been sent in the meantime"
_PAGE = (
    select(delivery.c.id)
    .where(delivery.c.state.in_([state.value for state in UNCERTAIN]), delivery.c.id > bindparam("last"))
    .order_by(delivery.c.id)
    .limit(engine.CHUNK)
)

_ADOPTIONS = select(event.c.seq, event.c.evidence).where(event.c.event == ADOPTION).order_by(event.c.seq.desc()).limit(1)
_FIRST_PLANNED = select(event.c.evidence).where(
    event.c.seq > bindparam("seq"), event.c.event == State.PLANNED.value, event.c.before.is_(None)
)


def adopt(tx: WriteTransaction, here: Machine, reason: str, *, nothing_sent: bool, missing: int | None = None) -> AdoptionResult:
    """Write the event, and move what may have been sent since the ledger's last one."""
    since = tx.last or tx.now
    evidence: dict[str, object] = {"ended_with": tx.seq, "host": here.host, "machine": here.id, "nothing_sent": nothing_sent}
    evidence |= {"since": since} if missing is None else {"since": since, "missing": missing}
    lacks = missing or not nothing_sent
    tx.append([NewEvent(None, ADOPTION, evidence=evidence, personal={"reason": sanitize(reason)})])
    adoption, unclear = tx.seq, Counter[State]()
    last = ""
    while not nothing_sent and (ids := list(tx.connection.execute(_PAGE, {"last": last}).scalars())):
        last = ids[-1]
        rows = transitions.rows(tx, ids)
        transitions.apply_transitions(tx, [_unclear(rows[id_], adoption, since) for id_ in ids])
        unclear.update(State(rows[id_]["state"]) for id_ in ids)
    return AdoptionResult(unclear, EventGap(parse_timestamp(since), missing or None) if lacks else None)


def gap(connection: Connection) -> EventGap | None:
    """What the last adoption may have left out; None where nothing, or once somebody new was planned after it."""
    found = connection.execute(_ADOPTIONS).first()
    record = json.loads(found.evidence) if found is not None else {}
    if found is None or "since" not in record or not (record.get("missing") or not record.get("nothing_sent")):
        return None
    for evidence in connection.execute(_FIRST_PLANNED, {"seq": found.seq}).scalars():
        if "replaces" not in json.loads(evidence):
            return None
    return EventGap(parse_timestamp(record["since"]), record.get("missing") or None)


def _unclear(row: transitions.Row, adoption: int, since: str) -> transitions.Transition:
    before = State(row["state"])
    columns = {"lease_until": None, "not_before": None, "said": SAID}
    if before is State.PLANNED:
        columns["owner"] = None  # of a packing lease
    if before is not State.TRANSMITTING:
        columns["armed_at"] = since
    evidence = {"attempt": row["attempt"], ADOPTION: adoption, "since": since}
    return transitions.Transition(row, State.AMBIGUOUS, columns, evidence, {"said": SAID}, adopted=True)
