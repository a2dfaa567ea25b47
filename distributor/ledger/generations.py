"""A delivery -> its next generation: the old password dies, an unsent old message is withdrawn, the new one is planned."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, func, select

from distributor.errors import RequestDenied
from distributor.ledger import certificate_owners, leases, planning, transitions
from distributor.ledger.message_verification import refuse_changed_origin
from distributor.ledger.tables import delivery, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import canonical
from distributor.model.certificates import Locator
from distributor.model.delivery import DeliveryRequest
from distributor.model.states import PasswordState, State

_PERSON = select(person).where(person.c.id == bindparam("id"))
_UNSENT = frozenset({State.PLANNED, State.QUEUED, State.DEFERRED})
_ON_THE_WAY = frozenset({State.CLAIMED, State.TRANSMITTING})


def regenerate(
    tx: WriteTransaction, old_id: str, reason: str, request: DeliveryRequest | None, place: tuple[str, Locator] | None = None
) -> str:
    """Plan the next generation; the id of the new delivery. Raises InvalidInput where the old one is not as its events tell."""
    refuse_changed_origin(tx.connection, old_id)
    old = _free(tx, transitions.row(tx, old_id))
    new = _successor(tx, old, sanitize(reason), request, place)
    if State(old["state"]) in _UNSENT:
        released = {"owner": None, "lease_until": None, "not_before": None}
        transitions.apply_transitions(
            tx, [transitions.Transition(old, State.WITHDRAWN, released, {"replaced_by": new.id}, {"reason": new.reason})]
        )
    elif transitions.close_passwords(tx, [old_id], PasswordState.DESTROYED):
        tx.append([NewEvent(old_id, "password-destroyed", evidence={"replaced_by": new.id}, personal={"reason": new.reason})])
    planning.enter(tx, [new])
    return new.id


def _free(tx: WriteTransaction, old: transitions.Row) -> transitions.Row:
    """The row, its lease released if that has expired. Raises RequestDenied while a sender holds it."""
    if State(old["state"]) not in _ON_THE_WAY:
        return old
    if old["lease_until"] > tx.now:
        raise RequestDenied(
            "it is being sent at this moment", where=old["id"], hint="wait until `distributor send` is done, then run the command again"
        )
    return leases.release_expired(tx, [(old, leases.LEASE_EXPIRED)])[0]


def _successor(
    tx: WriteTransaction, old: transitions.Row, reason: str, request: DeliveryRequest | None, place: tuple[str, Locator] | None
) -> planning.PlannedDelivery:
    locator, language, plan = old["locator"], old["language"], old["plan"]
    if place is not None:
        plan, locator = place[0], canonical(place[1].as_json())
    if request is None:
        described = planning.described(tx, old["certificate"])
        who: Mapping[str, str] = dict(tx.connection.execute(_PERSON, {"id": old["person"]}).mappings().one())
    else:
        described = planning.keep_certificates(tx, [request])[request.facts.sha256]
        who = planning.keep_people(tx, [request])[request.person.address.key]
        locator, language = canonical(request.locator.as_json()), request.language
    certificate_owners.refuse_other_owner(tx, who["key"], described["sha256"])
    generation = _last(tx, old, who["id"], described["sha256"]) + 1
    inputs = planning.inputs_sha256(tx, plan)
    return planning.PlannedDelivery(planning.new_id(tx), plan, inputs, who, generation, language, locator, described, reason, old["id"])


def _last(tx: WriteTransaction, old: transitions.Row, who: str, sha256: str) -> int:
    """The highest generation so far; raises RequestDenied when `old` is not the last of its line."""
    highest = select(func.max(delivery.c.generation))
    own = tx.connection.execute(
        highest.where(delivery.c.person == old["person"], delivery.c.certificate == old["certificate"])
    ).scalar_one()
    if own > old["generation"]:
        raise RequestDenied(
            f"generation {old['generation']} was replaced by generation {own}",
            where=old["id"],
            hint="`distributor status` names the newest delivery",
        )
    other = tx.connection.execute(highest.where(delivery.c.person == who, delivery.c.certificate == sha256)).scalar_one()
    return int(max(own, other or 0))
