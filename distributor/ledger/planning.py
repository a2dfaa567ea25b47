"""Drafts -> planned deliveries: each pair of person and certificate once, a new generation by request only."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, func, insert, select, update

from distributor.ledger import certificate_owners, engine, successors, transitions
from distributor.ledger.engine import ERASED
from distributor.ledger.person_projection import PERSON_CHANGED, PERSON_FIELDS, personal_evidence
from distributor.ledger.projection import CHAIN_CHANGED, fingerprint
from distributor.ledger.tables import authority, certificate, delivery, person, plan
from distributor.ledger.transaction import NewEvent, WriteTransaction, sanitize
from distributor.model.audit_log import canonical, format_timestamp, parse_timestamp
from distributor.model.delivery import DeliveryRequest, ExistingDelivery, Taken
from distributor.model.high_water_mark import Machine
from distributor.model.people import Person
from distributor.model.states import ID_PREFIX, State, Way
from distributor.pki import spki

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as in a ULID
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
DESCRIBED = ("sha256", "serial", "issuer", "not_after", "chain")  # columns of a certificate that a delivery's first event tells
_DELIVERY = insert(delivery)
_NEW_PERSON = insert(person)
_RELOCATE = update(delivery).where(delivery.c.id == bindparam("b_id")).values(plan=bindparam("b_plan"), locator=bindparam("b_locator"))
_AUTHORITY = select(authority.c.der).where(authority.c.sha256 == bindparam("sha256"))
_SET_CHAIN = update(certificate).where(certificate.c.sha256 == bindparam("b_sha256")).values(chain=bindparam("b_chain"))
_SET_ERASED = (  # with its person; it is somebody's again
    update(certificate)
    .where(certificate.c.sha256 == bindparam("b_sha256"), func.length(certificate.c.der) == 0)
    .values(der=bindparam("b_der"), subject=bindparam("b_subject"))
)
_INSERT = {table.name: insert(table) for table in (authority, certificate)}
_UPDATE_PERSON = update(person).where(person.c.id == bindparam("b_id")).values({name: bindparam(name) for name in PERSON_FIELDS})


class Ids:
    """Identifiers that grow: 48 bits of milliseconds, then 80 bits of chance; two of one millisecond count on."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self, now: str) -> str:
        """26 characters; `now` is a stamp."""
        fresh = int(parse_timestamp(now).timestamp() * 1000) << 80 | secrets.randbits(80)
        with self._lock:
            self._last = fresh if fresh >> 80 > self._last >> 80 else self._last + 1 + secrets.randbits(32)
            return "".join([_PAIRS[self._last >> shift & 1023] for shift in range(120, -1, -10)])


_ids = Ids()


def begin(tx: WriteTransaction, name: str, inputs: Mapping[str, object]) -> None:
    """Record a plan."""
    tx.connection.execute(insert(plan), {"id": name, "at": tx.now, "inputs": canonical(inputs)})


def record(tx: WriteTransaction, name: str, requests: Sequence[DeliveryRequest]) -> list[str | ExistingDelivery | Taken]:
    """Plan drafts; the id of each new delivery, or what is known of the pair, or who else has the certificate or its key."""
    found: list[str | ExistingDelivery | Taken] = []
    for chunk in engine.chunks(requests):
        taken = certificate_owners.find_other_owners(tx, chunk)
        recorded = iter(_record(tx, name, [request for request, other in zip(chunk, taken, strict=True) if other is None]))
        found += [next(recorded) if other is None else other for other in taken]
    return found


def _record(tx: WriteTransaction, name: str, requests: Sequence[DeliveryRequest]) -> list[str | ExistingDelivery]:
    who = keep_people(tx, requests)
    described = keep_certificates(tx, name, requests)
    inputs = inputs_sha256(tx, name)
    latest = _generations(tx, [row["id"] for row in who.values()], {request.facts.sha256 for request in requests})
    before = successors.predecessors(tx.connection, name, ((who[one.person.address.key]["id"], one) for one in requests))
    found: list[str | ExistingDelivery] = []
    planned: list[PlannedDelivery] = []
    again: dict[str, DeliveryRequest] = {}
    for request in requests:
        row = who[request.person.address.key]
        line = latest.setdefault((row["id"], request.facts.sha256), _Line())
        if (known := line.newest.get(request.way)) is not None:
            found.append(ExistingDelivery(request, *known))
            again.setdefault(known[0], request)
            continue
        locator = canonical(request.locator.as_json())
        about = described[request.facts.sha256]
        new = PlannedDelivery(new_id(tx), name, inputs, row, line.generation + 1, request.language, locator, about)
        new = replace(new, way=request.way, series=request.series, predecessor=before.get((row["id"], request.facts.sha256)))
        line.generation, line.newest[request.way] = new.generation, (new.id, State.PLANNED, tx.moment)
        planned.append(new)
        found.append(new.id)
    _relocate(tx, name, again)
    enter(tx, planned)
    return found


