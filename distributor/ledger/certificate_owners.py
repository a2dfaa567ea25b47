"""Who else has a delivery of a certificate or its key, and deliveries of revoked certificates.

Whoever has the key of another person's certificate reads that person's mail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, select

from distributor.errors import RequestDenied
from distributor.ledger import engine, transitions
from distributor.ledger.lazy import late
from distributor.ledger.tables import IS_INCIDENT, IS_REVOCATION, certificate, delivery, event, person
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import parse_timestamp
from distributor.model.delivery import DeliveryRequest, Taken
from distributor.model.revocation import INCIDENT_RECORDED, REVOKED, is_hold
from distributor.model.states import REMAINING, State
from distributor.pki.spki import sha256_of

if TYPE_CHECKING:
    from distributor.ledger import person_projection
else:
    (person_projection,) = late("person_projection")  # `status` need not load the projection of the log


class CertificateOwner(NamedTuple):
    """A delivery, its person, and what it holds."""

    id: str
    state: str
    since: str
    person: str  # Address.key
    address: str
    name: str
    certificate: str
    key: str | None

    @property
    def waits(self) -> bool:
        """Whether nothing of it has left yet."""
        return self.state in REMAINING

    def stands_against(self, who: str, certificate: str) -> bool:
        """Whether a person (Address.key) must not have a certificate because of this; one who was erased may get their own again."""
        return self.person != who and not (self.certificate == certificate and person_projection.is_erased(self.person))


_HOLDINGS = (
    select(
        *(delivery.c[n] for n in ("id", "state", "updated_at")),
        *(person.c[n] for n in ("key", "address", "name")),
        *(certificate.c[n] for n in ("sha256", "key_sha256")),
    )
    .join(person, person.c.id == delivery.c.person)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
)


@cache
def _of_certificates(size: int) -> Select[Any]:
    return _HOLDINGS.where(engine.one_of(delivery.c.certificate, size))


@cache
def _of_keys(size: int) -> Select[Any]:
    return _HOLDINGS.where(engine.one_of(certificate.c.key_sha256, size))


@cache
def _unclear(size: int) -> Select[Any]:
    was: ColumnElement[bool] = event.c.after == State.AMBIGUOUS.value
    return select(event.c.delivery).where(engine.one_of(event.c.delivery, size), was)


class OwnerIndex:
    """Every delivery of some certificates and keys that counts: one that was withdrawn does not, unless its message may have left."""

    def __init__(self, tx: WriteTransaction, wanted: Mapping[str, str | None]) -> None:
        """`wanted`: the SHA-256 of certificates, each with that of its key."""
        rows = [*_rows(tx, _of_certificates, wanted), *_rows(tx, _of_keys, filter(None, wanted.values()))]
        found = {row[0]: CertificateOwner(*row) for row in rows}
        back = [one.id for one in found.values() if one.state == State.WITHDRAWN]
        left = {row[0] for row in _rows(tx, _unclear, back)}
        self._found: dict[str, list[CertificateOwner]] = {}
        for one in sorted(found.values()):
            if one.state != State.WITHDRAWN or one.id in left:
                self.add(one)

    def add(self, one: CertificateOwner) -> None:
        """One more delivery."""
        for name in {one.certificate, one.key or one.certificate}:
            self._found.setdefault(name, []).append(one)

    def of(self, sha256: str, key: str | None) -> list[CertificateOwner]:
        """The deliveries of a certificate, then those of others with its key."""
        return [*self._found.get(sha256, ()), *(self._found.get(key, ()) if key else ())]


def _rows(tx: WriteTransaction, asked: Any, names: Iterable[str]) -> list[Any]:  # noqa: ANN401  a query that is made for a number of names
    return engine.rows_of(tx.connection, asked, sorted(set(names)))


def find_other_owners(tx: WriteTransaction, requests: Sequence[DeliveryRequest]) -> list[Taken | None]:
    """For each draft, the delivery of another person that stands against it. Of drafts against each other, the first is good."""
    keys = {request.facts.sha256: sha256_of(request.leaf) for request in requests}
    holders = OwnerIndex(tx, keys)
    verdicts: list[Taken | None] = []
    for request in requests:
        sha256, who = request.facts.sha256, request.person.address
        all_ = holders.of(sha256, keys[sha256])
        known = any(one.person == who.key and one.certificate == sha256 for one in all_)
        other = None if known else next((one for one in all_ if one.stands_against(who.key, sha256)), None)
        verdicts.append(None if other is None else _taken(request, other))
        if other is None:
            new = CertificateOwner("", State.PLANNED, tx.now, who.key, str(who), request.person.name, sha256, keys[sha256])
            holders.add(new)
    return verdicts


def _taken(request: DeliveryRequest, other: CertificateOwner) -> Taken:
    same = other.certificate == request.facts.sha256
    return Taken(request, other.id, other.address, other.name, State(other.state), parse_timestamp(other.since), same_certificate=same)


def refuse_other_owner(tx: WriteTransaction, who: str, sha256: str) -> None:
    """Raise RequestDenied where a certificate, or its key, is another person's too. `who`: an Address.key."""
    key = tx.connection.execute(select(certificate.c.key_sha256).where(certificate.c.sha256 == sha256)).scalar_one_or_none()
    for other in OwnerIndex(tx, {sha256: key}).of(sha256, key):
        if other.stands_against(who, sha256):
            what = "this certificate" if other.certificate == sha256 else "the key of this certificate"
            hint = "have a certificate with a new key issued; whoever has this one can read the mail of both"
            raise RequestDenied(f'{what} is already {other.state} for "{other.address}" ({other.id})', where=who, hint=hint)


