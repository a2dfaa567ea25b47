"""Finds deliveries by an address, or by the beginning of an id or of a certificate's SHA-256 or serial number: ranges, for an index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select

from distributor.errors import RequestDenied
from distributor.ledger.queries import DELIVERIES, to_delivery
from distributor.ledger.tables import certificate, delivery, person
from distributor.model.delivery import Delivery
from distributor.model.states import ID_PREFIX

if TYPE_CHECKING:
    from distributor.model.certificates import Locator

MOST = 100  # deliveries of one beginning; whoever typed it is asked for more of it long before
NEIGHBOURS = 5  # on each side
OFFERED = 100  # completions


def find(connection: Connection, address: str | None, prefix: str | None) -> list[Delivery]:
    """Deliveries of a person, of a beginning, or of both; oldest first."""
    asked: Select[Any] = DELIVERIES.order_by(delivery.c.id)
    if address is not None:
        asked = asked.where(person.c.key == address)
    if prefix is not None:
        asked = asked.where(_named(prefix)).limit(MOST)
    return [to_delivery(row) for row in connection.execute(asked)]


def _named(prefix: str) -> ColumnElement[bool]:
    if prefix.startswith(ID_PREFIX):
        return _begins(delivery.c.id, prefix)
    serial = _begins(certificate.c.serial, prefix.lstrip("0") or prefix)  # as it is kept: without leading zeros
    return delivery.c.certificate.in_(select(certificate.c.sha256).where(or_(_begins(certificate.c.sha256, prefix), serial)))


def _begins(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    return and_(column >= prefix, column < prefix[:-1] + chr(ord(prefix[-1]) + 1))


def neighbours(connection: Connection, text: str) -> list[str]:
    """Addresses, or ids for what begins as one, that come just before and after a text in the alphabet."""
    key, shown = (delivery.c.id, delivery.c.id) if text.startswith(ID_PREFIX) else (person.c.key, person.c.address)
    before = select(shown).where(key < text).order_by(key.desc()).limit(NEIGHBOURS)
    after = select(shown).where(key >= text).order_by(key).limit(NEIGHBOURS)
    return [str(name) for asked in (before, after) for name in connection.execute(asked).scalars()]


def completions(connection: Connection, beginning: str) -> list[str]:
    """Addresses and ids that begin so; addresses alone where nothing is typed yet."""
    addresses = select(person.c.address).order_by(person.c.key).limit(OFFERED)
    if not beginning:
        return [str(name) for name in connection.execute(addresses).scalars()]
    ids = select(delivery.c.id).where(_begins(delivery.c.id, beginning)).order_by(delivery.c.id).limit(OFFERED)
    asked = (addresses.where(_begins(person.c.key, beginning)), ids)
    return [str(name) for each in asked for name in connection.execute(each).scalars()]


def locator(connection: Connection, delivery_id: str) -> tuple[str, Locator]:
    """Plan and locator of a delivery."""
    row = connection.execute(select(delivery.c.plan, delivery.c.locator).where(delivery.c.id == delivery_id)).one_or_none()
    if row is None:
        raise RequestDenied("no such delivery", where=delivery_id, hint="run `distributor status` to list them")
    from distributor.model.certificates import Locator  # noqa: PLC0415  most lookups need none

    return row.plan, Locator.from_json(json.loads(row.locator))