def _relocate(tx: WriteTransaction, name: str, again: Mapping[str, DeliveryRequest]) -> None:
    """Keep where certificates are found now; what is still to be packed goes over to this plan, which knows how they open."""
    rows = transitions.rows(tx, list(again))
    inputs = _inputs(tx, {name, *(row["plan"] for row in rows.values())}) if rows else {}
    made = {id_: _made_from(text) for id_, text in inputs.items()}
    changes, notes = [], []
    for id_, row in rows.items():
        locator = again[id_].locator
        waits = row["state"] == State.PLANNED
        place = canonical(locator.as_json())
        if place != row["locator"] or (waits and made[row["plan"]] != made[name]):
            changes.append({"b_id": id_, "b_plan": name if waits else row["plan"], "b_locator": place})
            files = " ".join(sha for _, _, sha in locator.parts)
            digests = {"locator_sha256": fingerprint(place), "inputs_sha256": fingerprint(inputs[name])}
            notes.append(NewEvent(id_, "relocated", evidence={"plan": name, "file_sha256": files, **digests}))
    tx.many(_RELOCATE, changes)
    tx.append(notes)


def _inputs(tx: WriteTransaction, plans: Iterable[str]) -> dict[str, str]:
    """What plans were made from, as JSON."""
    return dict(tx.connection.execute(select(plan.c.id, plan.c.inputs).where(plan.c.id.in_(list(plans)))).all())


def inputs_sha256(tx: WriteTransaction, name: str) -> str:
    """The SHA-256 of what a plan was made from."""
    return fingerprint(_inputs(tx, [name])[name])


def _made_from(inputs: str) -> str:
    """What a plan was made from but for its paths, which locators hold: rosters and passwords, without which files do not open."""
    values = json.loads(inputs)
    source_sets = [{**source_set, "paths": []} if isinstance(source_set, dict) else source_set for source_set in values.get("sources", ())]
    return canonical({**values, "sources": source_sets})


@dataclass(frozen=True, slots=True)
class PlannedDelivery:
    """A delivery about to be written. `locator` is JSON; `reason` and `replaces` belong to a further generation."""

    id: str
    plan: str
    inputs_sha256: str  # of its plan
    person: Mapping[str, str]  # columns of their row
    generation: int
    language: str
    locator: str
    certificate: Mapping[str, str]  # columns of its row
    reason: str | None = None
    replaces: str | None = None
    way: Way = Way.MAIL
    series: str = ""
    predecessor: str | None = None

    def row(self, now: str) -> dict[str, Any]:
        """The columns."""
        return {
            "id": self.id,
            "plan": self.plan,
            "person": self.person["id"],
            "certificate": self.certificate["sha256"],
            "generation": self.generation,
            "language": self.language,
            "locator": self.locator,
            "state": State.PLANNED.value,
            "attempt": 0,
            "deferrals": 0,
            "updated_at": now,
            "way": self.way.value,
            "series": self.series,
            "predecessor": self.predecessor,
        }

    def note(self) -> NewEvent:
        """The event."""
        evidence: dict[str, object] = {
            "plan": self.plan,
            "generation": self.generation,
            "language": self.language,
            "certificate_sha256": self.certificate["sha256"],
            "certificate_serial": self.certificate["serial"],
            "certificate_issuer": self.certificate["issuer"],
            "certificate_not_after": self.certificate["not_after"],
            "locator_sha256": fingerprint(self.locator),
            "inputs_sha256": self.inputs_sha256,
            "chain_sha256": fingerprint(self.certificate["chain"]),
            **({} if self.way is Way.MAIL else {"way": self.way.value}),
            **({"series": self.series} if self.series else {}),
            **({"predecessor": self.predecessor} if self.predecessor else {}),
        }
        address, name = self.person["address"], sanitize(self.person["name"])
        personal: dict[str, object] = {"address": address, "name": name, "person": personal_evidence(self.person)}
        if self.replaces is not None:
            evidence["replaces"], personal["reason"] = self.replaces, self.reason
        return NewEvent(self.id, State.PLANNED.value, None, State.PLANNED.value, evidence, personal)


def new_id(tx: WriteTransaction, prefix: str = ID_PREFIX) -> str:
    """An identifier for a delivery, or for what has another prefix."""
    return f"{prefix}{_ids.next(tx.now)}"


