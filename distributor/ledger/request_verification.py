"""The events of requests and accounts -> what their rows must be, and where they are otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, select

from distributor.errors import InvalidInput
from distributor.ledger import accounts, engine, requests
from distributor.ledger.engine import Database
from distributor.ledger.message_verification import read_links
from distributor.ledger.projection import EVENT_COLUMNS, shown
from distributor.ledger.queries import PAGE
from distributor.ledger.tables import account, delivery, event, request
from distributor.model.audit_log import ERASED, Link
from distributor.model.states import RequestState

Values = dict[str, Any]
_STATES = {requests.APPROVED: RequestState.APPROVED.value, requests.DENIED: RequestState.DENIED.value}
_TELLING = (requests.REQUESTED, *_STATES, requests.PLANNED, accounts.BOUND, ERASED)
_EVENTS = (
    select(event.c.seq.label("last"), delivery.c.person, *EVENT_COLUMNS)
    .join(delivery, delivery.c.id == event.c.delivery)
    .where(event.c.event.in_([bindparam(f"name_{i}", name) for i, name in enumerate(_TELLING)]), event.c.seq > bindparam("last"))
    .order_by(event.c.seq)
    .limit(PAGE)
)
_REQUESTS = select(request).where(request.c.id > bindparam("last")).order_by(request.c.id).limit(PAGE)
_ACCOUNTS = select(account).order_by(account.c.issuer, account.c.subject)


class _Expected:
    """What the events add up to. A value that a mapping lacks was erased with a person."""

    def __init__(self, doubtful: set[str]) -> None:
        self.requests: dict[str, Values] = {}
        self.accounts: dict[tuple[str, str], Values] = {}
        self.doubtful_requests: set[str] = set()  # with an event that does not verify: not compared
        self.unknown_people: set[str] = set()  # whose accounts the events no longer tell
        self._doubtful = doubtful

    def step(self, who: str, link: Link) -> None:
        """Read one event."""
        evidence = _opened(link.evidence)
        personal = _opened(link.personal)
        if link.delivery in self._doubtful:
            self.doubtful_requests.add(str(evidence.get("request")))
            self.unknown_people.add(who)
        if link.event == ERASED:
            self._erased(who, str(link.delivery))
        elif link.event == accounts.BOUND:
            self._bound(who, link, evidence, personal)
        elif link.event == requests.REQUESTED:
            values: Values = {"delivery": link.delivery, "state": RequestState.OPEN.value, "at": link.at, "by": link.by, "answer": ""}
            if "reason" in personal:
                values["reason"] = personal["reason"]
            self.requests[str(evidence.get("request"))] = values | dict.fromkeys(("decided_at", "decided_by", "planned"))
        elif (found := self.requests.get(str(evidence.get("request")))) is not None:
            if link.event == requests.PLANNED:
                found["planned"] = evidence.get("planned")
            else:
                _decide(found, link, evidence, personal)

    def _erased(self, who: str, delivery_id: str) -> None:
        """The words of its requests are gone, and the accounts of its person."""
        for values in self.requests.values():
            if values["delivery"] == delivery_id:
                values |= {"reason": "", "answer": ""}
        if delivery_id not in self._doubtful:
            self.accounts = {key: values for key, values in self.accounts.items() if values["person"] != who}
            self.unknown_people.discard(who)

    def _bound(self, who: str, link: Link, evidence: Mapping[str, Any], personal: Mapping[str, Any]) -> None:
        if "subject" not in personal:
            self.unknown_people.add(who)
        else:
            key = str(evidence.get("issuer")), str(personal["subject"])
            self.accounts[key] = {"person": who, "how": evidence.get("how"), "at": link.at}


def _decide(found: Values, link: Link, evidence: Mapping[str, Any], personal: Mapping[str, Any]) -> None:
    by = requests.POLICY if requests.POLICY in evidence else link.by
    found.update(state=_STATES[link.event], decided_at=link.at, decided_by=by)
    if link.event == requests.DENIED:
        if "reason" in personal:
            found["answer"] = personal["reason"]
        elif link.commitment:
            found.pop("answer", None)


def _opened(text: str | None) -> Values:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):  # the chain's own check has found it
        return {}
    return found if isinstance(found, dict) else {}


def refuse_changed_request(connection: Connection, request_id: str) -> None:
    """Raise InvalidInput where a request is not what the events of its delivery tell: nobody may have asked or approved.

    Nothing where there is none.
    """
    row = connection.execute(select(request).where(request.c.id == request_id)).mappings().one_or_none()
    if row is None:
        return
    known, expected = read_links(connection, [row["delivery"]])[row["delivery"]], _Expected(set())
    for link in known.links:
        if link.event in _TELLING:
            expected.step("", link)
    values = expected.requests.get(request_id)
    faults = [f"event {seq}" for seq in known.broken]
    faults += ["it has no events"] if values is None else [name for name, value in values.items() if row[name] != value]
    if faults:
        message = f"the ledger was modified outside distributor ({', '.join(faults)}); nothing is sent for this request"
        hint = (
            "run `distributor audit verify` to see what was modified, then deny the request: `distributor requests deny ID --reason TEXT`"
        )
        raise InvalidInput(message, where=request_id, hint=hint)


def verify_requests(database: Database, doubtful: set[str]) -> list[str]:
    """Every request and account that differs from its events; none with a delivery in `doubtful`, whose events do not verify."""
    expected = _Expected(doubtful)
    for _, who, *columns in engine.paged(database, _EVENTS, PAGE, {"last": 0}):
        expected.step(who, Link(*columns))
    return [*_of_requests(database, expected), *_of_accounts(database, expected)]


def _of_requests(database: Database, expected: _Expected) -> Iterator[str]:
    wanted = dict(expected.requests)
    for columns in engine.paged(database, _REQUESTS, PAGE, {"last": ""}):
        row = dict(zip(request.c.keys(), columns, strict=True))
        values = wanted.pop(row["id"], None)
        if row["id"] in expected.doubtful_requests:
            continue
        if values is None:
            yield f"request {row['id']}: has no events"
            continue
        yield from (f"request {row['id']}: {words}" for words in _differences(row, values))
    yield from (f"request {id_}: has events but is missing" for id_ in wanted if id_ not in expected.doubtful_requests)


def _of_accounts(database: Database, expected: _Expected) -> Iterator[str]:
    wanted = dict(expected.accounts)
    with database.reading() as connection:
        rows = [dict(zip(account.c.keys(), columns, strict=True)) for columns in engine.all_rows(connection, _ACCOUNTS, {})]
    for row in rows:
        values = wanted.pop((row["issuer"], row["subject"]), None)
        if row["person"] in expected.unknown_people:
            continue
        name = f'account "{row["subject"][:80]}" of {row["issuer"][:80]}'
        if values is None:
            yield f"{name}: has no events"
        else:
            yield from (f"{name}: {words}" for words in _differences(row, values))
    for (issuer, subject), values in wanted.items():
        if values["person"] not in expected.unknown_people:
            yield f'account "{subject[:80]}" of {issuer[:80]}: has an event but is missing'


def _differences(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        if row[name] != value:
            yield f"{name} is {shown(row[name])}, but the audit log says {shown(value)}"
