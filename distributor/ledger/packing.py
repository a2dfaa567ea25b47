"""Planned deliveries -> leased to a packer -> frozen messages in the outbox, with their sealed passwords beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, insert, or_, select, update

from distributor.ledger import eligibility, engine, leases, transitions
from distributor.ledger.message_verification import refusal, refuse_changed_plans
from distributor.ledger.projection import address_key, fingerprint
from distributor.ledger.queries import freezes, within
from distributor.ledger.tables import authority, certificate, delivery, event, handover, outbox, person, plan
from distributor.ledger.transaction import WriteTransaction
from distributor.mail.message import recipient
from distributor.model.attempts import PackedMessage, PackingTask
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.certificates import Locator
from distributor.model.clocks import bounded_lease
from distributor.model.delivery import DeliveryFilter, LeaseHolder
from distributor.model.people import Address, Person
from distributor.model.states import PasswordState, State, Way

_renewed = certificate.alias("renewed")
_PLANNED = (
    select(
        *(
            delivery.c[n]
            for n in ("id", "plan", "certificate", "generation", "language", "locator", "state", "way", "series", "predecessor")
        ),
        plan.c.inputs,
        *(certificate.c[n] for n in ("sha256", "serial", "issuer", "subject", "not_before", "not_after", "der", "chain")),
        *(person.c[n] for n in ("address", "name", "phone", "manager", "alternate_email", "columns")),
        person.c.language.label("tag"),
        person.c.id.label("person"),
        person.c.key.label("person_key"),
        _renewed.c.not_after.label("renews"),
    )
    .join(plan, plan.c.id == delivery.c.plan)
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .outerjoin(_renewed, _renewed.c.sha256 == delivery.c.predecessor)
    .where(delivery.c.state == State.PLANNED.value)
    .order_by(delivery.c.id)
)
_LEASE = update(delivery).where(delivery.c.id == bindparam("b_id")).values(owner=bindparam("who"), lease_until=bindparam("until"))
_AUTHORITIES = select(authority.c.sha256, authority.c.der).where(authority.c.sha256.in_(bindparam("hashes", expanding=True)))
_EARLIER = (
    select(delivery.c.person, event.c.evidence)
    .join(event, event.c.delivery == delivery.c.id)
    .where(delivery.c.person.in_(bindparam("people", expanding=True)), freezes())
    .order_by(event.c.seq)
)
_INSERT_MESSAGE = insert(outbox)
_INSERT_PASSWORD = insert(handover)


def lease(  # noqa: PLR0913, PLR0917  the port's own arguments
    tx: WriteTransaction,
    holder: LeaseHolder,
    limit: int,
    lease: timedelta,
    scope: DeliveryFilter,
    dead: frozenset[str] = frozenset(),
) -> list[PackingTask]:
    """Lease planned deliveries that are free, or of a dead owner; those that must not be sent any more are withdrawn instead.

    Raises InvalidInput where one differs from its events.
    """
    found = _free(tx, limit, scope, dead)
    if found:
        leases.ensure_holder(tx, holder)
        until = format_timestamp(tx.moment + bounded_lease(lease))
        tx.many(_LEASE, [{"b_id": row["id"], "who": holder.id, "until": until} for row in found])
    chains = {row["certificate"]: json.loads(row["chain"]) for row in found}
    above = _authorities(tx, {sha for chain in chains.values() for sha in chain})
    for row in found:
        if any(fingerprint(above.get(sha, b"")) != sha for sha in chains[row["certificate"]]):
            raise refusal(row["id"], "certificate's chain")
    known = _senders(tx, {row["person"] for row in found})
    return [_to_pack(row, tuple(above[sha] for sha in chains[row["certificate"]]), known.get(row["person"])) for row in found]


def _free(tx: WriteTransaction, limit: int, scope: DeliveryFilter, dead: frozenset[str]) -> list[RowMapping]:
    over = leases.is_over(tx.now)
    asked = within(_PLANNED.where(or_(over, delivery.c.owner.in_(sorted(dead))) if dead else over), scope).limit(limit)
    while found := tx.connection.execute(asked).mappings().all():
        refuse_changed_plans(tx, found)
        good = eligibility.keep_eligible(tx, found)
        if good:
            return [row for row in found if row["id"] in good]
        if eligibility.has_held_back(tx):
            asked = asked.where(eligibility.not_expired(tx.now))
    return []


def _authorities(tx: WriteTransaction, hashes: set[str]) -> dict[str, bytes]:
    """CA certificates by hash; many people share a few."""
    rows = tx.connection.execute(_AUTHORITIES, {"hashes": sorted(hashes)}) if hashes else ()
    return {sha: bytes(der) for sha, der in rows}


def _senders(tx: WriteTransaction, people: set[str]) -> dict[str, str]:
    """The sender of each person's last message, where there was one."""
    rows = tx.connection.execute(_EARLIER, {"people": sorted(people)}) if people else ()
    return {one: sender for one, evidence in rows if (sender := json.loads(evidence)["sender"])}  # an import has none