def enter(tx: WriteTransaction, planned: Sequence[PlannedDelivery]) -> None:
    """Write planned deliveries and their first events."""
    if planned:
        tx.many(_DELIVERY, [new.row(tx.now) for new in planned])
        tx.append([_placed(new.note(), tx.here) for new in planned])


def _placed(note: NewEvent, here: Machine | None) -> NewEvent:
    """It tells where it was planned, so that a copy of the ledger elsewhere is recognised before the first message."""
    return note if here is None else replace(note, evidence={**note.evidence, "machine": here.id, "host": here.host})


@dataclass(slots=True)
class _Line:
    """What there is of a person and a certificate: the highest generation, and of each way the newest delivery that is not withdrawn."""

    generation: int = 0
    newest: dict[Way, tuple[str, State, datetime]] = field(default_factory=dict)


def _generations(tx: WriteTransaction, people: Iterable[str], certificates: set[str]) -> dict[tuple[str, str], _Line]:
    """By person and certificate."""
    columns = (delivery.c[name] for name in ("person", "certificate", "generation", "way", "id", "state", "updated_at"))
    asked = select(*columns).where(delivery.c.person.in_(list(people)), delivery.c.certificate.in_(list(certificates)))
    found: dict[tuple[str, str], _Line] = {}
    for who, what, generation, way, id_, state, at in tx.connection.execute(asked.order_by(delivery.c.generation)):
        line = found.setdefault((who, what), _Line())
        line.generation = generation
        if state != State.WITHDRAWN:
            line.newest[Way(way)] = (id_, State(state), parse_timestamp(at))
    return found


def keep_people(tx: WriteTransaction, requests: Sequence[DeliveryRequest]) -> dict[str, dict[str, str]]:
    """Insert new people, refresh known ones; their rows by Address.key."""
    wanted = {request.person.address.key: _columns(request.person) for request in requests}
    found = {row["key"]: dict(row) for row in tx.connection.execute(select(person).where(person.c.key.in_(list(wanted)))).mappings()}
    new = {key: {"id": f"p-{_ids.next(tx.now)}", "key": key, **columns} for key, columns in wanted.items() if key not in found}
    changed = {
        key: {**found[key], **{n: columns[n] or found[key][n] for n in PERSON_FIELDS}}  # an empty cell takes nothing away
        for key, columns in wanted.items()
        if key in found and any(columns[n] and columns[n] != found[key][n] for n in PERSON_FIELDS)
    }
    tx.many(_NEW_PERSON, list(new.values()))
    change_people(tx, [(found[key], row) for key, row in changed.items()])
    return {**found, **new, **changed}


def change_people(tx: WriteTransaction, changes: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]) -> None:
    """Change rows of people, and say it on each one's newest delivery. `changes`: rows as they were and as they are to be."""
    for part in engine.chunks(changes):
        tx.many(_UPDATE_PERSON, [{"b_id": row["id"], **{n: row[n] for n in PERSON_FIELDS}} for _, row in part])
        asked = select(delivery.c.person, func.max(delivery.c.id)).group_by(delivery.c.person)
        newest = dict(tx.connection.execute(asked.where(delivery.c.person.in_([row["id"] for _, row in part]))).all())
        notes = [(newest[row["id"]], old, row) for old, row in part if row["id"] in newest]
        tx.append(
            [NewEvent(id_, PERSON_CHANGED, None, None, _changes(old, row), {"person": personal_evidence(row)}) for id_, old, row in notes]
        )


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, object]:
    return {"fields": ", ".join(name for name in PERSON_FIELDS if old[name] != new[name])}


def _columns(who: Person) -> dict[str, str]:
    plain = {name: storable(getattr(who, name)) for name in PERSON_FIELDS[1:-1]}
    columns = {storable(k): storable(v) for k, v in who.columns.items()}
    return {"address": str(who.address), **plain, "columns": canonical(columns) if columns else ""}


def storable(text: str) -> str:
    """Text both databases take: no lone surrogates, no NUL."""
    return text if text.isascii() and "\0" not in text else text.encode(errors="replace").decode().replace("\0", "")


def keep_certificates(tx: WriteTransaction, name: str, requests: Sequence[DeliveryRequest]) -> dict[str, dict[str, str]]:
    """Insert certificates and their chains; what is kept of each, without its bytes, by hash. `name`: of the plan."""
    leaves = {request.facts.sha256: _certificate(request) for request in requests}
    chains = {sha256_of(der): der for request in requests for der in request.chain}
    _insert_missing(tx, authority, {sha: {"sha256": sha, "der": der} for sha, der in chains.items()})
    _insert_missing(tx, certificate, leaves)
    tx.many(_SET_ERASED, [{"b_sha256": sha, "b_der": leaf["der"], "b_subject": leaf["subject"]} for sha, leaf in leaves.items()])
    rows = engine.rows_of(tx.connection, _described, list(leaves))
    found = {row[0]: dict(zip(DESCRIBED, row, strict=True)) for row in rows}
    others = [request for request in requests if found[request.facts.sha256]["chain"] != leaves[request.facts.sha256]["chain"]]
    better = {sha: leaves[sha]["chain"] for sha in _with_better_chains(tx, others, found)}
    _change_chains(tx, name, better)
    return {sha: {**row, "chain": better.get(sha, row["chain"])} for sha, row in found.items()}