def other_owners(tx: WriteTransaction, waiting: Mapping[str, tuple[str, str, str | None]]) -> dict[str, str]:
    """Why deliveries must not leave: the certificate or key is that of another person who was planned before, or may have it already.

    `waiting`: person's key, certificate and key by the delivery's id.
    """
    holders = OwnerIndex(tx, {sha256: key for _, sha256, key in waiting.values()})
    found = {}
    for id_, (who, sha256, key) in waiting.items():
        for other in holders.of(sha256, key):
            if other.stands_against(who, sha256) and (other.id < id_ or not other.waits):
                what = "the certificate" if other.certificate == sha256 else "the key of the certificate"
                found[id_] = f"{what} is already {other.state} for {other.address}"
                break
    return found


# --- revoked --------------------------------------------------------------------------------
#
# Certificates -> which of them are revoked, by what the events tell. The one place that knows; a released hold counts as good again.


_REVOCATION_EVENTS = (
    select(delivery.c.certificate, event.c.delivery, event.c.event, event.c.evidence, event.c.seq)
    .join(delivery, delivery.c.id == event.c.delivery)
    .where(IS_REVOCATION)
)  # in no order: for the order's sake SQLite would read every event
_CERTIFICATE, _DELIVERY, _SEQ = 0, 1, 4  # columns of it


@cache
def _of(size: int) -> Select[Any]:
    return _REVOCATION_EVENTS.where(engine.one_of(delivery.c.certificate, size))


def revoked(connection: Connection, certificates: Iterable[str]) -> dict[str, str]:
    """Those of the certificates (SHA-256) that are revoked, each with when and why."""
    return _standing(_events(connection, certificates), _CERTIFICATE)


def every(connection: Connection) -> dict[str, str]:
    """All that are revoked or have an incident, for listings."""
    found = _standing(engine.all_rows(connection, _REVOCATION_EVENTS, {}), _CERTIFICATE)
    return found | exposed(connection, [row[0] for row in engine.all_rows(connection, _INCIDENTS, {})])


def recorded_revocations(connection: Connection, certificates: Iterable[str]) -> dict[str, str]:
    """The deliveries on which a revocation that still counts is recorded, each with its reason."""
    return _standing(_events(connection, certificates), _DELIVERY)


def _events(connection: Connection, certificates: Iterable[str]) -> list[Any]:
    return engine.rows_of(connection, _of, sorted(set(certificates)))


def _standing(events: Iterable[Any], of: int) -> dict[str, str]:
    """The last event of each counts."""
    last = {row[of]: row for row in sorted(events, key=itemgetter(_SEQ))}
    return {key: str(json.loads(evidence).get("said", "")) for key, (_, _, name, evidence, _) in last.items() if name == REVOKED}


