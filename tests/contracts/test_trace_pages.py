"""The message trace: its pages, and its first hour, in which what failed may still be delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from distributor.adapters.trackers.message_trace import UNSETTLED, TracePages, send_times, tracking_event, windows
from distributor.clients.app_registration import AppRegistration
from distributor.clients.graph import HttpResponse, graph
from distributor.errors import ServiceUnavailable
from distributor.model.attempts import TrackedMessage
from distributor.model.secret import Secret
from distributor.model.states import State

ROOT = "https://graph.example"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
AWKWARD = ROOT + "/v1.0/admin/exchange/tracing/messageTraces?$top=2&$skiptoken=a+b/c==&empty=&flag&twice=1&twice=2&pct=%2B%C3%A4"


class Service:
    """Answers with these bodies, and writes down how it was asked."""

    def __init__(self, *bodies: Mapping[str, Any]) -> None:
        self.bodies = list(bodies)
        self.asked: list[tuple[str, str | None, float]] = []

    async def ask(
        self,
        _method: str,
        url: str,
        _mailbox: object,
        _content: object,
        headers: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109  that of the client
        _largest: int | None = None,
    ) -> HttpResponse:
        self.asked.append((url, headers.get("prefer"), timeout))
        return HttpResponse(200, "", "200 OK", self.bodies.pop(0))


def read(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    opened = graph(AppRegistration(tenant="t", client_id="c", secret=Secret("s")), ROOT)
    monkeypatch.setattr(opened, "_ask", service.ask)

    async def sleep(_: float) -> None:
        raise AssertionError

    async def go() -> list[object]:
        return [row["n"] async for row in TracePages(opened, 7.0, lambda: NOW, sleep).rows("senderAddress eq 'a'")]

    return asyncio.run(go())


def test_a_further_page_is_asked_for_as_its_address_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service({"value": [{"n": 1}], "@odata.nextLink": AWKWARD}, {"value": [{"n": 2}]})
    assert read(service, monkeypatch) == [1, 2]
    assert service.asked[1] == (AWKWARD, "include-unknown-enum-members", 7.0)
    assert service.asked[0][1:] == service.asked[1][1:]


@pytest.mark.parametrize("link", ["https://evil.example/v1.0/x?$skiptoken=a", "http://graph.example/v1.0/x", "/v1.0/x", 7, ""])
def test_a_further_page_elsewhere_is_not_asked_for(link: object, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service({"value": [{"n": 1}], "@odata.nextLink": link}, {"value": []})
    with pytest.raises(ServiceUnavailable, match="another server"):
        read(service, monkeypatch)
    assert len(service.asked) == 1


# --- the first hour ---------------------------------------------------------------------------------------------------


def message(state: State) -> TrackedMessage:
    return TrackedMessage("d-1", "<1@example.org>", "certificates@example.org", "anna@example.org", state, NOW - timedelta(days=1))


def row(age: timedelta, status: str = "failed", recipient: str = "anna@example.org") -> dict[str, str]:
    received = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"messageId": "<1@example.org>", "status": status, "recipientAddress": recipient, "receivedDateTime": received}


def test_a_failure_of_a_minute_ago_leaves_an_accepted_message_where_it_is() -> None:
    assert tracking_event(message(State.ACCEPTED), row(timedelta(seconds=61)), NOW) is None


def test_a_failure_of_a_minute_ago_proves_that_an_unclear_message_left_and_no_more() -> None:
    found = tracking_event(message(State.AMBIGUOUS), row(timedelta(seconds=61)), NOW)
    assert found is not None
    assert (found.state, found.evidence["status"], "may change within the first hour" in found.response) == (State.ACCEPTED, "failed", True)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.AMBIGUOUS])
def test_a_failure_that_is_an_hour_old_is_a_bounce(state: State) -> None:
    young, old = (tracking_event(message(state), row(age), NOW) for age in (UNSETTLED - timedelta(seconds=1), UNSETTLED))
    assert young is None or young.state is State.ACCEPTED
    assert old is not None
    assert old.state is State.BOUNCED


def test_a_delivery_is_one_at_once() -> None:
    found = tracking_event(message(State.ACCEPTED), row(timedelta(seconds=61), "delivered"), NOW)
    assert found is not None
    assert found.state is State.DELIVERED


def test_a_failure_without_a_time_is_as_old_as_the_attempt() -> None:
    found = tracking_event(message(State.ACCEPTED), {**row(timedelta()), "receivedDateTime": "soon"}, NOW)
    assert found is not None
    assert found.state is State.BOUNCED


def test_another_recipients_failure_is_not_called_early() -> None:
    found = tracking_event(message(State.AMBIGUOUS), row(timedelta(seconds=61), recipient="list@example.org"), NOW)
    assert found is not None
    assert found.response == "accepted by Exchange (message trace: failed)"


def test_an_unclear_message_of_a_restored_ledger_is_looked_for_at_all_times_since_the_backup() -> None:
    backup = NOW - timedelta(days=30)
    lost = replace(message(State.AMBIGUOUS), since=backup, until=NOW)
    spans = list(windows(send_times(lost), NOW))
    assert (spans[0][0], spans[-1][1]) == (backup - timedelta(days=2), NOW)
    assert all(end == begin for (_, end), (begin, _) in pairwise(spans))
    assert list(send_times(message(State.ACCEPTED))) == [NOW - timedelta(days=1)]
