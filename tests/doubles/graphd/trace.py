"""The message trace: the state of each message, late and unsure at first. Hears one value a property, and nothing after an `or`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.doubles.graphd.call import Call
from tests.doubles.graphd.clock import stamp
from tests.doubles.graphd.odata import Clause
from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.wire import Answer

PAGE = 1000
DAY = 86_400.0
USUAL_WINDOW, LONGEST_WINDOW, OLDEST = 2 * DAY, 10 * DAY, 90 * DAY
LENIENCE = 300.0  # seconds by which a client's clock may be ahead
OPERATORS = {
    **dict.fromkeys(("id", "messageId", "status", "recipientAddress", "senderAddress", "fromIP", "toIP"), ("eq",)),
    "subject": ("contains", "startswith"),
    "receivedDateTime": ("ge", "le"),
}


def listed(call: Call) -> Answer:
    """GET /admin/exchange/tracing/messageTraces."""
    clauses = _heard(call.clauses("BadRequest", deaf_to_or=True))
    since, until = _span(clauses, call.now)
    known = "include-unknown-enum-members" in call.request.headers.get("prefer", "").lower()
    newest_first = sorted(call.service.traces, key=lambda one: -float(one["at"]))
    rows = [_row(call, one, known=known) for one in newest_first if _shows(call, one) and since <= one["at"] <= until]
    found = [row for row in rows if all(clause.holds(row) for clause in clauses if clause.field != "receivedDateTime")]
    start, size = call.skipped(), call.page_size(PAGE)
    value: dict[str, Any] = {**call.context("admin/exchange/tracing/messageTraces"), "value": found[start : start + size]}
    if len(found) > start + size:
        value["@odata.nextLink"] = call.link(skiptoken=call.next_token(start + size))
    return call.say(value)


def _heard(clauses: list[Clause]) -> list[Clause]:
    """The first value of each property; a second one falls on deaf ears, as everything after `or` did."""
    heard: dict[tuple[str, str], Clause] = {}
    for clause in clauses:
        if clause.operator not in OPERATORS.get(clause.field, ()) or clause.each:
            raise Refusal(400, "BadRequest", f"Filtering by '{clause.field}' with '{clause.operator}' is not supported.")
        if (clause.kind == "time") != (clause.field == "receivedDateTime"):
            raise Refusal(400, "BadRequest", f"The value for '{clause.field}' has the wrong type.")
        heard.setdefault((clause.field, clause.operator if clause.kind == "time" else ""), clause)
    return list(heard.values())


def _span(clauses: list[Clause], now: float) -> tuple[float, float]:
    bounds = {clause.operator: clause.value for clause in clauses if clause.field == "receivedDateTime"}
    if not bounds:
        return now - USUAL_WINDOW, now
    if len(bounds) < 2:
        raise _bad("Both a start and an end have to be specified for receivedDateTime.")
    since, until = float(bounds["ge"] or 0), float(bounds["le"] or 0)
    if until > now + LENIENCE or until < since:
        raise _bad("The end of receivedDateTime must not be later than the current date, nor before the start.")
    if until - since > LONGEST_WINDOW:
        raise _bad("The time interval must not exceed 10 days.")
    if since < now - OLDEST:
        raise _bad("The start of receivedDateTime must not be more than 90 days before the current date.")
    return since, until


def _bad(text: str) -> Refusal:
    return Refusal(400, "BadRequest", text)


def _shows(call: Call, row: Mapping[str, Any]) -> bool:
    return bool(row["at"] + call.service.settings.trace_after <= call.now)


def _row(call: Call, one: Mapping[str, Any], *, known: bool) -> dict[str, Any]:
    settings = call.service.settings
    settled = one["at"] + settings.trace_after + settings.trace_settles <= call.now
    status = one.get("status") or call.service.fates.get(one["recipientAddress"].lower(), "delivered")
    if status == "recalled" and not known:
        status = "unknownFutureValue"
    row = {name: one[name] for name in ("id", "senderAddress", "recipientAddress", "messageId", "subject", "size")}
    times = {"receivedDateTime": stamp(one["at"]), "fromIP": "192.0.2.25", "toIP": ""}
    return {**row, **times, "status": status if settled else "gettingStatus"}
