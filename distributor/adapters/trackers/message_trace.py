"""Looks messages up in the message trace of Exchange Online: asks by sender and time, matches by Message-ID.

A filter of the trace takes one value for each property, and no `or`. It shows a message late, and its status changes for hours: pending
ones are asked for again by the next tracking (facts: sending.md 1.5).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from distributor.clients.app_registration import AppRegistration, registration
from distributor.clients.entra import check, granted
from distributor.clients.graph import ROOT, GraphClient, HttpResponse, NoResponse, graph, odata_literal, service_error
from distributor.clients.throttle import RetryPolicy, Sleep
from distributor.errors import Error, ServiceUnavailable
from distributor.microsoft.permissions import READ_TRACE, RequiredPermission, lacking, missing, remedy
from distributor.microsoft.powershell import WINDOW, App, steps, trace_service
from distributor.model.attempts import TrackedMessage, TrackingEvent
from distributor.model.issues import Diagnostic
from distributor.model.people import key_of
from distributor.model.ports import Now
from distributor.model.states import State

PATH = "admin/exchange/tracing/messageTraces"
PAGE = 5000  # rows; the most that the service gives
MAX_REQUESTS, RATE_WINDOW = 90, timedelta(minutes=5)  # the service allows 100, and an administrator may use it too
_RETRY = RetryPolicy(4, timedelta(seconds=30), RATE_WINDOW)  # of one page
_HEADERS = {"Prefer": "include-unknown-enum-members"}
_HINT = (
    "grant the app ExchangeMessageTrace.Read.All with admin consent, and add the message trace service to the tenant: "
    "New-MgServicePrincipal -AppId 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373 (see docs/exchange-online.md#delivery-reports)"
)

Ask = Callable[[], Awaitable[HttpResponse | NoResponse]]  # requests one page
LONGEST_WINDOW = timedelta(days=10)
OLDEST = timedelta(days=90) - timedelta(hours=1)  # an hour for clocks that differ
BEFORE, AFTER = timedelta(days=2), timedelta(days=1)  # around `since`, which later evidence may have moved
ASKED_FOR = frozenset({State.AMBIGUOUS, State.ACCEPTED})  # about delivered messages it has nothing new
UNSETTLED = timedelta(hours=1)  # "failed" may still become "delivered" within this time (facts: sending.md 1.5)
FINAL = {"delivered": State.DELIVERED, "failed": State.BOUNCED}
WORDS = {
    "delivered": "delivered (message trace)",
    "failed": "not delivered (message trace); the bounce in the mailbox says why",
    "quarantined": "in quarantine (message trace); an administrator can release it",
    "filteredAsSpam": "filtered as spam (message trace)",
}
_EARLY = "not delivered yet; this may change within the first hour (message trace)"
_RANKS = ("gettingStatus", "pending", "expanded", "filteredAsSpam", "quarantined", "failed", "delivered")  # the last is the most final


@dataclass(frozen=True)
class Settings(AppRegistration):
    """`[[trackers]]` of kind trace: the keys of the registration, and these. It needs ExchangeMessageTrace.Read.All."""

    senders: tuple[str, ...] = ()  # asked for where the ledger no longer knows a message's sender
    graph: str = ROOT
    reply_timeout: float = 100.0  # seconds


def open(settings: Settings, key: str) -> MessageTraceTracker:  # noqa: A001  every adapter is opened by this name
    """The tracker; connects when it is asked. `key` names its table. Raises InvalidInput for settings that cannot work."""
    if wrong := check(settings, key):
        raise wrong
    who = registration(settings)
    return MessageTraceTracker(graph(who, settings.graph, key=key), settings.senders, timeout=settings.reply_timeout, who=who)


def needs(_: Settings) -> tuple[RequiredPermission, ...]:
    """The permissions without which it cannot work."""
    return (READ_TRACE,)


class MessageTraceTracker:
    """Asks for all messages of a sender together."""

    min_age = timedelta(seconds=60)  # the trace shows no message sooner

    def __init__(  # noqa: PLR0913  clock and sleep are arguments for tests
        self,
        client: GraphClient,
        senders: Sequence[str] = (),
        *,
        timeout: float = 100.0,
        now: Now = lambda: datetime.now(UTC),
        sleep: Sleep = asyncio.sleep,
        who: AppRegistration | None = None,
    ) -> None:
        self._graph, self._timeout, self._who = client, timeout, who or AppRegistration()
        self._senders = senders
        self._now = now
        self._pages = TracePages(client, timeout, now, sleep)

    async def track(self, tracked: Sequence[TrackedMessage]) -> AsyncIterator[TrackingEvent]:
        """What the trace shows of messages that are ambiguous or accepted."""
        by_sender: defaultdict[str, list[TrackedMessage]] = defaultdict(list)
        for message in tracked:
            if message.state in ASKED_FOR:
                for sender in self._senders if message.sender is None else (message.sender,):
                    by_sender[key_of(sender)].append(message)
        for sender, messages in by_sender.items():
            known = {_key(message.message_id): message for message in messages}
            for since, until in windows((moment for message in messages for moment in send_times(message)), self._now()):
                async for sighting in self._window(sender, since, until, known):
                    yield sighting

    async def close(self) -> None:
        """Close the connections."""
        await self._graph.close()

    async def check(self) -> list[Diagnostic]:
        """Whether the app may ask: by its token, then by the service itself."""
        try:
            seen = granted(await self._graph.token(), self._who, self._graph.root)
            if names := missing(seen, (READ_TRACE,)):
                return [lacking("tracker", seen, names)]
            response = await self._graph.call("GET", PATH, params={"$top": "1"}, timeout=self._timeout)
        except Error as error:
            app = App(self._who.tenant, self._who.client_id, service=self._graph.root)
            return [Diagnostic("tracker", "error", str(error), remedy(str(error), error.hint, app, (READ_TRACE.permission,)))]
        finally:
            await self._graph.close()
        return [_answer(response, self._graph.where, seen.app)]

    async def _window(
        self, sender: str, since: datetime, until: datetime, known: Mapping[str, TrackedMessage]
    ) -> AsyncIterator[TrackingEvent]:
        received = f"receivedDateTime ge {_stamp(since)} and receivedDateTime le {_stamp(until)}"
        filtered = f"senderAddress eq {odata_literal(sender)} and {received}"
        best: dict[str, Mapping[str, Any]] = {}
        async for row in self._pages.rows(filtered):
            message = known.get(_key(str(row.get("messageId") or "")))
            if message is not None and _weight(message, row) >= _weight(message, best.get(message.delivery, {})):
                best[message.delivery] = row
        now = self._now()
        for message in known.values():
            if message.delivery in best and (found := tracking_event(message, best[message.delivery], now)):
                yield found


def _answer(response: HttpResponse | NoResponse, where: str, app: App) -> Diagnostic:
    """The service's answer; where it refuses an app that has the permission, the trace's own service is missing in the tenant."""
    match response:
        case HttpResponse(good=True):
            return Diagnostic("tracker", "ok", f"{where}: the message trace can be read")
        case HttpResponse(status=401 | 403):
            hint = steps(f"add the message trace service to the tenant once, {WINDOW}:", (trace_service(app),))
            return Diagnostic("tracker", "error", f'{where}: access to the message trace was refused: "{response.detail}"', hint)
    stop = service_error(response, where)
    return Diagnostic("tracker", "error", str(stop), stop.hint)


def send_times(message: TrackedMessage) -> Iterator[datetime]:
    """When it may have been sent; several moments, a day apart, in a ledger that was restored."""
    moment, until = message.since, message.until or message.since
    while moment < until:
        yield moment
        moment += AFTER
    yield max(until, message.since)


def windows(moments: Iterable[datetime], now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The spans of time to ask for, oldest first: around each attempt, joined where they touch, and cut to what the trace allows."""
    spans: list[tuple[datetime, datetime]] = []
    for moment in sorted(moments):
        first, last = max(moment - BEFORE, now - OLDEST), min(moment + AFTER, now)
        if first >= last:
            continue
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], last))
        else:
            spans.append((first, last))
    for first, last in spans:
        while first < last:
            end = min(first + LONGEST_WINDOW, last)
            yield first, end
            first = end  # noqa: PLW2901  the rest of the span