def _with_better_chains(tx: WriteTransaction, requests: Sequence[DeliveryRequest], found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The certificates whose chain was validated, or is longer than the recorded one, unless that reaches its root."""
    for request in requests:
        recorded = json.loads(found[request.facts.sha256]["chain"])
        if request.validated or (len(request.chain) > len(recorded) and not _reaches_root(tx, recorded)):
            yield request.facts.sha256


def _reaches_root(tx: WriteTransaction, chain: Sequence[str]) -> bool:
    """Whether the last of these CA certificates names itself as its issuer."""
    if not chain:
        return False
    try:
        fields = spki.tbs_fields(tx.connection.execute(_AUTHORITY, {"sha256": chain[-1]}).scalar_one())
    except ValueError:
        return False
    return fields[2].whole == fields[4].whole


def _change_chains(tx: WriteTransaction, name: str, chains: Mapping[str, str]) -> None:
    """Change the recorded chains, and record it on every delivery of these certificates, whose first events tell the chain before."""
    for part in engine.chunks(list(chains)):
        tx.many(_SET_CHAIN, [{"b_sha256": sha, "b_chain": chains[sha]} for sha in part])
        asked = select(delivery.c.id, delivery.c.certificate).where(delivery.c.certificate.in_(part)).order_by(delivery.c.id)
        evidence = {sha: {"plan": name, "certificate_sha256": sha, "chain_sha256": fingerprint(chains[sha])} for sha in part}
        tx.append([NewEvent(id_, CHAIN_CHANGED, evidence=evidence[sha]) for id_, sha in tx.connection.execute(asked).all()])


@cache
def _described(size: int) -> Select[Any]:
    return select(*(certificate.c[name] for name in DESCRIBED)).where(engine.one_of(certificate.c.sha256, size))


def described(tx: WriteTransaction, sha256: str) -> dict[str, str]:
    """What is kept of a certificate, without its bytes."""
    return dict(zip(DESCRIBED, engine.rows_of(tx.connection, _described, [sha256])[0], strict=True))


def _insert_missing(tx: WriteTransaction, table: Table, wanted: Mapping[str, dict[str, Any]]) -> None:
    for part in engine.chunks(list(wanted)):
        there = set(tx.connection.execute(select(table.c.sha256).where(table.c.sha256.in_(part))).scalars())
        missing = [wanted[key] for key in part if key not in there]
        tx.many(_INSERT[table.name], missing)


@lru_cache(maxsize=256)
def sha256_of(der: bytes) -> str:
    """Lower-case hex; the same few authorities come with every certificate."""
    return sha256(der).hexdigest()


def _certificate(request: DeliveryRequest) -> dict[str, Any]:
    info = request.facts
    return {
        "sha256": info.sha256,
        "serial": info.serial,
        "subject": storable(info.subject),
        "issuer": storable(info.issuer),
        "not_before": format_timestamp(info.not_before),
        "not_after": format_timestamp(info.not_after),
        "der": request.leaf,
        "chain": canonical([sha256_of(der) for der in request.chain]),
        "key_sha256": spki.sha256_of(request.leaf),
    }


# --- extra columns --------------------------------------------------------------------------------
# Further columns of rosters that are kept beside people, since messages name them; those that no message names any more go.


_KEPT = select(person).where(person.c.columns != "")
Change = tuple[Mapping[str, str], Mapping[str, str]]  # a person's row as it is, and as it is to be


def unused_columns(connection: Connection, used: Callable[[], Collection[str]]) -> list[Change]:
    """The people who have others than those in use. `used` is asked only where anybody has any."""
    changes: list[Change] = []
    names: Collection[str] | None = None
    for row in connection.execute(_KEPT).mappings():
        names = used() if names is None else names
        there = json.loads(row["columns"])
        kept = {name: value for name, value in there.items() if name in names}
        if len(kept) != len(there):
            changes.append((dict(row), {**row, "columns": canonical(kept) if kept else ""}))
    return changes


def erase_columns(tx: WriteTransaction, changes: list[Change]) -> None:
    """Keep only what is left."""
    change_people(tx, changes)
    tx.connection.info[ERASED] = True
