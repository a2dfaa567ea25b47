"""A person's key may be in the wrong hands: passwords are destroyed, what has not left is withdrawn, and what a CA needs is collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, select

from distributor.errors import UsageError
from distributor.ledger import engine, transitions
from distributor.ledger.tables import certificate, delivery, event, handover, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import parse_timestamp
from distributor.model.requests import ExposedDelivery
from distributor.model.revocation import INCIDENT
from distributor.model.states import RECEIVED, REMAINING, PasswordState, State, Way

_THEIRS = (
    select(
        delivery.c.id,
        person.c.address,
        *(certificate.c[name] for name in ("sha256", "serial", "issuer", "subject", "not_after")),
        handover.c.state,
        handover.c.sealed.is_not(None),
        delivery.c.way,
        delivery.c.message_id,
    )
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .outerjoin(handover, handover.c.delivery == delivery.c.id)
    .where(person.c.key == bindparam("address"))
    .order_by(delivery.c.id)
)
_OPEN = (PasswordState.HELD.value, PasswordState.READY.value)
_REVEALED = "revealed"
_TELLING = sorted({_REVEALED, *(state.value for state in RECEIVED)})


class _Exposed(NamedTuple):
    """A delivery of the person, with its certificate and its password."""

    id: str
    address: str
    sha256: str
    serial: str
    issuer: str
    subject: str
    not_after: str
    password: str | None
    sealed: bool
    way: str
    message_id: str | None

    @property
    def has_password(self) -> bool:
        return self.password in _OPEN or self.sealed


def record(tx: WriteTransaction, address: str, reason: str) -> list[ExposedDelivery]:
    """Record an incident for each delivery of a person. Raises UsageError where there is none."""
    theirs = [_Exposed._make(row) for row in tx.connection.execute(_THEIRS, {"address": address})]
    if not theirs:
        raise UsageError("this person has no deliveries", where=address, hint="`distributor status` lists all deliveries")
    destroyed = [one.id for one in theirs if one.has_password]
    if destroyed:
        transitions.close_passwords(tx, destroyed, PasswordState.DESTROYED)
    words = sanitize(reason)
    tx.append([_note(one, words) for one in theirs])
    rows = transitions.rows(tx, [one.id for one in theirs])
    withdrawn = _withdraw(tx, rows, words)
    seen = _seen(tx, [one.id for one in theirs])
    return [_exposed(one, withdrawn.get(one.id, rows[one.id]), seen, withdrawn=one.id in withdrawn) for one in theirs]


def _note(one: _Exposed, reason: str) -> NewEvent:
    evidence: dict[str, object] = {"certificate_sha256": one.sha256, "certificate_serial": one.serial}
    if one.has_password:
        evidence["password"] = PasswordState.DESTROYED.value
    return NewEvent(one.id, INCIDENT, evidence=evidence, personal={"address": one.address, "reason": reason})


def _withdraw(tx: WriteTransaction, rows: Mapping[str, transitions.Row], reason: str) -> dict[str, transitions.Row]:
    """Take back what has not left; a claim is taken from its sender, who is refused when it is about to transmit (fencing)."""
    claimed = [row for row in rows.values() if row["state"] == State.CLAIMED]
    evidence = [{"attempt": row["attempt"], "owner": row["owner"], "why": "an incident was recorded"} for row in claimed]
    freed = transitions.apply_transitions(
        tx, [transitions.Transition(row, State.QUEUED, transitions.RELEASED, why) for row, why in zip(claimed, evidence, strict=True)]
    )
    waiting = [*freed, *(row for row in rows.values() if State(row["state"]) in REMAINING)]
    gone = [transitions.withdrawal(row, reason, {"certificate_sha256": row["certificate"], "why": INCIDENT}) for row in waiting]
    return {row["id"]: row for row in transitions.apply_transitions(tx, gone)}


@cache
def _telling(size: int) -> Select[Any]:
    asked = select(event.c.delivery, event.c.event, event.c.at).where(engine.one_of(event.c.delivery, size))
    return asked.where(event.c.event.in_([bindparam(f"name_{i}", name) for i, name in enumerate(_TELLING)]))


def _seen(tx: WriteTransaction, ids: Sequence[str]) -> dict[tuple[str, bool], str]:
    """When each message was accepted first, and when its password was revealed; by delivery and whether it is the second."""
    found: dict[tuple[str, bool], str] = {}
    for id_, name, at in engine.rows_of(tx.connection, _telling, ids):
        key = id_, name == _REVEALED
        found[key] = min(found.get(key, at), at)
    return found


def _exposed(one: _Exposed, row: transitions.Row, seen: Mapping[tuple[str, bool], str], *, withdrawn: bool) -> ExposedDelivery:
    accepted, revealed = seen.get((one.id, False)), seen.get((one.id, True))
    return ExposedDelivery(
        one.id,
        State(row["state"]),
        row["generation"],
        one.sha256,
        one.serial,
        one.issuer,
        one.subject,
        parse_timestamp(one.not_after),
        None if accepted is None else parse_timestamp(accepted),
        None if revealed is None else parse_timestamp(revealed),
        withdrawn=withdrawn,
        password_destroyed=one.has_password,
        record=one.message_id if one.way == Way.INTUNE else None,
    )
