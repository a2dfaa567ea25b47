"""The pages of a message trace: each further one is asked for as the service wrote its address, and at no other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from distributor.adapters.trackers.message_trace import TracePages
from distributor.clients.app_registration import AppRegistration
from distributor.clients.graph import HttpResponse, graph
from distributor.errors import ServiceUnavailable
from distributor.model.secret import Secret

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
    with pytest.raises(ServiceUnavailable, match="another address"):
        read(service, monkeypatch)
    assert len(service.asked) == 1
