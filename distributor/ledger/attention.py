"""What needs a person first: one query for each kind.

A rare thing is looked up in its own table or index, and only its deliveries are read: `delivery.c.id.in_(...)`, not a join or `EXISTS`, for
which SQLite would read every delivery.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, distinct, exists, func, select

from distributor.ledger import queries
from distributor.ledger.queries import HAS_NEWER_COPY, within
from distributor.ledger.tables import IS_INCIDENT, certificate, delivery, event, handover, person, request
from distributor.model.attention import EXPIRING_CERTIFICATE, EXPIRING_PASSWORD, Attention, Need
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.delivery import DeliveryFilter
from distributor.model.states import RECEIVED, PasswordState, RequestState, State

_later, _revoked = delivery.alias("later"), event.alias("revocation")
_GONE = (PasswordState.EXPIRED.value, PasswordState.DESTROYED.value)
_RECEIVED = [state.value for state in RECEIVED]
_NEWER_CERTIFICATE = exists().where(  # of a later plan: certificates of one plan belong together
    _later.c.person == delivery.c.person,
    _later.c.certificate != delivery.c.certificate,
    _later.c.plan != delivery.c.plan,
    _later.c.id > delivery.c.id,
    _later.c.state.in_(_RECEIVED),
    _later.c.series == "",
)
_HAS_INCIDENT = delivery.c.id.in_(select(event.c.delivery).where(IS_INCIDENT))
_IS_REVOKED = exists().where(_revoked.c.delivery == delivery.c.id, _revoked.c.event == "revoked")


_BY_STATE = {Need.AMBIGUOUS: State.AMBIGUOUS, Need.BOUNCED: State.BOUNCED, Need.REJECTED: State.REJECTED}


def find(connection: Connection, scope: DeliveryFilter, now: str) -> list[Attention]:
    """What needs a person, the most pressing first."""
    moment = parse_timestamp(now)
    soon, until = format_timestamp(moment + EXPIRING_PASSWORD), format_timestamp(moment + EXPIRING_CERTIFICATE)
    received = delivery.c.state.in_(_RECEIVED)
    conditions: dict[Need, tuple[ColumnElement[bool], ...]] = {
        Need.AMBIGUOUS: (_is(State.AMBIGUOUS),),
        Need.INCIDENT: (_HAS_INCIDENT, ~_IS_REVOKED, ~_NEWER_CERTIFICATE, certificate.c.not_after > now),
        Need.BOUNCED: (_is(State.BOUNCED), ~HAS_NEWER_COPY),
        Need.REJECTED: (_is(State.REJECTED), ~HAS_NEWER_COPY),
        Need.REQUEST: (request.c.state == RequestState.OPEN.value,),
        Need.PASSWORD_EXPIRED: (_has_password(*_GONE), received, ~HAS_NEWER_COPY, ~_HAS_INCIDENT, certificate.c.not_after > now),
        Need.PASSWORD_EXPIRING: (_has_password(PasswordState.READY.value, until=soon), received),
        Need.CERTIFICATE_EXPIRING: _expiring(until),
    }
    states = queries.counts(connection, scope)
    found = []
    for need, wanted in conditions.items():
        if need in _BY_STATE and _BY_STATE[need] not in states:
            continue  # a statement that need not be made
        number, people, address = connection.execute(within(_counting(need), scope).where(*wanted)).one()
        if number:
            found.append(Attention(need, number, address if people == 1 else None))
    return found


def _expiring(until: str) -> tuple[ColumnElement[bool], ...]:
    received = delivery.c.state.in_(_RECEIVED)
    return _has_certificate(until=until), received, delivery.c.series == "", ~_NEWER_CERTIFICATE, ~HAS_NEWER_COPY


def expiring(connection: Connection, now: str, days: int) -> int:
    """How many deliveries have a certificate that expires within so many days, or has expired, and has no successor."""
    until = format_timestamp(parse_timestamp(now) + timedelta(days=days))
    return int(connection.execute(select(func.count()).select_from(delivery).where(*_expiring(until))).scalar_one())


def _is(state: State) -> ColumnElement[bool]:
    return delivery.c.state == state.value


def _has_password(*states: str, until: str | None = None) -> ColumnElement[bool]:
    wanted = select(handover.c.delivery).where(handover.c.state.in_(states))
    return delivery.c.id.in_(wanted if until is None else wanted.where(handover.c.expires_at <= until))


def _has_certificate(until: str) -> ColumnElement[bool]:
    return delivery.c.certificate.in_(select(certificate.c.sha256).where(certificate.c.not_after <= until))


def _counting(need: Need) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [func.count(), func.count(distinct(person.c.id)), func.min(person.c.address)]
    asked: Select[Any] = select(*columns).select_from(delivery).join(person, person.c.id == delivery.c.person)
    if need is Need.REQUEST:
        return asked.join(request, request.c.delivery == delivery.c.id)
    if need in {Need.INCIDENT, Need.PASSWORD_EXPIRED}:
        asked = asked.join(certificate, certificate.c.sha256 == delivery.c.certificate)
    return asked


def ready_channels(connection: Connection, scope: DeliveryFilter) -> frozenset[str]:
    """The channels of passwords that wait to be handed over."""
    asked: Select[Any] = select(handover.c.channel).distinct().join(delivery, delivery.c.id == handover.c.delivery)
    if scope.addresses:
        asked = asked.join(person, person.c.id == delivery.c.person)
    asked = within(asked, scope).where(handover.c.state == PasswordState.READY.value, delivery.c.state.in_(_RECEIVED))
    return frozenset(connection.execute(asked).scalars())
