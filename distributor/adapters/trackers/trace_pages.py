"""Reads the rows of Exchange's message trace page by page, within its rate limit (facts: sending.md 1.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from distributor.clients.graph import GraphClient, HttpResponse, NoResponse, trouble
from distributor.clients.throttle import RetryPolicy, Sleep
from distributor.errors import ServiceUnavailable
from distributor.model.ports import Now

PATH = "admin/exchange/tracing/messageTraces"
PAGE = 5000  # rows; the most that the service gives
MAX_REQUESTS, WINDOW = 90, timedelta(minutes=5)  # the service allows 100, and an administrator may use it too
_RETRY = RetryPolicy(4, timedelta(seconds=30), WINDOW)  # of one page
_HEADERS = {"Prefer": "include-unknown-enum-members"}
_HINT = (
    "grant the app ExchangeMessageTrace.Read.All with an administrator's consent, and let the trace's own service into the tenant: "
    "New-MgServicePrincipal -AppId 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"
)

Ask = Callable[[], Awaitable[HttpResponse | NoResponse]]  # requests one page


class TracePages:
    """Counts its requests, and waits where there were too many."""

    def __init__(self, graph: GraphClient, timeout: float, now: Now, sleep: Sleep) -> None:
        self._graph = graph
        self._timeout = timeout
        self._now = now
        self._sleep = sleep
        self._requests: deque[datetime] = deque()

    async def rows(self, filtered: str) -> AsyncIterator[Mapping[str, Any]]:
        """Every row that matches the filter. Raises ServiceUnavailable."""
        page = await self._page(lambda: self._first(filtered))
        while True:
            for row in page["value"]:
                if isinstance(row, dict):
                    yield row
            if (link := page.get("@odata.nextLink")) is None:
                return
            page = await self._page(self._next(link))

    def _first(self, filtered: str) -> Awaitable[HttpResponse | NoResponse]:
        params = {"$filter": filtered, "$top": str(PAGE)}
        return self._graph.call("GET", PATH, params=params, headers=_HEADERS, timeout=self._timeout)

    def _next(self, link: object) -> Ask:
        return lambda: self._graph.follow(link, headers=_HEADERS, timeout=self._timeout)

    async def _page(self, ask: Ask) -> Mapping[str, Any]:
        async def ask_within_limit() -> HttpResponse | NoResponse:
            await self._wait_for_rate_limit()
            return await ask()

        response = await _RETRY.call(ask_within_limit, self._sleep)
        match response:
            case HttpResponse(status=200, body={"value": list()}):
                return response.body or {}
            case HttpResponse(status=401 | 403):
                raise ServiceUnavailable(f'the message trace is refused: "{response.said}"', where=self._graph.where, hint=_HINT)
            case HttpResponse(status=200):
                raise trouble(NoResponse("an answer that makes no sense: no list of traces", request_sent=True), self._graph.where)
        raise trouble(response, self._graph.where)

    async def _wait_for_rate_limit(self) -> None:
        now = self._now()
        while self._requests and self._requests[0] <= now - WINDOW:
            self._requests.popleft()
        if len(self._requests) >= MAX_REQUESTS:
            await self._sleep((self._requests.popleft() + WINDOW - now).total_seconds())
            now = self._now()
        self._requests.append(now)
