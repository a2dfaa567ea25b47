"""The key that a certificate is about, so that one key pair for two people is found; and people by the key that their address has now.

Steps before this one joined addresses by `casefold`, which is one for mailboxes that are two ("strauß@" and "strauss@").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Connection, Text, bindparam, insert, select, update

from distributor.model.people import key_of
from distributor.pki.spki import sha256_of

revision = "0004"
down_revision = "0003"

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
PAGE = 500  # certificates; one has about 1.5 KB
_certificate = sa.table("certificate", *map(sa.column, ("sha256", "der", "key_sha256")))
_PEOPLE = ("id", "key", "address", "name", "language", "phone", "manager", "alternate_email", "columns")
_person = sa.table("person", *map(sa.column, _PEOPLE))
_delivery = sa.table("delivery", *map(sa.column, ("id", "person")))
_event = sa.table("event", *map(sa.column, ("seq", "delivery", "event", "personal")))


def upgrade() -> None:
    """Add the column and fill it, then set people right."""
    op.add_column("certificate", Column("key_sha256", TEXT))
    op.create_index("certificate_by_key", "certificate", ["key_sha256"])
    connection = op.get_bind()
    _fill(connection)
    keys = _rename(connection)
    _part(connection, keys)


def _fill(connection: Connection) -> None:
    """The hash of each certificate's key; a row whose bytes are no certificate stays without."""
    asked = select(_certificate.c.sha256, _certificate.c.der).order_by(_certificate.c.sha256).limit(PAGE)
    change = update(_certificate).where(_certificate.c.sha256 == bindparam("b_sha256")).values(key_sha256=bindparam("b_key"))
    last = ""
    while page := connection.execute(asked.where(_certificate.c.sha256 > last)).all():
        found = ((sha, sha256_of(bytes(der)) if isinstance(der, bytes) else None) for sha, der in page)
        if rows := [{"b_sha256": sha, "b_key": key} for sha, key in found if key is not None]:
            connection.execute(change, rows)
        last = page[-1][0]


def _rename(connection: Connection) -> dict[str, str]:
    """Give people the key that their address has now; everybody's key by id. A key that was not made from the address stays as it is."""
    rows = connection.execute(select(_person.c.id, _person.c.key, _person.c.address)).all()
    keys = {row.id: row.key for row in rows}
    taken = set(keys.values())
    for id_, key, address in rows:
        if key == _joined(address) and (new := key_of(address)) not in taken:
            connection.execute(update(_person).where(_person.c.id == id_).values(key=new))
            keys[id_] = new
            taken.add(new)
    return keys


def _joined(address: str) -> str:
    """The key as it was."""
    local, _, domain = address.rpartition("@")
    return f"{local.casefold()}@{domain}"


def _part(connection: Connection, keys: dict[str, str]) -> None:
    """Two people whom the old key joined: deliveries go to the one whom their event names."""
    own = {key: id_ for id_, key in keys.items()}
    for delivery, who, told in list(_strangers(connection, keys)):
        key = key_of(told["address"])
        if key not in own:
            own[key] = _newcomer(connection, who, key, told)
        connection.execute(update(_delivery).where(_delivery.c.id == delivery).values(person=own[key]))


def _strangers(connection: Connection, keys: dict[str, str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Deliveries that were planned for an address of another key than their person has, with what was told of it."""
    asked = (
        select(_event.c.delivery, _delivery.c.person, _event.c.personal)
        .join_from(_event, _delivery, _delivery.c.id == _event.c.delivery)
        .where(_event.c.event == "planned", _event.c.personal.is_not(None))
        .order_by(_event.c.seq)
        .execution_options(yield_per=PAGE)
    )
    for delivery, who, personal in connection.execute(asked):
        told = _told(personal)
        address = told.get("address")
        if isinstance(address, str) and key_of(address) != keys[who] and _joined(address) == _joined(keys[who]):
            yield delivery, who, told


def _told(personal: str) -> dict[str, Any]:
    try:
        found = json.loads(personal)
    except (ValueError, RecursionError):  # somebody changed it; `audit verify` says so
        return {}
    return found if isinstance(found, dict) else {}


def _newcomer(connection: Connection, who: str, key: str, told: dict[str, Any]) -> str:
    """A row for the other one of two; nothing but the language is known to be theirs."""
    language = connection.execute(select(_person.c.language).where(_person.c.id == who)).scalar_one()
    id_ = f"p-{sha256(f'{who} {key}'.encode()).hexdigest()[:26].upper()}"
    known = {"id": id_, "key": key, "address": told["address"], "name": str(told.get("name") or ""), "language": language}
    connection.execute(insert(_person), {**dict.fromkeys(_PEOPLE, ""), **known})
    return id_
