"""Fills a portal's ledger with what is hard to lay out: many certificates of one person, many requests, long names and addresses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from distributor.model.attempts import AttemptResult, RecordIntent
from distributor.model.delivery import Delivery, DeliveryFilter, DeliveryRequest
from distributor.model.ports import Ledger
from distributor.model.requests import RequestLimits
from distributor.model.states import State
from tests.ledger.world import LEASE, ME, draft, packed

CERTIFICATES, REQUESTS = 40, 300
LONG = "maximiliane-friederike.von-und-zu-hohenlohe-schillingsfuerst1234"  # 64 characters, the most before the @
TITLE = "Maximiliane Friederike Freifrau von und zu Hohenlohe-Schillingsfürst"
REASON = "I have a new phone: " + "Bundesministeriumsangelegenheit" * 9
RESPONSE = "421 4.4.2 connection lost after the end of data; " + "0123456789abcdef" * 15


def fill(ledger: Ledger) -> None:
    """Alice has 40 more certificates; 300 people wait for an administrator, one of them with a long name; one delivery is ambiguous."""
    ledger.begin_plan("crowd", {})
    _send(ledger, [draft("alice", certificate=f"number {number}") for number in range(CERTIFICATES)])
    waiting = [draft(LONG, title=TITLE), *(draft(f"person{number:03}") for number in range(1, REQUESTS))]
    for number, each in enumerate(_send(ledger, waiting)):
        ledger.acting_as("helpdesk").ask(each.id, "I have a new phone" if number else REASON, limits=RequestLimits())
    _send(ledger, [draft(f"a.{LONG[2:]}", title=TITLE)], State.AMBIGUOUS, RESPONSE)


def _send(
    ledger: Ledger, drafts: Sequence[DeliveryRequest], state: State = State.ACCEPTED, response: str = "250 2.0.0 queued"
) -> list[Delivery]:
    planned = [each for each in ledger.plan("crowd", drafts) if isinstance(each, Delivery)]
    assert len(planned) == len(drafts)
    assert all(ledger.enqueue([packed(each.id, to=each.address) for each in planned], ME))
    claims = ledger.claim(ME, len(planned), LEASE, DeliveryFilter(ids=frozenset(each.id for each in planned)))
    assert all(ledger.write([RecordIntent(claim, timedelta(minutes=10)) for claim in claims], ME))
    assert all(ledger.write([AttemptResult(claim, state, response, None) for claim in claims], ME))
    return planned
