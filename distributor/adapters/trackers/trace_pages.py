"""A filter -> the rows of Exchange's message trace, page after page, no faster than it may be asked (facts: sending.md 1.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from distributor.clients.graph import GraphClient, HttpResponse, NoResponse, trouble
from distributor.clients.retry import RetryPolicy, Sleep
from distributor.errors import ServiceUnavailable
from distributor.model.ports import Now

PATH = "admin/exchange/tracing/messageTraces"
PAGE = 5000  # rows; the most there are in one
AT_MOST, IN_TIME = 90, timedelta(minutes=5)  # requests; the service takes 100, and an administrator may look too
_PATIENCE = RetryPolicy(4, timedelta(seconds=30), IN_TIME)  # with one page
_HEADERS = {"Prefer": "include-unknown-enum-members"}
_HINT = (
    "grant the app ExchangeMessageTrace.Read.All with an administrator's consent, and let the trace's own service into the tenant: "
    "New-MgServicePrincipal -AppId 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"
)

Ask = Callable[[], Awaitable[HttpResponse | NoResponse]]  # for one page


class Pages:
    """Counts its requests, and waits where there were too many."""

    def __init__(self, graph: GraphClient, timeout: float, now: Now, sleep: Sleep) -> None:
        self._graph = graph
        self._timeout = timeout
        self._now = now
        self._sleep = sleep
        self._asked: deque[datetime] = deque()

    async def rows(self, filtered: str) -> AsyncIterator[Mapping[str, Any]]:
        """Every row that the filter lets through. Raises Unavailable."""
        page = await self._page(lambda: self._first(filtered))
        while True:
            for row in page["value"]:
                if isinstance(row, dict):
                    yield row
            if (link := page.get("@odata.nextLink")) is None:
                return
            page = await self._page(self._further(link))

    def _first(self, filtered: str) -> Awaitable[HttpResponse | NoResponse]:
        params = {"$filter": filtered, "$top": str(PAGE)}
        return self._graph.call("GET", PATH, params=params, headers=_HEADERS, timeout=self._timeout)

    def _further(self, link: object) -> Ask:
        return lambda: self._graph.follow(link, headers=_HEADERS, timeout=self._timeout)

    async def _page(self, ask: Ask) -> Mapping[str, Any]:
        async def ask_in_turn() -> HttpResponse | NoResponse:
            await self._turn()
            return await ask()

        response = await _PATIENCE.call(ask_in_turn, self._sleep)
        match response:
            case HttpResponse(status=200, body={"value": list()}):
                return response.body or {}
            case HttpResponse(status=401 | 403):
                raise ServiceUnavailable(f'the message trace is refused: "{response.said}"', where=self._graph.where, hint=_HINT)
            case HttpResponse(status=200):
                raise trouble(NoResponse("an answer that makes no sense: no list of traces", request_sent=True), self._graph.where)
        raise trouble(response, self._graph.where)

    async def _turn(self) -> None:
        now = self._now()
        while self._asked and self._asked[0] <= now - IN_TIME:
            self._asked.popleft()
        if len(self._asked) >= AT_MOST:
            await self._sleep((self._asked.popleft() + IN_TIME - now).total_seconds())
            now = self._now()
        self._asked.append(now)