def _to_pack(row: RowMapping, chain: tuple[bytes, ...], sender: str | None) -> PackingTask:
    local, _, domain = row["address"].rpartition("@")
    columns = json.loads(row["columns"]) if row["columns"] else {}
    contacts = {n: row[n] for n in ("name", "phone", "manager", "alternate_email")}
    return PackingTask(
        row["id"],
        row["plan"],
        row["generation"],
        Person(Address(local, domain), language=row["tag"], columns=columns, **contacts),
        row["language"],
        row["sha256"],
        row["serial"],
        row["issuer"],
        row["subject"],
        parse_timestamp(row["not_before"]),
        parse_timestamp(row["not_after"]),
        Locator.from_json(json.loads(row["locator"])),
        bytes(row["der"]),
        chain,
        sender,
        Way(row["way"]),
        row["series"],
        None if row["renews"] is None else parse_timestamp(row["renews"]),
    )


def enqueue(tx: WriteTransaction, packed: Sequence[PackedMessage]) -> list[bool]:
    """Freeze messages of deliveries that are still planned."""
    rows = transitions.rows(tx, [message.id for message in packed])
    frozen: dict[str, PackedMessage] = {}
    verdicts = []
    for message in packed:
        good = message.id in rows and rows[message.id]["state"] == State.PLANNED and message.id not in frozen
        verdicts.append(good)
        if good:
            frozen[message.id] = message
    _freeze(tx, rows, frozen)
    return verdicts


def _freeze(tx: WriteTransaction, rows: dict[str, transitions.Row], frozen: dict[str, PackedMessage]) -> None:
    if not frozen:
        return
    addresses = _envelopes(tx, frozen)
    messages = list(frozen.values())
    tx.many(_INSERT_MESSAGE, [_outbox_row(message, addresses[message.id]) for message in messages])
    tx.many(_INSERT_PASSWORD, [_password(message) for message in messages if message.sealed is not None])
    transitions.apply_transitions(tx, [_change(message, rows[message.id], addresses[message.id]) for message in messages])


def _envelopes(tx: WriteTransaction, frozen: Mapping[str, PackedMessage]) -> dict[str, str]:
    """The address that each message names in its To, which must be its person's; a roster may spell it otherwise since it was leased."""
    people: dict[str, str] = dict(engine.rows_of(tx.connection, _addresses, list(frozen)))
    named = {id_: recipient(message.message) or "" for id_, message in frozen.items()}
    for id_, address in named.items():
        if address_key(address) != address_key(people[id_]):
            raise refusal(id_, "person's address")
    return named


@cache
def _addresses(size: int) -> Select[Any]:
    asked = select(delivery.c.id, person.c.address).join(person, person.c.id == delivery.c.person)
    return asked.where(engine.one_of(delivery.c.id, size))


def _outbox_row(message: PackedMessage, address: str) -> dict[str, Any]:
    return {
        "delivery": message.id,
        "sender": message.sender,
        "address": address,
        "message_id": message.message_id,
        "message": message.message,
    }


def _password(message: PackedMessage) -> dict[str, Any]:
    password = {"channel": message.channel, "sealed": message.sealed, "lasts": _seconds(message)}
    return {"delivery": message.id, "state": PasswordState.HELD.value, **password}


def _seconds(message: PackedMessage) -> int | None:
    return None if message.expires is None else int(message.expires.total_seconds())


def _change(message: PackedMessage, row: transitions.Row, address: str) -> transitions.Transition:
    kept = {"message_id": message.message_id, "package_sha256": message.package_sha256, "profile": message.profile}
    columns = {**kept, "owner": None, "lease_until": None}
    evidence: dict[str, object] = {**kept, "letter_sha256": fingerprint(message.message), "sender": message.sender}
    if message.sealed is not None:
        password = {"channel": message.channel, "sealed_sha256": fingerprint(message.sealed), "password_seconds": _seconds(message)}
        evidence |= password
    return transitions.Transition(row, State.QUEUED, columns, evidence, {"address": address})