def tracking_event(message: TrackedMessage, row: Mapping[str, Any], now: datetime) -> TrackingEvent | None:
    """What a row tells about a message; None where it tells nothing new."""
    status = str(row.get("status") or "")
    early = status == "failed" and _is_for(message, row) and now - _received(row, message.since) < UNSETTLED
    final = State.ACCEPTED if early else FINAL.get(status, State.ACCEPTED)
    state = final if _is_for(message, row) else State.ACCEPTED
    if state is State.ACCEPTED and message.state is not State.AMBIGUOUS:
        return None
    words = _EARLY if early else WORDS.get(status, "") if state is final else ""
    evidence = {
        "kind": "message-trace",
        "status": status,
        "trace_id": str(row.get("id") or ""),
        "received_at": str(row.get("receivedDateTime") or ""),
    }
    return TrackingEvent(message.delivery, state, words or f"accepted by Exchange (message trace: {status or 'no status'})", evidence)


def _received(row: Mapping[str, Any], since: datetime) -> datetime:
    """When Exchange received the message; where the row does not tell, its last attempt."""
    try:
        moment = datetime.fromisoformat(str(row.get("receivedDateTime") or ""))
    except ValueError:
        return since
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _weight(message: TrackedMessage, row: Mapping[str, Any]) -> tuple[bool, bool, int]:
    """Order of several rows: that of our recipient counts more, then the more final status."""
    status = row.get("status")
    return bool(row), _is_for(message, row), _RANKS.index(status) if status in _RANKS else -1


def _is_for(message: TrackedMessage, row: Mapping[str, Any]) -> bool:
    return key_of(str(row.get("recipientAddress") or "")) == key_of(message.address)


def _key(message_id: str) -> str:
    return message_id.strip().removeprefix("<").removesuffix(">").casefold()


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class TracePages:
    """Reads the rows of the trace page by page, within its rate limit (facts: sending.md 1.5)."""

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
                raise ServiceUnavailable(
                    f'access to the message trace was refused: "{response.detail}"', where=self._graph.where, hint=_HINT
                )
            case HttpResponse(status=200):
                raise service_error(NoResponse("unexpected response: no list of traces", request_sent=True), self._graph.where)
        raise service_error(response, self._graph.where)

    async def _wait_for_rate_limit(self) -> None:
        now = self._now()
        while self._requests and self._requests[0] <= now - RATE_WINDOW:
            self._requests.popleft()
        if len(self._requests) >= MAX_REQUESTS:
            await self._sleep((self._requests.popleft() + RATE_WINDOW - now).total_seconds())
            now = self._now()
        self._requests.append(now)
