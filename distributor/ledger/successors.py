"""Which certificate a new one renews: the person's last one before it, for the same purposes.

The old certificate stays as it is: older mail is read with it. Certificates of one plan belong together, as a pair for signing and
encrypting does, and renew none of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select, text

from distributor.ledger import engine
from distributor.ledger.tables import certificate, delivery, one_of
from distributor.model.audit_log import format_timestamp
from distributor.model.delivery import DeliveryRequest
from distributor.model.revocation import IN_USE
from distributor.pki import spki


class _Owned(NamedTuple):
    """A certificate that a person has, or is to get."""

    person: str
    sha256: str
    not_before: str
    plan: str
    der: bytes


@cache
def _owned(size: int) -> Select[Any]:
    columns = (delivery.c.person, delivery.c.certificate, certificate.c.not_before, delivery.c.plan, certificate.c.der)
    asked = select(*columns).distinct().join(certificate, certificate.c.sha256 == delivery.c.certificate)
    return asked.where(engine.one_of(delivery.c.person, size), delivery.c.series == "", text(one_of("delivery.state", sorted(IN_USE))))


def predecessors(connection: Connection, plan: str, requests: Iterable[tuple[str, DeliveryRequest]]) -> dict[tuple[str, str], str]:
    """By person and new certificate, the SHA-256 of the certificate that it renews. `requests`: with the id of each one's person."""
    wanted = [(person, request) for person, request in requests if not request.series]
    owned: dict[str, list[_Owned]] = {}
    for one in map(_Owned._make, engine.rows_of(connection, _owned, sorted({person for person, _ in wanted}))):
        if one.plan != plan:
            owned.setdefault(one.person, []).append(one)
    found = {}
    for person, request in wanted if owned else ():
        if (before := _last_before(owned.get(person, ()), request)) is not None:
            found[person, request.facts.sha256] = before
    return found


def _last_before(owned: Sequence[_Owned], request: DeliveryRequest) -> str | None:
    begins, uses = format_timestamp(request.facts.not_before), frozenset(request.facts.usages)
    earlier = [one for one in owned if one.not_before < begins and one.sha256 != request.facts.sha256]
    alike = [one for one in earlier if _replaces(uses, spki.mail_uses(one.der))]
    return max(alike, key=lambda one: one.not_before).sha256 if alike else None


def _replaces(uses: frozenset[str], before: frozenset[str]) -> bool:
    """A certificate for signing only does not take the place of one that others encrypt to."""
    return bool(uses & before) and ("encrypt" in uses or "encrypt" not in before)
