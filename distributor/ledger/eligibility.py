"""Which deliveries may leave: what was revoked, has expired or is another person's too is withdrawn; and the next generation of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select

from distributor.errors import InvalidInput, RequestDenied
from distributor.ledger import certificate_owners, engine, leases, planning, transitions
from distributor.ledger.message_verification import refuse_changed_origin
from distributor.ledger.tables import certificate, delivery, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import canonical
from distributor.model.certificates import Locator, RevokedDelivery
from distributor.model.delivery import DeliveryRequest
from distributor.model.revocation import HELD_BACK_PREFIX
from distributor.model.states import PasswordState, State, Way


class _Facts(NamedTuple):
    """A delivery with what decides."""

    id: str
    person: str  # Address.key
    address: str
    certificate: str
    key: str | None
    not_before: str
    not_after: str
    series: str  # an old key for old mail, which may have expired


@cache
def _about(size: int) -> Select[Any]:
    return (
        select(
            delivery.c.id,
            person.c.key,
            person.c.address,
            *(certificate.c[n] for n in ("sha256", "key_sha256", "not_before", "not_after")),
            delivery.c.series,
        )
        .join(person, person.c.id == delivery.c.person)
        .join(certificate, certificate.c.sha256 == delivery.c.certificate)
        .where(engine.one_of(delivery.c.id, size))
    )


def keep_eligible(tx: WriteTransaction, waiting: Sequence[Any]) -> frozenset[str]:
    """Withdraw those of these deliveries that must not leave any more; the ids of those that go on.

    `waiting`: mappings with `id`, `certificate` and, but for planned ones, `state`; none has a lease. `tx.taken_back` gets
    what was withdrawn, and what is held back unchanged because its certificate has expired only by a clock that jumped.
    """
    if not waiting:
        return frozenset()
    info = _facts(tx, [row["id"] for row in waiting])
    reason_by_certificate = certificate_owners.revoked(tx.connection, (row["certificate"] for row in waiting))
    good = certificate_owners.withdraw_revoked(tx, waiting) if reason_by_certificate else frozenset(row["id"] for row in waiting)
    gone = {one.id: reason_by_certificate[one.certificate] for one in info if one.id not in good}
    left = [one for one in info if one.id in good]
    exposed = certificate_owners.exposed(tx.connection, (one.certificate for one in left))
    expired = {one.id: expiry_message(one.not_after) for one in left if one.not_after <= tx.now and not one.series}
    incidents = {one.id: exposed[one.certificate] for one in left if one.certificate in exposed}
    held = expired.keys() - incidents.keys() if expired and not tx.time_has_passed() else frozenset()
    owners = {one.id: (one.person, one.certificate, one.key) for one in left if one.id not in expired}
    reasons = expired | certificate_owners.other_owners(tx, owners) | incidents
    transitions.apply_transitions(
        tx,
        [
            transitions.withdrawal(row, sanitize(reasons[row["id"]]), {"certificate_sha256": row["certificate"]})
            for row in transitions.rows(tx, [id_ for id_ in reasons if id_ not in held]).values()
        ],
    )
    gone |= reasons
    states = {row["id"]: State(row.get("state", State.PLANNED)) for row in waiting}
    for one in (one for one in info if one.id in gone):
        before = states[one.id]
        after, why = State.WITHDRAWN, gone[one.id]
        if one.id in held:
            after, why = before, f"{HELD_BACK_PREFIX}{why}, by a clock that jumped"
        tx.taken_back.append(RevokedDelivery(one.id, one.address, before, after, sanitize(why)))
    return good - reasons.keys()


def has_held_back(tx: WriteTransaction) -> bool:
    """Whether this transaction found a delivery that is held back."""
    return any(struck.after is not State.WITHDRAWN for struck in tx.taken_back)


def not_expired(now: str) -> ColumnElement[bool]:
    """Deliveries whose certificate has not expired, or that are old keys."""
    good = delivery.c.certificate.in_(select(certificate.c.sha256).where(certificate.c.not_after > now).correlate(None))
    return or_(good, delivery.c.series != "")


def _facts(tx: WriteTransaction, ids: Sequence[str]) -> list[_Facts]:
    return [_Facts(*row) for row in engine.rows_of(tx.connection, _about, ids)]


def expiry_message(not_after: str) -> str:
    """The words for a certificate that expired; `not_after` is a stamp."""
    return f"the certificate expired on {not_after[:10]}"


def refuse_not_yet_valid(tx: WriteTransaction, waiting: Sequence[Any]) -> None:
    """Raise InvalidInput where a certificate is not valid yet: it was when its delivery was planned, so a clock is wrong."""
    for one in _facts(tx, [row["id"] for row in waiting]):
        if one.not_before > tx.now:
            raise InvalidInput(
                f"the certificate is not valid before {one.not_before[:19]}Z; this machine's clock says {tx.now[:19]}Z",
                where=one.id,
                hint=f"correct the clock, or withdraw the message: `distributor withdraw {one.id} --reason TEXT`",
            )


# --- generations --------------------------------------------------------------------------------
#
# A delivery -> its next generation: the old password dies, an unsent old message is withdrawn, the new one is planned.


_PERSON = select(person).where(person.c.id == bindparam("id"))
_UNSENT = frozenset({State.PLANNED, State.QUEUED, State.DEFERRED})


def regenerate(
    tx: WriteTransaction, old_id: str, reason: str, request: DeliveryRequest | None, place: tuple[str, Locator] | None = None
) -> str:
    """Plan the next generation; the id of the new delivery. Raises InvalidInput where the old one is not as its events tell."""
    refuse_changed_origin(tx.connection, old_id)
    old = _free(tx, transitions.row(tx, old_id))
    reason = sanitize(reason)
    new = _successor(tx, old, reason, request, place)
    if State(old["state"]) in _UNSENT:
        transitions.apply_transitions(tx, [transitions.withdrawal(old, reason, {"replaced_by": new.id})])
    elif transitions.close_passwords(tx, [old_id], PasswordState.DESTROYED):
        tx.append([NewEvent(old_id, "password-destroyed", evidence={"replaced_by": new.id}, personal={"reason": reason})])
    planning.enter(tx, [new])
    return new.id


def _free(tx: WriteTransaction, old: transitions.Row) -> transitions.Row:
    """The row, its lease released if that has expired. Raises RequestDenied while a sender holds it."""
    if old["state"] not in leases.ON_THE_WAY:
        return old
    if not leases.has_expired(old["lease_until"], tx.now):
        raise RequestDenied(
            "the message is being sent right now", where=old["id"], hint="wait for `distributor send` to finish, then run the command again"
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
        described = planning.keep_certificates(tx, plan, [request])[request.facts.sha256]
        who = planning.keep_people(tx, [request])[request.person.address.key]
        locator, language = canonical(request.locator.as_json()), request.language
    certificate_owners.refuse_other_owner(tx, who["key"], described["sha256"])
    if why := certificate_owners.exposed(tx.connection, [described["sha256"]]).get(described["sha256"]):
        raise RequestDenied(why, where=old["id"], hint=certificate_owners.NEW_CERTIFICATE)
    generation = _last(tx, old, who["id"], described["sha256"]) + 1
    inputs = planning.inputs_sha256(tx, plan)
    same = described["sha256"] == old["certificate"]
    return planning.PlannedDelivery(
        planning.new_id(tx),
        plan,
        inputs,
        who,
        generation,
        language,
        locator,
        described,
        reason,
        old["id"],
        Way(old["way"]),
        old["series"] if same else "",
        old["predecessor"] if same else old["certificate"],
    )


def _last(tx: WriteTransaction, old: transitions.Row, who: str, sha256: str) -> int:
    """The highest generation so far, by any way; raises RequestDenied when `old` is not the last of its line."""
    highest = select(func.max(delivery.c.generation))
    line = delivery.c.person == old["person"], delivery.c.certificate == old["certificate"]
    own = tx.connection.execute(highest.where(*line, delivery.c.way == old["way"])).scalar_one()
    if own > old["generation"]:
        raise RequestDenied(
            f"generation {old['generation']} was replaced by generation {own}",
            where=old["id"],
            hint="run `distributor status` to find the newest delivery",
        )
    other = tx.connection.execute(highest.where(delivery.c.person == who, delivery.c.certificate == sha256)).scalar_one()
    return int(max(own, tx.connection.execute(highest.where(*line)).scalar_one(), other or 0))