# --- incidents -------------------------------------------------------------------------------
#
# Certificates whose key may be in the wrong hands, by the events of incidents; a new certificate with the same key is no better.

NEW_CERTIFICATE = "have a new certificate with a new key issued, then run `distributor plan`"
_INCIDENTS = (
    select(delivery.c.certificate, certificate.c.key_sha256, event.c.at)
    .join(delivery, delivery.c.id == event.c.delivery)
    .join(certificate, certificate.c.sha256 == delivery.c.certificate)
    .where(IS_INCIDENT)
)


@cache
def _keys_of(size: int) -> Select[Any]:
    return select(certificate.c.sha256, certificate.c.key_sha256).where(engine.one_of(certificate.c.sha256, size))


def exposed(connection: Connection, certificates: Iterable[str], leaves: Mapping[str, bytes] | None = None) -> dict[str, str]:
    """Those of the certificates (SHA-256) whose key may be in the wrong hands, each with when that was recorded.

    `leaves`: further ones in DER.
    """
    first: dict[str, str] = {}
    for sha256, key, at in engine.all_rows(connection, _INCIDENTS, {}):
        for name in (sha256, key or sha256):
            first[name] = min(first.get(name, at), at)
    if not first:
        return {}
    found: dict[str, str] = {}
    keys = engine.rows_of(connection, _keys_of, sorted(set(certificates)))
    for sha256, key in (*keys, *((sha256, sha256_of(leaf)) for sha256, leaf in (leaves or {}).items())):
        if sha256 in first:
            found[sha256] = f"{INCIDENT_RECORDED}{first[sha256][:10]}"
        elif key in first:
            found[sha256] = f"{INCIDENT_RECORDED}{first[key][:10]} for another certificate with the same key"
    return found


def unusable(connection: Connection, certificates: Iterable[str], leaves: Mapping[str, bytes] | None = None) -> dict[str, str]:
    """Those of the certificates that must not be sent or published: revoked, or with an incident; each with when and why.

    `leaves`: further ones by SHA-256, in DER.
    """
    names = list(certificates)
    return revoked(connection, [*names, *(leaves or ())]) | exposed(connection, names, leaves)


def withdraw_revoked(tx: WriteTransaction, waiting: Sequence[Any]) -> frozenset[str]:
    """Withdraw those of these deliveries whose certificate is revoked, also if a sender returned them since; the ids of those that go on.

    `waiting`: mappings with `id` and `certificate`; none has a lease.
    """
    reasons = revoked(tx.connection, (row["certificate"] for row in waiting))
    if reasons:
        withdraw(tx, list(transitions.rows(tx, [row["id"] for row in waiting if row["certificate"] in reasons]).values()), reasons)
    return frozenset(row["id"] for row in waiting if row["certificate"] not in reasons)


def withdraw(tx: WriteTransaction, rows: Sequence[transitions.Row], reasons: Mapping[str, str]) -> None:
    """Take deliveries back that have not left. `reasons`: when and why, by certificate."""
    record_revocation(tx, rows, reasons)
    changes = []
    for row in rows:
        said = sanitize(reasons[row["certificate"]])
        changes.append(transitions.withdrawal(row, said, {"certificate_sha256": row["certificate"]}, {"said": said}))
    transitions.apply_transitions(tx, changes)


def record_revocation(tx: WriteTransaction, rows: Sequence[transitions.Row], reasons: Mapping[str, str]) -> list[transitions.Row]:
    """Record it on deliveries that have no such event yet, or only one of a hold that has become final; returns those deliveries."""
    known = recorded_revocations(tx.connection, {row["certificate"] for row in rows})
    new = [row for row in rows if row["id"] not in known or (is_hold(known[row["id"]]) and not is_hold(reasons[row["certificate"]]))]
    tx.append([NewEvent(row["id"], REVOKED, None, None, evidence(row["certificate"], reasons[row["certificate"]])) for row in new])
    return new


def evidence(certificate: str, reason: str) -> dict[str, object]:
    """What an event about it holds."""
    return {"certificate_sha256": certificate, "said": sanitize(reason)}
