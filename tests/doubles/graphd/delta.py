"""What changed in a folder since a token was given out (`…/messages/delta`): pages with a skip token, then a delta token for next time."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.doubles.graphd import messages
from tests.doubles.graphd.call import Call
from tests.doubles.graphd.mail import folder
from tests.doubles.graphd.mailbox import Change, Mailbox
from tests.doubles.graphd.odata import Clause
from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.wire import Answer

PAGE = 10
KINDS = frozenset({"created", "updated", "deleted"})


@dataclass(frozen=True)
class Round:
    """What the first request asked for, and how far the changes were seen; `rest` is left of the round under way."""

    folder: str
    select: tuple[str, ...] | None
    clauses: tuple[Clause, ...]
    kind: str | None
    seen: int = 0
    rest: tuple[Change, ...] = ()


@dataclass
class Deltas:
    """The tokens that are out. A token that is forgotten makes its client begin anew."""

    rounds: dict[str, Round] = field(default_factory=dict)

    def give(self, one: Round) -> str:
        token = secrets.token_urlsafe(40)
        self.rounds[token] = one
        return token

    def take(self, token: str) -> Round:
        if token not in self.rounds:
            text = "The sync state generation is not found; generation 0 is not in the known range. Perform a full synchronization."
            raise Refusal(410, "SyncStateNotFound", text)
        return self.rounds[token]


def operation(deltas: Deltas) -> Callable[[Call], Answer]:
    def answer(call: Call) -> Answer:
        mailbox = call.mailbox()
        name = folder(call, mailbox)
        if "$skiptoken" in call.query:
            return _page(call, deltas, mailbox, deltas.take(call.query["$skiptoken"]))
        one = deltas.take(call.query["$deltatoken"]) if "$deltatoken" in call.query else _first(call, name)
        return _page(call, deltas, mailbox, _begun(one, mailbox))

    return answer


def _first(call: Call, name: str) -> Round:
    kind = call.query.get("changeType")
    if kind not in {None, *KINDS}:
        raise Refusal(400, "BadRequest", f"The value '{kind}' of changeType is not supported.")
    if "$expand" in call.query:
        call.service.violations.append("the double lacks $expand for mailFolder.messagesDelta")
        raise Refusal(501, "NotImplemented", "The double lacks $expand.")
    clauses = call.clauses("ErrorInvalidUrlQueryFilter")
    if any(clause.field != "receivedDateTime" or clause.operator not in {"ge", "gt"} or clause.kind != "time" for clause in clauses):
        raise Refusal(400, "ErrorInvalidUrlQueryFilter", "Only receivedDateTime ge and gt are supported in a delta's filter.")
    select = call.selection("message")
    return Round(name, None if select is None else tuple(select), tuple(clauses), kind)


def _begun(one: Round, mailbox: Mailbox) -> Round:
    """A new round over what happened since: the last word on each message."""
    changes = mailbox.changes.get(one.folder, [])
    last: dict[str, Change] = {}
    known = set()
    for change in changes:
        if change.number <= one.seen:
            known.add(change.immutable)
            continue
        last.pop(change.immutable, None)
        last[change.immutable] = change
    rest = [change for change in last.values() if change.kind != "deleted" or change.immutable in known]
    rest = [replace(change, kind="created") if change.kind == "updated" and change.immutable not in known else change for change in rest]
    seen = changes[-1].number if changes else one.seen
    return Round(one.folder, one.select, one.clauses, one.kind, seen, tuple(rest))


def _page(call: Call, deltas: Deltas, mailbox: Mailbox, one: Round) -> Answer:
    size = _size(call)
    now, later = one.rest[:size], one.rest[size:]
    rows = [row for change in now if (row := _row(call, mailbox, one, change)) is not None]
    value: dict[str, Any] = {**call.context("Collection(message)"), "value": rows}
    after = Round(one.folder, one.select, one.clauses, one.kind, one.seen, later)
    word = "skiptoken" if later else "deltatoken"
    value["@odata.nextLink" if later else "@odata.deltaLink"] = f"{call.url()}?${word}={deltas.give(after)}"
    return call.say(value)


def _size(call: Call) -> int:
    for part in call.request.headers.get("prefer", "").split(","):
        name, _, number = part.strip().partition("=")
        if name.lower() == "odata.maxpagesize" and number.isdigit():
            return max(1, int(number))
    return call.page_size(PAGE)


def _row(call: Call, mailbox: Mailbox, one: Round, change: Change) -> dict[str, Any] | None:
    if one.kind not in {None, change.kind}:
        return None
    if change.kind == "deleted":
        return {"@odata.type": "#microsoft.graph.message", "id": change.immutable if call.immutable else change.id} | {
            "@removed": {"reason": "deleted"}
        }
    item = change.item
    if item.folder != one.folder or not all(clause.holds(_times(item.sent or item.created)) for clause in one.clauses):
        return None
    return messages.resource(item, mailbox, call, None if one.select is None else list(one.select))


def _times(received: float) -> dict[str, float]:
    return {"receivedDateTime": float(int(received))}
