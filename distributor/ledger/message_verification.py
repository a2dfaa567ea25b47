"""Deliveries about to be packed, claimed or opened -> refused when one differs from its events (facts: reliability.md 1).

Nothing is taken from a row alone. The events that decide (planned, moved to a later plan, frozen, given another Message-ID) must be there,
all fit their own hashes and follow each other, and still have the personal fields that they commit to: then state, person, certificate,
place, envelope, bytes and sealed password are compared with them.
Whoever also computes these hashes anew is found by `verify`, which follows the whole chain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain as chained
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, or_, select, type_coerce
from sqlalchemy.types import NullType

from distributor.errors import InvalidInput, RequestDenied
from distributor.ledger import engine, person_projection, projection
from distributor.ledger.person_projection import PERSON_CHANGED
from distributor.ledger.projection import EVENT_COLUMNS, INPUTS, Difference, ExpectedState, fingerprint, project
from distributor.ledger.tables import certificate, delivery, event, handover, person, plan
from distributor.ledger.transaction import WriteTransaction
from distributor.mail.message import recipient
from distributor.model.audit_log import ORIGIN, Link, fits
from distributor.model.states import REMAINING, State

# a delivery's row with `sender`, `address`, `outbox_message_id`, `message`, `person_key`, `person_address`, and its handover
QueuedMessage = RowMapping
_WITHDRAW = "run `distributor audit verify` to see what was modified, then withdraw the message: `distributor withdraw {} --reason TEXT`"
_RESEND = "run `distributor audit verify` to see what was modified, then `distributor resend` for a new package and password"
_AGAIN = "run `distributor audit verify` to see what was modified, {}, then run `distributor plan` again"
_before = event.alias("before_it")
_LINKED = (
    select(*EVENT_COLUMNS, _before.c.hash).select_from(event).outerjoin(_before, _before.c.seq == event.c.seq - 1).order_by(event.c.seq)
)


@dataclass(slots=True)
class KnownEvents:
    """The events of a delivery, and those of them that do not fit their hashes."""

    links: list[Link] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)

    def expected(self) -> ExpectedState:
        """What they add up to."""
        return project(self.links)


def verify_messages(tx: WriteTransaction, messages: Sequence[QueuedMessage]) -> None:
    """Raise InvalidInput for the first frozen message that was changed from outside."""
    known = read_links(tx.connection, [message["id"] for message in messages])
    for message in messages:
        _refuse(message["id"], _message_faults(message, known[message["id"]]))


def refuse_changed_plans(tx: WriteTransaction, planned: Sequence[RowMapping]) -> None:
    """Raise InvalidInput for the first planned delivery that was changed from outside.

    `planned`: columns of delivery (with `state`) and certificate, with `inputs` of the plan, `address` and `person_key`.
    """
    known = read_links(tx.connection, [row["id"] for row in planned])
    for row in planned:
        _refuse(row["id"], chained(_state_faults(row, known[row["id"]]), _plan_faults(row, known[row["id"]])))


def refuse_changed_passwords(tx: WriteTransaction, ids: Sequence[str]) -> None:
    """Raise InvalidInput when a delivery's password is not the one that was sealed with its package, or not its person's."""
    for id_, fields in password_differences(tx, ids).items():
        raise _changed_password(id_, fields)


def refuse_changed_people(tx: WriteTransaction, ids: Sequence[str]) -> None:
    """Raise InvalidInput when the person of a delivery, with name and other addresses, is not what the events tell."""
    for id_, who in engine.rows_of(tx.connection, _people_of, ids):
        if found := list(_person_faults(tx.connection, who)):
            raise _changed_password(id_, _fields(found))


def _changed_password(delivery_id: str, fields: str) -> InvalidInput:
    message = f"the ledger was modified outside distributor ({fields}); this password is not shown"
    return InvalidInput(message, where=delivery_id, hint=_RESEND)


def password_differences(tx: WriteTransaction, ids: Sequence[str]) -> dict[str, str]:
    """Deliveries whose password or person is not what their events tell, with the fields that differ."""
    known, found = read_links(tx.connection, ids), {}
    for values in engine.rows_of(tx.connection, _passwords, ids):
        row = dict(zip(_PASSWORD_NAMES, values, strict=True))
        theirs = known[row["handover_delivery"]]
        expected = theirs.expected()
        faults = [*_doubts(theirs, expected), *projection.password_faults(row, expected)]
        faults += projection.address_faults(row["person_key"], row["person_address"], expected)
        if faults:
            found[row["handover_delivery"]] = _fields(faults)
    return found


def refuse_changed_origin(connection: Connection, delivery_id: str) -> None:
    """Raise InvalidInput when a delivery, in any state, or its person is not what the events tell: its next generation would be another's.

    Nothing where there is none.
    """
    found = connection.execute(_ORIGIN, {"id": delivery_id}).mappings().one_or_none()
    if found is None:
        return
    known = read_links(connection, [delivery_id])[delivery_id]
    if known.expected().erased:
        hint = "if they need a certificate again, run `distributor plan`"
        raise RequestDenied("the person of this delivery was erased", where=delivery_id, hint=hint)
    faults = [*_plan_faults(found, known), *projection.state_faults(found["state"], known.expected())]
    faults += [*_inputs_faults(connection, known), *_person_faults(connection, found["person"])]
    if faults:
        message = f"the ledger was modified outside distributor ({_fields(faults)}); no new package is planned from it"
        back = f"withdraw the delivery with `distributor withdraw {delivery_id} --reason TEXT`"
        way = back if found["state"] in REMAINING else "have a new certificate issued"
        raise InvalidInput(message, where=delivery_id, hint=_AGAIN.format(way))


def _inputs_faults(connection: Connection, known: KnownEvents) -> Iterator[Difference]:
    """Whether the plans that its events name were made from what they say; what an older program did not record is not compared."""
    expected = {}
    for link in known.links:
        evidence = json.loads(link.evidence) if link.event in {"planned", "relocated"} else {}
        if "inputs_sha256" in evidence:
            expected[evidence.get("plan")] = evidence["inputs_sha256"]
    for name, wanted in expected.items():
        inputs = connection.execute(_INPUTS, {"id": name}).scalar_one_or_none()
        if inputs is None or fingerprint(inputs) != wanted:
            yield Difference(INPUTS, f"{INPUTS} does not match the audit log")


def _person_faults(connection: Connection, who: str) -> Iterator[Difference]:
    """Whether a person is as the last event of any of their deliveries says."""
    links = []
    for *columns, before in engine.all_rows(connection, _OF_PERSON, {"person": who}):
        links.append(Link(*columns))
        if not fits(links[-1], before or ORIGIN):
            yield Difference(f"event {links[-1].seq}", f"event {links[-1].seq} does not match its hash")
            return
    for row in connection.execute(select(person).where(person.c.id == who)).mappings():
        yield from person_projection.person_faults(dict(row), links)


_OF_PERSON = _LINKED.join(delivery, delivery.c.id == event.c.delivery).where(
    delivery.c.person == bindparam("person"), or_(event.c.event == State.PLANNED.value, event.c.event == PERSON_CHANGED)
)
_INPUTS = select(plan.c.inputs).where(plan.c.id == bindparam("id"))
_ORIGIN = (
    select(
        *(
            delivery.c[name]
            for name in (
                "id",
                "state",
                "plan",
                "person",
                "certificate",
                "generation",
                "language",
                "locator",
                "way",
                "series",
                "predecessor",
            )
        ),
        plan.c.inputs,
        *(certificate.c[name] for name in ("serial", "issuer", "not_after", "chain")),
        type_coerce(certificate.c.der, NullType()).label("der"),
        person.c.key.label("person_key"),
        person.c.address,
    )
    .outerjoin(plan, plan.c.id == delivery.c.plan)
    .outerjoin(person, person.c.id == delivery.c.person)
    .outerjoin(certificate, certificate.c.sha256 == delivery.c.certificate)
    .where(delivery.c.id == bindparam("id"))
)
_PASSWORD = [column for column in projection.ROW_COLUMNS if column.name.startswith(("handover_", "person_"))]
_PASSWORD_NAMES = [column.name for column in _PASSWORD]


@cache
def _passwords(size: int) -> Select[Any]:
    asked = select(*_PASSWORD).select_from(delivery).join(person, person.c.id == delivery.c.person)
    return asked.join(handover, handover.c.delivery == delivery.c.id).where(engine.one_of(delivery.c.id, size))


@cache
def _people_of(size: int) -> Select[Any]:
    return select(delivery.c.id, delivery.c.person).where(engine.one_of(delivery.c.id, size))


def refusal(delivery_id: str, changed: str) -> InvalidInput:
    """The error for a message whose rows were changed. `changed`: which fields."""
    message = f"the ledger was modified outside distributor ({changed}); this message is not sent"
    return InvalidInput(message, where=delivery_id, hint=_WITHDRAW.format(delivery_id))


def _refuse(delivery_id: str, faults: Iterator[Difference]) -> None:
    found = list(faults)
    if found:
        raise refusal(delivery_id, _fields(found))


def _fields(found: Sequence[Difference]) -> str:
    return ", ".join(dict.fromkeys(fault.field for fault in found))


def read_links(connection: Connection, ids: Sequence[str]) -> dict[str, KnownEvents]:
    """The events of deliveries, each compared with its hash."""
    known = {id_: KnownEvents() for id_ in ids}
    for *columns, before in engine.rows_of(connection, _events_of, ids):
        link = Link(*columns)
        theirs = known[str(link.delivery)]
        theirs.links.append(link)
        if not fits(link, before or ORIGIN):
            theirs.broken.append(link.seq)
    return known


@cache
def _events_of(size: int) -> Select[Any]:
    return _LINKED.where(engine.one_of(event.c.delivery, size))


def _doubts(known: KnownEvents, expected: ExpectedState) -> Iterator[Difference]:
    """Events that do not fit, that are missing or stand twice, or that no longer say for whom."""
    yield from (Difference(f"event {seq}", f"event {seq} does not match its hash") for seq in known.broken)
    planned = sum(link.before is None and link.after == State.PLANNED for link in known.links)
    frozen = sum(link.before == State.PLANNED and link.after == State.QUEUED for link in known.links)
    if planned != 1 or frozen > 1:  # in a restored ledger a delivery may be planned again, but not what it is planned for
        yield Difference("its events", "events are missing or duplicated")
    elif expected.address is None or (expected.outbox is not None and "address" not in expected.outbox):
        yield Difference("personal fields of its events", "the events no longer name the recipient")


def _state_faults(row: RowMapping, known: KnownEvents) -> Iterator[Difference]:
    """Whether a delivery is where its last event left it, and each event began where the one before had ended."""
    updates = [link for link in known.links if link.after is not None]
    yield from projection.state_faults(row["state"], known.expected())
    yield from (
        Difference("state", "state does not follow from the event before") for one, next_ in pairwise(updates) if one.after != next_.before
    )


def _plan_faults(row: RowMapping, known: KnownEvents) -> Iterator[Difference]:
    expected = known.expected()
    yield from _doubts(known, expected)
    yield from projection.planned_faults(row, expected)
    yield from projection.digest_faults(expected, {INPUTS: row["inputs"]})
    yield from projection.address_faults(row["person_key"], row["address"], expected)
    yield from projection.certificate_faults(row, expected)
    if not isinstance(row["der"], bytes) or fingerprint(row["der"]) != row["certificate"]:
        yield Difference("certificate", "certificate does not match its SHA-256")


def _message_faults(message: QueuedMessage, known: KnownEvents) -> Iterator[Difference]:
    found = list(_frozen_faults(message, known))
    yield from found
    if not found and recipient(message["message"]) != message["address"]:
        yield Difference("outbox To", "outbox To is not the envelope recipient")


def _frozen_faults(message: QueuedMessage, known: KnownEvents) -> Iterator[Difference]:
    expected = known.expected()
    yield from _doubts(known, expected)
    yield from _state_faults(message, known)
    yield from projection.password_faults(message, expected)
    place = ("person_key", "sender", "address", "outbox_message_id", "message")
    yield from projection.outbox_differences(expected, *(message[name] for name in place))
    yield from projection.address_faults(message["person_key"], message["person_address"], expected)
    if message["message_id"] != expected.row.get("message_id"):
        yield Difference("message_id", "message_id does not match the audit log")
    yield from projection.planned_faults(message, expected)
