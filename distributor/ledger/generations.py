"""A delivery -> its next generation: the old password dies, an unsent old letter is withdrawn, the new one is planned."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, func, select

from distributor.errors import Refused
from distributor.ledger import certificate_owners, leases, planning, transitions
from distributor.ledger.message_verification import refuse_changed_origin
from distributor.ledger.tables import delivery, person
from distributor.ledger.transaction import Note, Writing, words
from distributor.model.audit_log import canonical
from distributor.model.certificates import Locator
from distributor.model.delivery import Draft
from distributor.model.states import PasswordState, State

_PERSON = select(person).where(person.c.id == bindparam("id"))
_UNSENT = frozenset({State.PLANNED, State.QUEUED, State.DEFERRED})
_ON_THE_WAY = frozenset({State.CLAIMED, State.TRANSMITTING})


def regenerate(book: Writing, old_id: str, reason: str, draft: Draft | None, place: tuple[str, Locator] | None = None) -> str:
    """Plan the next generation; the id of the new delivery. Raises Unusable where the old one is not as its events tell."""
    refuse_changed_origin(book.connection, old_id)
    old = _free(book, transitions.row(book, old_id))
    new = _successor(book, old, words(reason), draft, place)
    if State(old["state"]) in _UNSENT:
        loan = {"owner": None, "lease_until": None, "not_before": None}
        transitions.move(book, [transitions.Change(old, State.WITHDRAWN, loan, {"replaced_by": new.id}, {"reason": new.reason})])
    elif transitions.close_passwords(book, [old_id], PasswordState.DESTROYED):
        book.append([Note(old_id, "password-destroyed", evidence={"replaced_by": new.id}, personal={"reason": new.reason})])
    planning.enter(book, [new])
    return new.id


def _free(book: Writing, old: transitions.Row) -> transitions.Row:
    """The row once a silent sender's claim is over; raises Refused while a sender holds it."""
    if State(old["state"]) not in _ON_THE_WAY:
        return old
    if old["lease_until"] > book.now:
        raise Refused(
            "it is being sent at this moment", where=old["id"], hint="wait until `distributor send` is done, then run the command again"
        )
    return leases.free(book, [(old, leases.SILENT)])[0]


def _successor(
    book: Writing, old: transitions.Row, reason: str, draft: Draft | None, place: tuple[str, Locator] | None
) -> planning.Planned:
    locator, language, plan = old["locator"], old["language"], old["plan"]
    if place is not None:
        plan, locator = place[0], canonical(place[1].as_json())
    if draft is None:
        described = planning.described(book, old["certificate"])
        who: Mapping[str, str] = dict(book.connection.execute(_PERSON, {"id": old["person"]}).mappings().one())
    else:
        described = planning.keep_certificates(book, [draft])[draft.facts.sha256]
        who = planning.keep_people(book, [draft])[draft.person.address.key]
        locator, language = canonical(draft.locator.as_json()), draft.language
    certificate_owners.refuse(book, who["key"], described["sha256"])
    generation = _last(book, old, who["id"], described["sha256"]) + 1
    inputs = planning.inputs_sha256(book, plan)
    return planning.Planned(planning.new_id(book), plan, inputs, who, generation, language, locator, described, reason, old["id"])


def _last(book: Writing, old: transitions.Row, who: str, sha256: str) -> int:
    """The highest generation so far; raises Refused when `old` is not the last of its line."""
    highest = select(func.max(delivery.c.generation))
    own = book.connection.execute(
        highest.where(delivery.c.person == old["person"], delivery.c.certificate == old["certificate"])
    ).scalar_one()
    if own > old["generation"]:
        raise Refused(
            f"generation {old['generation']} was replaced by generation {own}",
            where=old["id"],
            hint="`distributor status` names the newest delivery",
        )
    other = book.connection.execute(highest.where(delivery.c.person == who, delivery.c.certificate == sha256)).scalar_one()
    return int(max(own, other or 0))
